/* Puts the viewer's page together. */
(function () {
  "use strict";
  const acdc = (window.acdc = window.acdc || {});
  const { byId } = acdc;
  const data = JSON.parse(byId("view-data").textContent);
  /* From here on, edges by their lines: one for each head that shares the key or value that is read. */
  data.edges = data.edges.flatMap(({ lines, ...edge }) => lines.map((line) => ({ ...edge, ...line, id: acdc.lineId({ ...edge, ...line }) })));
  /* Before anything is placed: it takes room. */
  byId("notice").textContent = tooMany();
  byId("notice").hidden = byId("notice").textContent === "";
  byId("title").textContent = acdc.cut(data.title, 300);
  const graph = acdc.graph(byId("graph"), data, data.overlay === null ? "sign" : "status");
  const panel = acdc.panel(byId("panel"), data, { onSelect: (id) => choose(id, false) });
  const roles = acdc.roles(data, byId("roles"), described);
  let byRole = false;
  let withMlps = false;
  const tooltip = acdc.tooltip(graph, byId("tooltip"));

  /* Which edges are left out, of either circuit, if any are. */
  function tooMany() {
    const cut = (n, edges, which, file) =>
      n === 0 ? [] : [`${acdc.count(n, edges)}, the ${which}, ${n === 1 ? "is" : "are"} hidden; ${file} has all.`];
    const said = [
      ...cut(data.hidden_edges, "edge", data.measure === null ? "last of the file" : "weakest", "the circuit file"),
      ...cut(data.hidden_missed, "missed edge", "last of the known circuit", "that circuit's file"),
    ];
    return said.length === 0 ? "" : `Too many edges to draw: ${said.join(" ")}`;
  }

  /* Says what happened, for those who do not see the picture. */
  const say = (text) => void (byId("live").textContent = text);

  function counts(shown) {
    const all = acdc.count(data.n_edges, "edge");
    const part = shown.count === data.n_edges ? all : `${acdc.grouped(shown.count)} of ${all}`;
    const text = `${part}, ${acdc.count(shown.nodes.size, "node")} shown`;
    byId("counts").textContent = text;
    return text;
  }

  /* Why there is nothing to see, if there is nothing. */
  function whyEmpty(shown, state) {
    if (data.edges.length === 0) {
      return "This circuit has no edges: nothing leads from the input to the logits, so there is nothing to draw. What is known of it stands beside.";
    }
    if (shown.edges.size > 0) return "";
    const size = data.sizes[state.size];
    return size.edges === 0
      ? `No edge: the ${acdc.count(size.requested, "strongest edge")} make no path from the input to the logits.`
      : "No edge passes the filters.";
  }

  function message(shown, state) {
    const empty = whyEmpty(shown, state);
    byId("message").textContent = empty;
    byId("message").hidden = empty === "";
    byId("graph").hidden = data.edges.length === 0;
  }

  function filter(state) {
    const colourBy = state.overlay ? "status" : "sign";
    if (colourBy !== graph.colourBy) {
      graph.recolour(colourBy);
      legend();
    }
    const shown = graph.filter(state);
    if (byRole) drawRoles();
    message(shown, state);
    say(counts(shown));
  }

  const legend = () => acdc.legend(data, byId("legend"), graph.colourBy,
    byRole ? (withMlps ? "" : acdc.leftOut(graph.shownEdges(), data)) : null);

  function drawRoles() {
    roles.show(graph.shownEdges(), graph.shown.nodes, withMlps);
    legend();
  }

  /* From the picture of nodes to that of roles, and back. */
  function turn() {
    byRole = !byRole;
    byId("roles").hidden = !byRole;
    byId("graph").inert = byRole;
    byId("with-mlps").hidden = !byRole || !data.by_role.boxes.some((box) => box.mlps);
    byId("by-role").setAttribute("aria-pressed", String(byRole));
    tooltip.hide();
    graph.select(null);
    if (byRole) drawRoles();
    else legend();
    say(byRole ? "By role: one box for all heads of a role." : "One box for each node.");
  }

  function turnMlps() {
    withMlps = !withMlps;
    byId("with-mlps").setAttribute("aria-pressed", String(withMlps));
    drawRoles();
  }

  /* What is chosen in the picture by role. */
  function described(found) {
    if (found === null) graph.select(null);
    else if (found.box) panel.box(found);
    else panel.way(found);
  }

  const fit = () => (byRole ? roles.fit() : graph.fit());
  const zoom = (factor) => (byRole ? roles : graph).zoom(factor);

  /* Chooses a node or line that was named somewhere in the page; to the middle with it, or only if it is out of sight. */
  function choose(id, middle) {
    const hidden = () => !graph.shown.nodes.has(id) && !graph.shown.edges.has(id);
    if (hidden()) controls.reset();
    if (hidden()) controls.showLonely(); // a node whose edges are all among those that are too many to draw
    graph.select(id);
    if (graph.nodes.has(id) && (middle || !graph.inSight(id))) graph.centre(id);
  }

  function describe(id) {
    const node = graph.nodes.get(id);
    return node ? `${id}, ${acdc.nodeWords(node)}` : `edge ${id.replace("->", " to ")}`;
  }

  const withNumbers = (id) => [describe(id), ...acdc.edgeRows(graph.edges.get(id)).map((row) => row.join(" "))].join(". ");

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

  const THEMES = ["system", "light", "dark"];
  function theme() {
    const root = document.documentElement;
    const next = THEMES[(THEMES.indexOf(root.dataset.theme ?? "system") + 1) % THEMES.length];
    if (next === "system") delete root.dataset.theme;
    else root.dataset.theme = next;
    byId("theme").textContent = `Theme: ${next}`;
    graph.recolour();
  }

  function shortcuts(event) {
    const typing = event.target.closest("input:not([type=checkbox]):not([type=range]), select, textarea, dialog");
    if (event.key === "Escape" && event.target.closest("dialog") === null) {
      tooltip.hide();
      return graph.select(null);
    }
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const actions = {
      "/": () => byId("search").focus(),
      "?": () => byId("help-dialog").showModal(),
      f: fit,
      r: turn,
      "+": () => zoom(1.3),
      "=": () => zoom(1.3),
      "-": () => zoom(1 / 1.3),
    };
    if (!(event.key in actions)) return;
    event.preventDefault();
    actions[event.key]();
  }

  byId("graph").setAttribute("aria-label", "Picture of the circuit, the input below, the logits above. Arrow keys go from node to node, Enter traces, question mark lists all keys.");
  const controls = acdc.controls(data, filter);
  acdc.keys(graph, byId("graph"), tooltip, (id, over) => say(over === null ? describe(id) : `${describe(id)}. Over ${withNumbers(over)}`));
  acdc.search(data, byId("search"), byId("suggestions"), (id) => choose(id, true));
  acdc.paper(graph, byId("paper"));
  legend();
  panel.none();
  controls.reset();
  graph.fit();
  byId("fit").addEventListener("click", fit);
  byId("zoom-in").addEventListener("click", () => zoom(1.3));
  byId("zoom-out").addEventListener("click", () => zoom(1 / 1.3));
  byId("by-role").addEventListener("click", turn);
  byId("with-mlps").addEventListener("click", turnMlps);
  byId("theme").addEventListener("click", theme);
  byId("help").addEventListener("click", () => byId("help-dialog").showModal());
  document.addEventListener("keydown", shortcuts);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => graph.recolour());
  // Narrow windows begin with it closed. Notebooks give a frame its width only after it has loaded.
  let narrow = innerWidth <= 800;
  byId("controls").open = !narrow;
  addEventListener("resize", () => {
    if (narrow === innerWidth <= 800) return;
    narrow = !narrow;
    byId("controls").open = !narrow;
  });
  acdc.page = { graph, data, controls };
  document.documentElement.dataset.ready = "true";
})();
