"""A circuit as a networkx graph that holds all of it: what networkx's own formats are written from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_file import checksum_of
from acdc_engine.graph.nodes import with_roles
from acdc_engine.graph.records import CircuitNode
from acdc_engine.graph.views import FIGURES

if TYPE_CHECKING:
    import networkx as nx

CARRIED = "acdc_engine"
"""Attribute of the graph: everything but nodes and edges, as one JSON text of ASCII characters."""


def attributed(circuit: Circuit) -> nx.MultiDiGraph[str]:
    """The graph of `Circuit.to_networkx` with the other figures of nodes and edges, and what is about neither.

    Returns:
        The graph. More attributes of edges: `place` (in the circuit file, from 0) and, where known, `without`,
        `stability`, `necessity`. Of nodes, where known: `direct_effect`, `direct_effect_corrupt`,
        `direct_effect_prompts`, and `role_scores`, a JSON text. Of the graph: `CARRIED`.
    """
    graph = circuit.to_networkx()
    graph.graph[CARRIED] = carried_text(circuit)
    for node in circuit.nodes:
        graph.nodes[node.name].update(_measured(node))
    edges = {(edge.sender, edge.receiver): (place, edge) for place, edge in enumerate(circuit.edges)}
    for sender, _, facts in graph.edges(data=True):
        place, edge = edges[sender, facts["receiver"]]
        known = {name: getattr(edge, name) for name in FIGURES}
        facts.update({name: value for name, value in known.items() if value is not None}, place=place)
    return graph


def carried_text(circuit: Circuit) -> str:
    """What is about neither nodes nor edges, as JSON of ASCII characters: any format can hold it as one text.

    `circuit` is the circuit file's content without them, `edge_roles` says whether roles stand at edges too, and
    `checksum` tells later whether nodes or edges were edited.
    """
    content = circuit.model_dump(mode="json")
    rest = {key: value for key, value in content.items() if key not in ("nodes", "edges", "checksum")}
    roles_there = any(edge.sender_role is not None or edge.receiver_role is not None for edge in circuit.edges)
    return json.dumps({"circuit": rest, "edge_roles": roles_there, "checksum": content_checksum(circuit)})


def content_checksum(circuit: Circuit) -> str:
    """Checksum of a circuit, the same whether roles stand at its edges or only at its nodes."""
    edges = with_roles(circuit.layout(), circuit.nodes, circuit.edges)
    content = circuit.model_copy(update={"edges": edges, "checksum": None}).model_dump(mode="json")
    return checksum_of(content)


def _measured(node: CircuitNode) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if node.direct_effect is not None:
        facts["direct_effect"] = node.direct_effect.clean
        facts["direct_effect_corrupt"] = node.direct_effect.corrupt
        facts["direct_effect_prompts"] = node.direct_effect.n_prompts
    if node.role_scores:
        facts["role_scores"] = json.dumps([score.model_dump(mode="json") for score in node.role_scores])
    return facts
