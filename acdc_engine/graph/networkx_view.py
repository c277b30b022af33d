"""A circuit as a networkx graph: for users and for other formats, never for inner loops."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit_records import SIGN_CONVENTION

if TYPE_CHECKING:
    import networkx as nx

    from acdc_engine.graph.circuit import Circuit


def networkx_of(circuit: Circuit) -> nx.MultiDiGraph[str]:
    """Builds a networkx graph with the circuit's nodes and exactly its edges.

    Where heads share keys and values, edges into these lead to a node of their own, the key/value group `a7.kv1`, whose
    attribute `heads` names the circuit's heads that read it. No edges lead from there to the heads, as they would count
    as edges of the circuit: `with_shared` adds them, for questions about paths. Unknown values are left out.

    Returns:
        Node attributes: `kind` (input, head, mlp, logits; kv for a group), `position` (place in the order of
        computation; a group has that of its first head), and where known `layer`, `head`, `role`; of groups `heads`,
        names between blanks. Edge keys: `q`, `k`, `v`, `mlp` or `logits`. Edge attributes: `kind` (the key again),
        `name` (unique, as in `a5.h5->a7.h3<k>`), `receiver` (as in the circuit file), where known `score` and `effect`,
        both positive where the edge supports the behaviour, and where known `sender_role` and `receiver_role`, the
        roles of its two nodes.
    """
    import networkx as nx

    from acdc_engine.graph.circuit_check import role_fed

    layout = circuit.layout()
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph(model=circuit.model.name, sign=SIGN_CONVENTION)
    if circuit.task is not None:
        graph.graph["task"] = circuit.task.name
    for node in circuit.nodes:
        position = layout.n_senders if node.name == "logits" else layout.sender_index(node.name)
        place = {"layer": node.layer, "head": _head(node.name), "role": node.role}
        place = {key: value for key, value in place.items() if value is not None}
        graph.add_node(node.name, kind=node.kind, position=position, **place)
    roles = {node.name: node.role for node in circuit.nodes}
    for edge in circuit.edges:
        kind, heads = targets_of(layout, edge.receiver)
        target = node_read(edge.receiver)
        if target not in graph:
            first, layer = layout.sender_index(heads[0]), int(target[1:].partition(".")[0])
            there = " ".join(head for head in heads if head in roles)
            graph.add_node(target, kind="kv", position=first, layer=layer, heads=there)
        facts = {
            "score": edge.score,
            "effect": edge.effect,
            "sender_role": roles.get(edge.sender),
            "receiver_role": role_fed(layout, edge.receiver, roles),
        }
        facts = {key: value for key, value in facts.items() if value is not None}
        name = f"{edge.sender}->{edge.receiver}"
        graph.add_edge(edge.sender, target, key=kind, kind=kind, name=name, receiver=edge.receiver, **facts)
    return graph


def with_shared(graph: nx.MultiDiGraph[str]) -> nx.MultiDiGraph[str]:
    """A copy with an edge, of kind and key `shared`, from every key/value group to each of its heads in the circuit.

    With them paths lead through shared keys and values. They are no edges of the circuit.

    Args:
        graph: From `networkx_of`.
    """
    joined = graph.copy()
    for group, facts in graph.nodes(data=True):
        for head in facts.get("heads", "").split():
            joined.add_edge(group, head, key="shared", kind="shared")
    return joined


def node_read(receiver: str) -> str:
    """The node that a receiver is an input of: a head, an MLP, the logits, or a key/value group such as `a7.kv1`."""
    return receiver.partition("<")[0]


def targets_of(layout: Graph, receiver: str) -> tuple[str, tuple[str, ...]]:
    """Finds what a receiver is part of.

    Returns:
        Its kind (`q`, `k`, `v`, `mlp` or `logits`) and the nodes it feeds: several for a key/value group.
    """
    index = layout.receiver_index(receiver)
    kind = layout.receiver_kind(index)
    return kind, tuple(layout.senders[sender] for sender in layout.fed(index)) or ("logits",)


def edge_counts(circuit: Circuit) -> tuple[Counter[str], Counter[str]]:
    """Counts the edges of a circuit by node.

    Returns:
        Edges into a node and edges out of it, by its name. One into a key or value that heads share goes into each of
        them that is in the circuit.
    """
    layout, listed = circuit.layout(), {node.name for node in circuit.nodes}
    into: Counter[str] = Counter()
    for receiver, n_edges in Counter(edge.receiver for edge in circuit.edges).items():
        into.update(dict.fromkeys(listed.intersection(targets_of(layout, receiver)[1]), n_edges))
    return into, Counter(edge.sender for edge in circuit.edges)


def _head(name: str) -> int | None:
    return int(name.split(".h")[1]) if ".h" in name else None
