"""A circuit as a networkx graph and as a table of edges: for users and for other formats, never for inner loops."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from acdc_engine.errors import AcdcError
from acdc_engine.graph.nodes import node_read, role_fed, targets_of, with_roles
from acdc_engine.graph.records import SIGN_CONVENTION

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd

    from acdc_engine.graph.circuit import Circuit

FIGURES = ("score", "effect", "without", "stability", "necessity")
"""Numbers that are known of an edge."""
COLUMNS = ("sender", "receiver", "kind", *FIGURES, "sender_role", "receiver_role")
"""Of the table: `kind` is q, k, v, mlp or logits; the others are those of `CircuitEdge`."""


def networkx_of(circuit: Circuit) -> nx.MultiDiGraph[str]:
    """The circuit's nodes and exactly its edges.

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

    layout = circuit.graph()
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
    """
    joined = graph.copy()
    for group, facts in graph.nodes(data=True):
        for head in facts.get("heads", "").split():
            joined.add_edge(group, head, key="shared", kind="shared")
    return joined


def edge_counts(circuit: Circuit) -> tuple[Counter[str], Counter[str]]:
    """Counts the edges into every node of a circuit, and the edges out of it, by its name.

    One into a key or value that heads share goes into each of them that is in the circuit.
    """
    layout, listed = circuit.graph(), {node.name for node in circuit.nodes}
    into: Counter[str] = Counter()
    for receiver, n_edges in Counter(edge.receiver for edge in circuit.edges).items():
        into.update(dict.fromkeys(listed.intersection(targets_of(layout, receiver)[1]), n_edges))
    return into, Counter(edge.sender for edge in circuit.edges)


def _head(name: str) -> int | None:
    return int(name.split(".h")[1]) if ".h" in name else None


def rows_of(circuit: Circuit) -> list[dict[str, Any]]:
    """The edges in the circuit file's order, by column; None where something is not known."""
    layout = circuit.graph()
    edges = with_roles(layout, circuit.nodes, circuit.edges)
    return [
        {name: targets_of(layout, edge.receiver)[0] if name == "kind" else getattr(edge, name) for name in COLUMNS}
        for edge in edges
    ]


def dataframe_of(circuit: Circuit) -> pd.DataFrame:
    """The table as a pandas DataFrame; figures are float64, NaN where not known.

    Raises:
        AcdcError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise AcdcError(
            "A data frame needs pandas, which is not installed here: pip install pandas. Without it, acdc export "
            "--to csv writes the same table."
        ) from error
    return pd.DataFrame(rows_of(circuit), columns=list(COLUMNS)).astype(dict.fromkeys(FIGURES, "float64"))
