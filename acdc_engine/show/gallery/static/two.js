// Two circuits of one model shape and what they share. An edge is sender * receivers + receiver, at places that times
// these plus its place, see index.py.
const two = (() => {
  "use strict";

  function strengths(run) {
    const found = new Map();
    let code = 0;
    run.edges.forEach((distance, place) => {
      code += distance;
      found.set(code, run.strengths[place]);
    });
    return found;
  }

  // Heads of a key/value group that are in the circuit; else the node that reads.
  function targets(shape, receiver, nodes) {
    const group = /^a(\d+)\.kv(\d+)<[kv]>$/.exec(receiver);
    if (!group) return [receiver.replace(/<[qkv]>$/, "")];
    const size = shape.heads / shape.groups, first = Number(group[2]) * size;
    return Array.from({ length: size }, (_, head) => `a${group[1]}.h${first + head}`).filter((name) => nodes.has(name));
  }

  function size(...values) {
    const known = values.filter((value) => value !== null && value !== undefined);
    return known.length ? Math.max(...known.map(Math.abs)) : null;
  }

  // Why two runs cannot be compared, in words; null where they can.
  function refusal(shapes, a, b) {
    if (a.shape === b.shape) return null;
    return `${a.name} is a circuit of a model with ${shapes[a.shape].words}, ${b.name} of one with ` +
      `${shapes[b.shape].words}: no edge of one is an edge of the other. Choose two circuits of one model shape: the lists above are grouped by it.`;
  }

  // Names of the places that both tell apart; null where they are not the same, by name and by where logits are read.
  function places(a, b) {
    const alike = a.at && b.at && a.at.read === b.at.read && a.at.names.join("\n") === b.at.names.join("\n");
    return alike ? a.at.names : null;
  }

  // Why places are left out although a run has some, in words; null where there is nothing to say.
  function unplaced(a, b) {
    if (places(a, b) || !(a.at || b.at)) return null;
    if (!a.at || !b.at) return `Only ${a.at ? "A" : "B"} tells places in the prompt apart: the two are compared without.`;
    const lacks = (one, other) => one.at.names.filter((name) => !other.at.names.includes(name)).join(", ");
    const own = [["A", lacks(a, b)], ["B", lacks(b, a)]].filter(([, names]) => names).map(([side, names]) => `only ${side} has ${names}`);
    const why = own.length ? own.join("; ") : `A is read at ${a.at.read}, B at ${b.at.read}`;
    return `A and B tell other places in the prompt apart (${why}): the two are compared without.`;
  }

  // Edges in the order of the model, with where they are and their strengths there; `out` is the node that they leave,
  // `code` the edge without its place.
  function union(shape, a, b, names = [""]) {
    const inA = strengths(a), inB = strengths(b), width = shape.receivers.length;
    const codes = [...new Set([...inA.keys(), ...inB.keys()])].sort((x, y) => x - y);
    return codes.map((number, place) => {
      const code = Math.floor(number / names.length), at = names[number % names.length];
      const sender = shape.senders[Math.floor(code / width)], receiver = shape.receivers[code % width];
      const where = !inB.has(number) ? "a" : !inA.has(number) ? "b" : "both";
      const [into, out] = [receiver, sender].map((node) => (at ? `${node}@${at}` : node));
      const edge = { place, code, at, sender, receiver, out, where, name: `${sender} \u2192 ${into}` };
      return { ...edge, a: inA.get(number), b: inB.get(number), largest: size(inA.get(number), inB.get(number)) };
    });
  }

  // What became of an edge from A to B. Strengths differ where they do by more than half of the larger.
  function change(edge, comparable) {
    const { a, b } = edge;
    if (edge.where !== "both" || !comparable || a === null || b === null) return edge.where;
    if (Math.abs(a - b) <= size(a, b) / 2) return "both";
    return a * b < 0 ? "turned" : Math.abs(b) > Math.abs(a) ? "stronger" : "weaker";
  }

  function counts(a, b) {
    const other = new Set(b), both = a.filter((item) => other.has(item)).length;
    return { a: a.length - both, both, b: b.length - both, jaccard: jaccard(both, a.length + b.length - both) };
  }

  function jaccard(both, either) { return either ? both / either : null; }

  return { union, counts, targets, refusal, jaccard, places, unplaced, change };
})();
