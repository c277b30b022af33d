/* Where a head looks on an example: clean beside corrupt, or their difference. Queries are rows, keys columns.

   acdc.heatmap(example, pattern, {room, large}) makes the whole figure with its controls; `room` is its width in
   pixels: cells are as large as fits, and from their least size on the figure scrolls. */
(function () {
  "use strict";
  window.acdc = window.acdc || {};
  const { html, svg, short, token, tokenText, known, share } = acdc.parts;
  const MOST_TOKENS = 128; // rows; a cell each beyond that would be thousands of elements
  const FAINTEST = 0.004; // less is not seen
  const SMALL = { least: 8, most: 13, letters: 8 }, LARGE = { least: 13, most: 26, letters: 16 };

  /* What is drawn: the sides, each with its tokens and a function of query and key (undefined: may not look there). */
  function sidesOf(example, pattern, difference) {
    const value = (rows) => (query, key) => (rows[query] || [])[key];
    const clean = value(pattern.clean), corrupt = value(pattern.corrupt);
    if (difference) {
      const less = (query, key) =>
        known(clean(query, key)) || known(corrupt(query, key))
          ? (clean(query, key) || 0) - (corrupt(query, key) || 0) : undefined;
      return [{ title: "clean − corrupt", tokens: example.clean, value: less, signed: true }];
    }
    return [
      { title: "clean", tokens: example.clean, value: clean },
      { title: "corrupt", tokens: example.corrupt, value: corrupt },
    ];
  }

  /* Tokens that are shown: all, or a window that ends behind the position read. */
  function windowOf(example) {
    const most = Math.max(example.clean.length, example.corrupt.length);
    const start = Math.max(0, Math.min(most - MOST_TOKENS, example.read_at + 1 - MOST_TOKENS));
    return { start, end: Math.min(most, start + MOST_TOKENS), all: most };
  }

  /* Right of the second side stand only the tokens that differ from the first side's, or all where the lengths do. */
  function differing(sides, view) {
    if (sides.length === 1) return [];
    const [first, second] = sides.map((side) => side.tokens);
    const all = first.length !== second.length;
    return second.map((text, place) => (all || text !== first[place] ? text : null)).slice(view.start, view.end);
  }

  function roomFor(texts, font, letters) {
    const lengths = texts.filter(known).map((text) => Math.min(letters, Array.from(tokenText(text)).length));
    const longest = Math.max(0, ...lengths);
    return longest ? Math.ceil(longest * font * 0.62) + 8 : 0;
  }

  function placesOf(sides, view, { room, large }) {
    const count = view.end - view.start, gap = 8;
    const { least, most, letters } = large ? LARGE : SMALL;
    const font = large ? 13 : 9.5;
    const left = sides[0].tokens.slice(view.start, view.end), right = differing(sides, view);
    const label = roomFor(left, font, letters), after = roomFor(right, font, letters);
    const above = roomFor(sides.flatMap((side) => side.tokens.slice(view.start, view.end)), font, letters);
    const top = above + font + 8; // titles, then column labels
    const free = (room - label - after - gap * sides.length) / (sides.length * count);
    const cell = Math.max(least, Math.min(most, Math.floor(free)));
    const x = sides.map((_, index) => label + index * (count * cell + gap));
    return { cell, font, letters, label, after, above, top, x, count, left, right,
      width: x[x.length - 1] + count * cell + 2 + after, height: top + count * cell + 2 };
  }

  function labelText(text, at, read, place) {
    return svg("text", { class: read ? "label read" : "label", "font-size": at.font, ...place },
      short(tokenText(text), at.letters));
  }

  /* Labels are clipped to their room, however wide their letters are. */
  function rowLabels(example, view, at) {
    const size = at.count * at.cell, end = at.x[at.x.length - 1] + size;
    const left = svg("svg", { x: 0, y: at.top, width: at.label, height: size });
    const right = svg("svg", { x: end, y: at.top, width: at.after, height: size });
    for (let place = 0; place < at.count; place += 1) {
      const read = view.start + place === example.read_at, y = (place + 0.5) * at.cell + at.font * 0.35;
      if (known(at.left[place]))
        left.append(labelText(at.left[place], at, read, { x: at.label - 4, y, "text-anchor": "end" }));
      if (known(at.right[place])) right.append(labelText(at.right[place], at, read, { x: 5, y }));
    }
    return [left, right];
  }

  function columnLabels(side, index, example, view, at) {
    const columns = svg("svg", { x: at.x[index], y: at.top - at.above, width: at.count * at.cell, height: at.above });
    side.tokens.slice(view.start, view.end).forEach((text, place) => {
      const middle = (place + 0.5) * at.cell + at.font * 0.35;
      columns.append(labelText(text, at, view.start + place === example.read_at,
        { transform: `translate(${middle} ${at.above - 3}) rotate(-90)` }));
    });
    const title = svg("text", { class: "title", x: at.x[index], y: at.font + 1, "font-size": at.font + 1 }, side.title);
    return [title, columns];
  }

  /* Opacity is the value. Negative ones are round, so that colour alone does not say it. */
  function cells(side, index, view, at) {
    const group = svg("g", {});
    for (let query = view.start; query < view.end; query += 1) {
      for (let key = view.start; key < view.end; key += 1) {
        const value = side.value(query, key);
        if (!known(value) || Math.abs(value) < FAINTEST) continue;
        const looks = { class: value < 0 ? "minus" : "plus", "fill-opacity": Math.min(1, Math.abs(value)).toFixed(3) };
        const left = at.x[index] + (key - view.start) * at.cell, up = at.top + (query - view.start) * at.cell;
        const half = at.cell / 2;
        group.append(value < 0
          ? svg("circle", { ...looks, cx: left + half, cy: up + half, r: half - 0.5 })
          : svg("rect", { ...looks, x: left + 0.5, y: up + 0.5, width: at.cell - 1, height: at.cell - 1 }));
      }
    }
    return group;
  }

  function frame(index, example, view, at) {
    const size = at.count * at.cell;
    const shape = { x: at.x[index], width: size };
    const read = example.read_at - view.start;
    return [
      svg("rect", { ...shape, class: "ground", y: at.top, height: size }),
      read >= 0 && read < at.count
        ? svg("rect", { ...shape, class: "read-row", y: at.top + read * at.cell, height: at.cell }) : null,
    ];
  }

  /* One picture; `tell(query, key)` hears of the cell that is pointed at or reached by arrow keys. */
  function picture(example, pattern, name, difference, size, tell) {
    const sides = sidesOf(example, pattern, difference), view = windowOf(example);
    const at = placesOf(sides, view, size);
    const square = { width: at.cell, height: at.cell };
    const cursors = sides.map(() => svg("rect", { class: "cursor", ...square, visibility: "hidden" }));
    const drawn = svg("svg", {
      class: "heatmap", width: at.width, height: at.height, viewBox: `0 0 ${at.width} ${at.height}`, tabindex: "0",
      role: "application", "aria-label": `Attention of ${name}, ${sides.map((side) => side.title).join(" and ")}: ` +
        "rows are queries, columns keys; arrow keys move from cell to cell",
    }, ...sides.flatMap((side, index) =>
      [...frame(index, example, view, at), cells(side, index, view, at),
        ...columnLabels(side, index, example, view, at)]),
    ...rowLabels(example, view, at), ...cursors);
    let query = Math.min(view.end - 1, example.read_at), key = view.start;

    function go(toQuery, toKey) {
      query = Math.min(view.end - 1, Math.max(view.start, toQuery));
      key = Math.min(view.end - 1, Math.max(view.start, toKey));
      cursors.forEach((cursor, index) => {
        cursor.setAttribute("x", at.x[index] + (key - view.start) * at.cell);
        cursor.setAttribute("y", at.top + (query - view.start) * at.cell);
        cursor.setAttribute("visibility", "visible");
      });
      tell(query, key);
    }

    function point(event) {
      const box = drawn.getBoundingClientRect();
      const scale = at.width / box.width;
      const across = (event.clientX - box.left) * scale, down = (event.clientY - box.top) * scale - at.top;
      const side = at.x.findIndex((x) => across >= x && across < x + at.count * at.cell);
      if (side < 0 || down < 0 || down >= at.count * at.cell) return;
      go(view.start + Math.floor(down / at.cell), view.start + Math.floor((across - at.x[side]) / at.cell));
    }

    const steps = {
      ArrowUp: () => go(query - 1, key), ArrowDown: () => go(query + 1, key),
      ArrowLeft: () => go(query, key - 1), ArrowRight: () => go(query, key + 1),
      Home: () => go(query, view.start), End: () => go(query, view.end - 1),
    };
    drawn.addEventListener("pointermove", point);
    drawn.addEventListener("pointerdown", point);
    drawn.addEventListener("focus", () => { if (drawn.matches(":focus-visible")) go(query, key); });
    drawn.addEventListener("keydown", (event) => {
      if (!steps[event.key] || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      event.stopPropagation(); // arrow keys mean something else outside
      steps[event.key]();
      cursors[0].scrollIntoView({ block: "nearest", inline: "nearest" });
    });
    return drawn;
  }

  /* What a cell says: both tokens, both values. */
  function telling(example, pattern, query, key) {
    const value = (rows) => (rows[query] || [])[key];
    const clean = value(pattern.clean), corrupt = value(pattern.corrupt);
    const words = (of) => (known(of) ? of.toFixed(3) : "may not look there");
    const named = (at) => {
      const [a, b] = [example.clean[at], example.corrupt[at]];
      if (a === b || !known(b)) return [token(a)];
      return known(a) ? [token(a), " / ", token(b)] : [token(b)];
    };
    const sign = clean > corrupt ? "+" : "";
    const both = known(clean) && known(corrupt) ? `, difference ${sign}${share(clean - corrupt)}` : "";
    return ["from ", ...named(query), ` (${query}) to `, ...named(key), ` (${key}): `,
      html("b", {}, `clean ${words(clean)}, corrupt ${words(corrupt)}`), both];
  }

  /* In words: where the position read looks most. */
  function mostly(title, tokens, row) {
    if (!row || row.length === 0) return null;
    const best = row.map((value, key) => ({ value, key })).sort((a, b) => b.value - a.value).slice(0, 3);
    return html("p", { class: "mostly" }, `${title}: `, ...best.flatMap(({ value, key }, place) =>
      [place ? ", " : "", token(tokens[key]), ` (${key}) ${value.toFixed(2)}`]));
  }

  function large(example, pattern, name) {
    const close = html("button", { type: "button", click: () => dialog.close() }, "Close");
    const dialog = html("dialog", {
      class: "panel-dialog", "aria-label": `Attention of ${name}`, close: () => dialog.remove(),
      keydown: (event) => event.stopPropagation(), // Escape closes this and clears nothing else
    }, html("header", {}, html("h3", {}, `Attention of ${name}`), close),
    acdc.heatmap(example, pattern, { room: 0.9 * window.innerWidth - 40, large: true }));
    document.body.append(dialog);
    dialog.showModal();
  }

  acdc.heatmap = function (example, pattern, size) {
    const name = pattern.head, view = windowOf(example);
    const hint = `Point at a cell, or use the arrow keys. Outlined: the position read.`;
    const readout = html("output", { class: "readout", "aria-live": "polite" }, hint);
    const frame = html("div", { class: "scroll" });
    const tell = (query, key) => readout.replaceChildren(...telling(example, pattern, query, key));
    const scale = html("span", { class: "scale", "aria-hidden": "true" });
    const draw = (difference) => {
      frame.replaceChildren(picture(example, pattern, name, difference, size, tell));
      scale.replaceChildren(...(difference
        ? ["● −1", html("span", { class: "ramp both" }), "■ +1"] : ["0", html("span", { class: "ramp" }), "1"]));
    };
    const toggle = html("button", {
      type: "button", "aria-pressed": "false", class: "difference",
      click: () => {
        const on = toggle.getAttribute("aria-pressed") !== "true";
        toggle.setAttribute("aria-pressed", String(on));
        draw(on);
      },
    }, "Difference");
    const larger = html("button", { type: "button", click: () => large(example, pattern, name) }, "Larger");
    const same = example.clean.length === example.corrupt.length;
    draw(false);
    return html("div", { class: "attention" },
      html("div", { class: "choices" }, same ? toggle : null, size.large ? null : larger, scale),
      frame, readout,
      view.end - view.start < view.all
        ? html("p", { class: "note" }, `Tokens ${view.start} to ${view.end - 1} of ${view.all} are shown.`) : null,
      html("div", { class: "note" }, "The position read looks most at"),
      mostly("clean", example.clean, pattern.clean[example.read_at]),
      mostly("corrupt", example.corrupt, pattern.corrupt[example.read_at]));
  };
})();
