/* The side panel: what is known of a node, of an edge, or of the circuit. `data` is ViewData of viewer/records.py.

   acdc.panel(container, data, {onSelect}) gives {node(id), edge(id), none(), box(found), way(found)}; onSelect hears of a chosen node's id. */
(function () {
  "use strict";
  window.acdc = window.acdc || {};
  const { html, strange, cuttable, token, known, number, percent, bar, part, note } = acdc.parts;
  const MOST_NODES = 20;
  const INPUTS = { q: "query of a head", k: "key of a head", v: "value of a head", mlp: "input of an MLP",
    logits: "the logits" };
  const STATUS = { found: "found: in both circuits", missed: "missed: in the known circuit only",
    extra: "extra: in this circuit only" };

  /* Label, text, and what the text means. */
  acdc.panelFacts = (rows) => html("dl", { class: "facts" }, ...rows.flatMap(([label, value, meaning]) => [
    html("dt", {}, label),
    html("dd", {}, typeof value === "string" ? cuttable(value, 600) : value,
      meaning ? html("span", { class: "note" }, meaning) : null),
  ]));

  function ends(edge, view) {
    const end = (title, id) => {
      const role = (view.nodes.get(id) || {}).role;
      const button = html("button", { type: "button", class: "end", click: () => view.select(id) }, id);
      return [title, html("span", {}, button,
        known(role) ? strange(role, 60, { class: "role-name" }) : null)];
    };
    const lines = view.data.edges.filter((line) => line.name === edge.name);
    return [end("from", edge.source), ...lines.map((line) => end("to", line.target))];
  }

  function edgePart(edge, view) {
    const { name } = edge;
    const written = (value, words) => (known(value) ? words(value) : "not measured");
    const rows = [
      ...ends(edge, view),
      ["read as", INPUTS[edge.kind],
        /\.kv\d/.test(edge.receiver) ? `shared by a group of heads: ${edge.receiver}` : null],
    ];
    if (known(edge.status)) rows.push(["compared", STATUS[edge.status]]);
    if (known(edge.place)) rows.push(["rank", `${edge.place} of ${view.data.n_edges}`, `by |${view.data.measure}|`]);
    if (view.data.hand_written && !known(edge.strength)) return [html("h2", {}, name), acdc.panelFacts(rows)];
    if (edge.status === "missed")
      return [html("h2", {}, name), acdc.panelFacts(rows), note("This circuit does not have it.")];
    if (view.data.placesOf !== undefined) return [html("h2", {}, name), acdc.panelFacts(rows), atPlaces(edge, view)];
    rows.push(
      ["score", written(edge.score, acdc.signed), "what attribution says the metric would lose without it"],
      ["exact effect", written(edge.effect, acdc.signed),
        "what the metric loses without this one edge. Positive: it supports the behaviour"],
      ["objective without it", written(edge.without, acdc.number),
        "what is left of what the search aimed at: outside the target if the edge is needed"],
      ["stability", written(edge.stability, acdc.percent), "resamples of the prompts whose scores select it"],
      ["necessity", written(edge.necessity, acdc.percent), "resamples in which the target is missed without it"],
    );
    if (known(edge.inclusion)) rows.push(["inclusion", written(edge.inclusion, acdc.percent), "repeats of the search that find it"]);
    return [html("h2", {}, name), acdc.panelFacts(rows)];
  }

  /* The edges at places that an edge without them stands for. */
  function atPlaces(edge, view) {
    const all = view.data.placesOf(edge.name);
    const row = (one) => html("li", { class: "signed" }, html("span", { class: "name" }, one.name.split("@")[1]),
      bar(one.strength ?? 0, -most, most), html("span", { class: "value" }, number(one.strength, true)));
    const most = Math.max(...all.map((one) => Math.abs(one.strength ?? 0))) || 1;
    return part(`Places (${all.length})`, html("ul", { class: "rows" }, ...all.map(row)),
      note("Effect or score at each place; all else that was measured stands with the edge there, in the picture by place. " +
        `Together: score ${acdc.signed(edge.score)}, by which lines are drawn here.`));
  }

  /* A head that looks back. */
  function attentionPart(look, view) {
    const measured = known(look.weight) ? [
      ["attention", acdc.percent(look.weight), "share of the head's, on clean prompts"],
      ["corrupt", acdc.percent(look.weight_corrupt), "the same on corrupt prompts"],
    ] : [];
    if (known(look.score)) measured.push(
      ["score", acdc.signed(look.score), "what attribution says the metric would lose without the head's values there"],
      ["exact effect", known(look.effect) ? acdc.signed(look.effect) : "not measured", "what it loses without them, with the head's attention as it is"],
    );
    return [html("h2", {}, look.name.replace("->", " → ")), acdc.panelFacts([...ends(look, view), ["looks at", acdc.READ[look.reads]], ...measured])];
  }

  function nextTokens(title, tokens) {
    const rows = tokens.map((next) => html("li", {}, token(next.text, 24, { class: "name" }),
      bar(next.probability, 0, 1), html("span", { class: "value" }, percent(next.probability))));
    return html("div", {}, html("h4", {}, title),
      rows.length ? html("ol", { class: "rows next" }, ...rows) : note("not measured"));
  }

  function prompt(title, tokens, readAt, others) {
    const words = tokens.map((text, place) => token(text, 40, {
      class: (place === readAt ? "read " : "") + (others[place] !== text ? "differs" : ""),
    }));
    return html("p", { class: "prompt" }, html("b", {}, `${title} `), ...words);
  }

  function answers(example) {
    const list = (texts) => texts.flatMap((text, place) => [place ? ", " : "", token(text)]);
    if (example.answers.length === 0) return null;
    return html("p", {}, html("b", {}, "right "), ...list(example.answers),
      ...(example.wrong_answers.length ? [html("b", {}, " wrong "), ...list(example.wrong_answers)] : []));
  }

  function examples(data) {
    const title = "Example prompts";
    if (data.hand_written && data.examples.length === 0) return null;
    if (data.examples.length === 0)
      return part(title, note("None in this file: acdc evaluate with --out adds some."));
    const shown = data.examples.map((example, index) => html("details", {
      class: "example", open: index === 0 ? "" : null,
    },
      html("summary", {}, `Example ${index + 1}`),
      prompt("clean", example.clean, example.read_at, example.corrupt),
      prompt("corrupt", example.corrupt, example.read_at, example.clean),
      answers(example),
      html("div", { class: "beside" }, nextTokens("model next, clean", example.next_clean),
        example.next_circuit ? nextTokens("circuit next, clean", example.next_circuit) : null,
        nextTokens("model next, corrupt", example.next_corrupt))));
    return part(title, ...shown,
      note("Underlined: where the prompts differ. Boxed: the position read. Bars: probabilities."));
  }

  function directEffects(view) {
    const title = "Direct logit effects";
    const measured = view.data.nodes.filter((node) => known(node.direct));
    if (view.data.hand_written && measured.length === 0) return null;
    if (measured.length === 0) return part(title, note("Not measured: acdc evaluate with --out adds them."));
    const size = (node) => Math.abs(node.direct.clean);
    const best = [...measured].sort((a, b) => size(b) - size(a)).slice(0, MOST_NODES);
    const most = size(best[0]) || 1;
    const rows = best.map((node) => html("li", {},
      html("button", { type: "button", class: "edge", click: () => view.select(node.id) },
        html("span", { class: "name" }, node.id), bar(node.direct.clean, -most, most),
        html("span", { class: "value" }, number(node.direct.clean, true)),
        known(node.role) ? strange(node.role, 60, { class: "role-name" }) : null)));
    return part(title, html("ol", { class: "rows edges" }, ...rows),
      note("What each node itself writes to the answer on the clean prompts, in logits. " +
        (measured.length > best.length ? `The ${best.length} largest of ${measured.length}.` : "")));
  }

  function about(view) {
    return [html("h2", {}, "About this circuit"), acdc.panelFacts(view.data.about),
      view.data.hand_written ? note("Not judged yet: acdc evaluate with --out does, and with --task where the file has no prompts.") : null,
      examples(view.data),
      directEffects(view)];
  }

  /* Edges by their ends, the strongest first, as they come. */
  function byEnd(edges, end) {
    const found = new Map();
    for (const edge of edges) {
      if (!found.has(edge[end])) found.set(edge[end], []);
      found.get(edge[end]).push(edge);
    }
    return found;
  }

  /* The same for edges into a key or value at a place: what reads them is every head that looks back there. */
  function byReader(edges) {
    const found = byEnd(edges.filter((edge) => edge.kind !== "attention"), "target");
    const direct = new Map(found);
    const strength = (edge) => Math.abs(edge.strength ?? 0);
    for (const { source, target } of edges.filter((edge) => edge.kind === "attention"))
      found.set(target, [...(found.get(target) ?? []), ...(direct.get(source) ?? [])].sort((one, other) => strength(other) - strength(one)));
    return found;
  }

  acdc.panel = function (container, data, { onSelect = () => {} } = {}) {
    const view = {
      data,
      nodes: new Map(data.nodes.map((node) => [node.id, node])),
      edges: new Map(data.edges.map((edge) => [edge.id, edge])),
      into: byReader(data.edges),
      out: byEnd(data.edges.filter((edge) => edge.kind !== "attention"), "source"),
      looks: data.edges.filter((edge) => edge.kind === "attention"),
      select: (id) => onSelect(id),
      room: () => container.clientWidth - 2 * parseFloat(getComputedStyle(container).paddingLeft) - 8,
    };
    container.classList.add("acdc-panel");
    const show = (parts) => {
      const had = container.contains(document.activeElement);
      const first = container.firstChild === null;
      container.replaceChildren(...parts.filter(known));
      if (!first) container.scrollTop = 0; // which makes the browser lay out the page at once
      const heading = container.querySelector("h2");
      heading.tabIndex = -1;
      if (had) heading.focus({ preventScroll: true }); // the button that was pressed is gone
    };
    return {
      node: (id) => show(acdc.panelNode(view.nodes.get(id), view)),
      edge: (id) => show((view.edges.get(id).kind === "attention" ? attentionPart : edgePart)(view.edges.get(id), view)),
      none: () => show(about(view)),
      box: (found) => show(acdc.panelBox(found, view)),
      way: (found) => show(acdc.panelWay(found, view)),
    };
  };
})();
