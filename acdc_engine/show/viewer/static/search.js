/* The search box: nodes by name or role, with suggestions that the keyboard reaches. */
(function () {
  "use strict";
  const acdc = (window.acdc = window.acdc || {});
  const MOST = 12;

  /**
   * Nodes that fit a text: those whose name is it first, then names that begin with it, then any part or role.
   * @param {object} data ViewData.
   * @param {string} text "a5.h3", "5.3" or part of a role.
   * @returns {object[]} Nodes.
   */
  acdc.find = (data, text) => {
    const asked = text.trim().toLowerCase();
    if (asked === "") return [];
    const short = (id) => id.replace(/^a(\d+)\.h(\d+)(?=@|$)/, "$1.$2");
    const roles = (node) => [node.role, node.known_role].filter((role) => role !== null).map((role) => role.toLowerCase());
    const rank = (node) => {
      const name = node.id.toLowerCase();
      if (name === asked || short(name) === asked) return 0;
      if (name.startsWith(asked) || short(name).startsWith(asked)) return 1;
      return name.includes(asked) || roles(node).some((role) => role.includes(asked)) ? 2 : 3;
    };
    const found = data.nodes.map((node) => [rank(node), node]).filter(([place]) => place < 3);
    return found.sort((one, other) => one[0] - other[0]).map(([, node]) => node);
  };

  /**
   * Wires the box.
   * @param {function(): object} data ViewData of the picture that is seen.
   * @param {HTMLInputElement} input
   * @param {HTMLElement} list For suggestions.
   * @param {function(string)} choose Is given a node's id.
   */
  acdc.search = (data, input, list, choose) => {
    let found = [];
    let at = 0;

    function mark() {
      [...list.children].forEach((item, index) => item.setAttribute("aria-selected", String(index === at)));
      if (found.length) input.setAttribute("aria-activedescendant", `suggestion-${at}`);
      else input.removeAttribute("aria-activedescendant");
      list.children[at]?.scrollIntoView({ block: "nearest" });
    }

    function item(node, index) {
      const made = document.createElement("li");
      made.id = `suggestion-${index}`;
      made.setAttribute("role", "option");
      made.append(acdc.element("b", node.id), " ", acdc.element("span", acdc.nodeWords(node), "faint strange"));
      made.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        take(index);
      });
      return made;
    }

    function suggest() {
      found = acdc.find(data(), input.value).slice(0, MOST);
      at = 0;
      const none = input.value.trim() !== "" && found.length === 0;
      list.replaceChildren(...(none ? [acdc.element("li", "No such node or role", "faint")] : found.map(item)));
      open(found.length > 0 || none);
      mark();
    }

    function open(is) {
      list.hidden = !is;
      input.setAttribute("aria-expanded", String(is));
    }

    function take(index) {
      if (!found[index]) return;
      input.value = found[index].id;
      open(false);
      choose(found[index].id);
    }

    input.addEventListener("input", suggest);
    input.addEventListener("focus", suggest);
    input.addEventListener("blur", () => open(false));
    input.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        event.preventDefault();
        if (list.hidden) suggest();
        at = (at + (event.key === "ArrowDown" ? 1 : found.length - 1)) % Math.max(1, found.length);
        mark();
      } else if (event.key === "Enter") {
        take(at);
      } else if (event.key === "Escape" && !list.hidden) {
        event.stopPropagation();
        open(false);
      }
    });
  };
})();
