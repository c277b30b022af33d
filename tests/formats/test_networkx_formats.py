"""Node-link JSON, GraphML, GEXF and Cytoscape JSON, opened by networkx's own readers."""

import io
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any

import networkx as nx
import pytest

from acdc_engine.formats.attributed import CARRIED, attributed
from acdc_engine.formats.cytoscape_json import cytoscape_text
from acdc_engine.formats.gexf import gexf_text
from acdc_engine.formats.graphml import graphml_text
from acdc_engine.formats.networkx_json import networkx_json_text
from acdc_engine.graph.circuit import Circuit
from tests.made_circuits import made_circuit

Plain = tuple[dict[str, Any], list[tuple[str, str, dict[str, Any]]]]
ADDED = {"viz", "label", "weight", "id", "key", "value", "name", "source", "target"}
"""What formats add to the attributes of nodes and edges for the programs that draw them."""


def node_link(circuit: Circuit) -> Any:
    return nx.node_link_graph(json.loads(networkx_json_text(circuit)), edges="edges")


def graphml(circuit: Circuit) -> Any:
    return nx.read_graphml(io.BytesIO(graphml_text(circuit).encode()), force_multigraph=True)


def gexf(circuit: Circuit) -> Any:
    return nx.read_gexf(io.BytesIO(gexf_text(circuit).encode()))


def cytoscape(circuit: Circuit) -> Any:
    return nx.cytoscape_graph(json.loads(cytoscape_text(circuit)))


READERS = [node_link, graphml, gexf, cytoscape]


def plain(graph: Any) -> Plain:
    """Nodes and edges with the circuit's attributes; keys of parallel edges are the format's business."""
    edges = [(u, v, {key: a[key] for key in a.keys() - ADDED}) for u, v, a in graph.edges(data=True)]
    nodes = {name: {key: a[key] for key in a.keys() - ADDED} for name, a in graph.nodes(data=True)}
    return nodes, sorted(edges, key=lambda edge: (edge[2]["place"], edge[1]))


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("which", ["grouped", "everything"])
def test_networkx_reads_the_same_graph(grouped: Circuit, read: Callable[[Circuit], Any], which: str) -> None:
    circuit = grouped if which == "grouped" else made_circuit(60)
    assert plain(read(circuit)) == plain(attributed(circuit))
    assert read(circuit).number_of_edges() == len(circuit.edges) == (8 if which == "grouped" else 60)


@pytest.mark.parametrize("read", READERS)
def test_empty_circuit(grouped: Circuit, read: Callable[[Circuit], Any]) -> None:
    assert list(read(grouped.model_copy(update={"nodes": (), "edges": ()}))) == []


def test_attributes_of_an_edge_and_a_node(grouped: Circuit) -> None:
    graph = graphml(grouped)
    assert graph.edges["a0.h1", "a1.kv1", "a0.h1-a1.kv1-k"] == {
        "kind": "k",
        "name": "a0.h1->a1.kv1<k>",
        "receiver": "a1.kv1<k>",
        "score": 0.125,
        "effect": 0.25,
        "receiver_role": 'the "mover"',
        "place": 2,
    }
    assert graph.nodes["a1.h2"] == {
        "kind": "head",
        "position": 8,
        "layer": 1,
        "head": 2,
        "role": 'the "mover"',
        "name": "a1.h2",
        "label": "a1.h2",
    }
    assert graph.nodes["a1.kv1"] == {
        "kind": "kv",
        "position": 8,
        "layer": 1,
        "heads": "a1.h2 a1.h3",
        "name": "a1.kv1",
        "label": "a1.kv1",
    }
    assert json.loads(graph.graph[CARRIED])["circuit"]["model"]["name"] == graph.graph["model"] == "tiny [v1]"


def test_measured_figures_of_nodes_are_attributes() -> None:
    circuit = made_circuit(30)
    node = next(node for node in circuit.nodes if node.role_scores)
    facts = graphml(circuit).nodes[node.name]
    assert node.direct_effect is not None and facts["direct_effect"] == node.direct_effect.clean
    assert (facts["direct_effect_corrupt"], facts["direct_effect_prompts"]) == (node.direct_effect.corrupt, 64)
    assert [score["value"] for score in json.loads(facts["role_scores"])] == [s.value for s in node.role_scores]


def test_edges_carry_the_roles_of_their_ends(grouped: Circuit) -> None:
    """a1.h2 alone has a role; the group's other head, a1.h3, has none."""
    roles = {d["name"]: (d.get("sender_role"), d.get("receiver_role")) for _, _, d in graphml(grouped).edges(data=True)}
    assert roles["a1.h2->logits"] == ('the "mover"', None) and roles["m0->a1.h2<q>"] == (None, 'the "mover"')
    assert roles["a0.h1->a1.kv1<k>"] == (None, 'the "mover"'), "of the heads of a group that have one"


def test_graphml_ids_are_unique(grouped: Circuit) -> None:
    root = ElementTree.fromstring(graphml_text(grouped).encode())
    for kind, count in (("edge", 8), ("key", len(list(root.iter("{http://graphml.graphdrawing.org/xmlns}key"))))):
        ids = [item.get("id") for item in root.iter(f"{{http://graphml.graphdrawing.org/xmlns}}{kind}")]
        assert len(ids) == len(set(ids)) == count


def test_gexf_has_weights_colours_and_places(grouped: Circuit) -> None:
    graph = gexf(grouped)
    assert graph.edges["a1.h3", "logits", "logits"]["weight"] == 0.75
    root = ElementTree.fromstring(gexf_text(grouped).encode())
    (edge,) = root.iterfind(".//{*}edge[@id='a1.h3->logits']")
    colour = edge.find("{*}color")
    assert colour is not None and colour.attrib == {"r": "213", "g": "94", "b": "0", "a": "1.0"}, "#D55E00: negative"
    assert min(weight for _, _, weight in graph.edges(data="weight")) > 0
    places = {name: (viz["position"]["x"], viz["position"]["y"]) for name, viz in graph.nodes(data="viz")}
    assert places == {
        "input": (0, 0), "a0.h1": (0, 70), "m0": (0, 140), "a1.kv1": (0, 210), "a1.h2": (-45, 280), "a1.h3": (45, 280),
        "logits": (0, 350),
    }  # fmt: skip


@pytest.mark.parametrize("text_of", [networkx_json_text, graphml_text, gexf_text, cytoscape_text])
def test_the_same_circuit_makes_the_same_file(grouped: Circuit, text_of: Callable[[Circuit], str]) -> None:
    assert text_of(grouped) == text_of(Circuit.model_validate(grouped.model_dump()))
    assert "lastmodified" not in text_of(grouped)
