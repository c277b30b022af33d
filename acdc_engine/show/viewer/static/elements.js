/* From ViewData to the elements that cytoscape draws: bands and boxes. Of lines see lines.js. */
(function () {
  "use strict";
  const acdc = (window.acdc = window.acdc || {});
  const LEFT = 180;

  /** Sizes of boxes, and of their borders by what the colours mean. */
  acdc.BOX = { width: 104, wide: 140, height: 40, border: { sign: 1.4, status: 3.5 } };
  /** Where lines enter the bottom of a box, as shares of its width from the middle; as in pictures/layered.py. */
  acdc.PORTS = { q: -0.3, k: 0, v: 0.3, mlp: 0, logits: 0 };

  function nodeElement(node) {
    const role = node.role ?? node.known_role;
    const classes = ["box", node.kind, role === null ? "" : `role${acdc.roleColour(role)}`, node.status ?? ""];
    return {
      group: "nodes",
      data: { id: node.id, label: node.id },
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
    const points = data.nodes.filter((node) => nodes.has(node.id)).flatMap(({ x, y }) => [[x - acdc.BOX.wide / 2, y - acdc.BOX.height / 2], [x + acdc.BOX.wide / 2, y + acdc.BOX.height / 2]]);
    for (const edge of data.edges) if (edges.has(edge.id)) points.push(...edge.bends);
    const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
    const bandsLeft = acdc.layersOf(data).length ? Math.min(...data.nodes.map((node) => node.x)) - LEFT : Infinity;
    return { x1: Math.min(bandsLeft, ...xs), x2: Math.max(...xs), y1: Math.min(...ys), y2: Math.max(...ys) };
  };

  /* A pale band behind every second layer, with the layer's number. */
  function bands(data) {
    const xs = data.nodes.map((node) => node.x);
    const [left, right] = [Math.min(...xs) - LEFT, Math.max(...xs) + 100];
    return acdc.layersOf(data).map((layer, row) => {
      const ys = data.nodes.filter((node) => node.layer === layer).map((node) => node.y);
      const [top, bottom] = [Math.min(...ys) - 30, Math.max(...ys) + 30];
      return {
        group: "nodes",
        data: { id: `layer ${layer}`, label: `layer ${layer}`, width: right - left, height: bottom - top },
        position: { x: (left + right) / 2, y: (top + bottom) / 2 },
        classes: row % 2 === 0 ? "band" : "band plain",
        selectable: false,
        grabbable: false,
      };
    });
  }

  /**
   * All elements: bands, then boxes.
   * @param {object} data ViewData.
   * @returns {object[]}
   */
  acdc.elements = (data) => {
    return [...bands(data), ...data.nodes.map(nodeElement)];
  };
})();
