"""Node-link JSON and GraphML give back the graph that went in."""

import io
import json
import xml.etree.ElementTree as ElementTree
from typing import Any

import networkx as nx
import pytest

from acdc_engine.formats.graphml import graphml_text
from acdc_engine.formats.networkx_json import networkx_json_text
from acdc_engine.graph.circuit import Circuit

Plain = tuple[dict[str, Any], list[tuple[str, str, dict[str, Any]]]]


def plain(graph: Any) -> Plain:
    """Nodes and edges with attributes; keys of parallel edges are the format's business."""
    edges = [(u, v, dict(attributes)) for u, v, attributes in graph.edges(data=True)]
    return dict(graph.nodes(data=True)), sorted(edges, key=lambda edge: str(edge[2]["name"]))


def test_node_link_json_loads_back(grouped: Circuit) -> None:
    loaded = nx.node_link_graph(json.loads(networkx_json_text(grouped)), edges="edges")
    assert plain(loaded) == plain(grouped.to_networkx())
    assert set(loaded.edges) == set(grouped.to_networkx().edges)
    assert loaded.graph == grouped.to_networkx().graph


def test_graphml_loads_back(grouped: Circuit) -> None:
    loaded: Any = nx.read_graphml(io.BytesIO(graphml_text(grouped).encode()), force_multigraph=True)
    names = [attributes["name"] for _, _, attributes in grouped.to_networkx().edges(data=True)]
    assert {key for _, _, key in loaded.edges} == set(names)
    assert plain(loaded) == plain(grouped.to_networkx())


def test_edges_carry_the_roles_of_their_ends(grouped: Circuit) -> None:
    """a1.h2 alone has a role; the group's other head, a1.h3, has none."""
    loaded: Any = nx.read_graphml(io.BytesIO(graphml_text(grouped).encode()), force_multigraph=True)
    roles = {
        name: (d.get("sender_role"), d.get("receiver_role")) for _, _, name, d in loaded.edges(keys=True, data=True)
    }
    assert roles["a1.h2->logits"] == ('the "mover"', None) and roles["m0->a1.h2<q>"] == (None, 'the "mover"')
    assert roles["a0.h1->a1.h2<k>"] == (None, 'the "mover"') and roles["a0.h1->a1.h3<k>"] == (None, None)


def test_graphml_ids_are_unique(grouped: Circuit) -> None:
    root = ElementTree.fromstring(graphml_text(grouped).encode())
    ids = [edge.get("id") for edge in root.iter("{http://graphml.graphdrawing.org/xmlns}edge")]
    assert len(ids) == len(set(ids)) == 10  # eight edges, two of them into a group of two heads


@pytest.mark.parametrize("text_of", [graphml_text, networkx_json_text])
def test_empty_circuit(grouped: Circuit, text_of: Any) -> None:
    empty = grouped.model_copy(update={"nodes": (), "edges": ()})
    assert "a0.h1" not in text_of(empty) and "tiny" in text_of(empty)
