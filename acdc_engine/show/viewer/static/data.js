/* What the pictures are of, from ViewData: lines in the place of edges, and boxes with their size. */
(function () {
  "use strict";
  const acdc = (window.acdc = window.acdc || {});
  /** Sizes of boxes and dots, and of boxes' borders by what the colours mean. */
  acdc.BOX = { width: 104, wide: 140, height: 40, dot: 13, ring: 8, border: { sign: 1.4, status: 3.5 } };

  /** Names a line: its two nodes and what is read, as in "a5.h5->a7.h3<k>". @param {object} edge Of ViewData. */
  const lineId = ({ source, target, kind }) => `${source}->${target}${["q", "k", "v"].includes(kind) ? `<${kind}>` : ""}`;

  /* One for each head that shares the key or value that is read; of edges at places there is one of each. */
  const linesOf = (edges) => edges.flatMap(({ lines, ...edge }) =>
    lines.map((line) => ({ ...edge, ...line, id: edge.name.includes("@") ? edge.name : lineId({ ...edge, ...line }) })));

  const UNKNOWN = { role: null, known_role: null, role_scores: [], direct: null, doses: null, status: null };

  function boxOf(node) {
    const wide = node.span === null && ["input", "logits"].includes(node.kind);
    return { ...node, label: acdc.plainName(node.id), width: wide ? acdc.BOX.wide : acdc.BOX.width, height: acdc.BOX.height };
  }

  /** A name without its place: "a5.h3" of "a5.h3@B.2". @param {string} name Of a node or an edge. */
  acdc.plainName = (name) => name.split("@")[0];

  /** The layered picture: without places. @param {object} data ViewData. @returns {object} The same, of boxes and lines. */
  acdc.layered = (data) => ({ ...data, grid: null, nodes: data.nodes.map(boxOf), edges: linesOf(data.edges) });

  /**
   * The picture by place. Keys and values are nodes of it, dots, and a head's look back at one is a line of the kind
   * "attention": so paths and the keyboard go through them.
   * @param {object} data ViewData.
   * @returns {?object} The same, of boxes and lines, with `grid`; null for a circuit without places.
   */
  acdc.placed = (data) => {
    if (data.places === null) return null;
    const { nodes, edges, dots, attention, columns, rows, ...facts } = data.places;
    const kinds = new Map(dots.map((dot) => [dot.id, dot.kind]));
    const looks = attention.map((look) => ({ ...look, name: `${look.source}->${look.target}`, id: `${look.source}->${look.target}`,
      receiver: look.target, kind: "attention", reads: kinds.get(look.source), strength: null, place: null,
      inclusion: null, faint: false, status: null, appears: 0, bends: [] }));
    const points = dots.map((dot) => ({ ...dot, ...UNKNOWN, dot: true, label: "", edges_out: 0, width: acdc.BOX[dot.kind] ?? acdc.BOX.dot, height: acdc.BOX[dot.kind] ?? acdc.BOX.dot }));
    return { ...data, ...facts, grid: { columns, rows }, nodes: [...nodes.map(boxOf), ...points], edges: [...linesOf(edges), ...looks] };
  };
})();
