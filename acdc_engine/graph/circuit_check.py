"""Whether a circuit's nodes and edges fit its graph and each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from acdc_engine.errors import CircuitFileError, GraphError
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit_records import CircuitEdge, CircuitNode

_MOST_SHOWN = 60


def nodes_of_edges(
    layout: Graph, edges: Iterable[CircuitEdge], roles: Mapping[str, str] | None = None
) -> tuple[CircuitNode, ...]:
    """Lists the nodes that edges join, in the graph's order.

    A key/value group stands for those of its heads that have another edge; when none has, for all of them.

    Args:
        layout: The graph.
        edges: Edges of that graph.
        roles: What some nodes do in the circuit, by name.

    Returns:
        The nodes, `input` and `logits` among them if an edge touches them.

    Raises:
        GraphError: An edge that does not exist.
    """
    found: set[str] = set()
    groups: list[tuple[str, ...]] = []
    for edge in edges:
        layout.parse_edge(f"{edge.sender}->{edge.receiver}")
        found.add(edge.sender)
        fed = _nodes_fed(layout, edge.receiver)
        if len(fed) == 1:
            found.add(fed[0])
        else:
            groups.append(fed)
    for heads in groups:
        if found.isdisjoint(heads):
            found.update(heads)
    roles = roles or {}
    return tuple(
        CircuitNode(name=name, kind=kind, layer=layer, role=roles.get(name))
        for name, kind, layer in all_nodes(layout)
        if name in found
    )


def with_roles(layout: Graph, nodes: Iterable[CircuitNode], edges: Iterable[CircuitEdge]) -> tuple[CircuitEdge, ...]:
    """Writes the nodes' roles to the edges, so that tables and pictures can use them."""
    roles = {node.name: node.role for node in nodes}
    return tuple(
        edge.model_copy(
            update={
                "sender_role": roles.get(edge.sender),
                "receiver_role": role_fed(layout, edge.receiver, roles),
            }
        )
        for edge in edges
    )


def role_fed(layout: Graph, receiver: str, roles: Mapping[str, str | None]) -> str | None:
    """Role of what a receiver is part of: of all heads of a key/value group that have one, joined by " / ".

    Args:
        layout: The graph.
        receiver: Such as a7.h3<k> or a7.kv1<k>.
        roles: Of nodes, by name.
    """
    known = [role for role in map(roles.get, _nodes_fed(layout, receiver)) if role is not None]
    return " / ".join(dict.fromkeys(known)) if known else None


def all_nodes(layout: Graph) -> Iterator[tuple[str, Any, int | None]]:
    """Yields name, kind and layer of every node of a graph, in order; `logits` last."""
    yield "input", "input", None
    for layer in range(layout.shape.n_layers):
        for head in range(layout.shape.n_heads):
            yield f"a{layer}.h{head}", "head", layer
        if layout.shape.mlps:
            yield f"m{layer}", "mlp", layer
    yield "logits", "logits", None


def check_circuit(layout: Graph, nodes: Iterable[CircuitNode], edges: Iterable[CircuitEdge]) -> None:
    """Refuses edges that cannot exist, duplicates, and nodes that are not the edges' ends.

    `input` and `logits` may be listed without an edge: an empty circuit still has them.

    Raises:
        CircuitFileError: With the first thing that is wrong.
    """
    edges, nodes = tuple(edges), tuple(nodes)
    listed = _check_nodes(layout, nodes)
    roles = {node.name: node.role for node in nodes}
    seen: set[str] = set()
    touched = {"input", "logits"}
    for place, edge in enumerate(edges):
        name = f"{edge.sender}->{edge.receiver}"
        try:
            layout.parse_edge(name)
        except GraphError as error:
            raise CircuitFileError(f"edges.{place} cannot exist in this model's graph: {error}") from error
        if name in seen:
            raise CircuitFileError(f"edges.{place}: {name} is listed twice.")
        seen.add(name)
        if edge.sender not in listed:
            raise CircuitFileError(f"edges.{place}: {name} starts at {edge.sender}, which is not among the nodes.")
        fed = _nodes_fed(layout, edge.receiver)
        if listed.isdisjoint(fed):
            which = fed[0] if len(fed) == 1 else f"none of {', '.join(fed)}"
            verb = "which is not" if len(fed) == 1 else "which are"
            raise CircuitFileError(f"edges.{place}: {name} leads to {which}, {verb} among the nodes.")
        _check_roles(place, edge, roles.get(edge.sender), role_fed(layout, edge.receiver, roles))
        touched.update((edge.sender, *fed))
    lonely = sorted(listed - touched)
    if lonely:
        raise CircuitFileError(f"No edge starts or ends at {', '.join(lonely)}: remove it from the nodes.")


def _check_roles(place: int, edge: CircuitEdge, sender_role: str | None, receiver_role: str | None) -> None:
    """Roles are written twice, for readers of single edges; both must say the same."""
    ends = (("sender_role", edge.sender_role, sender_role), ("receiver_role", edge.receiver_role, receiver_role))
    for key, here, at_node in ends:
        if here not in (None, at_node):
            raise CircuitFileError(
                f"edges.{place}: {edge.sender}->{edge.receiver} has {key} {_cut(here)}, its node has role "
                f"{_cut(at_node)}. "
                f"Write the same at both, or leave {key} out."
            )


def _cut(role: str | None) -> str:
    """A role as an error can show it: files of strangers have roles of any length."""
    return repr(role if role is None or len(role) <= _MOST_SHOWN else f"{role[:_MOST_SHOWN]}...")


def _check_nodes(layout: Graph, nodes: Iterable[CircuitNode]) -> set[str]:
    known = {name: (kind, layer) for name, kind, layer in all_nodes(layout)}
    listed: set[str] = set()
    for place, node in enumerate(nodes):
        if node.name not in known:
            try:
                layout.sender_index(node.name)
            except GraphError as error:
                reason = str(error).replace("No sender", "no node", 1)
                message = f"nodes.{place} cannot exist in this model's graph: {reason}"
                raise CircuitFileError(message) from error
        if node.name in listed:
            raise CircuitFileError(f"nodes.{place}: {node.name} is listed twice.")
        if (node.kind, node.layer) != known[node.name]:
            kind, layer = known[node.name]
            raise CircuitFileError(
                f"nodes.{place}: {node.name} has kind {kind!r} and layer {layer}, "
                f"not kind {node.kind!r} and layer {node.layer}."
            )
        listed.add(node.name)
    return listed


def _nodes_fed(layout: Graph, receiver: str) -> tuple[str, ...]:
    """Names of the nodes behind a receiver: several for a key/value group."""
    if receiver == "logits":
        return ("logits",)
    return tuple(layout.senders[sender] for sender in layout.fed(layout.receiver_index(receiver)))
