// Two circuits of one model shape and what they share. An edge is sender * receivers + receiver, see index.py.
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

  // Edges in the order of the model, with where they are and their strengths there.
  function union(shape, a, b) {
    const inA = strengths(a), inB = strengths(b), width = shape.receivers.length;
    const codes = [...new Set([...inA.keys(), ...inB.keys()])].sort((x, y) => x - y);
    return codes.map((code, place) => {
      const sender = shape.senders[Math.floor(code / width)], receiver = shape.receivers[code % width];
      const where = !inB.has(code) ? "a" : !inA.has(code) ? "b" : "both";
      const edge = { place, sender, receiver, where, name: `${sender} \u2192 ${receiver}` };
      return { ...edge, a: inA.get(code), b: inB.get(code), largest: size(inA.get(code), inB.get(code)) };
    });
  }

  function counts(a, b) {
    const other = new Set(b), both = a.filter((item) => other.has(item)).length;
    return { a: a.length - both, both, b: b.length - both, jaccard: jaccard(both, a.length + b.length - both) };
  }

  function jaccard(both, either) { return either ? both / either : null; }

  return { union, counts, targets, refusal, jaccard };
})();
