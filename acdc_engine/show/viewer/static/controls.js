/* The filters: their elements, and the state that they make. */
(function () {
  "use strict";
  const acdc = (window.acdc = window.acdc || {});
  const KINDS = { q: "queries", k: "keys", v: "values", mlp: "MLPs", logits: "logits" };
  const STEPS = 100;

  /* Strengths at the slider's stops: as many lines lie between two neighbours, wherever strengths crowd. */
  function thresholds(data) {
    const known = data.edges.filter((edge) => edge.strength !== null).map((edge) => Math.abs(edge.strength));
    known.sort((one, other) => one - other);
    return Array.from({ length: STEPS + 1 }, (_, step) =>
      step === 0 || known.length === 0 ? 0 : known[Math.min(known.length - 1, Math.round((step / STEPS) * (known.length - 1)))],
    );
  }

  function kindBoxes(data, container, changed) {
    const there = new Set(data.edges.map((edge) => edge.kind));
    const boxes = {};
    for (const [kind, words] of Object.entries(KINDS)) {
      const label = document.createElement("label");
      const box = document.createElement("input");
      Object.assign(box, { type: "checkbox", checked: true, id: `kind-${kind}`, disabled: !there.has(kind) });
      box.addEventListener("change", changed);
      label.append(box, ` ${words}`);
      container.append(label);
      boxes[kind] = box;
    }
    return boxes;
  }

  function layerChoices(data, from, to) {
    for (const layer of acdc.layersOf(data)) {
      for (const choice of [from, to]) choice.append(new Option(String(layer), String(layer)));
    }
  }

  /**
   * Wires the filters.
   * @param {object} data ViewData.
   * @param {boolean} known Whether a known circuit lies beside it.
   * @param {function(object)} changed Is given the state, see `acdc.everything`.
   * @returns {{state: function(): object, reset: function(), showLonely: function(), compare: function(?object)}}
   */
  acdc.controls = (data, known, changed) => {
    const { byId } = acdc;
    const [size, least, from, to] = ["size", "least", "layer-from", "layer-to"].map(byId);
    const [lonely, overlay] = ["lonely", "overlay"].map(byId);
    const stops = thresholds(data);
    const all = acdc.everything(data);
    const kinds = kindBoxes(data, byId("kinds"), update);
    layerChoices(data, from, to);
    size.max = String(data.sizes.length - 1);
    const curve = acdc.curve(data, byId("curve"), (index) => {
      size.value = String(index);
      update();
    });
    byId("size-choice").hidden = data.sizes.length < 2;
    byId("size-box").hidden = data.sizes.length < 2 && byId("curve").hidden;
    byId("least-box").hidden = data.measure === null;
    byId("layer-box").hidden = from.options.length < 2;
    byId("least-label").textContent = `|${data.measure}| at least`;

    /* Says how a picture compares with the known circuit, or that it does not. */
    function compare(beside) {
      byId("overlay-box").hidden = beside === null;
      if (beside === null) return;
      byId("overlay-name").textContent = acdc.cut(beside.known, 60);
      const { found, missed, extra } = beside;
      byId("overlay-counts").textContent = `${acdc.count(found, "edge")} found, ${acdc.grouped(missed)} missed, ${acdc.grouped(extra)} extra`;
    }

    function state() {
      const chosen = [Number(from.value), Number(to.value)].sort((one, other) => one - other);
      return {
        size: Number(size.value),
        least: stops[Number(least.value)],
        from: chosen[0],
        to: chosen[1],
        kinds: Object.fromEntries(Object.entries(kinds).map(([kind, box]) => [kind, box.checked])),
        lonely: !lonely.checked,
        overlay: known && overlay.checked,
      };
    }

    function write() {
      const stop = data.sizes[Number(size.value)];
      byId("size-value").textContent = acdc.grouped(stop.edges);
      byId("size-text").textContent = acdc.sizeWords(stop);
      curve.mark(Number(size.value));
      size.setAttribute("aria-valuetext", `${acdc.count(stop.edges, "edge")}, ${acdc.sizeWords(stop)}`);
      const value = stops[Number(least.value)];
      byId("least-value").textContent = value === 0 ? "any" : acdc.number(value);
      least.setAttribute("aria-valuetext", value === 0 ? "any" : acdc.number(value));
    }

    function update() {
      write();
      changed(state());
    }

    function reset() {
      size.value = String(all.size);
      least.value = "0";
      from.value = String(all.from);
      to.value = String(all.to);
      Object.values(kinds).forEach((box) => (box.checked = true));
      lonely.checked = true;
      overlay.checked = known;
      update();
    }

    function showLonely() {
      lonely.checked = false;
      update();
    }

    for (const slider of [size, least]) slider.addEventListener("input", update);
    for (const choice of [from, to, lonely, overlay]) choice.addEventListener("change", update);
    byId("reset").addEventListener("click", reset);
    return { state, reset, showLonely, compare };
  };
})();
