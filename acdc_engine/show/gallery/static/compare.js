// The page of two circuits: which two is in the address.
(() => {
  "use strict";
  const byId = (id) => document.getElementById(id);
  document.documentElement.classList.add("runs-scripts");
  const { shapes, runs } = JSON.parse(byId("circuits").textContent);
  const heading = document.title;
  const bySlug = new Map(runs.map((run) => [run.slug, run]));
  const WHERE = { a: "only in A", b: "only in B", both: "both", stronger: "both, stronger in B", weaker: "both, weaker in B",
    turned: "both, other sign in B" };
  const CHANGES = ["stronger", "weaker", "turned"];
  const MOST = 300; // rows; more on request
  const SIDE = 2400; // pixels of a picture on paper, the longer way
  const KINDS = ["a", "both", "b"];
  const keys = [...document.querySelectorAll("#edges th")].map((head) => head.dataset.key);
  const lists = [...byId("listed").options].map((option) => option.value);
  // `edges` are those of the pictures, without places; `compared` those of the words and tables, `sideA` and `sideB` the
  // runs there: at places where both tell the same apart.
  let pictures = [], edges = [], compared = [], runA, runB, sideA, sideB;
  let rows = MOST, order = { key: "largest", dir: "desc" }, marked = null;

  function make(name, text, className = "") {
    const made = document.createElement(name);
    made.textContent = text;
    made.className = className;
    return made;
  }

  function number(value) {
    if (value === undefined) return "";
    if (value === null) return "unknown";
    const size = Math.abs(value), text = size >= 1e5 || (size && size < 1e-4) ? size.toExponential(2) : size.toFixed(4);
    return (value < 0 ? "\u2212" : "+") + text;
  }

  function read() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const first = bySlug.get(asked.get("a")) || runs[0];
    const alike = runs.find((run) => run !== first && run.shape === first.shape) || runs.find((run) => run !== first) || first;
    const unknown = ["a", "b"].map((side) => asked.get(side)).filter((slug) => slug && !bySlug.has(slug));
    const key = keys.includes(asked.get("sort")) ? asked.get("sort") : "largest";
    order = { key, dir: ["asc", "desc"].includes(asked.get("dir")) ? asked.get("dir") : usual(key) };
    byId("listed").value = lists.includes(asked.get("list")) ? asked.get("list") : lists[0];
    const hidden = (asked.get("hide") || "").split(".");
    for (const kind of KINDS) byId(`draw-${kind}`).checked = !hidden.includes(kind);
    byId("at").checked = asked.get("places") !== "no";
    show(first, bySlug.get(asked.get("b")) || alike, unknown);
  }

  // The pair, and what differs from the first look, so that an address shows a colleague the same.
  function write() {
    const kept = new URLSearchParams({ a: runA.slug, b: runB.slug });
    if (order.key !== "largest" || order.dir !== "desc") kept.set("sort", order.key);
    if (order.dir !== usual(order.key)) kept.set("dir", order.dir);
    if (byId("listed").value !== lists[0]) kept.set("list", byId("listed").value);
    const hidden = KINDS.filter((kind) => !byId(`draw-${kind}`).checked);
    if (hidden.length) kept.set("hide", hidden.join("."));
    if (!byId("at").checked) kept.set("places", "no");
    history.replaceState(null, "", `#${kept}`);
  }

  function choose(a, b) {
    show(a, b, []);
    write();
  }

  function show(a, b, unknown) {
    runA = a;
    runB = b;
    document.title = `${a.name}, ${b.name}: ${heading}`;
    byId("a").value = a.slug;
    byId("b").value = b.slug;
    for (const [side, run] of [["a", a], ["b", b]]) {
      byId(`name-${side}`).textContent = run.name;
      for (const page of ["viewer", "report"]) byId(`${page}-${side}`).href = `runs/${run.slug}/${page}.html`;
    }
    for (const drawn of pictures) drawn.destroy();
    pictures = [];
    const missing = unknown.length ? `There is no run ${unknown.join(", ")} in this gallery. ` : "";
    const refused = missing + (two.refusal(shapes, a, b) || "");
    byId("refused").textContent = refused;
    byId("refused").hidden = !refused;
    byId("compared").hidden = Boolean(two.refusal(shapes, a, b));
    if (byId("compared").hidden) return;
    edges = two.union(shapes[a.shape], a, b);
    marked = null;
    level();
    draw();
  }

  // At places or without, and whatever says so.
  function level() {
    const names = two.places(runA, runB), at = names && byId("at").checked;
    byId("placed").hidden = !names;
    [sideA, sideB] = at ? [runA.at, runB.at] : [runA, runB];
    compared = at ? two.union(shapes[runA.shape], sideA, sideB, names) : edges;
    grade(edges, runA, runB);
    if (at) grade(compared, sideA, sideB);
    rows = MOST;
    facts();
    counts();
    table();
  }

  // Which edges of both have another strength; of none where the two are not on one scale.
  function grade(those, a, b) {
    const fact = (run, name) => run.facts.find(([label]) => label === name)[1];
    const alike = ["Metric", "Ablation"].every((name) => fact(runA, name) === fact(runB, name));
    const comparable = alike && a.measure && a.measure === b.measure;
    for (const edge of those) edge.change = two.change(edge, comparable);
  }

  function percent(value) { return value === null ? "undefined, both are empty" : value.toFixed(3); }

  function facts() {
    const count = (where) => compared.filter((edge) => edge.where === where).length;
    const nodes = two.counts(sideA.nodes, sideB.nodes), both = count("both"), at = sideA === runA ? "" : " at places";
    byId("summary").textContent =
      `Edges${at}: ${count("a")} only in A, ${both} in both, ${count("b")} only in B; Jaccard ${percent(two.jaccard(both, compared.length))}. ` +
      `Nodes${at}: ${nodes.a} only in A, ${nodes.both} in both, ${nodes.b} only in B; Jaccard ${percent(nodes.jaccard)}.`;
    const told = runA.facts.map(([label, text], place) => [label, text, runB.facts[place][1]]);
    byId("facts").tBodies[0].replaceChildren(...told.map(([label, inA, inB]) => {
      const row = make("tr", "", inA === inB ? "" : "unlike"), head = make("th", label);
      head.scope = "row";
      row.append(head, make("td", inA || "\u2013", "strange"), make("td", inB || "\u2013", "strange"));
      return row;
    }));
    byId("remarks").replaceChildren(...remarks(new Map(told.map(([label, ...texts]) => [label, texts]))).map((text) => make("li", text)));
  }

  // What makes numbers of the two unlike.
  function remarks(told) {
    const unlike = (label) => told.get(label)[0] !== told.get(label)[1], said = [];
    for (const [side, run] of [["A", runA], ["B", runB]])
      if (run.edges.length > picture.MOST)
        said.push(`Of the ${run.edges.length} edges of ${side} the strongest ${picture.MOST} are drawn. The table has all.`);
    if (runA === runB) said.push("A and B are the same run.");
    if (two.unplaced(runA, runB)) said.push(two.unplaced(runA, runB));
    else if (sideA !== runA) said.push("The pictures are without places.");
    const [taskA, taskB] = told.get("Task");
    if (taskA && taskB && taskA !== taskB)
      said.push(`Different tasks, ${taskA} and ${taskB}: what they share is what the model uses for both; other edges need not be mistakes of either.`);
    if (unlike("Model")) said.push("Different models of one shape: heads of the same name need not be alike.");
    for (const [side, run] of [["A", runA], ["B", runB]])
      if (run.measure === null && run.edges.length) said.push(`${side} has no strengths of edges: its lines are thin.`);
    if (runA.measure && runB.measure && runA.measure !== runB.measure)
      said.push(`A gives the ${runA.measure} of edges, B the ${runB.measure}: the two are not on one scale.`);
    else if (runA.measure && runB.measure && unlike("Metric")) said.push("The metrics differ: strengths of edges are not on one scale.");
    else if (runA.measure && runB.measure && unlike("Ablation"))
      said.push("The ablations differ, what edges outside carry: strengths of edges are not on one scale.");
    return said;
  }

  // Edges by what they leave: its layer, its role, its place.
  function counts() {
    const head = (edge) => (edge.where !== "a" && sideB.roles[edge.out]) || (edge.where !== "b" && sideA.roles[edge.out]);
    const kinds = {
      layer: (edge) => (/^[am](\d+)/.exec(edge.sender) || [null, "input"])[1],
      role: (edge) => (/^m\d/.test(edge.sender) ? "MLP" : head(edge) || (edge.sender === "input" ? "input" : "no role")),
      place: (edge) => edge.at,
    };
    for (const [kind, of] of Object.entries(kinds)) {
      const groups = new Map();
      for (const edge of compared) groups.set(of(edge), [...(groups.get(of(edge)) || []), edge]);
      const listed = [...groups];
      if (kind !== "layer") listed.sort(([, one], [, other]) => other.length - one.length);
      byId(`by-${kind}`).hidden = groups.has("") || !groups.size;
      byId(`by-${kind}`).querySelector("tbody").replaceChildren(...listed.map(([name, those]) => counted(name, those)));
    }
  }

  function counted(name, those) {
    const row = make("tr", ""), head = make("th", name, "strange");
    head.scope = "row";
    const number = (right) => make("td", String(those.filter(right).length || "\u2013"), "number");
    row.append(head, number((edge) => edge.where === "a"), number((edge) => edge.where === "both"),
      ...CHANGES.map((change) => number((edge) => edge.change === change)), number((edge) => edge.where === "b"));
    return row;
  }

  function draw() {
    const shape = shapes[runA.shape], nodes = { a: new Set(runA.nodes), b: new Set(runB.nodes) };
    const other = { a: nodes.b, b: nodes.a };
    pictures = ["a", "b"].map((side) => {
      const drawn = picture.draw(byId(`picture-${side}`), shape, edges, side, nodes[side], other[side]);
      drawn.on("mouseover tap", "edge", (event) => mark(edges[event.target.data("place")]));
      drawn.on("mouseover tap", "node.node", (event) => tellNode(event.target.id()));
      drawn.on("mouseout", "edge", () => mark(marked));
      return drawn;
    });
    picture.link(...pictures);
    fit();
    filter();
  }

  function fit() { if (pictures.length) pictures[0].fit(undefined, 14); }

  function zoom(factor) {
    const [first] = pictures;
    first.zoom({ level: first.zoom() * factor, renderedPosition: { x: first.width() / 2, y: first.height() / 2 } });
  }

  function filter() {
    const shown = { "only-a": byId("draw-a").checked, both: byId("draw-both").checked, "only-b": byId("draw-b").checked };
    for (const drawn of pictures)
      drawn.batch(() => {
        for (const [kind, on] of Object.entries(shown)) {
          const wrong = drawn.edges(`.${kind}`).filter((edge) => edge.hasClass("away") === on);
          if (wrong.nonempty()) wrong.toggleClass("away", !on);
        }
      });
  }

  function mark(edge) {
    const there = edge && edges.find((drawn) => drawn.code === edge.code);
    for (const drawn of pictures) {
      drawn.elements(".lit").removeClass("lit");
      if (edge) drawn.edges(`[place = ${there.place}]`).addClass("lit");
    }
    if (!edge) return;
    const measure = (run) => run.measure || "strength", [a, b] = edge.at ? [sideA, sideB] : [runA, runB];
    const inA = edge.where === "b" ? "not in A" : `${measure(a)} in A ${number(edge.a)}`;
    const inB = edge.where === "a" ? "not in B" : `${measure(b)} in B ${number(edge.b)}`;
    byId("hovered").textContent = `${edge.name}: ${inA}, ${inB}.`;
  }

  function tellNode(name) {
    const told = [[runA, "A"], [runB, "B"]].map(([run, side]) => {
      if (!run.nodes.includes(name)) return `not in ${side}`;
      return run.roles[name] ? `in ${side} (${run.roles[name]})` : `in ${side}`;
    });
    byId("hovered").textContent = `${name}: ${told.join(", ")}.`;
  }

  function sorted() {
    const listed = byId("listed").value, turn = order.dir === "asc" ? 1 : -1;
    const chosen = compared.filter((edge) => listed === "all" ||
      (listed === "changed" ? CHANGES.includes(edge.change) : (edge.where === "both") === (listed === "shared")));
    const value = (edge) => edge[order.key] ?? null;
    return chosen.sort((x, y) => {
      const one = value(x), other = value(y);
      if (one === null || other === null) return (one === null) - (other === null) || x.place - y.place;
      return (one < other ? -turn : one > other ? turn : 0) || x.place - y.place;
    });
  }

  function row(edge) {
    const made = document.createElement("tr"), cell = document.createElement("td"), button = make("button", edge.name);
    button.type = "button";
    button.addEventListener("click", () => {
      marked = marked === edge ? null : edge;
      for (const other of made.parentNode.children) other.removeAttribute("aria-current");
      if (marked) made.setAttribute("aria-current", "true");
      mark(marked);
    });
    cell.append(button);
    made.append(cell, make("td", WHERE[edge.change], edge.where === "both" ? "" : `only-${edge.where}`),
      make("td", number(edge.a), "number"), make("td", number(edge.b), "number"),
      make("td", edge.largest === null ? "" : number(edge.largest).slice(1), "number"));
    if (edge === marked) made.setAttribute("aria-current", "true");
    return made;
  }

  function table() {
    const listed = sorted(), shown = listed.slice(0, rows);
    byId("edges").tBodies[0].replaceChildren(...shown.map(row));
    const none = { differing: ": both have the same.", shared: ": they have none in common.",
      changed: ": none." }[byId("listed").value] || "";
    const part = shown.length < listed.length ? `, the first ${shown.length} below` : listed.length ? "" : none;
    byId("count").textContent = `${listed.length} edge${listed.length === 1 ? "" : "s"}${part}`;
    byId("more").hidden = shown.length === listed.length;
    byId("more").textContent = `Show all ${listed.length}`;
    const labels = { a: `A: ${sideA.measure || "strength"}`, b: `B: ${sideB.measure || "strength"}`, largest: "Largest, without sign" };
    for (const head of document.querySelectorAll("#edges th")) {
      const here = head.dataset.key === order.key;
      head.setAttribute("aria-sort", here ? (order.dir === "asc" ? "ascending" : "descending") : "none");
      if (labels[head.dataset.key]) head.firstChild.textContent = head.dataset.label = labels[head.dataset.key];
    }
  }

  function usual(key) { return key === "place" || key === "where" ? "asc" : "desc"; }

  function sortBy(key) {
    order = { key, dir: key !== order.key ? usual(key) : order.dir === "asc" ? "desc" : "asc" };
    write();
    table();
  }

  function restyle() { for (const drawn of pictures) drawn.style(picture.styles()); }

  // On paper: the whole of both, in colours for paper, whatever part and theme the screen shows.
  function print() {
    const root = document.documentElement, theme = root.dataset.theme, side = { maxWidth: SIDE, maxHeight: SIDE };
    root.dataset.theme = "light";
    restyle();
    pictures.forEach((drawn, place) => { byId(`paper-${"ab"[place]}`).src = drawn.png({ full: true, bg: "#ffffff", ...side }); });
    if (theme === undefined) delete root.dataset.theme;
    else root.dataset.theme = theme;
    restyle();
  }

  const KEYS = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] };
  function pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !pictures.length) return;
    if (KEYS[event.key]) pictures[0].panBy({ x: KEYS[event.key][0], y: KEYS[event.key][1] });
    else if (event.key === "+" || event.key === "=") zoom(1.25);
    else if (event.key === "-") zoom(0.8);
    else if (event.key === "0") fit();
    else return;
    event.preventDefault();
  }

  for (const head of document.querySelectorAll("#edges th")) {
    head.dataset.label = head.textContent;
    const button = make("button", head.textContent);
    button.type = "button";
    button.addEventListener("click", () => sortBy(head.dataset.key));
    head.replaceChildren(button);
  }
  byId("choice").addEventListener("submit", (event) => event.preventDefault());
  for (const side of ["a", "b"]) {
    byId(side).addEventListener("change", () => choose(bySlug.get(byId("a").value), bySlug.get(byId("b").value)));
    byId(`picture-${side}`).addEventListener("keydown", pressed);
  }
  byId("swap").addEventListener("click", () => choose(runB, runA));
  for (const id of ["draw-a", "draw-both", "draw-b"]) byId(id).addEventListener("change", () => { write(); filter(); });
  byId("at").addEventListener("change", () => { marked = null; mark(null); write(); level(); });
  byId("closer").addEventListener("click", () => zoom(1.25));
  byId("farther").addEventListener("click", () => zoom(0.8));
  byId("whole").addEventListener("click", fit);
  byId("listed").addEventListener("change", () => { rows = MOST; write(); table(); });
  byId("more").addEventListener("click", () => { rows = Infinity; table(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", restyle);
  addEventListener("beforeprint", print);
  addEventListener("afterprint", () => { for (const side of ["a", "b"]) byId(`paper-${side}`).removeAttribute("src"); });
  addEventListener("hashchange", read);
  read();
})();
