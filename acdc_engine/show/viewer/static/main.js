/* Puts the viewer's page together. */
(function () {
  "use strict";
  const acdc = (window.acdc = window.acdc || {});
  const { byId } = acdc;
  const LEAST_PIXELS = 8; // of names in the picture by place, when it opens
  const data = JSON.parse(byId("view-data").textContent);
  const layered = acdc.layered(data);
  const placed = acdc.placed(data);
  const whole = placed ?? layered; // of which filters, sizes and counts are
  if (placed !== null) layered.placesOf = (name) => placed.edges.filter((edge) => edge.kind !== "attention" && acdc.plainName(edge.name) === name);
  const opened = {}; // pictures that have been seen: {graph, panel, tooltip}
  let seen = null; // the one that is, or lies below that by role
  let byRole = false;
  let withMlps = false;
  let state = acdc.everything(whole);
  /* Before anything is placed: it takes room. */
  byId("notice").textContent = tooMany();
  byId("notice").hidden = byId("notice").textContent === "";
  byId("title").textContent = acdc.cut(data.title, 300);
  const roles = acdc.roles(data, byId("roles"), described);

  /* Which edges are left out, of either circuit, if any are. */
  function tooMany() {
    const cut = (n, edges, which, file) =>
      n === 0 ? [] : [`${acdc.count(n, edges)}, the ${which}, ${n === 1 ? "is" : "are"} hidden; ${file} has all.`];
    const said = [
      ...cut(whole.hidden_edges, "edge", whole.measure === null ? "last of the file" : "weakest", "the circuit file"),
      ...cut(data.hidden_missed, "missed edge", "last of the known circuit", "that circuit's file"),
    ];
    return said.length === 0 ? "" : `Too many edges to draw: ${said.join(" ")}`;
  }

  /* Says what happened, for those who do not see the picture. */
  const say = (text) => void (byId("live").textContent = text);

  function counts(shown) {
    const all = acdc.count(whole.n_edges, "edge");
    const part = shown.count === whole.n_edges ? all : `${acdc.grouped(shown.count)} of ${all}`;
    const boxes = whole.nodes.filter((node) => shown.nodes.has(node.id) && !node.dot);
    const text = `${part}, ${acdc.count(boxes.length, "node")} shown`;
    byId("counts").textContent = text;
    return text;
  }

  /* Why there is nothing to see, if there is nothing. */
  function whyEmpty(shown) {
    if (data.edges.length === 0) {
      return "This circuit has no edges: nothing leads from the input to the logits, so there is nothing to draw. What is known of it stands beside.";
    }
    if (shown.edges.size > 0) return "";
    const size = data.sizes[state.size];
    return size.edges === 0
      ? `No edge: the ${acdc.count(size.requested, "strongest edge")} make no path from the input to the logits.`
      : "No edge passes the filters.";
  }

  function message(shown) {
    const empty = whyEmpty(shown);
    byId("message").textContent = empty;
    byId("message").hidden = empty === "";
  }

  /* Opens a picture, or shows it as filters have it now: without places by what they leave at some place. */
  function draw() {
    const { graph } = seen;
    const colourBy = state.overlay && graph.data.overlay !== null ? "status" : "sign";
    if (colourBy !== graph.colourBy) graph.recolour(colourBy);
    const shown = acdc.visible(whole, state);
    const among = placed === null ? null : new Set(placed.edges.filter((edge) => shown.edges.has(edge.id)).map((edge) => acdc.plainName(edge.name)));
    graph.filter(state, seen === opened.places ? null : among);
    if (byRole) drawRoles();
    else legend();
    message(shown);
    return shown;
  }

  function filter(next) {
    state = next;
    say(counts(draw()));
  }

  const legend = () => acdc.legend(seen.graph.data, byId("legend"), seen.graph.colourBy,
    byRole ? (withMlps ? "" : acdc.leftOut(seen.graph.shownEdges(), data)) : null);

  function drawRoles() {
    roles.show(seen.graph.shownEdges(), seen.graph.shown.nodes, withMlps);
    legend();
  }

  const WORDS = { places: "By place: columns of places, rows of layers.", layers: "One box for each node.", role: "By role: one box for all heads of a role." };

  /* To the picture by place, by layer or by role; that by role lies over that by layer. */
  function turn(to) {
    const [container, of] = to === "places" ? [byId("places-graph"), placed] : [byId("graph"), layered];
    byRole = to === "role";
    byId("places").hidden = to !== "places";
    byId("graph").hidden = to === "places" || data.edges.length === 0;
    byId("roles").hidden = !byRole;
    byId("graph").inert = byRole;
    byId("with-mlps").hidden = !byRole || !data.by_role.boxes.some((box) => box.mlps);
    controls.compare(of.overlay);
    for (const [id, name] of [["by-place", "places"], ["by-layer", "layers"], ["by-role", "role"]]) byId(id).setAttribute("aria-pressed", String(name === to));
    const key = of === placed ? "places" : "layers";
    const fresh = opened[key] === undefined;
    if (seen !== null) seen.tooltip.hide();
    seen = opened[key] ??= open(container, of);
    draw();
    if (fresh) seen.graph.fit(of === placed ? LEAST_PIXELS : 0);
    if (fresh && of === placed) acdc.rulers(seen.graph, seen.folding, { columns: byId("columns"), rows: byId("rows") });
    seen.graph.select(null);
    say(WORDS[to]);
  }

  const first = placed === null ? "layers" : "places";
  const now = () => (byRole ? "role" : seen === opened.places ? "places" : "layers");
  const turnRole = () => turn(byRole ? first : "role");
  const turnPlaces = () => placed !== null && turn(now() === "places" ? "layers" : "places");

  function open(container, of) {
    const folding = of === placed ? acdc.folding(of) : null;
    const graph = acdc.graph(container, of, "sign");
    const panel = acdc.panel(byId("panel"), of, { onSelect: (id) => choose(id, false) });
    const tooltip = acdc.tooltip(graph, byId("tooltip"));
    acdc.keys(graph, container, tooltip, (id, over) => say(over === null ? describe(id) : `${describe(id)}. Over ${withNumbers(over)}`));
    graph.on("node", (id) => {
      panel.node(id);
      say(`${describe(id)}: chosen. ${graph.paths === null ? "" : acdc.count(graph.paths.edges.size, "line")} on paths from the input to the logits through it.`);
    });
    graph.on("edge", (id) => {
      panel.edge(id);
      say(`Chosen: ${withNumbers(id)}`);
    });
    graph.on("none", () => {
      panel.none();
      say(`Nothing chosen. ${byId("counts").textContent}`);
    });
    container.setAttribute("aria-label", "Picture of the circuit, the input below, the logits above. Arrow keys go from node to node, Enter traces, question mark lists all keys.");
    return { graph, panel, tooltip, folding };
  }

  function turnMlps() {
    withMlps = !withMlps;
    byId("with-mlps").setAttribute("aria-pressed", String(withMlps));
    drawRoles();
  }

  /* What is chosen in the picture by role. */
  function described(found) {
    if (found === null) seen.graph.select(null);
    else if (found.box) seen.panel.box(found);
    else seen.panel.way(found);
  }

  const fit = () => (byRole ? roles.fit() : seen.graph.fit());
  const zoom = (factor) => (byRole ? roles : seen.graph).zoom(factor);

  /* Chooses a node or line that was named somewhere in the page; to the middle with it, or only if it is out of sight. */
  function choose(id, middle) {
    const { graph } = seen;
    const hidden = () => !graph.shown.nodes.has(id) && !graph.shown.edges.has(id);
    if (hidden()) controls.reset();
    if (hidden()) controls.showLonely(); // a node whose edges are all among those that are too many to draw
    graph.select(id);
    if (graph.nodes.has(id) && (middle || !graph.inSight(id))) graph.centre(id);
  }

  function describe(id) {
    const node = seen.graph.nodes.get(id);
    return node ? `${id}, ${acdc.nodeWords(node)}` : `edge ${id.replace("->", " to ")}`;
  }

  const withNumbers = (id) => [describe(id), ...acdc.edgeRows(seen.graph.edges.get(id)).map((row) => row.join(" "))].join(". ");

  const recolour = () => Object.values(opened).forEach(({ graph }) => graph.recolour());

  const THEMES = ["system", "light", "dark"];
  function theme() {
    const root = document.documentElement;
    const next = THEMES[(THEMES.indexOf(root.dataset.theme ?? "system") + 1) % THEMES.length];
    if (next === "system") delete root.dataset.theme;
    else root.dataset.theme = next;
    byId("theme").textContent = `Theme: ${next}`;
    recolour();
  }

  function shortcuts(event) {
    const typing = event.target.closest("input:not([type=checkbox]):not([type=range]), select, textarea, dialog");
    if (event.key === "Escape" && event.target.closest("dialog") === null) {
      seen.tooltip.hide();
      return seen.graph.select(null);
    }
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const actions = {
      "/": () => byId("search").focus(),
      "?": () => byId("help-dialog").showModal(),
      f: fit,
      r: turnRole,
      p: turnPlaces,
      "+": () => zoom(1.3),
      "=": () => zoom(1.3),
      "-": () => zoom(1 / 1.3),
    };
    if (!(event.key in actions)) return;
    event.preventDefault();
    actions[event.key]();
  }

  const controls = acdc.controls(whole, data.overlay !== null, filter);
  acdc.search(() => seen.graph.data, byId("search"), byId("suggestions"), (id) => choose(id, true));
  acdc.paper(() => seen.graph, byId("paper"));
  byId("by-place").hidden = byId("by-layer").hidden = placed === null;
  turn(first);
  controls.reset();
  byId("fit").addEventListener("click", fit);
  byId("zoom-in").addEventListener("click", () => zoom(1.3));
  byId("zoom-out").addEventListener("click", () => zoom(1 / 1.3));
  byId("by-place").addEventListener("click", () => turn("places"));
  byId("by-layer").addEventListener("click", () => turn("layers"));
  byId("by-role").addEventListener("click", turnRole);
  byId("with-mlps").addEventListener("click", turnMlps);
  byId("theme").addEventListener("click", theme);
  byId("help").addEventListener("click", () => byId("help-dialog").showModal());
  document.addEventListener("keydown", shortcuts);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  // Narrow windows begin with it closed. Notebooks give a frame its width only after it has loaded.
  let narrow = innerWidth <= 800;
  byId("controls").open = !narrow;
  addEventListener("resize", () => {
    if (narrow === innerWidth <= 800) return;
    narrow = !narrow;
    byId("controls").open = !narrow;
  });
  acdc.page = { controls, get graph() { return seen.graph; }, get data() { return seen.graph.data; } };
  document.documentElement.dataset.ready = "true";
})();
