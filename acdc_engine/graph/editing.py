"""Circuits from other circuits and from names of edges: what is kept, and what is no longer known of the result."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from acdc_engine.errors import GraphError, did_you_mean
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit_check import nodes_of_edges, with_roles
from acdc_engine.graph.circuit_records import CircuitEdge, CircuitNode
from acdc_engine.graph.strength import by_strength, measure_of

if TYPE_CHECKING:
    from acdc_engine.graph.circuit import Circuit

EdgeLike = CircuitEdge | str | tuple[str, str]
"""An edge, its name (`a5.h3->a7.h1<v>`) or its two ends."""
OF_THE_WHOLE = ("search", "rule", "made_by", "evaluation", "certificate", "cost", "command", "sizes")
"""Fields of a circuit that say something of exactly these edges: an edited circuit has none of them."""
OF_EDGES = ("effect", "without", "stability", "necessity")
"""Figures of an edge that depend on the other edges of the circuit; its score does not."""


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

    mask, layout = clean(circuit.graph(), circuit.mask()), circuit.layout()
    kept = {(layout.senders[sender], layout.receivers[receiver]) for sender, receiver in mask.nonzero().tolist()}
    return _with_edges(circuit, kept)


def edges_named(layout: Graph, edges: Iterable[EdgeLike]) -> tuple[CircuitEdge, ...]:
    """Edges of a graph, without figures.

    Raises:
        GraphError: One that cannot exist there: the rule, and the nearest name.
    """
    found = []
    for given in edges:
        name = _name(given)
        try:
            sender, receiver = layout.parse_edge(name)
        except GraphError as error:
            hint = "" if "write" in str(error) else _nearest(layout, name)  # some say themselves what to write
            raise GraphError(f"{error}{hint}") from error
        found.append(CircuitEdge(sender=layout.senders[sender], receiver=layout.receivers[receiver]))
    return tuple(found)


def _with_edges(circuit: Circuit, kept: set[tuple[str, str]]) -> Circuit:
    """The circuit with some of its edges, and with what still holds of it."""
    edges = tuple(edge for edge in circuit.edges if _ends(edge) in kept)
    if len(edges) == len(circuit.edges):
        return circuit
    names = {node.name for node in nodes_of_edges(circuit.layout(), edges)} | {"input", "logits"}
    nodes = _still_true(tuple(node for node in circuit.nodes if node.name in names), circuit.nodes)
    bare = tuple(edge.model_copy(update=dict.fromkeys(OF_EDGES)) for edge in edges)
    if any(edge.sender_role or edge.receiver_role for edge in edges):
        bare = with_roles(circuit.layout(), nodes, bare)
    examples = tuple(
        example.model_copy(update={"patterns": tuple(one for one in example.patterns if one.head in names)})
        for example in circuit.examples
    )
    note = f"edited: {len(edges):,} of {len(circuit.edges):,} edges"
    changed = {"nodes": nodes, "edges": bare, "examples": examples, "checksum": None}
    source = "; ".join(filter(None, (circuit.source, note)))
    return circuit.model_copy(update={**whole_unknown(circuit), **changed, "source": source})


def whole_unknown(circuit: Circuit) -> dict[str, Any]:
    """Values of the fields in `OF_THE_WHOLE` that say nothing."""
    return {name: type(circuit).model_fields[name].default for name in OF_THE_WHOLE}


def _still_true(nodes: tuple[CircuitNode, ...], before: tuple[CircuitNode, ...]) -> tuple[CircuitNode, ...]:
    """Nodes with what is still true of them.

    Roles and direct effects are measured in the whole model, but S-inhibition is about the circuit's name movers: it is
    left out when one of these has gone.
    """
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
    for edge in edges_named(circuit.layout(), keep):
        if _ends(edge) not in own:
            name, names = _name(edge), [_name(one) for one in circuit.edges]
            raise GraphError(f"The circuit has no edge {name}.{did_you_mean(name, names)}")
        yield _ends(edge)


def _nearest(layout: Graph, name: str) -> str:
    """The nearest names of ends that do not exist."""
    ends = [end.strip() for end in name.split("->")]
    if len(ends) != 2:
        return ""
    known = zip(ends, (layout.senders, layout.receivers), strict=True)
    return "".join(did_you_mean(end, names) for end, names in known if end not in names)


def _ends(edge: CircuitEdge) -> tuple[str, str]:
    return edge.sender, edge.receiver


def _name(edge: EdgeLike) -> str:
    if isinstance(edge, str):
        return edge
    if isinstance(edge, CircuitEdge):
        return f"{edge.sender}->{edge.receiver}"
    if isinstance(edge, tuple) and len(edge) == 2 and all(isinstance(end, str) for end in edge):
        return "->".join(edge)
    raise GraphError(
        f"An edge is given by its name, such as a5.h3->a7.h1<v>, or as a pair of its ends, not as {edge!r}."
    )
