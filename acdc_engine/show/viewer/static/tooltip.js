/* What hovering, or the keyboard's cursor, says of a node or line. */
(function () {
  "use strict";
  const acdc = (window.acdc = window.acdc || {});
  const STATUS = { found: "Found: in both circuits", missed: "Missed: only in the known circuit", extra: "Extra: only in this circuit" };
  const GAP = 14;

  function nodeRows(node) {
    const rows = [["", acdc.nodeWords({ ...node, role: null, known_role: null })]];
    if (node.role !== null) rows.push(["Role", acdc.cut(node.role, 80)]);
    if (node.known_role !== null && node.known_role !== node.role) rows.push(["In the known circuit", acdc.cut(node.known_role, 80)]);
    if (node.direct !== null) {
      rows.push(["Direct effect, clean", acdc.signed(node.direct.clean)], ["Direct effect, corrupt", acdc.signed(node.direct.corrupt)]);
    }
    return [...rows, ...acdc.edgeCounts(node)];
  }

  function edgeRows(edge, nodes) {
    const rows = acdc.edgeRows(edge);
    if (edge.place !== null) rows.unshift(["Rank", `${acdc.grouped(edge.place)}`]);
    for (const [label, id] of [["From", edge.source], ["To", edge.target]]) {
      const role = nodes.get(id).role ?? nodes.get(id).known_role;
      if (role !== null) rows.push([label, `${id}, ${acdc.cut(role, 80)}`]);
    }
    if (edge.kind === "attention") rows.unshift(["", `The head looks back at ${acdc.READ[edge.reads]}`]);
    if (/\.kv\d/.test(edge.receiver)) rows.push(["Read by", `all heads of ${edge.receiver}`]);
    if (rows.length === 0) rows.push(["", "No numbers are known of it."]);
    return rows;
  }

  /**
   * Shows names and numbers beside what is hovered.
   * @param {object} graph From `acdc.graph`.
   * @param {HTMLElement} box The tooltip, in the stage.
   * @returns {{show: function(string), hide: function()}} `show` takes the id of a node or line.
   */
  acdc.tooltip = (graph, box) => {
    const glow = acdc.glow(graph);

    function fill(id) {
      const node = graph.nodes.get(id);
      const edge = graph.edges.get(id);
      const list = document.createElement("dl");
      for (const [label, text] of node ? nodeRows(node) : edgeRows(edge, graph.nodes)) {
        list.append(acdc.element("dt", label), acdc.element("dd", text, "strange"));
      }
      const status = (node ?? edge).status;
      if (status !== null && graph.colourBy === "status") list.append(acdc.element("dt", ""), acdc.element("dd", STATUS[status], status));
      box.replaceChildren(acdc.element("strong", node ? id : id.replace("->", " → ")), list);
    }

    function place(id, at) {
      const stage = box.parentElement.getBoundingClientRect();
      const drawn = graph.nodes.has(id) ? graph.cy.getElementById(id).renderedBoundingBox() : { x2: at.x, y1: at.y };
      const { offsetLeft, offsetTop } = graph.cy.container();
      const left = Math.min(drawn.x2 + offsetLeft + GAP, stage.width - box.offsetWidth - 8);
      const top = Math.min(Math.max(8, drawn.y1 + offsetTop), stage.height - box.offsetHeight - 8);
      box.style.left = `${Math.max(8, left)}px`;
      box.style.top = `${Math.max(8, top)}px`;
    }

    function show(id, at = null) {
      if (!graph.shown.nodes.has(id) && !graph.shown.edges.has(id)) return hide();
      glow.mark(id);
      fill(id);
      box.hidden = false;
      place(id, at ?? graph.placeOf(id));
    }

    function hide() {
      glow.clear();
      box.hidden = true;
    }

    graph.on("over", (id, at) => (id === null ? hide() : show(id, at)));
    graph.cy.on("pan zoom", hide);
    return { show, hide };
  };
})();
