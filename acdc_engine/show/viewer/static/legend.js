/* What colours and lines mean. */
(function () {
  "use strict";
  const acdc = (window.acdc = window.acdc || {});

  function line(text, className) {
    const item = document.createElement("li");
    item.append(acdc.element("span", "", `swatch ${className}`), acdc.element("span", text, "strange"));
    return item;
  }

  function part(title, items) {
    const list = document.createElement("ul");
    list.append(...items);
    const whole = document.createElement("section");
    whole.append(acdc.element("h2", title), list);
    return whole;
  }

  /**
   * Writes the legend.
   * @param {object} data ViewData of the picture that is seen.
   * @param {HTMLElement} container
   * @param {"sign"|"status"} colourBy What the colours of lines mean.
   * @param {?string} leftOut In the picture by role, what it leaves out; null in the other.
   */
  acdc.legend = (data, container, colourBy, leftOut = null) => {
    const parts = [];
    if (leftOut !== null) {
      const sum = data.measure === null ? "width: number of edges" : `width: |sum of ${data.measure}s|`;
      const signs = data.measure === null ? [] : [line("supports the behaviour", "line positive"), line("works against it", "line negative")];
      parts.push(part("Lines between boxes", [...signs, line(sum, "none"), line("only through MLPs: drawn where a box would stand loose", "line via")]));
      const said = `On a line: how many edges it stands for, into which of q, k and v${data.measure === null ? "" : ", and their sum"}.`;
      parts.push(...[said, leftOut].filter(Boolean).map((text) => acdc.element("p", text, "faint")));
    } else if (colourBy === "status") {
      const { found, missed, extra } = data.overlay;
      parts.push(part("Edges", [
        line(`found: in both (${acdc.grouped(found)})`, "line found"),
        line(`missed: known, not here (${acdc.grouped(missed)})`, "line missed"),
        line(`extra: here, not known (${acdc.grouped(extra)})`, "line extra"),
      ]));
    } else {
      const signs = data.measure === null
        ? [line("effect not known", "line unknown")]
        : [line("supports the behaviour", "line positive"), line("works against it", "line negative"), line(`width: |${data.measure}|`, "none")];
      const kinds = [line("into a query", "line q"), line("into a key", "line k"), line("into a value, MLP or logits", "line v")];
      const faint = data.edges.some((edge) => edge.faint) ? [line(`faint: ${data.faint}`, "none")] : [];
      parts.push(part("Edges", [...signs, ...kinds, ...faint]));
    }
    if (data.grid !== null) {
      parts.push(part("Attention", [line("a key that heads read here", "dot k"), line("a value that heads read here", "dot v"),
        ...(data.nodes.some((node) => node.kind === "ring") ? [line("looked at on clean prompts more than on corrupt ones, nothing is read", "dot ring")] : []),
        line(`to the heads that look back at it${data.edges.some((edge) => edge.weight > 0) ? "; width: how much" : ""}`, "line attention")]));
      parts.push(acdc.element("p", "Columns are places of the prompt, rows are layers. Their names fold them.", "faint"));
    } else if (data.placesOf !== undefined) {
      parts.push(acdc.element("p", "Without places: a line is an edge at all its places, with the sum of its scores.", "faint"));
    }
    if (leftOut === null && data.edges.length > (colourBy === "status" ? acdc.MOST_DASHED : acdc.MOST_FINE)) {
      parts.push(acdc.element("p", `Dashes, dots and arrow heads appear where at most ${acdc.MOST_FINE} lines are seen: filter, or trace a node.`, "faint"));
    }
    const roles = acdc.roleLegend(data).map(([role, index]) => line(acdc.cut(role, 60), `box role${index}`));
    if (roles.length) parts.push(part("Roles", roles));
    container.replaceChildren(...parts);
  };
})();
