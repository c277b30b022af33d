/* Printing: the whole picture in colours for paper, as an image in place of the canvas. */
(function () {
  "use strict";
  const acdc = (window.acdc = window.acdc || {});
  const LONGEST_SIDE = 4000;

  /**
   * Puts the picture into an image before the page is printed.
   * @param {object} graph From `acdc.graph`.
   * @param {HTMLImageElement} image
   */
  acdc.paper = (graph, image) => {
    const controls = acdc.byId("controls");
    let wasOpen = true;

    function draw() {
      wasOpen = controls.open;
      controls.open = true; // the legend is in it
      const root = document.documentElement;
      const theme = root.dataset.theme;
      root.dataset.theme = "light";
      graph.recolour();
      const box = graph.cy.elements().not(".gone").boundingBox();
      const scale = Math.min(2, LONGEST_SIDE / Math.max(box.w, box.h, 1));
      image.src = graph.cy.png({ full: true, scale, bg: "#ffffff" });
      if (theme === undefined) delete root.dataset.theme;
      else root.dataset.theme = theme;
      graph.recolour();
    }
    window.addEventListener("beforeprint", draw);
    window.addEventListener("afterprint", () => {
      controls.open = wasOpen;
      image.removeAttribute("src");
    });
  };
})();
