/* The lines of the picture, drawn into cytoscape's canvas between its bands and its boxes. As elements of its own they
   would take most of the time to open a page: it computes a style, a box and events for each. */
(function () {
  "use strict";
  const acdc = (window.acdc = window.acdc || {});
  const CORNER = 40;
  const ARROW = { scale: 0.9, least: 29, grows: 13.37, power: 0.9, half: 0.15, long: 0.3 };
  const DASHES = { q: [9, 4], k: [2.5, 3], ring: [1.5, 4], missed: [12, 6], extra: [2, 4] };
  const SOLID = [];
  const STEPS = 24;
  const UNKNOWN = 0.25; // drawn for attention that was not measured
  /* Lines that rise less, from heads to their layer's MLP and from it to the next heads, use its side: so far below its
     middle. */
  const FLAT = 20;
  /* Opacity of lines outside the core, as a share of their usual one. */
  const FAINT = 0.3;
  const SIDE = { in: 8, out: -2 };

  /* Root of a strength as a share of the largest, in steps; something in the middle where it is not known. */
  function weights(data, many) {
    const largest = data.edges.reduce((most, edge) => Math.max(most, Math.abs(edge.strength ?? 0)), 0);
    const unknown = many ? 0.2 : 0.5;
    return (edge) => (edge.strength === null || largest === 0 ? unknown : Math.ceil(Math.sqrt(Math.abs(edge.strength) / largest) * STEPS) / STEPS);
  }

  /* Where a line leaves the sender's box and where it enters that of what reads. */
  function endsOf(edge, source, target, border) {
    const half = ({ height, dot }) => (dot ? 0 : (height + border) / 2);
    const start = [source.x, source.y - half(source)];
    const port = target.dot ? 0 : acdc.PORTS[edge.reads ?? edge.kind] ?? 0;
    const end = [target.x + port * (target.width + border), target.y + half(target)];
    const left = target.x < source.x ? -1 : 1;
    if (source.span !== null) { // by place: to the MLP of a head's own row from above
      if (target.y === source.y) [end[0], end[1]] = [target.x - 0.3 * target.width * left, target.y - half(target)];
    } else if (start[1] - end[1] < FLAT && Math.abs(target.x - source.x) > acdc.BOX.width) {
      const side = ((acdc.BOX.width + border) / 2) * left;
      if (target.kind === "mlp") [end[0], end[1]] = [target.x - side, target.y + SIDE.in];
      else if (source.kind === "mlp") [start[0], start[1]] = [source.x + side, source.y + SIDE.out];
    }
    return [start, end];
  }

  /* What is drawn of an edge; `points` are from the sender on. */
  function lineOf(edge, weight, many, nodes, border) {
    const [start, end] = endsOf(edge, nodes.get(edge.source), nodes.get(edge.target), border);
    const points = [start, ...edge.bends, end];
    if (edge.kind === "attention") return { ...seenLine(edge, points), ...lookOf(edge) };
    const share = edge.faint ? FAINT : 1;
    return {
      ...seenLine(edge, points),
      sign: edge.strength === null ? "unknown" : edge.strength >= 0 ? "positive" : "negative",
      width: 1.1 + 4.5 * weight,
      pale: share * ((many ? 0.14 : 0.4) + (many ? 0.7 : 0.5) * weight),
      clear: share * (0.4 + 0.5 * weight),
      level: Math.round(weight * 8),
    };
  }

  function seenLine({ id, kind, reads, status }, points) {
    const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
    return { id, kind: reads ?? kind, status, points, box: { x1: Math.min(...xs), x2: Math.max(...xs), y1: Math.min(...ys), y2: Math.max(...ys) } };
  }

  /* Attention: as wide, and as plain to see, as the head looks there, below all edges and without an arrow. */
  function lookOf({ weight }) {
    const opacity = Math.min(0.95, 0.2 + 1.7 * (weight ?? UNKNOWN));
    return { looks: true, sign: "attention", width: 0.9 + 6 * (weight ?? UNKNOWN), pale: opacity, clear: opacity, level: -1 };
  }

  const between = ([x1, y1], [x2, y2]) => Math.hypot(x2 - x1, y2 - y1);

  /* The point on the way from `from` to `to` that lies so far before its end. */
  function before(from, to, amount) {
    const share = Math.max((between(from, to) - amount) / (between(from, to) || 1), 0);
    return [from[0] + share * (to[0] - from[0]), from[1] + share * (to[1] - from[1])];
  }

  /* A path through the points, with round corners. */
  function path(context, points, gap) {
    const last = points.length - 1;
    const end = gap === 0 ? points[last] : before(points[last - 1], points[last], gap);
    context.beginPath();
    context.moveTo(...points[0]);
    for (let at = 1; at < last; at += 1) {
      const [from, here, to] = [points[at - 1], points[at], at + 1 === last ? end : points[at + 1]];
      const length = Math.min(CORNER, between(from, here) / 2, between(here, to) / 2);
      const cosine = ((from[0] - here[0]) * (to[0] - here[0]) + (from[1] - here[1]) * (to[1] - here[1])) / (between(from, here) * between(here, to) || 1);
      const angle = Math.acos(Math.min(1, Math.max(-1, cosine)));
      context.arcTo(...here, ...to, angle > 3.14 ? 0 : length * Math.tan(angle / 2));
    }
    context.lineTo(...end);
  }

  /* An arrow head at the end; what lies below is cleared first where it would shine through. */
  function arrow(context, line, opacity) {
    const [from, tip] = line.points.slice(-2);
    const size = Math.max((line.width * ARROW.grows) ** ARROW.power, ARROW.least) * ARROW.scale;
    const length = between(from, tip) || 1;
    const [x, y] = [(tip[0] - from[0]) / length, (tip[1] - from[1]) / length];
    const foot = [tip[0] - ARROW.long * size * x, tip[1] - ARROW.long * size * y];
    const half = ARROW.half * size;
    context.beginPath();
    context.moveTo(...tip);
    context.lineTo(foot[0] - half * y, foot[1] + half * x);
    context.lineTo(foot[0] + half * y, foot[1] - half * x);
    context.closePath();
    if (opacity < 1) {
      context.globalCompositeOperation = "destination-out";
      context.globalAlpha = 1;
      context.fill();
      context.globalCompositeOperation = "source-over";
      context.globalAlpha = opacity;
    }
    context.fill();
  }

  /* How far a point is from the nearest of a line's pieces. */
  function distance({ points }, x, y) {
    let least = Infinity;
    for (let at = 1; at < points.length; at += 1) {
      const [x1, y1] = points[at - 1];
      const [across, up] = [points[at][0] - x1, points[at][1] - y1];
      const along = ((x - x1) * across + (y - y1) * up) / (across * across + up * up || 1);
      const share = Math.min(1, Math.max(0, along));
      least = Math.min(least, Math.hypot(x - x1 - share * across, y - y1 - share * up));
    }
    return least;
  }

  const apart = (box, extent, by) => box.x2 < extent.x1 - by || box.x1 > extent.x2 + by || box.y2 < extent.y1 - by || box.y1 > extent.y2 + by;

  /**
   * The lines of a circuit.
   * @param {object} data ViewData.
   * @returns {object} See the functions below.
   */
  acdc.lines = (data) => {
    const many = data.edges.length > acdc.MOST_FINE;
    const dashed = data.overlay !== null && data.overlay.missed + data.overlay.extra <= acdc.MOST_DASHED;
    const nodes = new Map(data.nodes.map((node) => [node.id, node]));
    const weight = weights(data, many);
    let all = [];
    let byId = new Map();
    let order = [];
    let colours = {};
    let byStatus = false;
    let seen = { shown: new Set(), on: new Set(), traced: false, chosen: null };

    const level = (line) => (byStatus && !line.looks ? { missed: 0, extra: 9, found: 10 }[line.status] : line.level);

    /** Takes the page's colours. @param {object} next By name. @param {"sign"|"status"} colourBy What they mean. */
    function recolour(next, colourBy) {
      colours = next;
      byStatus = colourBy === "status";
      all = data.edges.map((edge) => lineOf(edge, weight(edge), many, nodes, acdc.BOX.border[colourBy]));
      byId = new Map(all.map((line) => [line.id, line]));
      order = [...all].reverse().sort((one, other) => level(one) - level(other)); // the strongest on top
    }

    /** How a line is drawn at present. @param {object} line @returns {object} */
    function looks(line) {
      const on = seen.on.has(line.id);
      const fine = on && seen.on.size <= acdc.MOST_FINE;
      const chosen = line.id === seen.chosen;
      const compared = byStatus && !line.looks;
      const status = compared && line.status !== "missed" ? 0.85 : null;
      const plain = status ?? (fine ? line.clear : line.pale);
      const dash = compared ? (dashed || fine ? DASHES[line.status] : null) : fine ? DASHES[line.kind] : null;
      return {
        fine, chosen, shown: seen.shown.has(line.id), faded: !on, traced: on && seen.traced, dash: dash ?? SOLID, width: line.width,
        colour: colours[compared ? line.status : line.sign],
        opacity: chosen ? 1 : !on ? 0.05 : seen.traced ? line.clear : plain,
      };
    }

    function stroke(context, line) {
      const look = looks(line);
      if (look.chosen) {
        path(context, line.points, 0);
        Object.assign(context, { globalAlpha: 0.5, strokeStyle: colours.focus, lineWidth: 8, lineCap: "round" });
        context.setLineDash(SOLID);
        context.stroke();
        context.lineCap = "butt";
      }
      path(context, line.points, look.fine && !line.looks ? 2 * ARROW.scale * line.width : 0);
      context.globalAlpha = look.opacity;
      context.strokeStyle = look.colour;
      context.lineWidth = line.width;
      context.setLineDash(look.dash);
      context.stroke();
      if (!look.fine || line.looks) return;
      context.fillStyle = look.colour;
      arrow(context, line, look.opacity);
    }

    /** Draws all that are shown. @param {CanvasRenderingContext2D} context @param {?object} extent What is in sight. */
    function draw(context, extent) {
      context.save();
      context.lineJoin = "round";
      const drawn = order.filter((line) => seen.shown.has(line.id) && !(extent && apart(line.box, extent, CORNER)));
      const chosen = drawn.filter((line) => line.id === seen.chosen);
      for (const line of drawn) if (line.id !== seen.chosen) stroke(context, line);
      for (const line of chosen) stroke(context, line);
      context.restore();
    }

    /** The line that is nearest to a point, of those that are so near; null if none. @returns {?string} */
    function near({ x, y }, reach) {
      let [found, least] = [null, Infinity];
      for (const line of order) {
        const most = line.width / 2 + reach;
        if (!seen.shown.has(line.id) || apart(line.box, { x1: x, x2: x, y1: y, y2: y }, most)) continue;
        const far = distance(line, x, y);
        if (far < most && far <= least) [found, least] = [line.id, far];
      }
      return found;
    }

    /** The point half way along a line. @param {string} id @returns {{x: number, y: number}} */
    function middle(id) {
      const { points } = byId.get(id);
      const lengths = points.slice(1).map((point, at) => between(points[at], point));
      let left = lengths.reduce((sum, length) => sum + length, 0) / 2;
      const piece = lengths.findIndex((length) => (left -= length) <= 0);
      const [x, y] = before(points[piece], points[piece + 1], -left);
      return { x, y };
    }

    return { draw, near, middle, recolour, looks: (id) => looks(byId.get(id)), points: (id) => byId.get(id).points,
      see: (next) => void (seen = next) };
  };
})();
