/* What the panel says of a box, or of a line between boxes, of the picture by role. */
(function () {
  "use strict";
  const acdc = (window.acdc = window.acdc || {});
  const { html, strange, part, note, number, bar, firstOf, known } = acdc.parts;
  const MOST = 12;
  const KINDS = { q: "queries", k: "keys", v: "values", mlp: "MLPs", logits: "the logits" };

  function edgesOf(sums, view) {
    const drawn = (edge) => html("li", {}, html("button", { type: "button", class: "edge", click: () => view.select(edge.id) },
      html("span", { class: "name" }, edge.id.replace("->", " → ")),
      known(edge.strength) ? bar(edge.strength, -most, most) : null,
      known(edge.strength) ? html("span", { class: "value" }, number(edge.strength, true)) : null));
    const most = Math.max(0, ...sums.lines.map((edge) => Math.abs(edge.strength ?? 0))) || 1;
    return part(`Edges (${acdc.grouped(sums.count)})`, ...firstOf(sums.lines, MOST, drawn, html("ul", { class: "rows edges named" })));
  }

  function sumRows(sums, measure) {
    const into = Object.keys(KINDS).filter((kind) => sums.lines.some((edge) => edge.kind === kind)).map((kind) => KINDS[kind]);
    const rows = [["edges", acdc.grouped(sums.count)], ["into", into.join(", ")]];
    if (sums.total !== null) {
      rows.push([`sum of ${measure}s`, number(sums.total, true), measure === "effect" ? "of each edge, measured alone" : "of each edge"]);
      if (sums.plus && sums.minus) rows.push(["of which", `${number(sums.plus, true)} and ${number(sums.minus, true)}`]);
    }
    return rows;
  }

  /** A line between boxes. @param {object} found {way, sums}; sums are null for paths through MLPs. */
  acdc.panelWay = ({ way, sums }, view) => {
    const heading = html("h2", { class: "strange" }, `${acdc.cut(way.source, 60)} → ${acdc.cut(way.target, 60)}`);
    if (sums === null) return [heading, note("Only through MLPs: drawn because a box would stand loose. Show the MLPs to see the edges.")];
    return [heading, acdc.panelFacts(sumRows(sums, view.data.measure)), edgesOf(sums, view)];
  };

  /** A box. @param {object} found {box, inside}; inside are the sums of edges within, if there are any. */
  acdc.panelBox = ({ box, inside }, view) => {
    const nodes = box.nodes.map((id) => view.nodes.get(id));
    const row = (node) => html("li", {}, html("button", { type: "button", class: "edge", click: () => view.select(node.id) },
      html("span", { class: "name" }, node.id),
      known(node.direct) ? bar(node.direct.clean, -most, most) : null,
      known(node.direct) ? html("span", { class: "value" }, number(node.direct.clean, true)) : null));
    const most = Math.max(0, ...nodes.map((node) => Math.abs(node.direct?.clean ?? 0))) || 1;
    const measured = nodes.some((node) => known(node.direct));
    return [
      html("h2", {}, strange(box.name, 60)),
      part(acdc.count(nodes.length, "node"), ...firstOf(nodes, MOST, row, html("ul", { class: "rows edges named" })),
        measured ? note("Bars: what each itself writes to the answer on the clean prompts, in logits.") : null),
      inside ? part("Edges within", acdc.panelFacts(sumRows(inside, view.data.measure))) : null,
    ];
  };
})();
