/* A mark over a node or line of the picture. Drawn beside the canvas: to draw thousands of lines anew for each that the
   mouse passes would be slow. */
(function () {
  "use strict";
  const acdc = (window.acdc = window.acdc || {});
  const SVG = "http://www.w3.org/2000/svg";
  const LEAST_WIDTH = 4;

  /**
   * Puts a layer over the picture.
   * @param {object} graph From `acdc.graph`.
   * @returns {{mark: function(string), clear: function()}} `mark` takes the id of a node or line.
   */
  acdc.glow = (graph) => {
    const layer = document.createElementNS(SVG, "svg");
    layer.setAttribute("class", "glow");
    layer.setAttribute("aria-hidden", "true");
    graph.cy.container().append(layer);

    function box(id) {
      const drawn = graph.cy.getElementById(id).renderedBoundingBox({ includeLabels: false, includeOverlays: false });
      const made = document.createElementNS(SVG, "rect");
      const facts = { x: drawn.x1 - 2, y: drawn.y1 - 2, width: drawn.w + 4, height: drawn.h + 4, rx: 7 };
      for (const [name, value] of Object.entries(facts)) made.setAttribute(name, String(value));
      return made;
    }

    function line(id) {
      const { points, width } = graph.drawnLine(id);
      const made = document.createElementNS(SVG, "polyline");
      made.setAttribute("points", points.map((point) => `${point.x},${point.y}`).join(" "));
      made.setAttribute("stroke-width", String(Math.max(LEAST_WIDTH, width + 4 * graph.cy.zoom())));
      return made;
    }

    const clear = () => layer.replaceChildren();
    const mark = (id) => layer.replaceChildren(graph.nodes.has(id) ? box(id) : line(id));
    return { mark, clear };
  };
})();
