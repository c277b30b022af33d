/* The picture by keyboard. */
(function () {
  "use strict";
  const acdc = (window.acdc = window.acdc || {});

  /* The steps up or down from a node: nodes with the strongest line there, the strongest first. */
  function steps(graph, id, up) {
    const [here, there] = up ? ["source", "target"] : ["target", "source"];
    const found = new Map();
    for (const edge of graph.shownEdges()) {
      if (edge[here] === id && !found.has(edge[there])) found.set(edge[there], { node: edge[there], edge: edge.id });
    }
    return [...found.values()];
  }

  /**
   * Arrow keys move a cursor along lines: up to what reads the node, down to what it reads; left and right go through
   * the other nodes at that step. Enter chooses the node, with Shift the line that led there.
   * @param {object} graph From `acdc.graph`.
   * @param {HTMLElement} container The picture.
   * @param {{show: function(string), hide: function()}} tooltip
   * @param {function(string, ?string)} say Tells where the cursor is, and the line that led there.
   */
  acdc.keys = (graph, container, tooltip, say) => {
    let cursor = null; // { node, edge }
    let row = [];
    const here = () => cursor !== null && graph.shown.nodes.has(cursor.node);

    function move(step) {
      cursor = step;
      if (!graph.inSight(step.node)) graph.centre(step.node);
      tooltip.show(step.node);
      say(step.node, step.edge);
    }

    function start() {
      const wished = [graph.chosen, ...[...graph.shown.nodes].reverse()].find((id) => graph.shown.nodes.has(id) && !graph.nodes.get(id).dot);
      row = wished === undefined ? [] : [{ node: wished, edge: null }];
      if (row.length) move(row[0]);
    }

    function step(up) {
      const next = steps(graph, cursor.node, up);
      if (next.length === 0) return;
      row = next;
      move(next[0]);
    }

    function aside(by) {
      const at = row.indexOf(cursor);
      if (row.length > 1) move(row[(at + by + row.length) % row.length]);
    }

    const choose = (event) => graph.select(event.shiftKey && cursor.edge !== null ? cursor.edge : cursor.node);
    const actions = {
      ArrowUp: () => step(true),
      ArrowDown: () => step(false),
      ArrowLeft: () => aside(-1),
      ArrowRight: () => aside(1),
      Enter: choose,
      " ": choose,
    };

    container.addEventListener("keydown", (event) => {
      if (!(event.key in actions) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      if (here()) actions[event.key](event);
      else start();
    });
    container.addEventListener("blur", tooltip.hide);
    container.addEventListener("focus", () => {
      if (container.matches(":focus-visible") && here()) move(cursor);
    });
  };
})();
