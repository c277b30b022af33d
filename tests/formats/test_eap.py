"""EAP-IG's JSON, read as its loader does: build a graph from `cfg`, then look every listed name up."""

import json
from typing import Any

import pytest

from acdc_engine.formats.eap import eap_text
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.names import GraphShape
from tests.show.conftest import Make


def graph_of_cfg(cfg: dict[str, Any]) -> tuple[set[str], set[str]]:
    """Names of the nodes and edges of such a graph: one k and v per query head, MLPs always there."""
    stream, nodes, edges = ["input"], {"input", "logits"}, set()
    for layer in range(cfg["n_layers"]):
        heads, mlp = [f"a{layer}.h{head}" for head in range(cfg["n_heads"])], f"m{layer}"
        edges |= {f"{sender}->{head}<{letter}>" for sender in stream for head in heads for letter in "qkv"}
        before_mlp = stream if cfg["parallel_attn_mlp"] else stream + heads
        edges |= {f"{sender}->{mlp}" for sender in before_mlp}
        stream = [*stream, *heads, mlp]
        nodes |= {*heads, mlp}
    return nodes, edges | {f"{sender}->logits" for sender in stream}


def load(text: str) -> tuple[dict[str, bool], dict[str, tuple[float, bool]]]:
    """Which nodes and edges a reader takes into its graph; names it does not know are an error."""
    content = json.loads(text)
    assert set(content) == {"cfg", "nodes", "edges"}
    assert set(content["cfg"]) == {"n_layers", "n_heads", "parallel_attn_mlp", "d_model"}
    known_nodes, known_edges = graph_of_cfg(content["cfg"])
    nodes, edges = dict.fromkeys(known_nodes, False), dict.fromkeys(known_edges, (0.0, False))
    for name, node in content["nodes"].items():
        assert name in nodes
        nodes[name] = node["in_graph"]
    for name, edge in content["edges"].items():
        assert name in edges and isinstance(edge["score"], float) and isinstance(edge["in_graph"], bool)
        edges[name] = edge["score"], edge["in_graph"]
    return nodes, edges


def test_shared_keys_become_one_per_head_of_the_circuit(grouped: Circuit) -> None:
    nodes, edges = load(eap_text(grouped))
    assert {name for name, inside in nodes.items() if inside} == {
        "input",
        "a0.h1",
        "m0",
        "a1.h2",
        "a1.h3",
        "logits",
    }
    assert {name: score for name, (score, inside) in edges.items() if inside} == {
        "input->a0.h1<q>": 0.5,
        "input->m0": -0.25,
        "a0.h1->a1.h2<k>": 0.125,
        "a0.h1->a1.h3<k>": 0.125,
        "a0.h1->a1.h2<v>": 1.0,
        "a0.h1->a1.h3<v>": 1.0,
        "m0->a1.h2<q>": 0.0625,
        "a1.h2->logits": 2.0,
        "a1.h3->logits": -1.5,
        "m0->logits": 0.75,
    }
    assert {score for score, inside in edges.values() if not inside} == {0.0}


@pytest.mark.parametrize("parallel", [False, True])
def test_every_edge_of_the_graph_is_listed(make: Make, parallel: bool) -> None:
    circuit = make(GraphShape(3, 4, 2, parallel), {"input->logits": None})
    content = json.loads(eap_text(circuit))
    nodes, edges = graph_of_cfg(content["cfg"])
    assert set(content["nodes"]) == nodes and set(content["edges"]) == edges
    assert content["cfg"] == {"n_layers": 3, "n_heads": 4, "parallel_attn_mlp": parallel, "d_model": 8}
    assert content["edges"]["input->logits"] == {"score": 0.0, "in_graph": True}


def test_attention_only_loads(make: Make) -> None:
    names = {"input->a0.h0<v>": 1.0, "a0.h0->a1.h1<k>": 2.0, "a1.h1->logits": 3.0}
    nodes, edges = load(eap_text(make(GraphShape(2, 2, 2, mlps=False), names)))
    assert {name: score for name, (score, inside) in edges.items() if inside} == names
    assert not nodes["m0"] and not nodes["m1"]
