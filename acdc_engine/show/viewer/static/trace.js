/* Paths through a node. */
(function () {
  "use strict";
  const acdc = (window.acdc = window.acdc || {});

  function closure(starts, after) {
    const seen = new Set(starts);
    const todo = [...starts];
    while (todo.length) {
      for (const next of after.get(todo.pop()) ?? []) {
        if (!seen.has(next)) {
          seen.add(next);
          todo.push(next);
        }
      }
    }
    return seen;
  }

  function listed(edges, from, to) {
    const lists = new Map();
    for (const edge of edges) {
      if (!lists.has(edge[from])) lists.set(edge[from], []);
      lists.get(edge[from]).push(edge[to]);
    }
    return lists;
  }

  /**
   * All paths from the input, at any place, and from what heads look at without reading it, through a node to the logits: nodes on the way to nowhere are not among them.
   * @param {{id: string, source: string, target: string}[]} edges Those that are shown.
   * @param {string} id The node.
   * @returns {{nodes: Set<string>, edges: Set<string>}} Ids; only the node itself where no path leads through it.
   */
  acdc.paths = (edges, id) => {
    const up = listed(edges, "source", "target");
    const down = listed(edges, "target", "source");
    const named = (lists, name) => [...lists.keys()].filter((node) => acdc.plainName(node) === name);
    const rings = edges.filter((edge) => edge.reads === "ring").map((edge) => edge.source);
    const fromInput = closure([...named(up, "input"), ...rings], up);
    const toLogits = closure(named(down, "logits"), down);
    const before = new Set([...closure([id], down)].filter((node) => fromInput.has(node)));
    const after = new Set([...closure([id], up)].filter((node) => toLogits.has(node)));
    const nodes = new Set([id, ...before, ...after]);
    const through = edges.filter(
      (edge) => (before.has(edge.source) && before.has(edge.target)) || (after.has(edge.source) && after.has(edge.target)),
    );
    return { nodes, edges: new Set(through.map((edge) => edge.id)) };
  };
})();
