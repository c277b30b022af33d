"""Circuits made of others, and what is no longer known of them; circuits by a rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from acdc_engine.display import counted
from acdc_engine.errors import GraphError, did_you_mean
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.nodes import EdgeLike, edge_name, edges_named, nodes_of_edges, targets_of, with_roles
from acdc_engine.graph.records import OF_EDGES, CircuitEdge, CircuitNode, ModelRecord, SpansRecord
from acdc_engine.graph.style import by_strength, measure_of

_OF_THE_WHOLE = (
    *("search", "rule", "made_by", "evaluation", "certificate", "cost", "command", "sizes", "repeats", "alternatives"),
    *("inner", "causal", "attention"),
)
"""Fields of a circuit that say something of exactly these edges: an edited circuit has none of them."""


def subset_of(circuit: Circuit, keep: int | Callable[[CircuitEdge], bool] | Iterable[EdgeLike]) -> Circuit:
    """See `Circuit.subset`."""
    if isinstance(keep, int):
        kept = _strongest(circuit, keep)
    elif callable(keep):
        kept = {_ends(edge) for edge in circuit.edges if keep(edge)}
    else:
        kept = set(_named(circuit, keep))
    return _with_edges(circuit, kept)


def cleaned(circuit: Circuit) -> Circuit:
    """See `Circuit.cleaned`."""
    from acdc_engine.graph.connectivity import clean

    mask, layout = clean(circuit.graph(), circuit.mask()), circuit.graph()
    kept = {(layout.senders[sender], layout.receivers[receiver]) for sender, receiver in mask.nonzero().tolist()}
    return _with_edges(circuit, kept)


def without_spans(circuit: Circuit) -> Circuit:
    """See `Circuit.plain`."""
    scores = dict[tuple[str, str], list[float | None]]()
    for edge in circuit.edges:
        scores.setdefault((edge.sender, edge.receiver), []).append(edge.score)
    found = tuple(
        CircuitEdge(sender=sender, receiver=receiver, score=None if None in each else math.fsum(filter(None, each)))
        for (sender, receiver), each in scores.items()
    )
    bare = circuit.model_copy(update={"spans": None, "version": 1})
    at = dict[str, list[CircuitNode]]()
    for node in circuit.nodes:
        at.setdefault(node.sender, []).append(node)
    nodes = tuple(node.model_copy(update=_of_all(at[node.name])) for node in nodes_of_edges(bare.graph(), found))
    unknown = {name: type(circuit).model_fields[name].default for name in _OF_THE_WHOLE}
    prompts = tuple(record.model_copy(update={"spans": ()}) for record in circuit.prompts)
    source = "; ".join(
        filter(None, (circuit.source, f"without places: {counted(len(circuit.edges), 'edge')} with them"))
    )
    examples = tuple(one.model_copy(update={"spans": (), "next_circuit": ()}) for one in circuit.examples)
    task = circuit.task and circuit.task.model_copy(update={"prompts_hash": None})  # which counts their spans
    edges = with_roles(bare.graph(), nodes, found)
    changed: dict[str, Any] = {"nodes": nodes, "edges": edges, "prompts": prompts, "examples": examples, "task": task}
    return bare.model_copy(update={**unknown, **changed, "source": source, "checksum": None})


def _of_all(places: list[CircuitNode]) -> dict[str, Any]:
    """What holds of a node at all its places; and what it writes to the answer, at the place where that is read."""
    roles, scores = {node.role for node in places}, [node.role_scores for node in places]
    return {
        "role": places[0].role if len(roles) == 1 else None,
        "role_scores": tuple(score for score in scores[0] if all(score in others for others in scores)),
        "direct_effect": next((node.direct_effect for node in places if node.direct_effect is not None), None),
    }


class Wiring:
    """The edges of a rule in a graph, group by group; `edges` has sender and receiver index of what has been joined."""

    def __init__(self, layout: Graph) -> None:
        self.layout = layout
        self.edges: set[tuple[int, int]] = set()
        self._reads: dict[str, list[tuple[int, str]]] = {}
        for column, receiver in enumerate(layout.receivers):
            kind, nodes = targets_of(layout, receiver)
            for node in dict.fromkeys(name.partition("@")[0] for name in nodes):
                self._reads.setdefault(node, []).append((column, kind))

    def join(
        self,
        senders: Iterable[str],
        receivers: Iterable[str],
        letters: str = "qkv",
        at: Collection[str] | None = None,
    ) -> None:
        """Adds every edge that exists from one of some nodes to one of others: nothing reads what is computed later.

        Args:
            senders: Nodes that write, such as `input`, `a5.h5` or `m0`.
            receivers: Nodes that read, such as `a7.h3`, `m7` or `logits`.
            letters: Through which of q, k and v heads are entered.
            at: In a graph with places the names of those where it is read; None for all.

        Raises:
            GraphError: A node that does not exist.
        """
        columns = [column for node in receivers for column in self._columns(node, letters)]
        if at is not None:
            columns = [column for column in columns if self.layout.receivers[column].partition("@")[2] in at]
        for sender in senders:
            row = self.layout.sender_index(sender)
            self.edges.update((row, column) for column in columns if self.layout.joins[row, column])

    def _columns(self, node: str, letters: str) -> list[int]:
        """Receivers of a node; the k and v of a head that shares them are its group's."""
        if node not in self._reads:  # one of these two says why there is none
            self.layout.sender_index(node)
            self.layout.receiver_index(node)
        return [column for column, kind in self._reads[node] if kind not in ("q", "k", "v") or kind in letters]

    def circuit(self, model: ModelRecord, roles: Mapping[str, Iterable[str]], **texts: Any) -> Circuit:
        """The circuit of what has been joined, its edges in the graph's order.

        Args:
            model: The model.
            roles: The names of the nodes of each role, at whatever place.
            texts: Of the circuit's file: `behaviour` (the task's name), `source`, `rule` and `made_by`.
        """
        layout = self.layout
        pairs = [(layout.senders[sender], layout.receivers[receiver]) for sender, receiver in sorted(self.edges)]
        edges = edges_named(layout, pairs)
        role_of = {name: role for role, names in roles.items() for name in names}
        nodes = tuple(
            node.model_copy(update={"role": role_of.get(node.sender)}) for node in nodes_of_edges(layout, edges)
        )
        spans = SpansRecord.of(layout.spans)
        version = 1 if spans is None else 2
        edges = with_roles(layout, nodes, edges)
        return Circuit(version=version, model=model, spans=spans, nodes=nodes, edges=edges, **texts)


def _with_edges(circuit: Circuit, kept: set[tuple[str, str]]) -> Circuit:
    """The circuit with some of its edges, and with what still holds of it."""
    edges = tuple(edge for edge in circuit.edges if _ends(edge) in kept)
    if len(edges) == len(circuit.edges):
        return circuit
    names = {node.name for node in nodes_of_edges(circuit.graph(), edges)}
    names |= {node.name for node in circuit.nodes if node.kind in ("input", "logits")}
    nodes = _still_true(tuple(node for node in circuit.nodes if node.name in names), circuit.nodes)
    bare = tuple(edge.model_copy(update=dict.fromkeys(OF_EDGES)) for edge in edges)
    if any(edge.sender_role or edge.receiver_role for edge in edges):
        bare = with_roles(circuit.graph(), nodes, bare)
    heads = {node.sender for node in nodes}
    examples = tuple(
        example.model_copy(update={"patterns": tuple(one for one in example.patterns if one.head in heads)})
        for example in circuit.examples
    )
    note = f"edited: {len(edges):,} of {len(circuit.edges):,} edges"
    changed = {"nodes": nodes, "edges": bare, "examples": examples, "checksum": None}
    source = "; ".join(filter(None, (circuit.source, note)))
    unknown = {name: type(circuit).model_fields[name].default for name in _OF_THE_WHOLE}
    return circuit.model_copy(update={**unknown, **changed, "source": source})


def _still_true(nodes: tuple[CircuitNode, ...], before: tuple[CircuitNode, ...]) -> tuple[CircuitNode, ...]:
    """The nodes, without S-inhibition if a name mover has gone: all else is measured in the whole model."""
    if _movers(nodes) == _movers(before):
        return nodes
    return tuple(
        node.model_copy(
            update={
                "role": None if node.role_scores and node.role == "S-inhibition" else node.role,
                "role_scores": tuple(score for score in node.role_scores if score.role != "S-inhibition"),
            }
        )
        for node in nodes
    )


def _movers(nodes: tuple[CircuitNode, ...]) -> set[str]:
    return {node.name for node in nodes for score in node.role_scores if score.role == "name mover" and score.holds}


def _strongest(circuit: Circuit, count: int) -> set[tuple[str, str]]:
    if count < 0 or isinstance(count, bool):
        raise GraphError(f"A subset has so many of the strongest edges: a number from 0, not {count!r}.")
    if measure_of(circuit) is None:
        raise GraphError(
            "Nothing ranks the edges of this circuit: they have neither effects nor scores. Name the edges to keep, or "
            "run acdc_engine.evaluate(circuit) first."
        )
    return {_ends(edge) for edge in by_strength(circuit)[:count]}


def _named(circuit: Circuit, keep: Iterable[EdgeLike]) -> Iterable[tuple[str, str]]:
    own = {_ends(edge) for edge in circuit.edges}
    for edge in edges_named(circuit.graph(), keep):
        if _ends(edge) not in own:
            hint = did_you_mean(edge_name(edge), map(edge_name, circuit.edges))
            raise GraphError(f"The circuit has no edge {edge_name(edge)}.{hint}")
        yield _ends(edge)


def _ends(edge: CircuitEdge) -> tuple[str, str]:
    return edge.sender, edge.into
