/* Which lines and nodes a choice of filters leaves. `data` is ViewData of viewer/records.py. */
(function () {
  "use strict";
  const acdc = (window.acdc = window.acdc || {});

  /**
   * Filters that let everything pass.
   * @param {object} data ViewData.
   * @returns {{size: number, least: number, from: number, to: number, kinds: Object<string, boolean>,
   *   lonely: boolean, overlay: boolean}} `size`: index of data.sizes. `least`: least |strength|. `from`, `to`: layers.
   *   `lonely`: nodes without lines are shown. `overlay`: the known circuit is shown.
   */
  acdc.everything = (data) => {
    const layers = acdc.layersOf(data);
    return {
      size: data.sizes.length - 1,
      least: 0,
      from: layers[0] ?? 0,
      to: layers[layers.length - 1] ?? 0,
      kinds: { q: true, k: true, v: true, mlp: true, logits: true },
      lonely: false,
      overlay: data.overlay !== null,
    };
  };

  /** @returns {number[]} Layers with nodes, lowest first. */
  acdc.layersOf = (data) =>
    [...new Set(data.nodes.map((node) => node.layer).filter((layer) => layer !== null))].sort((a, b) => a - b);

  /**
   * Applies filters. Input and logits are in all layers; missed edges have no strength and pass every least one. Attention
   * is there where something is read, or at a ring, and the head that looks back leads on.
   * @param {object} data ViewData, from `acdc.layered` or `acdc.placed`.
   * @param {object} state See `everything`.
   * @param {?Set<string>} among Of a circuit with places that is shown without them: the names of those edges that size and
   *   least strength leave at some place, without it.
   * @returns {{edges: Set<string>, nodes: Set<string>, count: number}} Ids of lines and nodes; `count` is of edges of
   *   the circuit (one that leads to several heads counts once, missed ones do not).
   */
  acdc.visible = (data, state, among = null) => {
    const inLayers = new Set(
      data.nodes
        .filter((node) => node.layer === null || (node.layer >= state.from && node.layer <= state.to))
        .filter((node) => state.overlay || node.status !== "missed")
        .map((node) => node.id),
    );
    const edges = new Set();
    const touched = new Set();
    const leading = new Set();
    const counted = new Set();
    const add = (edge) => {
      edges.add(edge.id);
      touched.add(edge.source).add(edge.target);
    };
    for (const edge of data.edges) {
      const missed = edge.status === "missed";
      const passes = missed
        ? state.overlay
        : among !== null ? among.has(edge.name) : edge.appears <= state.size && (state.least <= 0 || Math.abs(edge.strength ?? 0) >= state.least);
      if (!passes || !state.kinds[edge.kind] || !inLayers.has(edge.source) || !inLayers.has(edge.target)) continue;
      add(edge);
      leading.add(edge.source);
      if (!missed) counted.add(edge.name);
    }
    for (const edge of data.edges) if (edge.kind === "attention" && (edge.reads === "ring" || touched.has(edge.source)) && leading.has(edge.target)) add(edge);
    const stays = ({ id, dot }) => (state.lonely && !dot) || touched.has(id) || id === "input" || acdc.plainName(id) === "logits";
    const nodes = new Set(data.nodes.filter((node) => inLayers.has(node.id) && stays(node)).map((node) => node.id));
    return { edges, nodes, count: counted.size };
  };
})();
