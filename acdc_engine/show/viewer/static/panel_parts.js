/* Small things the panel is made of. Texts of strangers only ever become text nodes. */
(function () {
  "use strict";
  window.acdc = window.acdc || {};
  const SVG = "http://www.w3.org/2000/svg";
  const UNKNOWN = "not measured";

  /* An element; attributes that are functions are listeners, null and false ones are left out. */
  function made(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (typeof value === "function") element.addEventListener(name, value);
      else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, String(value));
    }
    element.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return element;
  }

  const html = (tag, attributes, ...children) => made(document.createElement(tag), attributes, children);
  const svg = (tag, attributes, ...children) => made(document.createElementNS(SVG, tag), attributes, children);

  /* At most so many characters; never half of one. */
  function short(text, most) {
    if (text.length <= most) return text;
    const characters = Array.from(text.slice(0, 2 * most + 2));
    return characters.length <= most ? text : characters.slice(0, most - 1).join("") + "…";
  }

  /* Text of strangers with a direction of its own; what is cut off is in the tip. */
  function strange(text, most = 80, attributes = {}) {
    const cut = short(text, most);
    const tip = cut === text ? null : short(text, 600);
    return html("span", { ...attributes, class: "strange " + (attributes.class || ""), title: tip }, cut);
  }

  /* The same, with a button that shows the whole. */
  function cuttable(text, most) {
    const cut = short(text, most);
    if (cut === text) return strange(text, most);
    const shown = html("span", { class: "strange" }, cut);
    const more = html("button", { type: "button", class: "more", click: () => {
      shown.textContent = text;
      more.remove();
    } }, `Show all ${text.length} characters`);
    return html("span", {}, shown, " ", more);
  }

  /* Tokens: a leading space as a dot, control characters as their pictures. */
  function tokenText(text) {
    const shown = short(text, 600)
      .replace(/^ /, "·").replace(/\n/g, "⏎").replace(/\t/g, "⇥")
      .replace(/[\u0000-\u001f]/g, (found) => String.fromCharCode(0x2400 + found.charCodeAt(0)));
    return shown === "" ? "(empty)" : shown;
  }

  const token = (text, most = 24, attributes = {}) =>
    strange(tokenText(text), most, { ...attributes, class: "token " + (attributes.class || "") });

  const known = (value) => value !== null && value !== undefined;

  /* Three significant digits, a real minus. */
  function number(value, signed = false) {
    if (!known(value)) return UNKNOWN;
    const size = Math.abs(value);
    const plain = () => (size >= 100 ? size.toFixed(0) : size.toPrecision(3));
    const text = size === 0 ? "0" : size >= 1e5 || size < 1e-3 ? size.toExponential(2) : plain();
    return (value < 0 ? "−" : signed && value > 0 ? "+" : "") + text;
  }

  /* Numbers between 0 and 1, mostly: three decimals. */
  const share = (value) => (Math.abs(value) < 10 ? value.toFixed(3).replace("-", "−") : number(value));
  const percent = (part) => (known(part) ? `${+(100 * part).toPrecision(3)}%` : UNKNOWN);

  const signClass = (value) => (!known(value) ? "unknown" : value < 0 ? "negative" : "positive");

  /* A bar from zero to a value on a common scale; low <= 0 <= high. */
  function bar(value, low, high, mark = null) {
    const span = high - low || 1;
    const place = (at) => (100 * (Math.min(high, Math.max(low, at)) - low)) / span;
    const inside = html("span", { class: `fill ${signClass(value)}` });
    inside.style.left = `${Math.min(place(0), place(value))}%`;
    inside.style.width = `${Math.abs(place(value) - place(0))}%`;
    const zero = html("span", { class: "gauge-zero" });
    zero.style.left = `${place(0)}%`;
    const marks = known(mark) ? html("span", { class: "gauge-mark" }) : null;
    if (marks) marks.style.left = `${place(mark)}%`;
    return html("span", { class: "gauge", "aria-hidden": "true" }, inside, low < 0 ? zero : null, marks);
  }

  /* A headed part of the panel. */
  const part = (title, ...children) => html("section", {}, html("h3", {}, title), ...children);
  const note = (...children) => html("p", { class: "note" }, ...children);

  /* The first few of many, and a button for the rest. */
  function firstOf(items, most, draw, list) {
    list.append(...items.slice(0, most).map(draw));
    if (items.length <= most) return [list];
    const more = html("button", {
      type: "button",
      class: "more",
      click: () => {
        list.append(...items.slice(most).map(draw));
        const next = list.children[most].querySelector("button");
        more.remove();
        if (next) next.focus();
      },
    }, `Show all ${items.length}`);
    return [list, more];
  }

  acdc.parts = {
    html, svg, short, strange, cuttable, token, tokenText, known, number, share, percent, bar, part, note, firstOf,
  };
})();
