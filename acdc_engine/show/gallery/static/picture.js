// One circuit on a grid that all circuits of its model shape share: layers bottom to top, heads left to right, MLPs in
// the last column.
const picture = (() => {
  "use strict";
  const ACROSS = 66, LEAST = 27;
  const MOST = 2000; // edges of a picture that still moves smoothly
  const BENT = 600; // more are straight, which costs a fraction

  function spot(shape, name) {
    const columns = shape.heads + (shape.mlps ? 1 : 0), rows = shape.layers + 2;
    // About as high as wide, so that the whole model fits; rows never touch.
    const up = Math.min(90, Math.max(LEAST, Math.round((ACROSS * Math.max(columns, 8)) / rows)));
    const node = /^([am])(\d+)(?:\.h(\d+))?$/.exec(name);
    if (!node) return { x: ((shape.heads - 1) * ACROSS) / 2, y: name === "input" ? 0 : -(rows - 1) * up };
    return { x: (node[1] === "m" ? shape.heads : Number(node[3])) * ACROSS, y: -(Number(node[2]) + 1) * up };
  }

  // Edges bend away from the nodes in between: most in a column, where a straight line would run through all of them.
  function bend(shape, sender, target, kind) {
    const from = spot(shape, sender), to = spot(shape, target), far = Math.abs(from.y - to.y);
    const lane = { q: -7, k: 0, v: 7 }[kind] || 0;
    return from.x === to.x ? 14 + far * 0.09 + lane : far * 0.05 + lane;
  }

  function elements(shape, edges, side, here, other) {
    const nodes = [...new Set([...here, ...other])];
    const layers = [...new Set(nodes.map((name) => /^[am](\d+)/.exec(name)).filter(Boolean).map((found) => found[1]))];
    const drawn = nodes.map((name) => ({
      data: { id: name, label: name }, position: spot(shape, name),
      classes: `node ${here.has(name) ? "here" : "elsewhere"}`,
    }));
    const labels = layers.map((layer) => ({
      data: { id: `layer ${layer}`, label: `layer ${layer}` }, classes: "layer",
      position: { x: -ACROSS, y: spot(shape, `m${layer}`).y }, selectable: false, grabbable: false,
    }));
    const strongest = edges.reduce((most, edge) => Math.max(most, edge.largest || 0), 0) || 1;
    const own = edges.filter((edge) => edge.where === side || edge.where === "both");
    own.sort((x, y) => Math.abs(y[side] || 0) - Math.abs(x[side] || 0));
    const lines = own.slice(0, MOST).flatMap((edge) => {
      const kind = (/<([qkv])>$/.exec(edge.receiver) || [])[1], value = edge[side];
      const width = (edge.where === "both" ? 0.9 : 1.7) + 3.3 * Math.sqrt(Math.abs(value || 0) / strongest);
      return two.targets(shape, edge.receiver, here).map((target) => ({
        data: { id: `${edge.place} ${target}`, place: edge.place, source: edge.sender, target, width,
          ...(own.length > BENT ? {} : { bend: bend(shape, edge.sender, target, kind) }) },
        classes: edge.where !== "both" ? `only-${side}` : edge.change === "both" ? "both" : "both changed",
      }));
    });
    return [...labels, ...drawn, ...lines];
  }

  function colours() {
    const style = getComputedStyle(document.documentElement);
    return (name) => style.getPropertyValue(`--${name}`).trim();
  }

  function styles() {
    const colour = colours();
    const edge = { width: "data(width)", "line-cap": "butt", opacity: 0.85, "z-index": 1, "curve-style": "haystack",
      "haystack-radius": 0 };
    const bent = { "curve-style": "unbundled-bezier", "control-point-distances": "data(bend)", "control-point-weights": 0.5 };
    const text = { label: "data(label)", "font-size": 13, color: colour("ink"), "text-valign": "center", "text-halign": "center" };
    const box = { width: 54, height: 20, shape: "round-rectangle", "background-color": colour("paper"), "border-width": 1.2 };
    return [
      { selector: "node.node", style: { ...text, ...box, "border-color": colour("ink"), "z-index": 2 } },
      { selector: "node.elsewhere", style: { color: colour("faint"), "border-color": colour("line"), "border-style": "dashed" } },
      { selector: "node.layer", style: { ...text, color: colour("faint"), "background-opacity": 0, "border-width": 0,
        width: 1, height: 1, "text-halign": "left", events: "no" } },
      { selector: "edge", style: edge },
      { selector: "edge[bend]", style: bent },
      { selector: "edge.both", style: { "line-color": colour("both"), opacity: 0.6 } },
      { selector: "edge.changed", style: { "line-color": colour("ink"), opacity: 0.8 } },
      { selector: "edge.only-a", style: { "line-color": colour("only-a"), "line-style": "dashed", "line-dash-pattern": [9, 5] } },
      { selector: "edge.only-b", style: { "line-color": colour("only-b"), "line-style": "dashed", "line-dash-pattern": [2.5, 3.5] } },
      { selector: ".away", style: { display: "none" } },
      { selector: "edge.lit", style: { "line-color": colour("ink"), opacity: 1, width: 5, "z-index": 9 } },
    ];
  }

  function draw(container, shape, edges, side, here, other) {
    return cytoscape({
      container, elements: elements(shape, edges, side, here, other), style: styles(), layout: { name: "preset" },
      autoungrabify: true, boxSelectionEnabled: false, minZoom: 0.05, maxZoom: 6, hideEdgesOnViewport: edges.length > 2000,
    });
  }

  // Both show the same part of the grid.
  function link(one, other) {
    let following = false;
    const follow = (from, to) => from.on("viewport", () => {
      if (following) return;
      following = true;
      to.viewport({ zoom: from.zoom(), pan: { ...from.pan() } });
      following = false;
    });
    follow(one, other);
    follow(other, one);
  }

  return { draw, link, styles, MOST };
})();
