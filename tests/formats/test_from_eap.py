"""EAP-IG's JSON into circuits: the way there and back, shared keys and values, files that are not to be trusted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acdc_engine.errors import CircuitFileError
from acdc_engine.formats import format
from acdc_engine.formats.eap import eap_text
from acdc_engine.formats.from_eap import circuit_from_eap, scores_from_eap
from acdc_engine.formats.registry import import_circuit
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.editing import edges_of_mask
from acdc_engine.graph.names import GraphShape
from acdc_engine.graph.nodes import nodes_of_edges
from acdc_engine.graph.records import CircuitEdge, ModelRecord

Edit = Callable[[dict[str, Any]], None]
GROUPED = ModelRecord(name="tiny", n_layers=2, n_heads=4, n_kv_heads=2, d_model=8, d_vocab=11)


def record(shape: GraphShape) -> ModelRecord:
    return ModelRecord(
        name="tiny",
        n_layers=shape.n_layers,
        n_heads=shape.n_heads,
        n_kv_heads=shape.n_kv_heads,
        d_model=8,
        d_vocab=11,
        parallel=shape.parallel,
        mlps=shape.mlps,
    )


def write(path: Path, kept: dict[str, float | None], scored: dict[str, float] | None = None) -> dict[str, Any]:
    """A file as EAP-IG writes it for a model of 2 layers and 4 heads: every edge, `kept` ones in the graph."""
    layout = Graph(GraphShape(2, 4, 4))
    edges: dict[str, Any] = {}
    for receiver in range(layout.n_receivers):
        for sender in layout.sources(receiver):
            name = layout.edge_name(sender, receiver)
            score = kept.get(name, (scored or {}).get(name, 0.0))
            edges[name] = {"score": score, "in_graph": name in kept}
    nodes = {name: {"in_graph": False, "score": 0.5} for name in (*layout.senders, "logits")}
    cfg = {"n_layers": 2, "n_heads": 4, "parallel_attn_mlp": False, "d_model": 8}
    content = {"cfg": cfg, "nodes": nodes, "edges": edges}
    path.write_text(json.dumps(content))
    return content


def scores(circuit: Circuit) -> dict[str, float | None]:
    return {f"{edge.sender}->{edge.receiver}": edge.score for edge in circuit.edges}


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("eap") / "circuit.eap.json"


@given(data=st.data())
@settings(max_examples=40)
def test_there_and_back(scratch: Path, any_shape: st.SearchStrategy[GraphShape], data: st.DataObject) -> None:
    """Random clean circuits of random graphs, grouped or not, parallel or not, with and without MLPs."""
    model = record(data.draw(any_shape)).model_copy(update={"ungrouped_kv": data.draw(st.booleans())})
    graph = Circuit(model=model, nodes=(), edges=()).graph()
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10_000)))
    mask = torch.rand(graph.exists.shape, generator=generator) < data.draw(st.sampled_from([0.1, 0.4, 1.0]))
    mask[graph.parse_edge("input->logits")] = True
    edges = edges_of_mask(graph, clean(graph, mask), torch.randn(mask.shape, generator=generator))
    circuit = Circuit(model=model, nodes=nodes_of_edges(graph, edges), edges=edges)
    scratch.write_text(eap_text(circuit))
    back = import_circuit(scratch, model=model)
    assert back.edges == circuit.edges and back.nodes == circuit.nodes
    assert back.source == "circuit.eap.json, JSON of EAP-IG or MIB", "no head gains an edge"


def test_an_edge_of_one_head_becomes_its_groups_and_scores_what_all_its_heads_score(tmp_path: Path) -> None:
    """a1.h2 and a1.h3 share keys: 0.5 kept for h2, -0.125 not kept for h3, so -0.125 + 0.5 for the group."""
    kept: dict[str, float | None] = {"input->a1.h2<k>": 0.5, "a1.h2->logits": 2.0, "a1.h3->logits": 1.0}
    kept |= {"input->a1.h3<q>": 0.25}
    path = tmp_path / "circuit.json"
    write(path, kept, {"input->a1.h3<k>": -0.125, "input->a1.h1<k>": 9.0})
    circuit = circuit_from_eap(path, GROUPED)
    assert scores(circuit) == {
        "input->a1.h3<q>": 0.25,
        "input->a1.kv1<k>": 0.375,
        "a1.h2->logits": 2.0,
        "a1.h3->logits": 1.0,
    }
    assert circuit.source == (
        "circuit.json, JSON of EAP-IG or MIB; 1 edges into shared keys or values, kept there for some heads only, now "
        "reach all of a group"
    )
    assert circuit.model == GROUPED and circuit.task is None
    alone = circuit_from_eap(path, GROUPED.model_copy(update={"ungrouped_kv": True}))
    assert scores(alone) == kept and "reach" not in (alone.source or "")


def test_a_head_outside_the_circuit_gains_nothing_and_unknown_scores_stay_unknown(tmp_path: Path) -> None:
    path = tmp_path / "circuit.json"
    write(path, {"input->a1.h2<v>": None, "a1.h2->logits": 0.0})
    circuit = circuit_from_eap(path, GROUPED)
    assert scores(circuit) == {"input->a1.kv1<v>": 0.0, "a1.h2->logits": 0.0}, "its sibling's 0 is known"
    assert circuit.source == "circuit.json, JSON of EAP-IG or MIB"
    assert [node.name for node in circuit.nodes] == ["input", "a1.h2", "logits"]
    content = write(path, {"input->logits": None})
    content["edges"] = {"input->logits": content["edges"]["input->logits"]}
    path.write_text(json.dumps(content))
    assert scores(circuit_from_eap(path, GROUPED)) == {"input->logits": None}, "edges that are not listed are not kept"


def test_older_files_say_true_or_false_of_a_node_and_no_width(tmp_path: Path) -> None:
    path = tmp_path / "circuit.json"
    content = write(path, {"input->logits": 1.0})
    content["nodes"] = dict.fromkeys(content["nodes"], False)
    del content["cfg"]["d_model"]
    path.write_text(json.dumps(content))
    assert scores(import_circuit(path, model=GROUPED)) == {"input->logits": 1.0}


def set_score(value: Any) -> Edit:
    return lambda content: content["edges"]["input->m0"].update(score=value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.pop("nodes"), "is no circuit of EAP-IG or MIB: it needs the keys cfg, nodes and edges"),
        (lambda c: c["cfg"].pop("n_heads"), "format:\n  cfg.n_heads is missing"),
        (lambda c: c["cfg"].update(n_layers="2"), "cfg.n_layers is '2': input should be a valid integer"),
        (lambda c: c["edges"]["input->m0"].pop("score"), "edges.input->m0.score is missing"),
        (lambda c: c["edges"]["input->m0"].pop("in_graph"), "edges.input->m0.in_graph is missing"),
        (
            lambda c: c["edges"]["input->m0"].update(in_graph=1),
            "edges.input->m0.in_graph is 1: input should be a valid",
        ),
        (set_score("0.5"), "edges.input->m0.score is '0.5': input should be a valid number"),
        (set_score(float("nan")), "edges.input->m0.score is nan: input should be a finite number"),
        (set_score(float("-inf")), "edges.input->m0.score is -inf: input should be a finite number"),
        (lambda c: c["nodes"].update(m0=3), "nodes.m0 is 3"),
        (lambda c: c.update(edges=[]), "edges is \\[\\]: input should be a valid dictionary"),
        (lambda c: c["nodes"].update(m2=True), "nodes.m2 cannot exist in this model's graph"),
        (lambda c: c["edges"].update({"m0->a0.h1<q>": {"score": 1.0, "in_graph": False}}), "edges.m0->a0.h1<q> cannot"),
        (lambda c: c["edges"].update({"m0->a1.h4<q>": {"score": 1.0, "in_graph": True}}), "heads 0 to 3"),
        (lambda c: c["edges"].update({"m0->a1.h1": {"score": 1.0, "in_graph": True}}), "say which input"),
        (lambda c: c["nodes"]["m0"].update(neurons=[True]), "nodes.m0.neurons is given: the circuit is one of single"),
        (
            lambda c: c["cfg"].update(n_layers=3, d_model=16),
            "another model than tiny: n_layers is 3 in the file and 2 in the model; d_model is 16 in the file and 8",
        ),
        (lambda c: c["cfg"].update(parallel_attn_mlp=True), "parallel_attn_mlp is True in the file and False in the"),
        (lambda c: c["cfg"].update(n_heads=8), "n_heads is 8 in the file and 4 in the model. Give its own .* --model"),
        (
            lambda c: c["edges"]["input->logits"].update(in_graph=False),
            "keeps no edge: in_graph is true for none of 110",
        ),
        (
            lambda c: c["edges"]["m0->a1.h1<q>"].update(in_graph=True),
            "1 of 2 edges are on no path from input to logits \\(m0->a1.h1<q>\\).*call Graph.prune",
        ),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, edit: Edit, message: str) -> None:
    path = tmp_path / "circuit.json"
    content = write(path, {"input->logits": 1.0})
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(CircuitFileError, match=message) as caught:
        circuit_from_eap(path, GROUPED)
    assert str(path) in str(caught.value)


def test_mlps_of_a_file_in_an_attention_only_model(tmp_path: Path) -> None:
    path = tmp_path / "circuit.json"
    write(path, {"input->m0": 1.0, "m0->logits": 1.0})
    with pytest.raises(CircuitFileError, match=r"edges\.input->m0 cannot exist in tiny: .* attention-only"):
        circuit_from_eap(path, GROUPED.model_copy(update={"mlps": False}))


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "circuit.json"
    with pytest.raises(CircuitFileError, match="No circuit file"):
        import_circuit(path, model=GROUPED)
    with pytest.raises(CircuitFileError, match="it is no folder of a run"):
        import_circuit(tmp_path)
    path.write_bytes(b"\xff{}")
    with pytest.raises(CircuitFileError, match="byte 0 is not UTF-8"):
        import_circuit(path)
    path.write_text(json.dumps(write(path, {"input->logits": 1.0}))[:-40])
    with pytest.raises(CircuitFileError, match="is cut short"):
        import_circuit(path, model=GROUPED)
    monkeypatch.setattr(format, "LARGEST_FILE", 2**10)
    with pytest.raises(CircuitFileError, match=r"has 0 MB; circuits of more than 0 MB are not read"):
        import_circuit(path, model=GROUPED)


def test_the_content_tells_which_format_it_is(tmp_path: Path, small_circuit: Circuit) -> None:
    path = tmp_path / "circuit.json"
    small_circuit.save(path)
    assert import_circuit(path) == small_circuit
    write(path, {"input->logits": 1.0})
    assert import_circuit(path, model=GROUPED).edges == (CircuitEdge(sender="input", receiver="logits", score=1.0),)
    with pytest.raises(
        CircuitFileError, match="EAP-IG or MIB, which does not say of which model: give it with --model"
    ):
        import_circuit(path)
    for content in ("[]", "{}", '{"cfg": {}}'):
        path.write_text(content)
        with pytest.raises(
            CircuitFileError, match=r'neither of this engine \("format": "acdc-engine/circuit".* nor of a'
        ):
            import_circuit(path, model=GROUPED)


def test_scores_of_all_edges(tmp_path: Path) -> None:
    """Kept or not; into shared keys the sum over the group's heads, or the one number they all have."""
    path = tmp_path / "circuit.json"
    single = {"m0->logits": -2.5, "input->a1.h2<k>": 1.0, "input->a1.h3<k>": 2.0, "a0.h0->a1.h0<v>": 3.0}
    write(path, {"input->logits": 4.0}, {**single, "a0.h0->a1.h1<v>": 3.0})
    found = scores_from_eap(path, GROUPED)
    graph = Circuit(model=GROUPED, nodes=(), edges=()).graph()
    assert found is not None
    expected = {"input->logits": 4.0, "m0->logits": -2.5, "input->a1.kv1<k>": 3.0, "a0.h0->a1.kv0<v>": 3.0}
    assert {graph.edge_name(s, r): float(found[s, r]) for s, r in found.nonzero().tolist()} == expected


def test_a_file_without_some_scores_has_none_of_all_edges(tmp_path: Path) -> None:
    path = tmp_path / "circuit.json"
    content = write(path, {"input->logits": 4.0})
    del content["edges"]["m0->logits"]
    path.write_text(json.dumps(content))
    assert scores_from_eap(path, GROUPED) is None
