/* From ViewData to the elements that cytoscape draws. */
(function () {
  "use strict";
  const acdc = (window.acdc = window.acdc || {});
  /* Where lines enter the bottom of a box, as in export/draw.py. */
  const PORTS = { q: "-27% 50%", k: "0 50%", v: "27% 50%", mlp: "0 50%", logits: "0 50%" };
  const PORT_SHIFT = { q: -0.27 * 86, k: 0, v: 0.27 * 86, mlp: 0, logits: 0 };
  const HALF = 20;
  const LEFT = 160;

  const STEPS = 24;

  /* Root of a strength as a share of the largest; something in the middle where it is not known. In steps: cytoscape
     reads every distinct number anew. */
  function weights(data, many) {
    const largest = data.edges.reduce((most, edge) => Math.max(most, Math.abs(edge.strength ?? 0)), 0);
    const unknown = many ? 0.2 : 0.5;
    return (edge) => (edge.strength === null || largest === 0 ? unknown : Math.ceil(Math.sqrt(Math.abs(edge.strength) / largest) * STEPS) / STEPS);
  }

  /* Cytoscape wants bends as distances from, and places along, the line between the ends. */
  function bent(edge, source, target) {
    const start = { x: source.x, y: source.y - HALF };
    const end = { x: target.x + PORT_SHIFT[edge.kind], y: target.y + HALF };
    const along = { x: end.x - start.x, y: end.y - start.y };
    const length = Math.hypot(along.x, along.y) || 1;
    const distances = [];
    const shares = [];
    for (const [x, y] of edge.bends) {
      const from = { x: x - start.x, y: y - start.y };
      shares.push((from.x * along.x + from.y * along.y) / (length * length));
      distances.push((from.y * along.x - from.x * along.y) / length);
    }
    return { distances, weights: shares };
  }

  function nodeElement(node, roles) {
    const role = node.role ?? node.known_role;
    const classes = ["box", node.kind, role === null ? "" : `role${roles.get(role)}`, node.status ?? ""];
    return {
      group: "nodes",
      data: { id: node.id, label: node.id },
      position: { x: node.x, y: node.y },
      classes: classes.filter(Boolean).join(" "),
    };
  }

  function edgeElement(edge, weight, nodes, many) {
    const sign = edge.strength === null ? "unknown" : edge.strength >= 0 ? "positive" : "negative";
    const data = {
      id: edge.id,
      source: edge.source,
      target: edge.target,
      width: 1.1 + 4.5 * weight,
      opacity: (many ? 0.14 : 0.4) + (many ? 0.7 : 0.5) * weight,
      clear: 0.4 + 0.5 * weight,
      port: PORTS[edge.kind],
      z: Math.round(weight * 8),
    };
    const isBent = edge.bends.length > 0;
    if (isBent) Object.assign(data, bent(edge, nodes.get(edge.source), nodes.get(edge.target)));
    const classes = [edge.kind, sign, edge.status ?? "", isBent ? "bent" : "", many ? "" : "fine"];
    return { group: "edges", data, classes: classes.filter(Boolean).join(" ") };
  }

  /**
   * The box around nodes and lines.
   * @param {object} data ViewData.
   * @param {Set<string>} nodes Ids.
   * @param {Set<string>} edges Ids.
   * @returns {{x1: number, y1: number, x2: number, y2: number}}
   */
  acdc.extent = (data, nodes, edges) => {
    const points = data.nodes.filter((node) => nodes.has(node.id)).flatMap(({ x, y }) => [[x - 65, y - HALF], [x + 65, y + HALF]]);
    for (const edge of data.edges) if (edges.has(edge.id)) points.push(...edge.bends);
    const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
    const bandsLeft = acdc.layersOf(data).length ? Math.min(...data.nodes.map((node) => node.x)) - LEFT : Infinity;
    return { x1: Math.min(bandsLeft, ...xs), x2: Math.max(...xs), y1: Math.min(...ys), y2: Math.max(...ys) };
  };

  /* A pale band behind every second layer, with the layer's number. */
  function bands(data) {
    const xs = data.nodes.map((node) => node.x);
    const [left, right] = [Math.min(...xs) - LEFT, Math.max(...xs) + 90];
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
   * All elements: bands, boxes, lines; the strongest lines last, on top.
   * @param {object} data ViewData.
   * @returns {object[]}
   */
  acdc.elements = (data) => {
    const roles = acdc.roleColours(data);
    const nodes = new Map(data.nodes.map((node) => [node.id, node]));
    const many = data.edges.length > acdc.MOST_FINE;
    const weight = weights(data, many);
    return [
      ...bands(data),
      ...data.nodes.map((node) => nodeElement(node, roles)),
      ...[...data.edges].reverse().map((edge) => edgeElement(edge, weight(edge), nodes, many)),
    ];
  };
})();
