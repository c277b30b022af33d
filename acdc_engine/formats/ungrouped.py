"""Circuits of tools in which every query head has a k and a v of its own, and the model's own graph.

Such tools name every edge as in `a5.h5->a7.h3<k>`. Where the model shares keys and values, an edge into a group is
written there as one for each head of the group that is in the circuit, with the same score: all heads of a group read
the same value, so the circuit's output does not change. On the way back,

- an edge into a group is kept if the file keeps it for any head of the group. It then reaches heads of the circuit for
  which the file does not keep it; the circuit's `source` says how many edges do so;
- it scores the *sum* of the scores the file gives it for all heads of the group, kept or not: the gradient of a shared
  projection is the sum over the heads that read it (docs/method.md, Edge scores). Where the file repeats one number for
  several heads and has 0 for the others, as this engine's export does, it is that number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from acdc_engine.errors import CircuitFileError, GraphError
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.names import GraphShape
from acdc_engine.graph.nodes import targets_of
from acdc_engine.graph.records import CircuitEdge, ModelRecord


def own_shape(model: ModelRecord) -> GraphShape:
    """Shape of the model's graph in this engine, with the key/value groups that it tells apart."""
    n_kv_heads = model.n_heads if model.ungrouped_kv else model.n_kv_heads
    return GraphShape(model.n_layers, model.n_heads, n_kv_heads, model.parallel, model.mlps)


def their_shape(model: ModelRecord, *, mlps: bool) -> GraphShape:
    """Shape of the same model's graph with a k and a v for every query head.

    Args:
        model: The model.
        mlps: Whether the tool's graph has MLPs; EAP-IG's has them even where the model has none.
    """
    return GraphShape(model.n_layers, model.n_heads, model.n_heads, model.parallel, mlps)


def edges_there(circuit: Circuit) -> dict[str, CircuitEdge]:
    """The circuit's edges by the names that such tools give them."""
    layout, kept = circuit.layout(), {node.name for node in circuit.nodes}
    edges: dict[str, CircuitEdge] = {}
    for edge in circuit.edges:
        kind, targets = targets_of(layout, edge.receiver)
        suffix = f"<{kind}>" if kind in ("q", "k", "v") else ""
        edges |= {f"{edge.sender}->{target}{suffix}": edge for target in targets if target in kept}
    return edges


def edges_here(
    path: Path, kept: Iterable[str], score_of: Callable[[str], float | None], model: ModelRecord
) -> tuple[tuple[CircuitEdge, ...], int]:
    """Edges of the model's own graph from those of such a tool.

    Args:
        path: The file, for the error.
        kept: Names of the kept edges; all exist in the tool's graph.
        score_of: The score of an edge by its name, kept or not; None where it is unknown.
        model: The model.

    Returns:
        The edges in the graph's order, and how many of them some head of the circuit gains by sharing.

    Raises:
        CircuitFileError: An edge that the model does not have, such as one into an MLP of an attention-only model.
    """
    ours, places = Graph(own_shape(model)), dict[tuple[int, int], set[str]]()
    for name in kept:
        try:
            places.setdefault(_place(name, ours), set()).add(name)
        except GraphError as error:
            raise CircuitFileError(f"{path}: edges.{name} cannot exist in {model.name[:60]}: {error}") from error
    inside = {sender for sender, _ in places}
    edges, gained = [], 0
    for (sender, receiver), names in sorted(places.items()):
        siblings = siblings_of(sender, receiver, ours)
        active = [name for name, head in zip(siblings, ours.fed(receiver), strict=False) if head in inside]
        gained += not names.issuperset(active)
        score = joint_score(map(score_of, siblings))
        edges.append(CircuitEdge(sender=ours.senders[sender], receiver=ours.receivers[receiver], score=score))
    return tuple(edges), gained


def source_text(path: Path, what: str, gained: int) -> str:
    """What a circuit says it comes from.

    Args:
        path: The file.
        what: What it is, such as `JSON of EAP-IG or MIB`.
        gained: As `edges_here` counts it.
    """
    note = f"; {gained} edges into shared keys or values, kept there for some heads only, now reach all of a group"
    return f"{path.name}, {what}" + (note if gained else "")


def siblings_of(sender: int, receiver: int, ours: Graph) -> list[str]:
    """What such a tool calls an edge of the model's own graph: one name, or one per head of a key/value group."""
    kind, fed = ours.receiver_kind(receiver), ours.fed(receiver)
    source = ours.senders[sender]
    if kind not in ("k", "v"):
        return [f"{source}->{ours.receivers[receiver]}"]
    return [f"{source}->{ours.senders[head]}<{kind}>" for head in fed]


def joint_score(scores: Iterable[float | None]) -> float | None:
    """The score of an edge into a group from those of its heads; see the top of this file."""
    known = [score for score in scores if score is not None]
    different = set(known) - {0.0}
    return None if not known else different.pop() if len(different) == 1 else sum(known)


def loose_edges(circuit: Circuit) -> list[str]:
    """Names of the edges that are on no path from the input to the logits."""
    from acdc_engine.graph.connectivity import clean

    layout, mask = circuit.layout(), circuit.mask()
    loose = mask & ~clean(circuit.graph(), mask)
    return [layout.edge_name(sender, receiver) for sender, receiver in loose.nonzero().tolist()]


def _place(name: str, ours: Graph) -> tuple[int, int]:
    """Where an edge of the file, one per query head, lies in the model's own graph."""
    head, mark, letter = name.partition("<")
    if ours.shape.grouped and letter in ("k>", "v>"):
        node, _, index = head.rpartition(".h")
        name = f"{node}.kv{ours.group_of(int(index))}{mark}{letter}"
    return ours.parse_edge(name)
