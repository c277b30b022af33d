/* Folded columns and rows of the picture by place: what lies in them is squeezed together. */
(function () {
  "use strict";
  const acdc = (window.acdc = window.acdc || {});
  const FOLDED = { columns: 30, rows: 18 };

  /* Bands one beside the other as they are folded, and the function from places before to places after. */
  function squeezed(bands, folded, size) {
    let at = Math.min(...bands.map((band) => band.start));
    const after = new Map();
    for (const band of [...bands].sort((one, other) => one.start - other.start)) {
      after.set(band, { ...band, start: at, size: folded.has(band.name) ? size : band.size, folded: folded.has(band.name) });
      at += after.get(band).size;
    }
    const move = (value) => {
      const band = bands.find(({ start, size }) => value >= start && value <= start + size);
      if (band === undefined) return value;
      const { start, size } = after.get(band);
      return start + ((value - band.start) / band.size) * size;
    };
    return { bands: bands.map((band) => after.get(band)), move };
  }

  /**
   * Folds columns and rows of a picture by place: writes places and sizes into its nodes, lines and `grid`. Columns in
   * which nothing lies are folded from the start.
   * @param {object} data From `acdc.placed`.
   * @returns {{toggle: function("columns"|"rows", string[])}} `toggle` folds bands by name, or unfolds them if all are.
   */
  acdc.folding = (data) => {
    const [columns, rows] = [data.grid.columns, data.grid.rows];
    const used = new Set(data.nodes.map((node) => node.span));
    const folded = { columns: new Set(columns.map(({ name }) => name).filter((name) => !used.has(name))), rows: new Set() };
    const before = { nodes: data.nodes.map((node) => ({ ...node })), bends: data.edges.map((edge) => edge.bends) };

    function fold() {
      const across = squeezed(columns, folded.columns, FOLDED.columns);
      const up = squeezed(rows, folded.rows, FOLDED.rows);
      data.grid = { columns: across.bands, rows: up.bands };
      before.nodes.forEach(({ x, y, width, height, label }, index) => {
        const [left, right, top, bottom] = [across.move(x - width / 2), across.move(x + width / 2), up.move(y - height / 2), up.move(y + height / 2)];
        const whole = right - left > width - 1 && bottom - top > height - 1;
        Object.assign(data.nodes[index], { x: (left + right) / 2, y: (top + bottom) / 2, width: right - left, height: bottom - top, label: whole ? label : "" });
      });
      before.bends.forEach((bends, index) => (data.edges[index].bends = bends.map(([x, y]) => [across.move(x), up.move(y)])));
    }

    fold();
    return {
      toggle: (axis, names) => {
        const all = names.every((name) => folded[axis].has(name));
        for (const name of names) folded[axis][all ? "delete" : "add"](name);
        fold();
      },
    };
  };
})();
