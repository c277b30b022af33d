"""EAP-IG and MIB, JSON and .pt: laid out as its own graph is, there and back, shared keys, files not to be trusted."""

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acdc_engine.errors import CircuitFileError
from acdc_engine.formats.eap import scores_from_eap
from acdc_engine.formats.register import export, import_circuit, recognised
from acdc_engine.graph import files
from acdc_engine.graph.blocks import Graph, GraphShape
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.nodes import edges_of_mask, nodes_of_edges
from tests.formats.conftest import GROUPED, refused, scores_of, text_of
from tests.show.conftest import Make
from tests.show.index.runs import tiny_model

Edit = Callable[[dict[str, Any]], object]


def random_circuit(shape: GraphShape, seed: int, ungrouped: bool, share: float = 0.4) -> Circuit:
    """A clean circuit with scores."""
    model = tiny_model(shape).model_copy(update={"ungrouped_kv": ungrouped})
    graph, generator = Circuit(model=model, nodes=(), edges=()).graph(), torch.Generator().manual_seed(seed)
    mask = torch.rand(graph.exists.shape, generator=generator) < share
    mask[graph.parse_edge("input->logits")] = True
    edges = edges_of_mask(graph, clean(graph, mask), torch.randn(mask.shape, generator=generator))
    return Circuit(model=model, nodes=nodes_of_edges(graph, edges), edges=edges)


@given(data=st.data())
@settings(max_examples=40)
def test_there_and_back(scratch: Path, any_shape: st.SearchStrategy[GraphShape], data: st.DataObject) -> None:
    """Random clean circuits of random graphs, grouped or not, parallel or not, with and without MLPs."""
    share = data.draw(st.sampled_from([0.1, 0.4, 1.0]))
    circuit = random_circuit(data.draw(any_shape), data.draw(st.integers(0, 10_000)), data.draw(st.booleans()), share)
    for fmt, what in (("eap", "JSON"), ("eap-pt", ".pt")):
        export(circuit, fmt, scratch, overwrite=True)
        back = import_circuit(scratch, model=circuit.model)
        assert back.edges == circuit.edges and back.nodes == circuit.nodes
        assert back.source == f"circuit, {what} of EAP-IG or MIB", "no head gains an edge"


THERE = {
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
"""The edges of `grouped` in EAP-IG."""


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


def test_shared_keys_become_one_per_head_of_the_circuit(grouped: Circuit) -> None:
    content = json.loads(text_of(grouped, "eap"))
    inside = {name for name, node in content["nodes"].items() if node["in_graph"]}
    assert inside == {"input", "a0.h1", "m0", "a1.h2", "a1.h3", "logits"}
    edges = content["edges"].items()
    assert {name: edge["score"] for name, edge in edges if edge["in_graph"]} == THERE
    assert {edge["score"] for _, edge in edges if not edge["in_graph"]} == {0.0}


@pytest.mark.parametrize("parallel", [False, True])
def test_every_edge_of_the_graph_is_listed(make: Make, parallel: bool) -> None:
    circuit = make(GraphShape(3, 4, 2, parallel), {"input->logits": None})
    content = json.loads(text_of(circuit, "eap"))
    nodes, edges = graph_of_cfg(content["cfg"])
    assert set(content["nodes"]) == nodes and set(content["edges"]) == edges
    assert content["cfg"] == {"n_layers": 3, "n_heads": 4, "parallel_attn_mlp": parallel, "d_model": 8}
    assert content["edges"]["input->logits"] == {"score": 0.0, "in_graph": True}


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


def test_an_edge_of_one_head_becomes_its_groups_and_scores_what_all_its_heads_score(tmp_path: Path) -> None:
    """a1.h2 and a1.h3 share keys: 0.5 kept for h2, -0.125 not kept for h3, so -0.125 + 0.5 for the group."""
    kept: dict[str, float | None] = {"input->a1.h2<k>": 0.5, "a1.h2->logits": 2.0, "a1.h3->logits": 1.0}
    kept |= {"input->a1.h3<q>": 0.25}
    path = tmp_path / "circuit.json"
    write(path, kept, {"input->a1.h3<k>": -0.125, "input->a1.h1<k>": 9.0})
    circuit = import_circuit(path, fmt="eap", model=GROUPED)
    assert scores_of(circuit) == {
        "input->a1.h3<q>": 0.25,
        "input->a1.kv1<k>": 0.375,
        "a1.h2->logits": 2.0,
        "a1.h3->logits": 1.0,
    }
    assert circuit.source == (
        "circuit.json, JSON of EAP-IG or MIB; kept there for some heads of a group, now for all: 1 edge into "
        "shared keys or values"
    )
    assert circuit.model == GROUPED and circuit.task is None
    alone = import_circuit(path, model=GROUPED.model_copy(update={"ungrouped_kv": True}))
    assert scores_of(alone) == kept and "reach" not in (alone.source or "")


def test_a_head_outside_the_circuit_gains_nothing_and_unknown_scores_stay_unknown(tmp_path: Path) -> None:
    path = tmp_path / "circuit.json"
    write(path, {"input->a1.h2<v>": None, "a1.h2->logits": 0.0})
    circuit = import_circuit(path, fmt="eap", model=GROUPED)
    assert scores_of(circuit) == {"input->a1.kv1<v>": 0.0, "a1.h2->logits": 0.0}, "its sibling's 0 is known"
    assert circuit.source == "circuit.json, JSON of EAP-IG or MIB"
    assert [node.name for node in circuit.nodes] == ["input", "a1.h2", "logits"]
    content = write(path, {"input->logits": None})
    content["edges"] = {"input->logits": content["edges"]["input->logits"]}
    path.write_text(json.dumps(content))
    alone = import_circuit(path, fmt="eap", model=GROUPED)
    assert scores_of(alone) == {"input->logits": None}, "edges that are not listed are not kept"


def test_older_files_say_true_or_false_of_a_node_and_no_width(tmp_path: Path) -> None:
    path = tmp_path / "circuit.json"
    content = write(path, {"input->logits": 1.0})
    content["nodes"] = dict.fromkeys(content["nodes"], False)
    del content["cfg"]["d_model"]
    path.write_text(json.dumps(content))
    assert scores_of(import_circuit(path, model=GROUPED)) == {"input->logits": 1.0}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.pop("nodes"), "is no circuit of EAP-IG or MIB: it needs the keys cfg, nodes and edges"),
        (lambda c: c["cfg"].pop("n_heads"), "format:\n  cfg.n_heads is missing"),
        (
            lambda c: c["edges"]["input->m0"].update(score=float("nan")),
            "edges.input->m0.score is nan: input should be a finite number",
        ),
        (lambda c: c["nodes"].update(m2=True), "nodes.m2 cannot exist in this model's graph"),
        (lambda c: c["edges"].update({"m0->a0.h1<q>": {"score": 1.0, "in_graph": False}}), "edges.m0->a0.h1<q> cannot"),
        (lambda c: c["nodes"]["m0"].update(neurons=[True]), "nodes.m0.neurons is given: the circuit is one of single"),
        (
            lambda c: c["cfg"].update(n_layers=3, d_model=16),
            "another model than tiny: n_layers is 3 in the file and 2 in the model; d_model is 16 in the file and 8",
        ),
        (
            lambda c: c["edges"]["input->logits"].update(in_graph=False),
            "keeps no edge of 110. It holds scores only",
        ),
        (
            lambda c: c["edges"]["m0->a1.h1<q>"].update(in_graph=True),
            "1 of 2 edges are on no path from input to logits \\(m0->a1.h1<q>\\).*call Graph.prune",
        ),
    ],
)
def test_json_that_cannot_be_used(tmp_path: Path, edit: Edit, message: str) -> None:
    path = tmp_path / "circuit.json"
    content = write(path, {"input->logits": 1.0})
    edit(content)
    path.write_text(json.dumps(content))
    refused(path, message, "eap")


def test_mlps_of_a_file_in_an_attention_only_model(tmp_path: Path) -> None:
    path = tmp_path / "circuit.json"
    write(path, {"input->m0": 1.0, "m0->logits": 1.0})
    attention_only = GROUPED.model_copy(update={"mlps": False})
    refused(path, r"edges\.input->m0 cannot exist in tiny: .* attention-only", model=attention_only)


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
    content = json.loads(path.read_text())
    del content["edges"]["m0->logits"]
    path.write_text(json.dumps(content))
    assert scores_from_eap(path, GROUPED) is None, "one is not known"


ROWS = ["input", *(name for n in "01" for name in (*(f"a{n}.h{head}" for head in range(4)), f"m{n}"))]
COLUMNS = [
    *(name for n in "01" for name in (*(f"a{n}.h{head}<{letter}>" for letter in "qkv" for head in range(4)), f"m{n}")),
    "logits",
]
"""Where EAP-IG has the nodes that write, and what reads, in a model of 2 layers and 4 heads."""


def test_pt_laid_out_as_eap_ig_does(grouped: Circuit, tmp_path: Path) -> None:
    path = tmp_path / "circuit.eap.pt"
    export(grouped, "eap-pt", path)
    content = torch.load(path, weights_only=True)
    assert content["cfg"] == {"n_layers": 2, "n_heads": 4, "parallel_attn_mlp": False, "d_model": 8}
    assert content["src_nodes"] == ROWS and content["dst_nodes"] == COLUMNS
    scores, inside = torch.zeros(11, 27, dtype=torch.float64), torch.zeros(11, 27, dtype=torch.bool)
    for name, score in THERE.items():
        sender, receiver = name.split("->")
        place = ROWS.index(sender), COLUMNS.index(receiver)
        scores[place], inside[place] = score, True
    assert content["edges_scores"].equal(scores) and content["edges_in_graph"].equal(inside)
    kept = [content["src_nodes"][place] for place in content["nodes_in_graph"].nonzero().flatten().tolist()]
    assert kept == ["input", "a0.h1", "m0", "a1.h2", "a1.h3"]


def test_attention_only_models_have_empty_mlps_there(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "circuit.eap.pt"
    names = {"input->a0.h0<v>": 1.0, "a0.h0->a1.h1<k>": 2.0, "a1.h1->logits": 3.0}
    circuit = make(GraphShape(2, 2, 2, mlps=False), names)
    export(circuit, "eap-pt", path)
    content = torch.load(path, weights_only=True)
    assert "m0" in content["src_nodes"] and content["edges_in_graph"].sum() == 3
    assert import_circuit(path, fmt="eap-pt", model=circuit.model).edges == circuit.edges


def test_what_lies_where_no_edge_is_means_nothing(grouped: Circuit, tmp_path: Path) -> None:
    """EAP-IG sets whole rows in node-level circuits, with receivers before the sender, and scores all pairs."""
    path = tmp_path / "circuit.pt"
    content = written(path, grouped)
    content["edges_in_graph"][ROWS.index("m1"), COLUMNS.index("a0.h0<q>")] = True
    content["edges_scores"][ROWS.index("m1"), COLUMNS.index("a0.h0<q>")] = float("nan")
    torch.save(content, path)
    assert scores_of(import_circuit(path, fmt="eap-pt", model=grouped.model)) == scores_of(grouped)


def written(path: Path, circuit: Circuit) -> dict[str, Any]:
    export(circuit, "eap-pt", path)
    content = torch.load(path, weights_only=True)
    assert isinstance(content, dict)
    return content


def put(key: str, sender: str, receiver: str, value: Any) -> Edit:
    def edit(content: dict[str, Any]) -> None:
        content[key][ROWS.index(sender), COLUMNS.index(receiver)] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.pop("edges_in_graph"), "EAP-IG's format:\n  edges_in_graph is missing"),
        (lambda c: c["cfg"].pop("n_heads"), "EAP-IG's format:\n  cfg.n_heads is missing"),
        (lambda c: c["cfg"].update(n_layers=3), "n_layers is 3 in the file and 2 in the model"),
        (lambda c: c["src_nodes"].reverse(), "src_nodes or dst_nodes are not those of EAP-IG's graph"),
        (
            lambda c: c.update(edges_scores=[1.0]),
            "no plain tensor of numbers or bools, but of kind list",
        ),
        (lambda c: c.update(edges_scores=c["edges_scores"][:-1]), r"edges_scores has shape \[10, 27\], and \[11, 27\]"),
        (lambda c: c.update(edges_scores=c["edges_scores"].long()), "edges_scores is no plain tensor .* torch.int64"),
        (lambda c: c.update(neurons_in_graph=torch.ones(11, 8)), "neurons_in_graph is given: the circuit is one of"),
        (put("edges_scores", "input", "m0", float("inf")), "edges_scores are not all finite"),
        (lambda c: c["edges_in_graph"].zero_(), "keeps no edge of"),
        (put("edges_in_graph", "m1", "logits", True), "1 of 9 edges are on no path .*m1->logits.*Graph.prune"),
    ],
)
def test_pt_that_cannot_be_used(grouped: Circuit, tmp_path: Path, edit: Edit, message: str) -> None:
    path = tmp_path / "circuit.pt"
    content = written(path, grouped)
    edit(content)
    torch.save(content, path)
    refused(path, message, "eap-pt", grouped.model)


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("import pathlib; pathlib.Path('sprung').touch()",)


def test_nothing_in_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"cfg": Trap(), "src_nodes": [], "edges_in_graph": 1}, "trap.pt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Trap()))
    refused(Path("trap.pt"), r"it holds exec\. Only tensors, .* anything else can run code\.", "eap-pt")
    refused(Path("bare.pt"), r"is no file of torch\.save", "eap-pt")
    assert recognised(Path("trap.pt")).name == "eap-pt", "by its keys alone"
    assert not (tmp_path / "sprung").exists()


def test_files_made_to_fill_the_memory_or_to_take_forever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", b"\x00" * 2**20)
    refused(path, "is compressed, or says", "eap-pt")
    monkeypatch.setattr("acdc_engine.formats.foreign._MOST_VALUES", 50_000)
    parts: list[Any] = [1]
    for _ in range(15):
        parts = [parts] * 10
    torch.save({"cfg": parts}, path)
    refused(path, "nested too deeply, repeats its parts", "eap-pt")
    torch.save({"cfg": 10**20}, path)
    refused(path, "or holds a huge number", "eap-pt")
    monkeypatch.setattr(files, "LARGEST_FILE", 100)
    refused(path, "circuits of more than 0 MB are not read", "eap-pt")


def test_other_files_are_not_recognised(tmp_path: Path) -> None:
    path = tmp_path / "any.name"
    torch.save({"a": torch.ones(2)}, tmp_path / "other.pt")
    for other in (b"PK\x03\x04 cut", b'{"src_nodes": "edges_in_graph"}', (tmp_path / "other.pt").read_bytes()):
        path.write_bytes(other)
        with pytest.raises(CircuitFileError, match="is no circuit file"):
            recognised(path)
