"""EAP-IG's .pt: laid out as its own graph is, the way there and back, and files that are not to be trusted."""

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
from acdc_engine.formats import format as formats
from acdc_engine.formats.eap_pt import FORMAT, read_eap_pt, write_eap_pt
from acdc_engine.formats.format import Source
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.editing import edges_of_mask
from acdc_engine.graph.names import GraphShape
from acdc_engine.graph.nodes import nodes_of_edges
from acdc_engine.graph.records import ModelRecord
from tests.formats.test_from_eap import record
from tests.made_circuits import GPT2, SMOLLM2, made_circuit
from tests.show.conftest import Make

Edit = Callable[[dict[str, Any]], object]
TINY = ModelRecord(name="tiny", n_layers=2, n_heads=4, n_kv_heads=2, d_model=8, d_vocab=11)


def row(name: str, n_heads: int) -> int:
    """Where EAP-IG has the node that writes, from its name."""
    if name == "input":
        return 0
    layer, head = (int(name[1:]), n_heads) if name[0] == "m" else (int(part[1:]) for part in name.split("."))
    return 1 + layer * (n_heads + 1) + head


def column(name: str, n_heads: int) -> int:
    """Where EAP-IG has what reads, from its name."""
    if name == "logits":
        return -1
    per_layer = 3 * n_heads + 1
    if name[0] == "m":
        return int(name[1:]) * per_layer + 3 * n_heads
    node, letter = name[:-1].split("<")
    layer, head = (int(part[1:]) for part in node.split("."))
    return layer * per_layer + "qkv".index(letter) * n_heads + head


def test_laid_out_as_eap_ig_does(grouped: Circuit, tmp_path: Path) -> None:
    path = tmp_path / "circuit.eap.pt"
    write_eap_pt(grouped, path)
    content = torch.load(path, weights_only=True)
    assert content["cfg"] == {"n_layers": 2, "n_heads": 4, "parallel_attn_mlp": False, "d_model": 8}
    assert content["src_nodes"][:6] == ["input", "a0.h0", "a0.h1", "a0.h2", "a0.h3", "m0"]
    assert content["dst_nodes"][3:6] + content["dst_nodes"][11:14] == [
        *("a0.h3<q>", "a0.h0<k>", "a0.h1<k>"),
        *("a0.h3<v>", "m0", "a1.h0<q>"),
    ]
    expected = {
        ("input", "a0.h1<q>"): 0.5,
        ("input", "m0"): -0.25,
        ("a0.h1", "a1.h2<k>"): 0.125,
        ("a0.h1", "a1.h3<k>"): 0.125,
        ("a0.h1", "a1.h2<v>"): 1.0,
        ("a0.h1", "a1.h3<v>"): 1.0,
        ("m0", "a1.h2<q>"): 0.0625,
        ("a1.h2", "logits"): 2.0,
        ("a1.h3", "logits"): -1.5,
        ("m0", "logits"): 0.75,
    }
    scores, inside = torch.zeros(11, 27, dtype=torch.float64), torch.zeros(11, 27, dtype=torch.bool)
    for (sender, receiver), score in expected.items():
        place = row(sender, 4), column(receiver, 4)
        scores[place], inside[place] = score, True
    assert content["edges_scores"].equal(scores) and content["edges_in_graph"].equal(inside)
    kept = [content["src_nodes"][place] for place in content["nodes_in_graph"].nonzero().flatten().tolist()]
    assert kept == ["input", "a0.h1", "m0", "a1.h2", "a1.h3"]


def test_attention_only_models_have_empty_mlps_there(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "circuit.eap.pt"
    names = {"input->a0.h0<v>": 1.0, "a0.h0->a1.h1<k>": 2.0, "a1.h1->logits": 3.0}
    circuit = make(GraphShape(2, 2, 2, mlps=False), names)
    write_eap_pt(circuit, path)
    content = torch.load(path, weights_only=True)
    assert "m0" in content["src_nodes"] and content["edges_in_graph"].sum() == 3
    assert read_eap_pt(path, circuit.model).edges == circuit.edges


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("eap") / "circuit.eap.pt"


@given(data=st.data())
@settings(max_examples=40)
def test_there_and_back(scratch: Path, any_shape: st.SearchStrategy[GraphShape], data: st.DataObject) -> None:
    """Random clean circuits of random graphs, grouped or not, parallel or not, with and without MLPs."""
    circuit = random_circuit(data.draw(any_shape), data.draw(st.integers(0, 10_000)), data.draw(st.booleans()))
    write_eap_pt(circuit, scratch)
    back = read_eap_pt(scratch, circuit.model)
    assert back.edges == circuit.edges and back.nodes == circuit.nodes
    assert back.source == "circuit.eap.pt, .pt of EAP-IG or MIB"


def random_circuit(shape: GraphShape, seed: int, ungrouped: bool) -> Circuit:
    """A clean circuit with scores."""
    model = record(shape).model_copy(update={"ungrouped_kv": ungrouped})
    graph, generator = Circuit(model=model, nodes=(), edges=()).graph(), torch.Generator().manual_seed(seed)
    mask = torch.rand(graph.exists.shape, generator=generator) < 0.4
    mask[graph.parse_edge("input->logits")] = True
    edges = edges_of_mask(graph, clean(graph, mask), torch.randn(mask.shape, generator=generator))
    return Circuit(model=model, nodes=nodes_of_edges(graph, edges), edges=edges)


@pytest.mark.parametrize("shape", [GPT2, SMOLLM2])
def test_hostile_circuits_of_real_sizes(shape: GraphShape, tmp_path: Path) -> None:
    circuit = made_circuit(100, seed=4, shape=shape, hostile=True)
    FORMAT.write(circuit, tmp_path / "c.pt") if FORMAT.write else pytest.fail("written")
    back = read_eap_pt(tmp_path / "c.pt", circuit.model)
    key = [(edge.sender, edge.receiver, edge.score) for edge in circuit.edges]
    assert [(edge.sender, edge.receiver, edge.score) for edge in back.edges] == key


def test_what_lies_where_no_edge_is_means_nothing(grouped: Circuit, tmp_path: Path) -> None:
    """EAP-IG sets whole rows in node-level circuits, with receivers before the sender, and scores all pairs."""
    path = tmp_path / "circuit.pt"
    content = written(path, grouped)
    content["edges_in_graph"][row("m1", 4), column("a0.h0<q>", 4)] = True
    content["edges_scores"][row("m1", 4), column("a0.h0<q>", 4)] = float("nan")
    torch.save(content, path)
    back = {(edge.sender, edge.receiver): edge.score for edge in read_eap_pt(path, grouped.model).edges}
    assert back == {(edge.sender, edge.receiver): edge.score for edge in grouped.edges}


def written(path: Path, circuit: Circuit) -> dict[str, Any]:
    write_eap_pt(circuit, path)
    content = torch.load(path, weights_only=True)
    assert isinstance(content, dict)
    return content


def put(key: str, sender: str, receiver: str, value: Any) -> Edit:
    def edit(content: dict[str, Any]) -> None:
        content[key][row(sender, 4), column(receiver, 4)] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.pop("edges_in_graph"), "it lacks edges_in_graph. EAP-IG's Graph.to_pt writes cfg, src_nodes"),
        (lambda c: c["cfg"].pop("n_heads"), "EAP-IG's format:\n  cfg.n_heads is missing"),
        (lambda c: c["cfg"].update(n_layers=2.5), "cfg.n_layers is 2.5: input should be a valid integer"),
        (lambda c: c["cfg"].update(n_layers=3), "n_layers is 3 in the file and 2 in the model"),
        (lambda c: c["src_nodes"].reverse(), "src_nodes is not input, a0.h0, a0.h1, ..., m1 \\(11 names"),
        (lambda c: c["dst_nodes"].pop(), "dst_nodes is not a0.h0<q>, a0.h1<q>, a0.h2<q>, ..., logits"),
        (lambda c: c.update(dst_nodes=[3]), "dst_nodes.0 is 3: input should be a valid string"),
        (lambda c: c.update(edges_scores=[1.0]), "edges_scores is no plain tensor, but a list"),
        (lambda c: c.update(edges_scores=c["edges_scores"][:-1]), r"edges_scores has shape \[10, 27\], and \[11, 27\]"),
        (lambda c: c.update(edges_scores=c["edges_scores"].long()), "edges_scores is of kind torch.int64, and must be"),
        (lambda c: c.update(edges_scores=c["edges_scores"].to_sparse()), "edges_scores is no plain tensor"),
        (lambda c: c.update(edges_in_graph=c["edges_in_graph"].float()), "edges_in_graph is of kind torch.float32"),
        (lambda c: c.update(nodes_in_graph=torch.ones(3).bool()), r"nodes_in_graph has shape \[3\], and \[11\] fits"),
        (lambda c: c.update(neurons_in_graph=torch.ones(11, 8)), "neurons_in_graph is given: the circuit is one of"),
        (put("edges_scores", "input", "m0", float("inf")), "edges_scores is inf at input->m0. Scores must be finite"),
        (lambda c: c["edges_in_graph"].zero_(), "keeps no edge: in_graph is true for none of"),
        (put("edges_in_graph", "m1", "logits", True), "1 of 9 edges are on no path .*m1->logits.*Graph.prune"),
    ],
)
def test_files_that_cannot_be_used(grouped: Circuit, tmp_path: Path, edit: Edit, message: str) -> None:
    path = tmp_path / "circuit.pt"
    content = written(path, grouped)
    edit(content)
    torch.save(content, path)
    with pytest.raises(CircuitFileError, match=message) as caught:
        read_eap_pt(path, grouped.model)
    assert str(path) in str(caught.value)


def test_the_model_is_needed(grouped: Circuit, tmp_path: Path) -> None:
    write_eap_pt(grouped, tmp_path / "c.pt")
    with pytest.raises(CircuitFileError, match="does not say of which model: give it with --model"):
        read_eap_pt(tmp_path / "c.pt", None)


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("import pathlib; pathlib.Path('sprung').touch()",)


def test_nothing_in_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"cfg": Trap(), "src_nodes": [], "edges_in_graph": 1}, "trap.pt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CircuitFileError, match=r"it holds exec\. Only tensors, .* anything else can run code\."):
        read_eap_pt(Path("trap.pt"), TINY)
    with pytest.raises(CircuitFileError, match=r"is no file of torch\.save"):
        read_eap_pt(Path("bare.pt"), TINY)
    assert FORMAT.recognises is not None and FORMAT.recognises(Source(Path("trap.pt"))), "by its keys alone"
    assert not (tmp_path / "sprung").exists()


def test_files_made_to_fill_the_memory_or_to_take_forever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", b"\x00" * 2**20)
    with pytest.raises(CircuitFileError, match="it has compressed entries"):
        read_eap_pt(path, TINY)
    monkeypatch.setattr("acdc_engine.formats.torch_file._MOST_VALUES", 50_000)
    parts: list[Any] = [1]
    for _ in range(15):
        parts = [parts] * 10
    torch.save({"cfg": parts}, path)
    with pytest.raises(CircuitFileError, match="nested too deeply, or repeats its parts"):
        read_eap_pt(path, TINY)
    torch.save({"cfg": 10**20}, path)
    with pytest.raises(CircuitFileError, match="a whole number of more than 63 bits"):
        read_eap_pt(path, TINY)
    monkeypatch.setattr(formats, "LARGEST_FILE", 100)
    with pytest.raises(CircuitFileError, match="circuits of more than 0 MB are not read"):
        read_eap_pt(path, TINY)


def test_damaged_files(grouped: Circuit, tmp_path: Path) -> None:
    path = tmp_path / "circuit.pt"
    write_eap_pt(grouped, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-300])
    with pytest.raises(CircuitFileError, match=r"is no file of torch\.save"):
        read_eap_pt(path, TINY)
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        try:
            read_eap_pt(path, TINY)
        except CircuitFileError as error:
            assert str(path) in str(error)  # and nothing but this is ever raised
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other.txt", "text")
    with pytest.raises(CircuitFileError, match=r"it has 0 entries data\.pkl instead of 1"):
        read_eap_pt(path, TINY)
    with pytest.raises(CircuitFileError, match="No circuit file"):
        read_eap_pt(tmp_path / "missing.pt", TINY)


def test_recognised_by_their_keys(grouped: Circuit, tmp_path: Path) -> None:
    path, recognises = tmp_path / "any.name", FORMAT.recognises
    assert recognises is not None
    write_eap_pt(grouped, path)
    assert recognises(Source(path))
    for other in (b"", b"PK\x03\x04 cut", b'{"src_nodes": "edges_in_graph"}'):
        path.write_bytes(other)
        assert not recognises(Source(path))
    torch.save({"a": torch.ones(2)}, path)
    assert not recognises(Source(path))
