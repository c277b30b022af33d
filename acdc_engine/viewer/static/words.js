/* Words and small elements that several parts of the page need. */
(function () {
  "use strict";
  const acdc = (window.acdc = window.acdc || {});

  /** @param {string} id @returns {HTMLElement} */
  acdc.byId = (id) => document.getElementById(id);

  /** An element with a text: never markup. @param {string} name @param {string} text @param {string} [className] */
  acdc.element = (name, text, className = "") => {
    const made = document.createElement(name);
    made.textContent = text;
    if (className) made.className = className;
    return made;
  };

  /** @param {number} n @param {string} thing @returns {string} Such as "1,000 edges". */
  acdc.count = (n, thing) => `${n.toLocaleString("en-US")} ${thing}${n === 1 ? "" : "s"}`;

  /** A number with its sign, null as "unknown". @param {?number} value */
  acdc.signed = (value) => (value === null ? "unknown" : `${value < 0 ? "−" : "+"}${acdc.number(Math.abs(value))}`);

  /** Four decimals, or four digits where the number is small. @param {number} value */
  acdc.number = (value) => (Math.abs(value) >= 0.001 || value === 0 ? value.toFixed(4) : value.toExponential(2));

  /** @param {number} value @returns {string} Such as "83%". */
  acdc.percent = (value) => `${Math.round(value * 100)}%`;

  /** What a node is, in words. @param {object} node Of ViewData. */
  acdc.nodeWords = (node) => {
    const role = node.role ?? node.known_role;
    const what = { input: "the input", logits: "the logits", mlp: `MLP of layer ${node.layer}`,
      head: `head of layer ${node.layer}` }[node.kind];
    return role === null ? what : `${what}, ${acdc.cut(role, 60)}`;
  };

  /** Numbers of an edge that are known: labels and texts. @param {object} edge Of ViewData. */
  acdc.edgeRows = (edge) => {
    const rows = [
      ["Score", edge.score, acdc.signed],
      ["Exact effect", edge.effect, acdc.signed],
      ["Objective without it", edge.without, acdc.number],
      ["Stability", edge.stability, acdc.percent],
      ["Necessity", edge.necessity, acdc.percent],
    ];
    return rows.filter(([, value]) => value !== null).map(([label, value, write]) => [label, write(value)]);
  };
})();
