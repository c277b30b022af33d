/* What the panel says of a node: role, what it writes to the answer, its strongest edges, where it looks. */
(function () {
  "use strict";
  window.acdc = window.acdc || {};
  const { html, strange, known, number, bar, part, note, firstOf, share } = acdc.parts;
  const MOST_EDGES = 8;
  const KINDS = { input: "input", head: "attention head", mlp: "MLP", logits: "logits", k: "key that heads read here", v: "value that heads read here", ring: "heads look here and read nothing that the circuit keeps" };
  const MEASURED_ON = { task: "on held-out task prompts", random: "on random tokens, repeated" };
  const STATUS = { found: "in both circuits", missed: "in the known circuit only", extra: "in this circuit only" };

  function facts(node, view) {
    const rows = [["kind", KINDS[node.kind]]];
    const place = view.data.grid?.columns.find((column) => column.name === node.span);
    if (place) rows.push(["place", place.name, place.words ? `“${place.words}” in the first example` : null]);
    if (known(node.layer)) rows.push(["layer", String(node.layer)]);
    if (node.kind === "head" || known(node.role)) rows.push(["role", known(node.role) ? node.role : "none known"]);
    if (known(node.known_role)) rows.push(["known circuit", node.known_role]);
    if (known(node.status)) rows.push(["compared", STATUS[node.status]]);
    return acdc.panelFacts([...rows, ...acdc.edgeCounts(node).map(([label, text]) => [label.toLowerCase(), text])]);
  }

  function roleScores(node) {
    if (node.kind !== "head") return null;
    const title = "Role scores";
    if (node.role_scores.length === 0)
      return part(title, note("Not measured: acdc evaluate with --out adds them."));
    const low = Math.min(0, ...node.role_scores.map((score) => score.value));
    const high = Math.max(1, ...node.role_scores.map((score) => Math.max(score.value, score.threshold)));
    const row = (score) => {
      const holds = score.value >= score.threshold;
      return html("li", { class: holds ? "role holds" : "role" },
        html("span", { class: "name" }, score.role),
        bar(score.value, low, high, score.threshold),
        html("span", { class: "value" }, share(score.value)),
        html("span", { class: "note" }, `${holds ? "✓ ≥" : "<"} ${score.threshold}`));
    };
    const lists = Object.entries(MEASURED_ON).flatMap(([prompts, words]) => {
      const rows = node.role_scores.filter((score) => score.prompts === prompts).map(row);
      return rows.length ? [html("h4", {}, words), html("ul", { class: "rows" }, ...rows)] : [];
    });
    return part(title, ...lists,
      note("Marked in a bar: the threshold, from which on a head counts as one of that role (✓)."));
  }

  /* Whether a node stands where the logits are read. */
  const writes = (node, view) => node.span === null || view.data.nodes.some((other) => other.kind === "logits" && other.span === node.span);

  function directEffect(node, view) {
    if (node.kind === "logits" || node.dot) return null;
    const title = "Direct logit effect", direct = node.direct;
    if (!known(direct) && !writes(node, view)) return part(title, note("None: only what stands where the logits are read writes to the answer."));
    if (!known(direct)) return part(title, note("Not measured: acdc evaluate with --out adds it."));
    const most = Math.max(Math.abs(direct.clean), Math.abs(direct.corrupt)) || 1;
    const row = (name, value) => html("li", { class: "signed" },
      html("span", { class: "name" }, name), bar(value, -most, most),
      html("span", { class: "value" }, number(value, true)));
    return part(title, html("ul", { class: "rows" }, row("clean", direct.clean), row("corrupt", direct.corrupt)),
      note("What this node itself writes to the answer, past all other nodes: right answer less wrong ones (or less " +
        `the mean of all), in logits, mean over ${direct.n_prompts} held-out prompts. Positive: for the right one.`));
  }

  /* Metric against what a head's write is multiplied by; all heads on one scale. */
  function doseCurve(node, view) {
    const title = "Turned up and down", all = view.data.nodes.flatMap((other) => other.doses?.values ?? []);
    if (node.kind !== "head" || all.length === 0) return null;
    if (!known(node.doses)) return part(title, note("Not measured: only the strongest heads were turned by themselves."));
    const { metric, n_prompts, factors, values } = node.doses;
    return part(title, acdc.doses(node.doses, all), note(strange(metric, 40), ` in the whole model when this head writes so many times what it would, ${node.span === null ? "" : "wherever it is, "}mean over ${n_prompts} held-out prompts: ` +
        `${number(values[factors.indexOf(0)])} without it. Dashed: the model as it is. All heads that were turned are on this scale.`));
  }

  function edgeList(title, node, edges, all, other, view, strongest) {
    if (all === 0 && edges.length === 0) return null;
    const drawn = (lines) => {
      const edge = lines[0], ends = lines.map((line) => line[other]);
      const id = ends.length === 1 ? ends[0] : edge.id, role = (view.nodes.get(id) || {}).role;
      return html("li", {}, html("button", { type: "button", class: "edge", click: () => view.select(id) },
        html("span", { class: "name" }, ends.join(", ")), html("span", { class: "port" }, edge.kind),
        known(edge.strength) ? bar(edge.strength, -strongest, strongest) : null,
        known(edge.strength) ? html("span", { class: "value" }, number(edge.strength, true)) : null,
        edge.status === "missed" ? html("span", { class: "value missed" }, "missed") : null,
        known(role) ? strange(role, 60, { class: "role-name" }) : null));
    };
    const listed = [...byEdge(edges).values()]; // one into a shared key or value leads to several heads
    const cut = all - listed.filter(([edge]) => edge.status !== "missed").length;
    const others = `${known(view.data.measure) ? "weaker" : "other"} ${cut === 1 ? "one was" : "ones were"}`;
    return part(`${title} (${listed.length})`, ...firstOf(listed, MOST_EDGES, drawn, html("ul", { class: node.span === null ? "rows edges" : "rows edges placed" })),
      cut > 0 ? note(`${cut} ${others} left out of this page.`) : null);
  }

  /* What a head looks back at, or which heads look back at a key or value. */
  function lookList(title, lines, other, view) {
    if (lines.length === 0) return null;
    const drawn = (look) => html("li", {}, html("button", { type: "button", class: "edge", click: () => view.select(look[other]) },
      html("span", { class: "name" }, look[other]),
      known(look.weight) ? bar(look.weight, 0, 1, look.weight_corrupt) : null,
      known(look.weight) ? html("span", { class: "value" }, acdc.percent(look.weight)) : null));
    const sorted = [...lines].sort((one, next) => (next.weight ?? 0) - (one.weight ?? 0));
    return part(`${title} (${lines.length})`, ...firstOf(sorted, MOST_EDGES, drawn, html("ul", { class: "rows edges named" })),
      known(lines[0].weight) ? note("Share of the head's attention on clean prompts; marked in the bar, that on corrupt ones.") : null);
  }

  /* The lines of each edge, in their order. */
  function byEdge(lines) {
    const found = new Map();
    for (const line of lines) {
      found.set(line.name, [...(found.get(line.name) || []), line]);
    }
    return found;
  }

  function examplePicker(examples, draw) {
    const place = html("div", {});
    const buttons = examples.map((found, index) => html("button", {
      type: "button", "aria-pressed": "false", click: () => show(index),
    }, `Example ${found.number}`));
    function show(index) {
      buttons.forEach((button, at) => button.setAttribute("aria-pressed", String(at === index)));
      place.replaceChildren(draw(examples[index]));
    }
    show(0);
    return [examples.length > 1 ? html("div", { class: "choices" }, ...buttons) : null, place];
  }

  function attention(node, view) {
    if (node.kind !== "head") return null;
    const title = "Attention on an example";
    const found = view.data.examples.flatMap((example, index) => example.patterns
      .filter((pattern) => pattern.head === acdc.plainName(node.id))
      .map((pattern) => ({ example, pattern, number: index + 1 })));
    if (found.length > 0)
      return part(title, ...examplePicker(found, ({ example, pattern }) =>
        acdc.heatmap(example, pattern, { room: view.room() })));
    const kept = view.data.examples.some((example) => example.patterns.length > 0);
    return part(title, note(kept
      ? "Not kept for this head: the file has the attention of other heads of the circuit."
      : view.data.examples.length > 0
        ? "Not kept: too many heads, or too long a prompt."
        : "Not measured: acdc evaluate with --out adds it."));
  }

  /* Of hand-written circuits nothing is measured: that is said once, of the circuit. */
  const measurable = (node, data) =>
    !(data.hand_written && node.role_scores.length === 0 && !known(node.direct) && data.examples.length === 0);

  acdc.panelNode = function (node, view) {
    const into = view.into.get(node.id) || [], out = view.out.get(node.id) || [];
    const strongest = Math.max(0, ...[...into, ...out].map((edge) => Math.abs(edge.strength || 0))) || 1;
    const edges = known(view.data.measure) ? "Strongest edges" : "Edges";
    const measured = node.status === "missed" ? [note("This circuit does not have it.")]
      : !measurable(node, view.data) ? []
      : [roleScores(node), directEffect(node, view), doseCurve(node, view), attention(node, view)];
    const has = node.status === "missed" || node.edges_in + node.edges_out > 0;
    const lists = has && into.length + out.length === 0 ? [note("Its edges are not drawn in this page: there are too many.")] : [
      edgeList(`${edges} in`, node, into, node.edges_in, "source", view, strongest),
      node.dot ? null : edgeList(`${edges} out`, node, out, node.edges_out, "target", view, strongest),
      lookList("Looks back at", view.looks.filter((look) => look.target === node.id), "source", view),
      lookList("Heads that look back here", view.looks.filter((look) => look.source === node.id), "target", view),
    ];
    return [html("h2", {}, node.id), facts(node, view), ...measured, ...lists];
  };
})();
