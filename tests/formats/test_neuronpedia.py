"""Attribution graphs: what the schema and the two front ends ask for, and influences by hand."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acdc_engine.formats.neuronpedia import _shown
from acdc_engine.graph.blocks import GraphShape
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Example, NextToken
from acdc_engine.graph.records import MetricRecord
from tests.formats.conftest import text_of
from tests.made_circuits import GPT2, HOSTILE, SMOLLM2, made_circuit
from tests.show.conftest import Make

Graph = dict[str, Any]
NODE_KEYS = {"node_id", "feature", "layer", "ctx_idx", "feature_type", "jsNodeId", "clerp"}
EXAMPLE = Example(
    clean=("<s>", "Ann", " met", " Bo\n"),
    corrupt=("<s>", "Ann", " met", " Al\n"),
    read_at=3,
    answers=(" An(p=n",),
    next_clean=(NextToken(text=' "x"', probability=0.75), NextToken(text=" An(p=n", probability=0.125)),
)


@pytest.fixture
def told(grouped: Circuit) -> Circuit:
    """With an example prompt and a metric."""
    return grouped.model_copy(update={"examples": (EXAMPLE,), "metric": MetricRecord(name="logit_diff", sign=1)})


def graph_of(circuit: Circuit) -> Graph:
    graph = json.loads(text_of(circuit, "neuronpedia"))
    assert isinstance(graph, dict)
    return graph


def by_name(graph: Graph) -> dict[str, Any]:
    return {node["name"]: node for node in graph["nodes"] if "name" in node}


def check(graph: Graph) -> None:
    """What the schema states; what Neuronpedia's upload states; and what the code of both front ends relies on."""
    metadata = graph["metadata"]
    for key in ("slug", "scan", "prompt"):
        assert isinstance(metadata[key], str)
    assert re.fullmatch(r"[a-zA-Z0-9_.-]+", metadata["slug"]) and re.fullmatch(r"[a-zA-Z0-9_.-]+", metadata["scan"])
    tokens = metadata["prompt_tokens"]
    assert all(isinstance(token, str) for token in tokens)
    assert isinstance(graph["qParams"]["linkType"], str) and isinstance(graph["qParams"]["clickedId"], str)
    ids = {node["node_id"] for node in graph["nodes"]}
    assert len(ids) == len(graph["nodes"])
    assert ids.issuperset(graph["qParams"]["pinnedIds"])
    for _, *members in graph["qParams"]["supernodes"]:
        assert set(members) <= set(graph["qParams"]["pinnedIds"]) and len(members) > 1
    drawn_as = [(node["layer"], node["feature"], node["ctx_idx"]) for node in graph["nodes"]]
    assert all(drawn_as.count(place) <= len(tokens) * 2 / 3 for place in set(drawn_as)), "circuit-tracer drops these"
    assert len(set(drawn_as)) == len(drawn_as)
    for node in graph["nodes"]:
        assert node.keys() >= NODE_KEYS and type(node["feature"]) is int and type(node["ctx_idx"]) is int
        assert 0 <= node["ctx_idx"] < len(tokens)
        assert node["layer"] == "E" or node["layer"] == str(int(node["layer"]))
        assert (node["layer"] == "E") == (node["feature_type"] == "embedding")
        assert "error" not in node["feature_type"], "its label would be written over"
        assert not re.search("<[a-zA-Z/!?]", node["clerp"]), "circuit-tracer would take it for a tag"
        if node["feature_type"] == "logit":
            assert 0 <= float(node["clerp"].split("(p=")[1].split(")")[0]) <= 1 and node["clerp"].count('"') == 2
        if "influence" in node:
            assert 0 <= node["influence"] <= metadata["node_threshold"]
    for text in (*tokens, metadata["prompt"]):
        assert not re.search("<[a-zA-Z/!?]", text)
    for link in graph["links"]:
        assert link["source"] in ids and link["target"] in ids and isinstance(link["weight"], float)
    ends = [(link["source"], link["target"]) for link in graph["links"]]
    assert len(set(ends)) == len(ends)


def test_heads_mlps_and_ends(told: Circuit) -> None:
    graph = graph_of(told)
    check(graph)
    assert graph["metadata"]["prompt_tokens"] == ["\u2039s>", "Ann", " met", " Bo⏎", "(all tokens)"]
    assert graph["metadata"]["scan"] == "tiny-v1-circuit" and graph["metadata"]["slug"] == "circuit-tiny-v1-8-edges"
    assert "Weights are exact effects on logit_diff" in graph["metadata"]["info"]["description"]
    nodes = by_name(graph)
    keys = ("feature_type", "layer", "feature", "ctx_idx")
    assert {name: tuple(node[key] for key in keys) for name, node in nodes.items()} == {
        "input": ("embedding", "E", 4, 4),
        "a0.h1": ("attention head", "0", 1, 3),
        "m0": ("mlp", "0", 4, 3),
        "a1.h2": ("attention head", "1", 2, 3),
        "a1.h3": ("attention head", "1", 3, 3),
        "logits": ("logit", "3", 0, 3),
    }
    assert nodes["a1.h2"]["clerp"] == 'a1.h2 the "mover"' and nodes["m0"]["clerp"] == "m0"
    assert nodes["logits"]["clerp"] == 'Output " An(p =n" (p=0.125), logit_diff'
    assert nodes["logits"]["token_prob"] == 0.125 and nodes["logits"]["is_target_logit"] is True
    bare = [node for node in graph["nodes"] if "name" not in node]
    assert [node["node_id"] for node in bare] == ["E_0_0", "E_1_1", "E_2_2", "E_3_3"], "tokens, none with links"
    assert graph["qParams"]["clickedId"] == "3_0_3"


def test_q_k_and_v_are_one_link_that_weighs_their_sum(told: Circuit) -> None:
    """Effects are twice the scores; the edge into shared keys and values goes to both heads of the group."""
    graph = graph_of(told)
    names = {node["node_id"]: node["name"] for node in by_name(graph).values()}
    links = {(names[link["source"]], names[link["target"]]): link for link in graph["links"]}
    assert {ends: link["weight"] for ends, link in links.items()} == {
        ("input", "a0.h1"): 1.0,
        ("input", "m0"): -0.5,
        ("a0.h1", "a1.h2"): 2.25,
        ("a0.h1", "a1.h3"): 2.25,
        ("m0", "a1.h2"): 0.125,
        ("a1.h2", "logits"): 4.0,
        ("a1.h3", "logits"): -3.0,
        ("m0", "logits"): 1.5,
    }
    assert links["a0.h1", "a1.h3"]["parts"] == {"k": 0.25, "v": 2.0}


def test_influences_by_hand(make: Make) -> None:
    """Of the logits' inputs, m0 has 3/4 and a0.h0 1/4; of m0's, a0.h0 has all: a0.h0 1, m0 3/4, input 1."""
    names = {"input->a0.h0<q>": -5.0, "a0.h0->m0": 2.0, "m0->logits": -3.0, "a0.h0->logits": 1.0}
    circuit = make(GraphShape(1, 1, 1), names)
    total = 1 + 1 + 0.75
    told = {name: node["influence"] for name, node in by_name(graph_of(circuit)).items() if "influence" in node}
    assert told == pytest.approx({"input": 1 / total, "a0.h0": 2 / total, "m0": 1.0})


def test_without_weights_every_edge_counts_one(make: Make) -> None:
    circuit = make(GraphShape(2, 2, 2), {"input->a1.h0<q>": None, "input->a1.h0<k>": None, "a1.h0->logits": None})
    graph = graph_of(circuit)
    check(graph)
    weights = [(link["weight"], link["parts"]) for link in graph["links"]]
    assert weights == [(2.0, {"q": 1.0, "k": 1.0}), (1.0, {"logits": 1.0})]
    assert graph["metadata"]["prompt"] == "(no prompt)"
    assert graph["metadata"]["prompt_tokens"] == ["(position read)", "(all tokens)"]
    assert by_name(graph)["logits"]["clerp"] == 'Output "logits" (p=0.000), probability not known'
    mixed = make(GraphShape(2, 2, 2), {"input->m0": None, "m0->logits": 1.5})
    assert [(link["weight"], link["parts"]) for link in graph_of(mixed)["links"]] == [(0.0, {}), (1.5, {"logits": 1.5})]


def test_the_strongest_are_pinned_and_grouped_by_role() -> None:
    graph = graph_of(made_circuit(400, seed=1))
    check(graph)
    pinned, nodes = graph["qParams"]["pinnedIds"], by_name(graph)
    assert len(pinned) == 24 and nodes["input"]["node_id"] in pinned and nodes["logits"]["node_id"] in pinned
    heads = [node for name, node in nodes.items() if name not in ("input", "logits")]
    limit = max(node["influence"] for node in heads if node["node_id"] in pinned)
    assert all(node["influence"] >= limit for node in heads if node["node_id"] not in pinned)
    assert graph["qParams"]["supernodes"]


@pytest.mark.parametrize("text", HOSTILE)
def test_labels_of_hostile_texts(text: str) -> None:
    label = _shown(text)
    assert len(label) <= 61 and not re.search("<[a-zA-Z/!?]", label)
    assert all(character.isprintable() for character in label)


def test_shown_keeps_what_is_harmless() -> None:
    assert _shown("<|endoftext|> a < b & 'c' été") == "<|endoftext|> a < b & 'c' été"
    assert _shown("a\nb\tc\rd\u202ee") == "a⏎b→c↵d�e"


@pytest.mark.parametrize("shape", [GPT2, SMOLLM2])
def test_hostile_circuits_of_real_sizes(shape: GraphShape) -> None:
    check(graph_of(made_circuit(200, seed=4, shape=shape, hostile=True)))


@given(data=st.data())
@settings(max_examples=25)
def test_any_circuit(any_circuit: st.SearchStrategy[Circuit], data: st.DataObject) -> None:
    check(graph_of(data.draw(any_circuit)))


def test_a_prompt_of_one_token(told: Circuit) -> None:
    example = Example(clean=("a",), corrupt=("b",), read_at=0)
    graph = graph_of(told.model_copy(update={"examples": (example,)}))
    check(graph)
    assert graph["metadata"]["prompt_tokens"] == ["a", "(all tokens)"]
    assert by_name(graph)["logits"]["clerp"].startswith('Output "logits"')
