/* Printing: the whole picture in colours for paper, as an image in place of the canvas. */
(function () {
  "use strict";
  const acdc = (window.acdc = window.acdc || {});
  const LONGEST_SIDE = 4000;

  /**
   * Puts the picture into an image before the page is printed.
   * @param {function(): object} graph The picture that is seen, from `acdc.graph`.
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
      graph().recolour();
      image.src = graph().image(LONGEST_SIDE);
      if (theme === undefined) delete root.dataset.theme;
      else root.dataset.theme = theme;
      graph().recolour();
    }
    window.addEventListener("beforeprint", draw);
    window.addEventListener("afterprint", () => {
      controls.open = wasOpen;
      image.removeAttribute("src");
    });
  };
})();
