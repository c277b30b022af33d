"""Graphs made by hand or edited elsewhere: what is understood, what is refused and in which words."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import pytest

from acdc_engine.errors import CircuitFileError, ModelNeededError
from acdc_engine.formats.attributed import CARRIED, attributed
from acdc_engine.formats.from_graph import circuit_from_networkx
from acdc_engine.formats.networkx_json import networkx_json_text
from acdc_engine.formats.registry import import_circuit
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.records import ModelRecord

Edit = Callable[[Any], object]
GROUPED = ModelRecord(name="tiny", n_layers=2, n_heads=4, n_kv_heads=2, d_model=8, d_vocab=11)
SINGLE = GROUPED.model_copy(update={"n_kv_heads": 4})


def by_hand() -> Any:
    """As a user makes it: names, keys q, k and v, and a score."""
    graph: Any = nx.MultiDiGraph()
    graph.add_edge("input", "a0.h1", key="q", score=0.5)
    graph.add_edge("a0.h1", "a1.h2", key="k", score=0.25, weight=3.0)
    graph.add_edge("a0.h1", "a1.h2", key="v", score=1)
    graph.add_edge("input", "m0")
    graph.add_edge("m0", "logits", effect=-2.0)
    graph.add_edge("a1.h2", "logits")
    graph.nodes["a0.h1"]["role"] = "previous token"
    graph.nodes["m0"]["colour"] = "red"
    return graph


def edges_of(circuit: Circuit) -> dict[str, float | None]:
    return {f"{edge.sender}->{edge.receiver}": edge.score for edge in circuit.edges}


@pytest.mark.parametrize(("model", "part"), [(GROUPED, "kv1"), (SINGLE, "h2")])
def test_a_graph_by_hand(model: ModelRecord, part: str) -> None:
    circuit = circuit_from_networkx(by_hand(), model)
    assert edges_of(circuit) == {
        "input->a0.h1<q>": 0.5,
        "input->m0": None,
        f"a0.h1->a1.{part}<k>": 0.25,
        f"a0.h1->a1.{part}<v>": 1.0,
        "m0->logits": None,
        "a1.h2->logits": None,
    }
    assert circuit.edges[2].sender_role == "previous token" and circuit.source == "the graph, a networkx graph"
    assert [node.name for node in circuit.nodes] == ["input", "a0.h1", "m0", "a1.h2", "logits"]


def test_kind_as_an_attribute_and_an_edge_of_each_head_of_a_group() -> None:
    graph: Any = nx.DiGraph()
    graph.add_edge("input", "a1.h2", kind="k", score=0.5)
    graph.add_edge("input", "a1.h3", kind="k", score=0.5)
    for head in ("a1.h2", "a1.h3"):
        graph.add_edge(head, "logits", kind="logits")
    circuit = circuit_from_networkx(graph, GROUPED)
    assert edges_of(circuit) == {"input->a1.kv1<k>": 0.5, "a1.h2->logits": None, "a1.h3->logits": None}
    assert circuit.source == "the graph, a networkx graph"
    graph.remove_edge("input", "a1.h3")
    assert circuit_from_networkx(graph, GROUPED).source == (
        "the graph, a networkx graph; 1 edges into shared keys or values, there for some heads only, now reach all of "
        "a group"
    )


def change(edge: tuple[str, str, str | int], **facts: Any) -> Edit:
    return lambda graph: graph.edges[edge].update(facts)


K, LOGITS = ("a0.h1", "a1.h2", "k"), ("m0", "logits", 0)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda g: g.add_node("a9.h0"),
            "node a9.h0 cannot exist in this model's graph: no node 'a9.h0': the model has",
        ),
        (
            lambda g: g.add_node("Layer 1"),
            "node Layer 1 cannot exist in this model's graph: no node 'Layer 1': senders",
        ),
        (lambda g: g.add_node("m1"), "No edge starts or ends at m1: remove it from the nodes"),
        (lambda g: g.nodes["m0"].update(kind="head"), "node m0 has kind 'head'; by its name it is of kind 'mlp'"),
        (lambda g: g.nodes["m0"].update(role=3), "node m0:\n  role is 3: input should be a valid string"),
        (lambda g: g.nodes["m0"].update(role_scores="[3]"), "node m0:\n  role_scores.0 is 3"),
        (lambda g: g.nodes["m0"].update(role_scores="x"), "node m0: role_scores is no JSON text"),
        (lambda g: g.nodes["m0"].update(direct_effect=1.0), "node m0:\n  direct_effect.corrupt is missing"),
        (lambda g: g.add_edge("input", "a1.h2"), "edge input -> a1.h2 does not say which input of the head it enters"),
        (
            lambda g: g.add_edge("input", "a1.h2", kind="x"),
            "edge input -> a1.h2 has kind 'x', which does not say which",
        ),
        (lambda g: g.add_edge("m0", "a0.h1", "q"), "edge m0 -> a0.h1 cannot exist in this model's graph: No edge m0->"),
        (
            lambda g: g.add_edge("logits", "m0"),
            "edge logits -> m0 cannot exist in this model's graph: No sender 'logits'",
        ),
        (lambda g: g.add_edge("m0", "input"), "edge m0 -> input cannot exist .* No receiver 'input': the input only"),
        (lambda g: g.add_edge("m0", "logits"), "edge m0 -> logits: m0->logits is there twice. Keep one of the two"),
        (change(LOGITS, kind="q"), "edge m0 -> logits: kind is 'q'; edges into logits are of kind 'logits'"),
        (change(K, receiver="a1.kv0<k>"), "edge a0.h1 -> a1.h2: its receiver a1.kv0<k> is no part of a1.h2"),
        (
            change(K, receiver="a1.h2<k>"),
            "edge a0.h1 -> a1.h2: receiver cannot exist .* head 2 shares its k, write a1.kv1",
        ),
        (change(K, receiver=5), "edge a0.h1 -> a1.h2: receiver is 5; it must be a text such as a7.h3<q>"),
        (change(K, receiver="a1.kv1<k>", kind="v"), "kind is 'v', but the receiver a1.kv1<k> is of kind 'k'"),
        (change(K, score="high"), "edge a0.h1 -> a1.h2:\n  score is 'high': input should be a valid number"),
        (change(K, score="0.5"), "edge a0.h1 -> a1.h2:\n  score is '0.5': input should be a valid number"),
        (change(K, score=True), "edge a0.h1 -> a1.h2:\n  score is True: input should be a valid number"),
        (change(K, effect=float("nan")), "edge a0.h1 -> a1.h2:\n  effect is nan: input should be a finite number"),
        (change(K, stability=1.5), "edge a0.h1 -> a1.h2:\n  stability is 1.5: input should be less than or equal to 1"),
        (change(K, score={1, 2}), "edge a0.h1 -> a1.h2 has an attribute that is neither text nor number"),
        (
            lambda g: (g.add_edge("a1.h3", "logits"), g.add_edge("a0.h1", "a1.h3", "k", score=0.5)),
            "edge a0.h1 -> a1.h3: with the edges into other heads that share this receiver it is one edge, "
            "a0.h1->a1.kv1<k>, but their figures differ (score 0.25 and 0.5). Write the same at all",
        ),
    ],
)
def test_what_is_refused(edit: Edit, message: str) -> None:
    graph = by_hand()
    edit(graph)
    pattern = message if ".*" in message else re.escape(message)
    with pytest.raises(CircuitFileError, match=pattern) as caught:
        circuit_from_networkx(graph, GROUPED)
    assert str(caught.value).startswith("the graph: ")


def test_undirected_graphs_and_graphs_without_a_model() -> None:
    with pytest.raises(CircuitFileError, match="the graph is an undirected graph"):
        circuit_from_networkx(nx.MultiGraph(by_hand()), GROUPED)
    with pytest.raises(ModelNeededError, match=r"which does not say of which model: .* --model, or with --like"):
        circuit_from_networkx(by_hand())


def test_a_long_name_is_cut_in_the_message() -> None:
    graph = by_hand()
    graph.add_node("x" * 10_000)
    with pytest.raises(CircuitFileError) as caught:
        circuit_from_networkx(graph, GROUPED)
    assert len(str(caught.value)) < 1_000


def test_an_edited_graph_loses_what_was_measured_on_the_whole(found: Circuit) -> None:
    graph = attributed(found)
    assert circuit_from_networkx(graph) == found
    graph.remove_edge("a1.h3", "logits", "logits")
    graph.add_edge("a1.h3", "m1", "mlp")
    graph.add_edge("m1", "logits", "logits")
    edited = circuit_from_networkx(graph)
    assert (edited.evaluation, edited.certificate, edited.cost, edited.sizes) == (None, None, None, ())
    assert edited.source == "the graph, whose nodes or edges were edited after acdc export wrote it"
    assert (edited.task, edited.metric, edited.attribution) == (found.task, found.metric, found.attribution)
    assert {"a1.h3->m1", "m1->logits"} <= edges_of(edited).keys() and len(edited.edges) == len(found.edges) + 1


def test_an_edited_score_counts_as_edited(found: Circuit) -> None:
    graph = attributed(found)
    graph.edges["m0", "logits", "logits"]["score"] = 0.5
    edited = circuit_from_networkx(graph)
    assert edited.evaluation is None and edges_of(edited)["m0->logits"] == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "its attribute 'acdc_engine' is no JSON: Expecting property name"),
        ("[" * 100_000, "its attribute 'acdc_engine' is no JSON: "),
        ("[]", "its attribute 'acdc_engine' is not what acdc export writes there"),
        (3, "its attribute 'acdc_engine' is not what acdc export writes there"),
        ('{"circuit": {}}', "its attribute 'acdc_engine' does not follow the format:\n  model is missing"),
        ('{"circuit": {"version": 99}}', "version is 99: input should be less than or equal to 1"),
    ],
)
def test_a_damaged_attribute(found: Circuit, text: object, message: str) -> None:
    graph = attributed(found)
    graph.graph[CARRIED] = text
    with pytest.raises(CircuitFileError, match=re.escape(message)):
        circuit_from_networkx(graph)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.pop("nodes"), "is no node-link JSON of networkx: it needs the keys nodes and edges (or links)"),
        (lambda c: c.update(directed=False), "is an undirected graph"),
        (lambda c: c.update(nodes={}), "nodes is no list"),
        (lambda c: c["nodes"].append("a0.h1"), "nodes.7 is 'a0.h1'; it must be an object"),
        (lambda c: c["nodes"][0].pop("id"), "nodes.0.id is missing; it must be a text that names a node"),
        (lambda c: c["edges"][0].update(source=True), "edges.0.source is 'True'; it must be a text that names a node"),
        (lambda c: c["edges"][0].update(target="m1"), "edge input -> m1: m1 is not among the nodes. List it there"),
    ],
)
def test_damaged_node_link_json(found: Circuit, tmp_path: Path, edit: Edit, message: str) -> None:
    path, content = tmp_path / "x.networkx.json", json.loads(networkx_json_text(found))
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(CircuitFileError, match=re.escape(message)):
        import_circuit(path, fmt="networkx-json")


def test_links_instead_of_edges(found: Circuit, tmp_path: Path) -> None:
    path, content = tmp_path / "x.json", json.loads(networkx_json_text(found))
    content["links"] = content.pop("edges")
    path.write_text(json.dumps(content))
    assert import_circuit(path, fmt="networkx-json") == found


@pytest.mark.parametrize("end", ["a0.h1" + "9" * 5_000, "m" + "9" * 5_000, "x" * 50_000])
def test_long_names_are_shortened_in_messages(end: str) -> None:
    """And Python makes no numbers of more than 4,300 digits."""
    graph: Any = nx.DiGraph()
    graph.add_edge("input", end)
    with pytest.raises(CircuitFileError, match=r"cannot exist in this model's graph: no node .*\.\.\.$") as caught:
        circuit_from_networkx(graph, GROUPED)
    assert len(str(caught.value)) < 1_000
    graph = by_hand()
    graph.edges["input", "a0.h1", "q"]["receiver"] = end
    with pytest.raises(CircuitFileError, match=r"receiver cannot exist in this model's graph: .*\.\.\.$") as caught:
        circuit_from_networkx(graph, GROUPED)
    assert len(str(caught.value)) < 1_000


def test_a_role_that_every_edge_would_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Roles at both ends of six edges: 5 at a0.h1, which sends 2 and reads 1, and 7 at m0, which sends and reads 1."""
    graph = by_hand()
    graph.nodes["a0.h1"]["role"], graph.nodes["m0"]["role"] = "abcde", "abcdefg"
    assert circuit_from_networkx(graph, SINGLE).edges
    monkeypatch.setattr("acdc_engine.formats.carried.MOST_TEXT", 28)
    message = "at every edge, have 29 characters; at most 28 are read. m0 has a role of 7 characters: shorten it."
    with pytest.raises(CircuitFileError, match=re.escape(message)):
        circuit_from_networkx(graph, SINGLE)
    monkeypatch.setattr("acdc_engine.formats.carried.MOST_TEXT", 29)
    assert circuit_from_networkx(graph, SINGLE).edges
