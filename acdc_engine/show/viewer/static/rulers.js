/* Beside the picture by place: layers at its left, places and their words below it. They move with the picture and stay in
   sight; each folds its row or column. */
(function () {
  "use strict";
  const acdc = (window.acdc = window.acdc || {});
  const LEAST = { columns: 22, rows: 13 }; // pixels from one text to the next
  const MOST_WORDS = 14;

  /* What has a text of its own: every band, but folded neighbours together where they stand too close. */
  function runs(bands, zoom, least) {
    const found = [];
    for (const band of bands) {
      const last = found[found.length - 1];
      if (band.folded && band.size * zoom < least && last && last[0].folded) last.push(band);
      else found.push([band]);
    }
    return found;
  }

  const titles = { columns: ({ name, words }) => (words ? `${name} “${words}”` : name), rows: ({ name }) => (isNaN(name) ? name : `layer ${name}`) };

  function written(axis, run) {
    const [first, last] = [run[0], run[run.length - 1]];
    if (run.length > 1) return [acdc.element("b", `${acdc.cut(first.name, 8)} … ${acdc.cut(last.name, 8)}`, "strange")];
    const made = [acdc.element("b", acdc.cut(first.name, MOST_WORDS), "strange")];
    if (axis === "columns" && first.words) made.push(" ", acdc.element("span", `“${acdc.cut(first.words, MOST_WORDS)}”`, "faint strange"));
    return made;
  }

  /** Room that names take beside a picture by place on paper. */
  acdc.BESIDE = { left: 110, below: 190 };

  /** Writes the names of rows and columns, with their words, beside the picture. @param {CanvasRenderingContext2D} context
      @param {object} grid @param {string} colour */
  acdc.writeBeside = (context, { columns, rows }, colour) => {
    Object.assign(context, { font: "26px system-ui, sans-serif", fillStyle: colour, textAlign: "right", textBaseline: "middle" });
    const left = Math.min(...columns.map(({ start }) => start)), bottom = Math.max(...rows.map(({ start, size }) => start + size));
    for (const { name, start, size, folded } of rows) if (!folded) context.fillText(name, left - 12, start + size / 2);
    for (const { name, words, start, size, folded } of columns) {
      if (folded) continue;
      context.save();
      context.translate(start + size / 2, bottom + 12);
      context.rotate(-0.6);
      context.fillText(`${acdc.cut(name, MOST_WORDS)}${words ? ` “${acdc.cut(words, MOST_WORDS)}”` : ""}`, 0, 0);
      context.restore();
    }
  };

  /**
   * Draws the rulers of a picture by place.
   * @param {object} graph From `acdc.graph`.
   * @param {{toggle: function}} folding From `acdc.folding`.
   * @param {{columns: HTMLElement, rows: HTMLElement}} places
   */
  acdc.rulers = (graph, folding, places) => {
    const { cy, data } = graph;

    function label(axis, run) {
      const made = document.createElement("button");
      const names = run.map((band) => band.name);
      const { folded } = run[0];
      const said = run.map(titles[axis]).join(", ");
      Object.assign(made, { type: "button", title: `${said}: ${folded ? "unfold" : "fold"}`, className: folded ? "folded" : "" });
      made.setAttribute("aria-expanded", String(!folded));
      made.append(...written(axis, run));
      made.addEventListener("click", () => {
        folding.toggle(axis, names);
        graph.replace();
        [...places[axis].children].find((other) => other.dataset.names === made.dataset.names)?.focus();
      });
      made.dataset.names = names.join("\n");
      return made;
    }

    /* Runs with the middle of what is in sight of them; of those that stand too close the folded ones. */
    function placed(axis, side, length) {
      const [zoom, pan] = [cy.zoom(), cy.pan()[side]];
      const all = runs(data.grid[axis], zoom, LEAST[axis]).map((run) => {
        const ends = run.flatMap(({ start, size }) => [start, start + size]).map((end) => end * zoom + pan);
        const [from, to] = [Math.max(0, Math.min(...ends)), Math.min(length, Math.max(...ends))];
        return { run, seen: from < to, at: (from + to) / 2 };
      });
      const kept = [];
      for (const folded of [true, false]) {
        for (const one of all.filter(({ run, seen }) => seen && run[0].folded === folded)) {
          if (kept.every(({ at }) => Math.abs(at - one.at) >= LEAST[axis])) kept.push(one);
        }
      }
      return all.filter((one) => kept.includes(one));
    }

    function draw(axis, side, length) {
      places[axis].replaceChildren(...placed(axis, side, length).map(({ run, at }) => {
        const made = label(axis, run);
        made.style[side === "x" ? "left" : "top"] = `${at}px`;
        return made;
      }));
    }

    function redraw() {
      draw("columns", "x", cy.width());
      draw("rows", "y", cy.height());
    }

    cy.on("viewport resize", redraw);
    graph.on("replaced", redraw);
    redraw();
  };
})();
