/* The picture by role: boxes of nodes of one role, and what the edges between boxes add up to. Places and ways come from
   show/pictures/roles.py; the sums are of the lines that filters leave. */
(function () {
  "use strict";
  const acdc = (window.acdc = window.acdc || {});
  const LEAST_SCALE = 0.72; // at which names can be read; smaller windows scroll
  const LINE = 18, TITLE = 20, PADDING = 9, LETTER = 6.4, LONGEST = 22;

  /* The edges of a way: each once, though it may lead to several heads. Missed ones are none of this circuit's. */
  function added(lines) {
    const own = lines.filter((line) => line.status !== "missed");
    const edges = new Map(own.map((line) => [line.name, line]));
    const known = [...edges.values()].map((edge) => edge.strength).filter((strength) => strength !== null);
    const sum = (some) => some.reduce((total, one) => total + one, 0);
    const kinds = new Set(own.map((line) => line.kind));
    return {
      lines: own,
      count: edges.size,
      kinds: ["q", "k", "v"].filter((kind) => kinds.has(kind)).join(""),
      total: known.length ? sum(known) : null,
      plus: sum(known.filter((strength) => strength > 0)),
      minus: sum(known.filter((strength) => strength < 0)),
    };
  }

  /* Boxes that a node leads to through MLPs without a role alone. */
  function throughMlps(shown, boxOf) {
    const out = new Map();
    for (const line of shown) {
      if (!out.has(line.source)) out.set(line.source, []);
      out.get(line.source).push(line.target);
    }
    return (nodes) => {
      const found = new Set(), seen = new Set(), todo = [...nodes];
      while (todo.length) {
        for (const next of out.get(todo.pop()) ?? []) {
          if (!boxOf.get(next).mlps || seen.has(next)) continue;
          seen.add(next);
          todo.push(next);
          for (const end of out.get(next) ?? []) if (!boxOf.get(end).mlps) found.add(boxOf.get(end).name);
        }
      }
      return found;
    };
  }

  /**
   * The picture by role.
   * @param {object} data ViewData.
   * @param {HTMLElement} container
   * @param {function(?object)} choose Is given what is chosen: {box, inside} or {way, sums}; null for nothing.
   * @returns {object} See the functions below.
   */
  acdc.roles = (data, container, choose) => {
    const { svg } = acdc.parts;
    const { boxes, ways } = data.by_role;
    const boxOf = new Map(boxes.flatMap((box) => box.nodes.map((id) => [id, box])));
    const byName = new Map(boxes.map((box) => [box.name, box]));
    let state = { lines: [], nodes: new Set(), mlps: false };
    let scale = 1;

    function bundles() {
      const found = new Map();
      for (const line of state.lines) {
        const key = JSON.stringify([boxOf.get(line.source).name, boxOf.get(line.target).name]);
        if (!found.has(key)) found.set(key, []);
        found.get(key).push(line);
      }
      return new Map([...found].map(([key, lines]) => [key, added(lines)]).filter(([, sums]) => sums.count > 0));
    }

    /* Something that mouse and keyboard choose. */
    function chosen(element, named, found) {
      const act = (event) => {
        event.stopPropagation();
        for (const other of container.querySelectorAll(".chosen")) other.classList.remove("chosen");
        element.classList.add("chosen");
        choose(found);
      };
      element.addEventListener("click", act);
      element.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        act(event);
      });
      for (const [name, value] of Object.entries({ tabindex: 0, role: "button", "aria-label": named })) element.setAttribute(name, value);
      return element;
    }

    function drawBox(box, inside) {
      const shown = box.nodes.filter((id) => state.nodes.has(id));
      if (shown.length === 0 || (box.mlps && !state.mlps)) return null;
      const middle = box.x + box.width / 2;
      const fill = box.role !== null ? `role${acdc.roleColour(box.role)}` : box.mlps ? "mlps" : "plain";
      const text = (words, y, name) => svg("text", { x: middle, y, class: name }, words);
      return chosen(svg("g", { class: "group" },
        svg("rect", { x: box.x, y: box.y, width: box.width, height: box.height, rx: 7, class: fill }),
        text(acdc.cut(box.name, LONGEST), box.y + PADDING + TITLE / 2, "name"),
        ...box.lines.map((names, place) => text(names, box.y + PADDING + TITLE + LINE * (place + 0.5), "heads")),
        inside ? svg("text", { x: box.x + box.width - 4, y: box.y + box.height + 9, class: "inside" }, `${acdc.grouped(inside.count)} within`) : null,
      ), `${box.name}, ${acdc.count(shown.length, "node")}`, { box, inside });
    }

    const path = ([start, ...rest]) => `M${start.join(" ")}C${rest.map((point) => point.join(" ")).join(" ")}`;
    const words = (sums) => `${acdc.grouped(sums.count)}${sums.kinds ? ` ${sums.kinds}` : ""}${sums.total === null ? "" : `, ${acdc.parts.number(sums.total, true)}`}`;
    const weight = (sums) => (data.measure === null ? sums.count : Math.abs(sums.total ?? 0));

    function drawWay(way, sums, largest) {
      const share = sums === null ? 0 : Math.sqrt(weight(sums) / (largest || 1));
      const sign = sums === null ? "via" : sums.total === null ? "unknown" : sums.total < 0 ? "negative" : "positive";
      const width = sums === null ? 1.2 : 1.1 + 3.6 * share;
      const said = sums === null ? "via MLPs" : words(sums);
      const half = (LETTER * said.length) / 2 + 3;
      const drawn = svg("g", { class: `way ${sign}` },
        svg("path", { d: path(way.points), class: "reach" }),
        svg("path", { d: path(way.points), class: "line", "stroke-width": width.toFixed(2) }),
        tip(way.points, 7 + 1.4 * width),
        svg("rect", { x: way.label[0] - half, y: way.label[1] - 8, width: 2 * half, height: 16, rx: 3, class: "paper-behind" }),
        svg("text", { x: way.label[0], y: way.label[1] }, said));
      const named = `${way.source} to ${way.target}: ${sums === null ? said : `${acdc.count(sums.count, "edge")}, ${said}`}`;
      return chosen(drawn, named, { way, sums });
    }

    /* An arrow head at the end of a way. */
    function tip(points, size) {
      const [[x1, y1], [x, y]] = points.slice(-2);
      const length = Math.hypot(x - x1, y - y1) || 1;
      const [along, aside] = [(size * (x - x1)) / length, (size * (y - y1)) / length];
      return svg("path", { class: "tip", d: `M${x} ${y}L${x - along - aside / 2} ${y - aside + along / 2}L${x - along + aside / 2} ${y - aside - along / 2}z` });
    }

    function draw() {
      const all = bundles();
      const width = state.mlps ? data.by_role.width_with_mlps : data.by_role.width;
      const { height } = data.by_role;
      const drawn = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "The circuit by role, the input below, the logits above" });
      const through = throughMlps(state.lines, boxOf);
      const found = ways.filter((way) => state.mlps || !(byName.get(way.source).mlps || byName.get(way.target).mlps))
        .map((way) => [way, way.via ? null : all.get(JSON.stringify([way.source, way.target])) ?? undefined])
        .filter(([way, sums]) => (way.via ? !state.mlps && through(byName.get(way.source).nodes).has(way.target) : sums !== undefined));
      const largest = Math.max(0, ...found.map(([, sums]) => (sums === null ? 0 : weight(sums))));
      found.sort(([, one], [, other]) => (one === null ? -1 : weight(one)) - (other === null ? -1 : weight(other)));
      drawn.append(...found.map(([way, sums]) => drawWay(way, sums, largest)),
        ...boxes.map((box) => drawBox(box, all.get(JSON.stringify([box.name, box.name])))).filter((made) => made !== null));
      drawn.style.minWidth = `${LEAST_SCALE * width}px`;
      drawn.style.minHeight = `${LEAST_SCALE * height}px`;
      container.replaceChildren(drawn);
      resize();
    }

    function resize() {
      const { style } = container.firstChild;
      style.width = style.height = `${100 * scale}%`;
    }

    /** Adds up what is shown. @param {object[]} lines Of data.edges. @param {Set<string>} nodes @param {boolean} mlps */
    function show(lines, nodes, mlps) {
      state = { lines, nodes, mlps };
      draw();
    }

    function zoom(factor) {
      scale = Math.min(6, Math.max(1, scale * factor));
      resize();
    }

    function fit() {
      scale = 1;
      resize();
    }

    container.addEventListener("click", () => {
      for (const other of container.querySelectorAll(".chosen")) other.classList.remove("chosen");
      choose(null);
    });
    return { show, zoom, fit };
  };

  /**
   * What a picture of heads only leaves out, in words; empty if nothing.
   * @param {object[]} lines That are shown.
   * @param {object} data ViewData.
   */
  acdc.leftOut = (lines, data) => {
    const mlps = new Set(data.by_role.boxes.filter((box) => box.mlps).flatMap((box) => box.nodes));
    const edges = new Set(lines.filter((line) => line.status !== "missed" && (mlps.has(line.source) || mlps.has(line.target)))
      .map((line) => line.name));
    if (edges.size === 0) return "";
    return `Heads only: ${acdc.count(mlps.size, "MLP")} with ${acdc.count(edges.size, "edge")}, and the paths through them, are not drawn.`;
  };
})();
