// The index: one order and one filter for cards and table, both kept in the address; two runs ticked to be compared.
(() => {
  "use strict";
  const byId = (id) => document.getElementById(id);
  document.documentElement.classList.add("runs-scripts");
  const headers = [...document.querySelectorAll("th[data-key]")];
  const numbers = new Set(headers.filter((th) => th.classList.contains("number")).map((th) => th.dataset.key));
  const places = new Map(headers.map((th, place) => [th.dataset.key, place]));
  const cards = new Map([...document.querySelectorAll(".card")].map((card) => [card.dataset.slug, card]));
  const runs = [...document.querySelectorAll("#table tbody tr")].map((row, place) => ({
    slug: row.dataset.slug, row, card: cards.get(row.dataset.slug), place,
    keys: [...row.querySelectorAll("td[data-sort]")].map((cell) => cell.dataset.sort),
    text: (row.textContent + " " + cards.get(row.dataset.slug).textContent).toLowerCase(),
  }));
  const first = { sort: "name", dir: "asc", view: "cards", q: "" };
  let state = { ...first };
  const letters = new Intl.Collator("en", { numeric: true }); // run 2 before run 10
  let ticked = [];

  function read() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const sort = places.has(asked.get("sort")) ? asked.get("sort") : first.sort;
    const dir = ["asc", "desc"].includes(asked.get("dir")) ? asked.get("dir") : usual(sort);
    const view = asked.get("view") === "table" ? "table" : "cards";
    state = { sort, dir, view, q: asked.get("q") || "" };
  }

  function write() {
    const kept = new URLSearchParams();
    for (const [key, value] of Object.entries(state)) if (value !== first[key]) kept.set(key, value);
    const hash = kept.toString();
    history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  }

  // Numbers are looked at for the largest, the newest run for the last date.
  function usual(key) { return numbers.has(key) || key === "date" ? "desc" : "asc"; }

  function compareRuns(a, b) {
    const place = places.get(state.sort), x = a.keys[place], y = b.keys[place];
    if (x === "" || y === "") return (x === "") - (y === "") || a.place - b.place; // unknown ones last, either way
    const order = numbers.has(state.sort) ? Number(x) - Number(y) : letters.compare(x, y);
    return (state.dir === "asc" ? order : -order) || a.place - b.place;
  }

  function show() {
    runs.sort(compareRuns);
    const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const run of runs) {
      const hidden = !words.every((word) => run.text.includes(word));
      run.row.hidden = run.card.hidden = hidden;
      shown += !hidden;
      run.row.parentNode.append(run.row);
      run.card.parentNode.append(run.card);
    }
    for (const th of headers) {
      const here = th.dataset.key === state.sort;
      th.setAttribute("aria-sort", here ? (state.dir === "asc" ? "ascending" : "descending") : "none");
    }
    byId("cards").hidden = state.view !== "cards";
    byId("table").hidden = state.view !== "table";
    for (const button of document.querySelectorAll("[data-view]"))
      button.setAttribute("aria-pressed", String(button.dataset.view === state.view));
    byId("sort").value = state.sort;
    byId("direction").textContent = state.dir === "asc" ? "\u2191 ascending" : "\u2193 descending";
    if (byId("filter").value !== state.q) byId("filter").value = state.q;
    byId("none").hidden = shown > 0;
    say(words.length ? `${shown} of ${runs.length} runs.` : "");
  }

  function say(counted) {
    const names = ticked.map((tick) => tick.dataset.name);
    const unlike = ticked.length === 2 && ticked[0].dataset.shape !== ticked[1].dataset.shape;
    byId("compare").disabled = ticked.length !== 2 || unlike;
    const told = unlike
      ? `${names[0]} (${ticked[0].dataset.shape}) and ${names[1]} (${ticked[1].dataset.shape}) are of different ` +
        "model shapes and cannot be compared edge by edge."
      : ticked.length === 2 ? `Compare ${names[0]} with ${names[1]}.`
      : ticked.length === 1 ? `Compare ${names[0]} with: tick another.`
      : runs.length > 1 ? "Tick two runs to compare them." : "";
    byId("said").textContent = counted ? `${counted} ${told}` : told;
  }

  function change(part) {
    state = { ...state, ...part };
    write();
    show();
  }

  function sortBy(key) {
    const turned = state.dir === "asc" ? "desc" : "asc";
    change(key === state.sort ? { dir: turned } : { sort: key, dir: usual(key) });
  }

  // A third tick lets go of the first.
  function tick(event) {
    const box = event.target;
    const others = ticked.filter((other) => other.value !== box.value);
    keep(box.checked ? [...others.slice(-1), box] : others);
  }

  // Each run has two boxes, on its card and in its row.
  function keep(boxes) {
    ticked = boxes;
    const chosen = new Set(ticked.map((other) => other.value));
    for (const other of document.querySelectorAll(".tick input")) other.checked = chosen.has(other.value);
    show();
  }

  for (const th of headers) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = th.dataset.label = th.textContent;
    button.addEventListener("click", () => sortBy(th.dataset.key));
    th.replaceChildren(button);
  }
  for (const box of document.querySelectorAll(".tick input")) box.addEventListener("change", tick);
  for (const button of document.querySelectorAll("[data-view]"))
    button.addEventListener("click", () => change({ view: button.dataset.view }));
  byId("tools").addEventListener("submit", (event) => event.preventDefault());
  byId("filter").addEventListener("input", (event) => change({ q: event.target.value }));
  byId("sort").addEventListener("change", (event) => change({ sort: event.target.value, dir: usual(event.target.value) }));
  byId("direction").addEventListener("click", () => sortBy(state.sort));
  byId("compare").addEventListener("click", () => {
    location.href = `compare.html#${new URLSearchParams({ a: ticked[0].value, b: ticked[1].value })}`;
  });
  addEventListener("hashchange", () => { read(); show(); });
  // Browsers bring ticks back when one returns from another page, after this script has run.
  addEventListener("pageshow", () => {
    if (!ticked.length) keep([...document.querySelectorAll(".card .tick input:checked")].slice(-2));
  });
  read();
  show();
})();
