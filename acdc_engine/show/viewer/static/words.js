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

  /** A whole number in groups of three digits. (toLocaleString would first load the browser's tables of languages.) */
  acdc.grouped = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ",");

  /** @param {number} n @param {string} thing @returns {string} Such as "1,000 edges". */
  acdc.count = (n, thing) => `${acdc.grouped(n)} ${thing}${n === 1 ? "" : "s"}`;

  /** Three decimals and a real minus, none before a zero. @param {number} value */
  acdc.decimals = (value) => value.toFixed(3).replace(/^-(?=0\.000$)/, "").replace("-", "−");

  /** How good a size of the circuit is. @param {object} size Of ViewData. */
  acdc.sizeWords = (size) => {
    if (size.faithfulness === null) return "faithfulness not measured at this size";
    const interval = size.low === null ? "" : ` (${acdc.decimals(size.low)} to ${acdc.decimals(size.high)})`;
    const kl = size.kl_recovered === null ? "" : `; KL recovered ${acdc.decimals(size.kl_recovered)}`;
    return `held-out faithfulness ${acdc.decimals(size.faithfulness)}${interval}${kl}`;
  };

  /** A number with its sign, null as "unknown". @param {?number} value */
  acdc.signed = (value) => (value === null ? "unknown" : `${value < 0 ? "−" : "+"}${acdc.number(Math.abs(value))}`);

  /** Four decimals, or four digits where the number is small. @param {number} value */
  acdc.number = (value) => (Math.abs(value) >= 0.001 || value === 0 ? value.toFixed(4) : value.toExponential(2));

  /** @param {number} value @returns {string} Such as "83%". */
  acdc.percent = (value) => `${Math.round(value * 100)}%`;

  /** What a head looks back at. */
  acdc.READ = { k: "this key", v: "this value", ring: "this place, and reads nothing that the circuit keeps" };

  /** What a node is, in words. @param {object} node Of ViewData. */
  acdc.nodeWords = (node) => {
    const role = node.role ?? node.known_role;
    const what = { input: "the input", logits: "the logits", mlp: `MLP of layer ${node.layer}`,
      head: `head of layer ${node.layer}`, k: `key in layer ${node.layer}`, v: `value in layer ${node.layer}`, ring: `looked at in layer ${node.layer}` }[node.kind];
    return role === null ? what : `${what}, ${acdc.cut(role, 60)}`;
  };

  /** How many edges of the circuit a node has. @param {object} node Of ViewData. @returns {[string, string][]} A label and a text. */
  acdc.edgeCounts = ({ kind, dot, edges_in, edges_out }) =>
    kind === "ring" ? [] : [["Edges", dot ? `${edges_in} in` : `${edges_in} in, ${edges_out} out`]];

  /** Numbers of an edge that are known: labels and texts. @param {object} edge Of ViewData. */
  acdc.edgeRows = (edge) => {
    const rows = [
      ["Attention, clean", edge.weight, acdc.percent],
      ["Attention, corrupt", edge.weight_corrupt, acdc.percent],
      ["Score", edge.score, acdc.signed],
      ["Exact effect", edge.effect, acdc.signed],
      ["Objective without it", edge.without, acdc.number],
      ["Stability", edge.stability, acdc.percent],
      ["Necessity", edge.necessity, acdc.percent],
      ["Inclusion", edge.inclusion, acdc.percent],
    ];
    return rows.filter(([, value]) => value !== null && value !== undefined).map(([label, value, write]) => [label, write(value)]);
  };
})();
