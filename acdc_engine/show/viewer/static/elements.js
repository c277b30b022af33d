/* From ViewData to the elements that cytoscape draws: bands and boxes. Of lines see lines.js. */
(function () {
  "use strict";
  const acdc = (window.acdc = window.acdc || {});
  const LEFT = 180;

  /** Where lines enter the bottom of a box, as shares of its width from the middle; as in pictures/layered.py. */
  acdc.PORTS = { q: -0.3, k: 0, v: 0.3, mlp: 0, logits: 0 };

  function nodeElement(node) {
    const role = node.role ?? node.known_role;
    const classes = ["box", node.kind, node.dot ? "dot" : "", role === null ? "" : `role${acdc.roleColour(role)}`, node.status ?? ""];
    return {
      group: "nodes",
      data: { id: node.id, label: node.label, width: node.width, height: node.height },
      position: { x: node.x, y: node.y },
      classes: classes.filter(Boolean).join(" "),
    };
  }

  /**
   * The box around nodes and lines.
   * @param {object} data ViewData.
   * @param {Set<string>} nodes Ids.
   * @param {Set<string>} edges Ids.
   * @returns {{x1: number, y1: number, x2: number, y2: number}}
   */
  acdc.extent = (data, nodes, edges) => {
    if (data.grid !== null) return whole(data.grid);
    const points = data.nodes.filter((node) => nodes.has(node.id)).flatMap(({ x, y }) => [[x - acdc.BOX.wide / 2, y - acdc.BOX.height / 2], [x + acdc.BOX.wide / 2, y + acdc.BOX.height / 2]]);
    for (const edge of data.edges) if (edges.has(edge.id)) points.push(...edge.bends);
    const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
    const bandsLeft = acdc.layersOf(data).length ? Math.min(...data.nodes.map((node) => node.x)) - LEFT : Infinity;
    return { x1: Math.min(bandsLeft, ...xs), x2: Math.max(...xs), y1: Math.min(...ys), y2: Math.max(...ys) };
  };

  /* All of a picture by place. */
  function whole({ columns, rows }) {
    const ends = (bands) => bands.flatMap(({ start, size }) => [start, start + size]);
    const [xs, ys] = [ends(columns), ends(rows)];
    return { x1: Math.min(...xs), x2: Math.max(...xs), y1: Math.min(...ys), y2: Math.max(...ys) };
  }

  const band = (id, label, { x1, x2, y1, y2 }, plain) => ({
    group: "nodes",
    data: { id, label, width: x2 - x1, height: y2 - y1 },
    position: { x: (x1 + x2) / 2, y: (y1 + y2) / 2 },
    classes: plain ? "band plain" : "band",
    selectable: false,
    grabbable: false,
  });

  /* A pale band behind every second place. */
  const columns = ({ grid }) => grid.columns.map(({ name, start, size }, at) =>
    band(`place ${name}`, "", { ...whole(grid), x1: start, x2: start + size }, at % 2 === 0));

  /* A pale band behind every second layer, with the layer's number. */
  function layers(data) {
    const xs = data.nodes.map((node) => node.x);
    const [left, right] = [Math.min(...xs) - LEFT, Math.max(...xs) + 100];
    return acdc.layersOf(data).map((layer, row) => {
      const ys = data.nodes.filter((node) => node.layer === layer).map((node) => node.y);
      return band(`layer ${layer}`, `layer ${layer}`, { x1: left, x2: right, y1: Math.min(...ys) - 30, y2: Math.max(...ys) + 30 }, row % 2 === 1);
    });
  }

  /**
   * All elements: bands, then boxes.
   * @param {object} data ViewData.
   * @returns {object[]}
   */
  acdc.elements = (data) => [...(data.grid === null ? layers : columns)(data), ...data.nodes.map(nodeElement)];
})();
