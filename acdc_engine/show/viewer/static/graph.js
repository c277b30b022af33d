/* The picture of a circuit: `acdc.graph(container, data, colourBy)`. */
(function () {
  "use strict";
  const acdc = (window.acdc = window.acdc || {});
  const PADDING = 24;
  /* Lines up to which the picture is drawn anew with every movement, and every pixel of a fine screen; of more it is
     moved as it was drawn. */
  const MOST_REDRAWN = 300;
  /* Pixels beside a line that are still on it. */
  const REACH = { mouse: 8, touch: 24 };

  /* Cytoscape's canvas, with lines between bands and boxes. Its own way is to draw elements into textures first: of
     boxes alone that is slower, and blurred. */
  function drawWith(cy, lines) {
    const renderer = cy.renderer();
    renderer.drawElements = (context, elements, extent) => {
      const isBox = (element) => element.hasClass("box");
      elements.filter((element) => !isBox(element)).forEach((band) => renderer.drawElement(context, band));
      lines.draw(context, extent);
      elements.filter(isBox).forEach((box) => renderer.drawElement(context, box));
    };
    renderer.drawLayeredElements = (context, elements, _, extent) => renderer.drawElements(context, elements, extent);
  }

  /**
   * Draws a circuit. Nothing is seen before the first `filter`.
   * @param {HTMLElement} container An element with a size.
   * @param {object} data ViewData of viewer/records.py.
   * @param {"sign"|"status"} by What the colours of lines mean.
   * @returns {object} The picture: see the functions below.
   */
  acdc.graph = (container, data, by) => {
    let colourBy = by;
    const lines = acdc.lines(data);
    const cy = cytoscape({
      container,
      elements: acdc.elements(data),
      style: acdc.looks(container, colourBy, data),
      layout: { name: "preset", fit: false },
      minZoom: 0.02,
      maxZoom: 5,
      autoungrabify: true,
      autounselectify: true,
      boxSelectionEnabled: false,
      textureOnViewport: data.edges.length > MOST_REDRAWN,
      pixelRatio: data.edges.length > MOST_REDRAWN ? 1 : "auto",
    });
    drawWith(cy, lines);
    lines.recolour(acdc.lineColours(container), colourBy);
    const edges = new Map(data.edges.map((edge) => [edge.id, edge]));
    const nodes = new Map(data.nodes.map((node) => [node.id, node]));
    const listeners = { node: [], edge: [], none: [], over: [], replaced: [] };
    let shown = null;
    let traced = null;
    let paths = null;
    let chosen = null;
    let over = null;
    let fitted = true;
    let least = 0;

    const tell = (event, ...said) => listeners[event].forEach((callback) => callback(...said));

    /* Gives lines and boxes what says how they are seen: all at once, as each change costs. */
    function paint() {
      lines.see({ shown: shown.edges, on: paths === null ? shown.edges : paths.edges, traced: paths !== null, chosen });
      const put = (element, name, is) => is !== element.hasClass(name) && element.toggleClass(name, is);
      cy.batch(() => {
        cy.nodes(".box").forEach((node) => {
          put(node, "gone", !shown.nodes.has(node.id()));
          put(node, "faded", paths !== null && !paths.nodes.has(node.id()));
          put(node, "chosen", node.id() === chosen);
        });
      });
      cy.forceRender();
    }

    /** Applies filters: see `acdc.visible`. @returns {{edges: Set, nodes: Set, count: number}} What is shown. */
    function filter(state, among) {
      shown = acdc.visible(data, state, among);
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

    /** Everything that is shown, in the middle. @param {number} pixels Names are no smaller: of what is too large for
        that, the upper right is in sight. */
    function fit(pixels = 0) {
      [fitted, least] = [true, pixels];
      const box = acdc.extent(data, shown.nodes, shown.edges);
      const padding = data.grid === null ? PADDING : 4;
      const [width, height] = [cy.width() - 2 * padding, cy.height() - 2 * padding];
      const level = Math.max(Math.min(width / (box.x2 - box.x1), height / (box.y2 - box.y1), 2), pixels / acdc.nameSize(data));
      if (level <= 0) return;
      const spare = { x: width - level * (box.x2 - box.x1), y: height - level * (box.y2 - box.y1) };
      const left = spare.x < 0 ? spare.x : spare.x / 2; // the right end in sight, or the middle in the middle
      const top = Math.max(0, spare.y / 2);
      cy.viewport({ zoom: level, pan: { x: padding + left - level * box.x1, y: padding + top - level * box.y1 } });
    }

    /** Draws boxes, bands and lines where `data` has them now. */
    function replace() {
      cy.batch(() => acdc.elements(data).forEach((element) => cy.getElementById(element.data.id).data(element.data).position(element.position)));
      lines.recolour(acdc.lineColours(container), colourBy);
      if (fitted) fit(least);
      paint();
      tell("replaced");
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

    /* From the picture's places to pixels of the container. */
    const rendered = ({ x, y }) => ({ x: x * cy.zoom() + cy.pan().x, y: y * cy.zoom() + cy.pan().y });

    /** Where in the container a box or the middle of a line is. @returns {{x: number, y: number}} */
    const placeOf = (id) => rendered(nodes.has(id) ? nodes.get(id) : lines.middle(id));

    /** The points that a line passes, in pixels of the container, and its width. @param {string} id */
    const drawnLine = (id) => ({
      points: lines.points(id).map(([x, y]) => rendered({ x, y })), width: lines.looks(id).width * cy.zoom(),
    });

    /** All that is shown as an image. @param {number} most Its longest side. @returns {string} URL of a PNG. */
    function image(most) {
      const box = acdc.extent(data, shown.nodes, shown.edges);
      if (data.grid !== null) [box.x1, box.y2] = [box.x1 - acdc.BESIDE.left, box.y2 + acdc.BESIDE.below];
      const [width, height] = [box.x2 - box.x1 + 2 * PADDING, box.y2 - box.y1 + 2 * PADDING];
      const scale = Math.min(2, most / Math.max(width, height));
      const canvas = document.createElement("canvas");
      Object.assign(canvas, { width: Math.ceil(width * scale), height: Math.ceil(height * scale) });
      const context = canvas.getContext("2d");
      context.setTransform(scale, 0, 0, scale, (PADDING - box.x1) * scale, (PADDING - box.y1) * scale);
      const renderer = cy.renderer();
      renderer.drawElements(context, renderer.getCachedZSortedEles(), null);
      if (data.grid !== null) acdc.writeBeside(context, data.grid, getComputedStyle(container).getPropertyValue("--ink"));
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.globalCompositeOperation = "destination-over";
      context.fillStyle = "#ffffff";
      context.fillRect(0, 0, canvas.width, canvas.height);
      return canvas.toDataURL();
    }

    /** Reads the page's colours again, after a change of theme; may change what lines' colours mean. */
    function recolour(next = colourBy) {
      colourBy = next;
      lines.recolour(acdc.lineColours(container), colourBy);
      cy.style().fromJson(acdc.looks(container, colourBy, data)).update();
    }

    /** Calls back with an id on "node" or "edge", on "none", and with an id or null and a place on "over". */
    const on = (event, callback) => void listeners[event].push(callback);

    /* What a pointer is on: cytoscape knows boxes only. */
    function under(event) {
      if (event.target !== cy) return event.target.id();
      const reach = event.originalEvent.type.startsWith("touch") ? REACH.touch : REACH.mouse;
      return lines.near(event.position, reach / cy.zoom());
    }

    function hover(id, at = null) {
      if (id !== over) tell("over", id, at);
      over = id;
    }

    cy.on("tap", (event) => select(under(event)));
    cy.on("mousemove", (event) => event.originalEvent.buttons === 0 && hover(under(event), event.renderedPosition));
    cy.on("pan zoom", () => hover(null));
    container.addEventListener("mouseleave", () => hover(null)); // cytoscape says nothing of a pointer that is gone
    cy.on("scrollzoom pinchzoom dragpan", () => void (fitted = false));
    // Another window, or a frame that opens: the picture stays fitted unless somebody has moved it.
    let size = [cy.width(), cy.height()].join();
    new ResizeObserver(() => {
      const now = [container.clientWidth, container.clientHeight].join();
      if (now === size) return; // as when it has just been drawn
      size = now;
      cy.resize();
      if (fitted) fit(least);
    }).observe(container);
    return { cy, data, nodes, edges, lines, filter, shownEdges, trace, select, fit, replace, zoom, centre, inSight, placeOf, drawnLine, image, recolour, on,
      get shown() { return shown; }, get chosen() { return chosen; }, get paths() { return paths; }, get colourBy() { return colourBy; } };
  };
})();
