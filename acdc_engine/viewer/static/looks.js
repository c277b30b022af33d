/* How nodes and lines look. Colours are those of the page: CSS variables of html/theme.css and viewer/graph.css. */
(function () {
  "use strict";
  const acdc = (window.acdc = window.acdc || {});
  const N_FILLS = 8;
  /** Lines up to which they have arrow heads and dashes: both are slow to draw, and of more nobody sees them. */
  acdc.MOST_FINE = 400;
  /** Missed and extra edges up to which they are dashed and dotted even so: it tells them apart without colours. */
  acdc.MOST_DASHED = 1500;

  /** Long texts of strangers are cut: the panel has the whole. @param {string} text @param {number} most */
  acdc.cut = (text, most) => (text.length <= most ? text : `${text.slice(0, most - 1)}…`);

  /**
   * Roles in the order of the model, each with the number of its colour. Where there are more roles than colours, all
   * but the most frequent share the last, grey.
   * @param {object} data ViewData.
   * @returns {Map<string, number>}
   */
  acdc.roleColours = (data) => {
    const counted = new Map();
    for (const role of data.nodes.map((node) => node.role ?? node.known_role)) {
      if (role !== null) counted.set(role, (counted.get(role) ?? 0) + 1);
    }
    const frequent = [...counted.keys()].sort((one, other) => counted.get(other) - counted.get(one));
    const own = new Set(frequent.slice(0, counted.size > N_FILLS ? N_FILLS - 1 : N_FILLS));
    let next = 0;
    return new Map([...counted.keys()].map((role) => [role, own.has(role) ? next++ : N_FILLS - 1]));
  };

  /**
   * What colours of roles mean, one line for all roles that share one.
   * @param {object} data ViewData.
   * @returns {[string, number][]} Texts and numbers of colours.
   */
  acdc.roleLegend = (data) => {
    const texts = Array.from({ length: N_FILLS }, () => []);
    for (const [role, index] of acdc.roleColours(data)) texts[index].push(role);
    return texts.flatMap((roles, index) => (roles.length ? [[roles.length > 1 ? "other roles" : roles[0], index]] : []));
  };

  /**
   * The style sheet for cytoscape, in the page's present colours.
   * @param {HTMLElement} container Where colours are read.
   * @param {object} data ViewData.
   * @param {"sign"|"status"} colourBy What the colours of lines mean.
   * @returns {object[]}
   */
  acdc.looks = (container, data, colourBy) => {
    const css = getComputedStyle(container);
    const colour = (name) => css.getPropertyValue(`--${name}`).trim();
    const dashes = data.overlay !== null && data.overlay.missed + data.overlay.extra <= acdc.MOST_DASHED;
    const roles = Array.from({ length: N_FILLS }, (_, index) => ({
      selector: `node.role${index}`,
      style: { "background-color": colour(`role-${index}`) },
    }));
    return [
      ...nodeLooks(colour),
      plainBand,
      ...roles,
      ...edgeLooks(colour),
      ...kindLooks,
      ...(colourBy === "status" ? statusLooks(colour, dashes) : signLooks(colour)),
      ...stateLooks(colour),
    ];
  };

  const nodeLooks = (colour) => [
    {
      selector: "node.box",
      style: {
        shape: "round-rectangle",
        width: 86,
        height: 40,
        label: "data(label)",
        "font-size": 19,
        "font-family": "system-ui, sans-serif",
        "min-zoomed-font-size": 4,
        "text-valign": "center",
        "text-halign": "center",
        color: colour("ink"),
        "background-color": colour("paper"),
        "border-width": 1.4,
        "border-color": colour("ink"),
        "z-index": 10,
      },
    },
    { selector: "node.mlp", style: { "background-color": colour("mlp") } },
    { selector: "node.input, node.logits", style: { width: 130, "font-weight": 600 } },
    {
      selector: "node.band",
      style: {
        shape: "rectangle",
        width: "data(width)",
        height: "data(height)",
        label: "data(label)",
        "font-size": 20,
        "min-zoomed-font-size": 5,
        "text-valign": "center",
        "text-halign": "left",
        "text-margin-x": 92,
        color: colour("faint"),
        "background-color": colour("band"),
        "border-width": 0,
        "z-index": 0,
        "z-index-compare": "manual",
        events: "no",
      },
    },
  ];

  const plainBand = { selector: "node.plain", style: { "background-opacity": 0 } };

  const edgeLooks = (colour) => [
    {
      selector: "edge",
      style: {
        width: "data(width)",
        "line-opacity": "data(opacity)",
        "curve-style": "straight",
        "line-color": colour("unknown"),
        "target-arrow-color": colour("unknown"),
        "source-endpoint": "0 -50%",
        "target-endpoint": "data(port)",
        "z-index": "data(z)",
        "z-index-compare": "manual",
      },
    },
    {
      selector: "edge.bent",
      style: {
        "curve-style": "round-segments",
        "segment-distances": "data(distances)",
        "segment-weights": "data(weights)",
        "segment-radii": 40,
        "radius-type": "influence-radius",
        "edge-distances": "endpoints",
      },
    },
  ];

  /* "fine": one of few lines. */
  const kindLooks = [
    { selector: "edge.fine", style: { "target-arrow-shape": "triangle", "arrow-scale": 0.9, "line-opacity": "data(clear)" } },
    { selector: "edge.fine.q", style: { "line-style": "dashed", "line-dash-pattern": [9, 4] } },
    { selector: "edge.fine.k", style: { "line-style": "dashed", "line-dash-pattern": [2.5, 3] } },
  ];

  const signLooks = (colour) =>
    ["positive", "negative"].map((sign) => ({
      selector: `edge.${sign}`,
      style: { "line-color": colour(sign), "target-arrow-color": colour(sign) },
    }));

  const statusLooks = (colour, dashes) => {
    const patterns = { found: null, missed: [12, 6], extra: [2, 4] };
    return Object.entries(patterns).flatMap(([status, dash]) => [
      {
        selector: `edge.${status}`,
        style: {
          "line-color": colour(status),
          "target-arrow-color": colour(status),
          ...(status === "missed" ? { "z-index": 0 } : { "line-opacity": 0.85, "z-index": status === "found" ? 10 : 9 }),
        },
      },
      {
        selector: dashes ? `edge.${status}` : `edge.fine.${status}`,
        style: dash === null ? { "line-style": "solid" } : { "line-style": "dashed", "line-dash-pattern": dash },
      },
      {
        selector: `node.${status}`,
        style: {
          "border-color": colour(status),
          "border-width": 3.5,
          "border-style": { found: "solid", missed: "dashed", extra: "dotted" }[status],
        },
      },
    ]);
  };

  const stateLooks = (colour) => [
    { selector: ".gone", style: { display: "none" } },
    { selector: "node.faded", style: { opacity: 0.18 } },
    { selector: "edge.faded", style: { "line-opacity": 0.05, "target-arrow-shape": "none" } },
    { selector: "edge.traced", style: { "line-opacity": "data(clear)" } },
    { selector: "node.chosen", style: { "border-width": 5, "border-color": colour("focus"), "border-style": "solid" } },
    { selector: "edge.chosen", style: { "line-opacity": 1, "underlay-color": colour("focus"), "underlay-opacity": 0.5, "underlay-padding": 4, "z-index": 9 } },
  ];
})();
