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
   * @param {HTMLElement} stage What holds the picture.
   * @returns {{mark: function(string), clear: function()}} `mark` takes the id of a node or line.
   */
  acdc.glow = (graph, stage) => {
    const layer = document.createElementNS(SVG, "svg");
    layer.setAttribute("class", "glow");
    layer.setAttribute("aria-hidden", "true");
    stage.append(layer);

    function shape(element) {
      if (element.isNode()) {
        const box = element.renderedBoundingBox({ includeLabels: false, includeOverlays: false });
        const made = document.createElementNS(SVG, "rect");
        const facts = { x: box.x1 - 2, y: box.y1 - 2, width: box.w + 4, height: box.h + 4, rx: 7 };
        for (const [name, value] of Object.entries(facts)) made.setAttribute(name, String(value));
        return made;
      }
      const { x, y } = graph.cy.pan();
      const zoom = graph.cy.zoom();
      const bends = graph.edges.get(element.id()).bends.map(([across, down]) => ({ x: across * zoom + x, y: down * zoom + y }));
      const points = [element.renderedSourceEndpoint(), ...bends, element.renderedTargetEndpoint()];
      const made = document.createElementNS(SVG, "polyline");
      made.setAttribute("points", points.map((point) => `${point.x},${point.y}`).join(" "));
      made.setAttribute("stroke-width", String(Math.max(LEAST_WIDTH, (element.data("width") + 4) * zoom)));
      return made;
    }

    const clear = () => layer.replaceChildren();
    const mark = (id) => layer.replaceChildren(shape(graph.cy.getElementById(id)));
    return { mark, clear };
  };
})();
