/* How boxes look, and the colours of lines. Colours are those of the page: CSS variables of html/theme.css and viewer/graph.css. */
(function () {
  "use strict";
  const acdc = (window.acdc = window.acdc || {});
  const LETTER = 0.59; // width of a letter as a share of the size
  /** Lines up to which they have arrow heads and dashes: both are slow to draw, and of more nobody sees them. */
  acdc.MOST_FINE = 400;
  /** Missed and extra edges up to which they are dashed and dotted even so: it tells them apart without colours. */
  acdc.MOST_DASHED = 1500;

  /** Long texts of strangers are cut: the panel has the whole. @param {string} text @param {number} most */
  acdc.cut = (text, most) => (text.length <= most ? text : `${text.slice(0, most - 1)}…`);

  /** Roles that have a colour of their own, by its number: see graph/style.py. All others share the last. */
  acdc.ROLES = JSON.parse(document.getElementById("role-names").textContent);
  acdc.roleColour = (role) => (acdc.ROLES.includes(role) ? acdc.ROLES.indexOf(role) : acdc.ROLES.length);

  /**
   * What colours of roles mean, one line for all roles that share one.
   * @param {object} data ViewData.
   * @returns {[string, number][]} Texts and numbers of colours.
   */
  acdc.roleLegend = (data) => {
    const texts = Array.from({ length: acdc.ROLES.length + 1 }, () => []);
    const there = new Set(data.nodes.map((node) => node.role ?? node.known_role).filter((role) => role !== null));
    for (const role of there) texts[acdc.roleColour(role)].push(role);
    return texts.flatMap((roles, index) => (roles.length ? [[roles.length > 1 ? "other roles" : roles[0], index]] : []));
  };

  /**
   * Colours of lines, as the page has them at present.
   * @param {HTMLElement} container Where colours are read.
   * @returns {Object<string, string>} By name.
   */
  acdc.lineColours = (container) => {
    const css = getComputedStyle(container);
    const names = ["positive", "negative", "unknown", "found", "missed", "extra", "focus", "attention"];
    return Object.fromEntries(names.map((name) => [name, css.getPropertyValue(`--${name}`).trim()]));
  };

  /**
   * The style sheet for cytoscape, in the page's present colours.
   * @param {HTMLElement} container Where colours are read.
   * @param {"sign"|"status"} colourBy What the colours of lines mean.
   * @param {object} data ViewData.
   * @returns {object[]}
   */
  acdc.looks = (container, colourBy, data) => {
    const css = getComputedStyle(container);
    const colour = (name) => css.getPropertyValue(`--${name}`).trim();
    const roles = Array.from({ length: acdc.ROLES.length + 1 }, (_, index) => ({
      selector: `node.role${index}`,
      style: { "background-color": colour(`role-${index}`) },
    }));
    return [
      ...nodeLooks(colour, acdc.nameSize(data)),
      plainBand,
      ...roles,
      ...(colourBy === "status" ? statusLooks(colour) : []),
      ...stateLooks(colour),
    ];
  };

  /* As large as the longest name lets them be: of many layers all is shown small. */
  acdc.nameSize = (data) => {
    const longest = data.nodes.reduce((most, node) => Math.max(most, node.label.length), 6);
    return Math.min(28, (0.96 * acdc.BOX.width) / (LETTER * longest));
  };

  const nodeLooks = (colour, size) => [
    {
      selector: "node.box",
      style: {
        shape: "round-rectangle",
        width: "data(width)",
        height: "data(height)",
        label: "data(label)",
        "font-size": size,
        "font-family": "system-ui, sans-serif",
        "min-zoomed-font-size": 4,
        "text-valign": "center",
        "text-halign": "center",
        color: colour("ink"),
        "background-color": colour("paper"),
        "border-width": acdc.BOX.border.sign,
        "border-color": colour("ink"),
        "z-index": 10,
      },
    },
    { selector: "node.mlp", style: { "background-color": colour("mlp") } },
    { selector: "node.input, node.logits", style: { "font-weight": 600 } },
    { selector: "node.dot", style: { shape: "ellipse", "border-width": 2, "border-color": colour("attention"), "background-color": colour("attention") } },
    { selector: "node.dot.k, node.dot.ring", style: { "background-color": colour("paper") } },
    {
      selector: "node.band",
      style: {
        shape: "rectangle",
        width: "data(width)",
        height: "data(height)",
        label: "data(label)",
        "font-size": 24,
        "min-zoomed-font-size": 5,
        "text-valign": "center",
        "text-halign": "left",
        "text-margin-x": 110,
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

  const statusLooks = (colour) =>
    Object.entries({ found: "solid", missed: "dashed", extra: "dotted" }).map(([status, border]) => ({
      selector: `node.${status}`,
      style: { "border-color": colour(status), "border-width": acdc.BOX.border.status, "border-style": border },
    }));

  const stateLooks = (colour) => [
    { selector: ".gone", style: { display: "none" } },
    { selector: "node.faded", style: { opacity: 0.18 } },
    { selector: "node.chosen", style: { "border-width": 5, "border-color": colour("focus"), "border-style": "solid" } },
  ];
})();
