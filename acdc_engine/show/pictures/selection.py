"""Which edges of a circuit a picture shows: the strongest, as a circuit of its own, and as many as have room."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.nodes import targets_of
from acdc_engine.graph.records import CircuitEdge
from acdc_engine.graph.style import by_strength, measure_of


def strongest(circuit: Circuit, n: int) -> Circuit:
    """Keeps up to `n` of the edges with the largest |effect| (or |score|), all of them on paths.

    Goes down the list of edges, strongest first, as far as those that lie on a path from `input` to `logits` through
    edges of the list are no more than `n`. The figures of the result are still those of the whole circuit. A circuit
    with no more edges is returned as it is.

    Raises:
        CircuitFileError: Fewer than one edge, no edge has an effect or a score, or so few edges make no path.
    """
    if n < 1:
        raise CircuitFileError(f"The number of strongest edges is at least 1, not {n}.")
    if n >= len(circuit.edges):
        return circuit
    if measure_of(circuit) is None:
        raise CircuitFileError(
            "The strongest edges are those with the largest |effect| or |score|, and no edge of this circuit has "
            "either. Draw all of it."
        )
    order = by_strength(circuit)
    # More edges never break a path, so the sizes grow with the length of the list.
    length = bisect_right(range(len(order) + 1), n, key=lambda k: len(on_paths(circuit, order[:k]))) - 1
    kept = on_paths(circuit, order[:length])
    if not kept:
        least = len(on_paths(circuit, order[: length + 1]))
        raise CircuitFileError(
            f"{n} edges are too few: the strongest path from input to logits has {least:,}. Ask for as many."
        )
    ends = {edge.sender for edge in kept} | {"logits"}
    names = {(edge.sender, edge.receiver) for edge in kept}
    return circuit.model_copy(
        update={
            "nodes": tuple(node for node in circuit.nodes if node.name in ends),
            "edges": tuple(edge for edge in circuit.edges if (edge.sender, edge.receiver) in names),
        }
    )


def on_paths(circuit: Circuit, edges: Sequence[CircuitEdge]) -> list[CircuitEdge]:
    """Those of the edges that lie on a path from `input` to `logits`."""
    layout, listed = circuit.graph(), {node.name for node in circuit.nodes}
    into = {edge.receiver: listed.intersection(targets_of(layout, edge.receiver)[1]) for edge in edges}
    ahead = sorted(edges, key=lambda edge: layout.sender_index(edge.sender))
    reached, leading = {"input"}, {"logits"}
    # Senders in the order of the model: when a sender's turn comes, every edge into it has been seen.
    for edge in ahead:
        if edge.sender in reached:
            reached |= into[edge.receiver]
    for edge in reversed(ahead):
        if into[edge.receiver] & leading:
            leading.add(edge.sender)
    return [edge for edge in edges if edge.sender in reached and into[edge.receiver] & leading]


def lines_of(circuit: Circuit, edges: Iterable[CircuitEdge]) -> Iterator[tuple[CircuitEdge, str, str]]:
    """Every line of a picture: an edge, as what it is read (q, k, v, mlp, logits), and a node of the circuit that does.

    Heads that share a key or value have a line each.
    """
    layout, listed = circuit.graph(), {node.name for node in circuit.nodes}
    for edge in edges:
        kind, targets = targets_of(layout, edge.receiver)
        for target in targets:
            if target in listed:
                yield edge, kind, target


def line_counts(circuit: Circuit, edges: Sequence[CircuitEdge]) -> list[int]:
    """How many lines each edge is: one for each head of the circuit that shares the key or value it leads to."""
    layout, listed = circuit.graph(), {node.name for node in circuit.nodes}
    lines = {
        receiver: len(listed.intersection(targets_of(layout, receiver)[1]))
        for receiver in {edge.receiver for edge in edges}
    }
    return [lines[edge.receiver] for edge in edges]


def first_lines(circuit: Circuit, edges: Sequence[CircuitEdge], most: int) -> Sequence[CircuitEdge]:
    """Keeps the first edges that together are at most so many lines, and of any edges at least one.

    A small file can be millions of lines: every edge into one key that 256 heads share is 256 of them.
    """
    together = list(accumulate(line_counts(circuit, edges)))
    return edges[: max(1, bisect_right(together, most))]
