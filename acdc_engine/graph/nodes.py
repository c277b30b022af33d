"""The nodes that edges join: which they are, what they do, and whether a circuit's nodes and edges fit each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from acdc_engine.errors import CircuitFileError, GraphError
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.records import CircuitEdge, CircuitNode

_MOST_SHOWN = 60


def all_nodes(layout: Graph) -> Iterator[tuple[str, Any, int | None]]:
    """Yields name, kind and layer of every node of a graph, in order; `logits` last."""
    yield "input", "input", None
    for block in layout.blocks:
        kind = "head" if block.kind == "attention" else block.kind
        yield from ((name, kind, block.layer) for name in layout.senders[block.writes])
    yield "logits", "logits", None


def node_read(receiver: str) -> str:
    """The node that a receiver is an input of: a head, an MLP, the logits, or a key/value group such as `a7.kv1`."""
    return receiver.partition("<")[0]


def targets_of(layout: Graph, receiver: str) -> tuple[str, tuple[str, ...]]:
    """Kind of a receiver (`q`, `k`, `v`, `mlp` or `logits`) and the nodes it feeds: several for a key/value group."""
    index = layout.receiver_index(receiver)
    kind = layout.receiver_kind(index)
    return kind, tuple(layout.senders[sender] for sender in layout.fed(index)) or ("logits",)


def nodes_of_edges(
    layout: Graph, edges: Iterable[CircuitEdge], roles: Mapping[str, str] | None = None
) -> tuple[CircuitNode, ...]:
    """Lists the nodes that edges join, in the graph's order; `input` and `logits` only where an edge touches them.

    A key/value group stands for those of its heads that have another edge; when none has, for all of them. `roles` says
    what some nodes do in the circuit, by name.

    Raises:
        GraphError: An edge that does not exist.
    """
    edges = tuple(edges)
    for edge in edges:
        layout.parse_edge(f"{edge.sender}->{edge.receiver}")
    fed = [targets_of(layout, edge.receiver)[1] for edge in edges]
    found = {edge.sender for edge in edges} | {nodes[0] for nodes in fed if len(nodes) == 1}
    for heads in fed:
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

    def written(edge: CircuitEdge) -> CircuitEdge:
        receiver_role = role_fed(layout, edge.receiver, roles)
        return edge.model_copy(update={"sender_role": roles.get(edge.sender), "receiver_role": receiver_role})

    return tuple(map(written, edges))


def role_fed(layout: Graph, receiver: str, roles: Mapping[str, str | None]) -> str | None:
    """Role of what a receiver is part of: of all heads of a key/value group that have one, joined by " / "."""
    known = [role for role in map(roles.get, targets_of(layout, receiver)[1]) if role is not None]
    return " / ".join(dict.fromkeys(known)) if known else None


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
        _, fed = targets_of(layout, edge.receiver)
        if listed.isdisjoint(fed):
            which = f"{fed[0]}, which is not" if len(fed) == 1 else f"none of {', '.join(fed)}, which are"
            raise CircuitFileError(f"edges.{place}: {name} leads to {which} among the nodes.")
        _check_roles(place, edge, roles.get(edge.sender), role_fed(layout, edge.receiver, roles))
        touched.update((edge.sender, *fed))
    if lonely := sorted(listed - touched):
        raise CircuitFileError(f"No edge starts or ends at {', '.join(lonely)}: remove it from the nodes.")


def _check_roles(place: int, edge: CircuitEdge, sender_role: str | None, receiver_role: str | None) -> None:
    """Roles are written twice, for readers of single edges; both must say the same."""
    ends = (("sender_role", edge.sender_role, sender_role), ("receiver_role", edge.receiver_role, receiver_role))
    for key, here, at_node in ends:
        if here not in (None, at_node):
            raise CircuitFileError(
                f"edges.{place}: {edge.sender}->{edge.receiver} has {key} {_cut(here)}, its node has role "
                f"{_cut(at_node)}. Write the same at both, or leave {key} out."
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
