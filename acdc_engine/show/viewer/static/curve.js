/* The chart below the slider over sizes: measured faithfulness against edges, larger circuits and random ones too. */
(function () {
  "use strict";
  const acdc = (window.acdc = window.acdc || {});
  const { svg } = acdc.parts;
  const WIDTH = 210, HEIGHT = 136, LEFT = 18, RIGHT = 6, TOP = 6, BOTTOM = 18;
  /* What is shown at most, as in pictures/charts.py: larger circuits can overshoot without end. */
  const LOWEST = -0.6, HIGHEST = 2.2;
  const MOST_TICKS = 5;

  const inside = (value) => Math.min(Math.max(value, LOWEST), HIGHEST);
  const known = (...values) => values.filter((value) => value !== null);

  /* From edges and faithfulness to places in the drawing; sizes without edges stand at one. */
  function scales(points) {
    const sizes = points.map((point) => Math.max(1, point.edges));
    const values = points.flatMap((point) => known(point.faithfulness, point.low, point.high, point.random_low, point.random_high));
    const [low, high] = [inside(Math.min(-0.05, ...values)), inside(Math.max(1.15, ...values))];
    const [from, to] = [Math.log(Math.min(...sizes) / 1.25), Math.log(Math.max(...sizes) * 1.25)];
    return {
      sizes,
      x: (edges) => LEFT + ((WIDTH - LEFT - RIGHT) * (Math.log(Math.max(1, edges)) - from)) / (to - from),
      y: (value) => TOP + ((HEIGHT - TOP - BOTTOM) * (high - inside(value))) / (high - low),
    };
  }

  /* Round numbers of edges between the least and the most: 1, 2 and 5, or tens alone where those are many. */
  function ticks(sizes) {
    const [least, most] = [Math.min(...sizes), Math.max(...sizes)];
    const all = Array.from({ length: 9 }, (_, power) => [1, 2, 5].map((first) => first * 10 ** power)).flat();
    const there = all.filter((size) => size >= least && size <= most);
    return there.length <= MOST_TICKS ? there : there.filter((size) => String(size).startsWith("1"));
  }

  function ground(points, { sizes, x, y }) {
    const bottom = HEIGHT - BOTTOM;
    const levels = [0, 1].flatMap((value) => [
      svg("line", { class: value === 1 ? "level one" : "level", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }),
      svg("text", { x: LEFT - 4, y: y(value) + 3.5, "text-anchor": "end" }, String(value)),
    ]);
    const marks = ticks(sizes).flatMap((size) => [
      svg("line", { class: "tick", x1: x(size), x2: x(size), y1: bottom, y2: bottom + 3 }),
      svg("text", { x: x(size), y: bottom + 13, "text-anchor": "middle" }, acdc.grouped(size)),
    ]);
    const drawn = points.filter((point) => point.random_low !== null).sort((one, other) => one.edges - other.edges);
    const corners = [...drawn.map((point) => [x(point.edges), y(point.random_high)]), ...drawn.reverse().map((point) => [x(point.edges), y(point.random_low)])];
    const band = corners.length === 0 ? null : svg("polygon", { class: "random", points: corners.join(" ") });
    return [band, ...levels, svg("line", { class: "tick", x1: LEFT, x2: WIDTH - RIGHT, y1: bottom, y2: bottom }), ...marks];
  }

  /* A mark's outline about the middle: round for parts, a star for the circuit, square for larger ones; a triangle at
     the chart's edge for what lies beyond it. */
  function outline(point) {
    if (inside(point.faithfulness) !== point.faithfulness) return point.faithfulness > 1 ? "M0-5 5 4-5 4z" : "M0 5 5-4-5-4z";
    if (point.kind === "circuit") return "M0-6 1.5-2 5.7-1.9 2.4.8 3.5 4.9 0 2.5-3.5 4.9-2.4.8-5.7-1.9-1.5-2z";
    return point.kind === "more" ? "M-3-3H3V3H-3z" : "M-3 0A3 3 0 1 0 3 0 3 3 0 1 0-3 0z";
  }

  function words(point) {
    const what = { part: "the strongest", circuit: "the circuit", more: "the circuit and the best others, not drawn" }[point.kind];
    const random = point.random_low === null ? ""
      : `; random circuits ${acdc.decimals(point.random_low)} to ${acdc.decimals(point.random_high)}`;
    return `${acdc.count(point.edges, "edge")}: ${what}; ${acdc.sizeWords(point)}${random}`;
  }

  function mark(point, { x, y }, choose) {
    const [across, down] = [x(point.edges), y(point.faithfulness)];
    const shape = svg("path", { class: `mark ${point.kind}`, transform: `translate(${across} ${down})`, d: outline(point) });
    const reach = svg("circle", { class: "reach", cx: across, cy: down, r: 8 });
    return svg("g", { class: choose ? "point stop" : "point", click: choose }, svg("title", {}, words(point)), shape, reach);
  }

  function interval(point, { x, y }) {
    if (point.low === null || point.low >= HIGHEST || point.high <= LOWEST) return null;
    return svg("line", { class: `interval ${point.kind}`, x1: x(point.edges), x2: x(point.edges), y1: y(point.low), y2: y(point.high) });
  }

  const line = (kind, points, { x, y }) =>
    svg("polyline", { class: `line ${kind}`, points: points.map((point) => `${x(point.edges)},${y(point.faithfulness)}`).join(" ") });

  /**
   * Draws the chart; hides its place where fewer than two sizes were measured.
   * @param {object} data ViewData.
   * @param {HTMLElement} figure Where it goes: before the caption.
   * @param {function(number)} choose Is given the index of the size that is clicked.
   * @returns {{mark: function(number)}} Marks the size of that index as the one that is drawn.
   */
  acdc.curve = (data, figure, choose) => {
    const measured = (sizes) => sizes.filter((size) => size.faithfulness !== null);
    const [stops, larger] = [measured(data.sizes), measured(data.larger)];
    const points = [...stops, ...larger];
    figure.hidden = points.length < 2;
    if (figure.hidden) return { mark: () => {} };
    const at = scales(points);
    const own = stops.filter((stop) => stop.kind === "circuit");
    const present = svg("line", { class: "present", y1: TOP, y2: HEIGHT - BOTTOM });
    figure.querySelector(".larger").hidden = larger.length === 0;
    figure.querySelector(".random").hidden = points.every((point) => point.random_low === null);
    /* Marks can lie on each other: a click takes the nearest. */
    const nearest = (event) => {
      const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(chart.getScreenCTM().inverse());
      const far = (stop) => Math.hypot(at.x(stop.edges) - x, at.y(stop.faithfulness) - y);
      choose(data.sizes.indexOf(stops.reduce((best, stop) => (far(stop) < far(best) ? stop : best))));
    };
    const chart = svg("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img",
      "aria-label": `Held-out faithfulness against edges. ${points.map(words).join(". ")}.`,
    },
    ...ground(points, at), present, ...points.map((point) => interval(point, at)),
    larger.length ? line("more", [...own, ...larger], at) : null, line("part", stops, at),
    ...larger.map((point) => mark(point, at, null)),
    ...stops.map((stop) => mark(stop, at, nearest)));
    figure.prepend(chart);
    return {
      mark: (index) => {
        const x = at.x(data.sizes[index].edges);
        present.setAttribute("visibility", stops.includes(data.sizes[index]) ? "visible" : "hidden");
        present.setAttribute("x1", x);
        present.setAttribute("x2", x);
      },
    };
  };
})();
