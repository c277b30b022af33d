/* The picture of a circuit: `acdc.graph(container, data, colourBy)`. */
(function () {
  "use strict";
  const acdc = (window.acdc = window.acdc || {});
  const PADDING = 24;
  const MOST_SHARP = 300;

  /**
   * Draws a circuit.
   * @param {HTMLElement} container An element with a size.
   * @param {object} data ViewData of viewer/records.py.
   * @param {"sign"|"status"} by What the colours of lines mean.
   * @returns {object} The picture: see the functions below.
   */
  acdc.graph = (container, data, by) => {
    let colourBy = by;
    const many = data.edges.length > MOST_SHARP;
    const cy = cytoscape({
      container,
      elements: acdc.elements(data),
      style: acdc.looks(container, data, colourBy),
      layout: { name: "preset", fit: false },
      minZoom: 0.02,
      maxZoom: 5,
      autoungrabify: true,
      autounselectify: true,
      boxSelectionEnabled: false,
      // Thousands of lines: while it moves, the picture is moved as it was drawn.
      textureOnViewport: many,
      pixelRatio: many ? 1 : "auto",
    });
    const edges = new Map(data.edges.map((edge) => [edge.id, edge]));
    const nodes = new Map(data.nodes.map((node) => [node.id, node]));
    const listeners = { node: [], edge: [], none: [] };
    let shown = null;
    let traced = null;
    let paths = null;
    let chosen = null;
    let fitted = true;

    const tell = (event, id) => listeners[event].forEach((callback) => callback(id));

    /* Gives every element the classes that say what is seen of it: all at once, as each change costs. */
    function paint() {
      const seen = paths === null ? shown.edges : paths.edges;
      const few = seen.size <= acdc.MOST_FINE;
      const put = (element, name, is) => is !== element.hasClass(name) && element.toggleClass(name, is);
      cy.batch(() => {
        cy.edges().forEach((edge) => {
          const on = seen.has(edge.id());
          put(edge, "gone", !shown.edges.has(edge.id()));
          put(edge, "faded", !on);
          put(edge, "traced", on && paths !== null);
          put(edge, "fine", on && few);
        });
        cy.nodes(".box").forEach((node) => {
          put(node, "gone", !shown.nodes.has(node.id()));
          put(node, "faded", paths !== null && !paths.nodes.has(node.id()));
          put(node, "chosen", node.id() === chosen);
        });
        cy.edges(".chosen").forEach((edge) => void put(edge, "chosen", edge.id() === chosen));
        if (edges.has(chosen)) cy.getElementById(chosen).addClass("chosen");
      });
    }

    /** Applies filters (see `acdc.everything`). @returns {{edges: Set, nodes: Set, count: number}} What is shown. */
    function filter(state) {
      shown = acdc.visible(data, state);
      const still = chosen === null || shown.nodes.has(chosen) || shown.edges.has(chosen);
      if (still) trace(shown.nodes.has(traced) ? traced : null);
      else select(null);
      return shown;
    }

    /** The lines that are shown, the strongest first. @returns {object[]} Of data.edges. */
    const shownEdges = () => data.edges.filter((edge) => shown.edges.has(edge.id));

    /** Fades everything that is on no path through a node; null clears. @returns {?{nodes: Set, edges: Set}} Paths. */
    function trace(id) {
      traced = id;
      paths = id === null ? null : acdc.paths(shownEdges(), id);
      paint();
      return paths;
    }

    /** Chooses a node (and traces it) or a line, as a click does; null clears. */
    function select(id) {
      chosen = id;
      trace(nodes.has(id) ? id : null);
      if (id === null) tell("none", null);
      else tell(nodes.has(id) ? "node" : "edge", id);
    }

    /** Everything that is shown, in the middle. Cytoscape's own way would first measure every line. */
    function fit() {
      fitted = true;
      const box = acdc.extent(data, shown.nodes, shown.edges);
      const [width, height] = [cy.width() - 2 * PADDING, cy.height() - 2 * PADDING];
      const level = Math.min(width / (box.x2 - box.x1), height / (box.y2 - box.y1), 2);
      if (level > 0) {
        const middle = { x: (box.x1 + box.x2) / 2, y: (box.y1 + box.y2) / 2 };
        cy.viewport({ zoom: level, pan: { x: cy.width() / 2 - level * middle.x, y: cy.height() / 2 - level * middle.y } });
      }
    }

    /** Zooms about the middle. */
    function zoom(factor) {
      fitted = false;
      cy.zoom({ level: cy.zoom() * factor, renderedPosition: { x: cy.width() / 2, y: cy.height() / 2 } });
    }

    /** Brings a node to the middle, large enough to read. */
    function centre(id) {
      fitted = false;
      cy.zoom(Math.max(cy.zoom(), 0.6)).center(cy.getElementById(id));
    }

    /** Whether all of a node's box is in the window. */
    function inSight(id) {
      const box = cy.getElementById(id).renderedBoundingBox();
      return box.x1 >= 0 && box.y1 >= 0 && box.x2 <= cy.width() && box.y2 <= cy.height();
    }

    /** Reads the page's colours again, after a change of theme; may change what lines' colours mean. */
    function recolour(next = colourBy) {
      colourBy = next;
      cy.style().fromJson(acdc.looks(container, data, colourBy)).update();
    }

    /** Calls back with an id on "node" or "edge", and on "none". */
    const on = (event, callback) => void listeners[event].push(callback);

    cy.on("tap", "node.box, edge", (event) => select(event.target.id()));
    cy.on("tap", (event) => event.target === cy && select(null));
    cy.on("scrollzoom pinchzoom dragpan", () => void (fitted = false));
    filter(acdc.everything(data));
    fit();
    // Another window, or a frame that opens: the picture stays fitted unless somebody has moved it.
    new ResizeObserver(() => {
      cy.resize();
      if (fitted) fit();
    }).observe(container);
    return { cy, data, nodes, edges, filter, shownEdges, trace, select, fit, zoom, centre, inSight, recolour, on,
      get shown() { return shown; }, get chosen() { return chosen; }, get paths() { return paths; }, get colourBy() { return colourBy; } };
  };
})();
