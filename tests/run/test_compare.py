"""Comparing files: where scores come from, and which circuits do not compare."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from acdc_engine.errors import CircuitFileError, ModelNeededError, ScoreError
from acdc_engine.formats.register import FORMATS, export
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import find_circuit
from acdc_engine.graph.nodes import nodes_of_edges
from acdc_engine.graph.records import CircuitEdge, ModelRecord
from acdc_engine.graph.result_records import Comparison
from acdc_engine.run.compare import compare
from acdc_engine.run.discover import discover
from tests.tiny_task import tiny_view, write_card

MODEL = ModelRecord(name="tiny", n_layers=2, n_heads=2, n_kv_heads=2, d_model=8, d_vocab=11)
PATH = ("input->a0.h0<q>", "a0.h0->a1.h0<v>", "a1.h0->logits")
OTHER = ("input->a0.h1<q>", "a0.h1->logits", "input->logits")


def save(path: Path, names: tuple[str, ...] = PATH, scores: tuple[float, ...] = (), **model: Any) -> Path:
    record = MODEL.model_copy(update=model)
    pairs = zip(names, scores or (None,) * len(names), strict=True)
    edges = tuple(CircuitEdge(sender=n.split("->")[0], receiver=n.split("->")[1], score=score) for n, score in pairs)
    layout = Circuit(model=record, nodes=(), edges=()).graph()
    path.parent.mkdir(exist_ok=True)
    Circuit(model=record, nodes=nodes_of_edges(layout, edges), edges=edges, source="by hand").save(path)
    return path


def beside(path: Path, **tensors: torch.Tensor) -> None:
    save_file(tensors, path.parent / "scores.safetensors")


def table(**values: float) -> torch.Tensor:
    """Scores of all edges: 0.1, and those given by edge name."""
    graph = Circuit(model=MODEL, nodes=(), edges=()).graph()
    scores = torch.where(graph.exists, 0.1, 0.0)
    for name, value in values.items():
        scores[graph.parse_edge(name)] = value
    return scores


def refused(found: Path, known: Path, **options: Any) -> str:
    with pytest.raises(CircuitFileError) as caught:
        compare(found, known, **options)
    return str(caught.value)


def test_scores_beside_the_circuit_give_curves(tmp_path: Path) -> None:
    known, found = save(tmp_path / "known.json"), save(tmp_path / "run" / "circuit.json", OTHER, (0.1, 0.1, -5.0))
    scores = table(**dict.fromkeys(PATH, 1.0), **{"input->logits": -5.0})
    beside(found, scores=scores, rms=scores.abs() + 1)
    for way in (found, found.parent):
        compared = compare(way, known)
        assert compared.scores == str(tmp_path / "run" / "scores.safetensors")
        areas = {row.rank: row.auc for row in compared.rankings if (row.scope, row.mlps) == ("edges", True)}
        assert areas == {"absolute": pytest.approx(42 / 43), "signed": 1.0, "rms": pytest.approx(42 / 43)}
        assert compared.extra[0].edge == "input->logits" and compared.extra[0].place == 1
        assert compared.known_source == "by hand"


def test_without_scores_it_is_one_point(tmp_path: Path) -> None:
    compared = compare(save(tmp_path / "a.json"), save(tmp_path / "b.json"))
    assert compared.rankings == () and compared.scores is None and not (compared.missing or compared.extra)
    assert "the found circuit is one point" in compared.remarks[0]


def test_root_mean_squares_of_another_shape_are_not_used(tmp_path: Path) -> None:
    known, found = save(tmp_path / "known.json"), save(tmp_path / "run" / "circuit.json")
    beside(found, scores=table(), rms=torch.zeros(3, 3))
    assert "not used." in compare(found, known).remarks[0]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_scores_that_are_not_finite(tmp_path: Path, bad: float) -> None:
    known, found = save(tmp_path / "known.json"), save(tmp_path / "run" / "circuit.json")
    beside(found, scores=table() + bad)
    with pytest.raises(ScoreError, match=r"scores\.safetensors holds scores that are not finite\. Run acdc discover"):
        compare(found, known)


@pytest.mark.parametrize("scores", [table(), torch.zeros(3, 3)])
def test_scores_of_another_run_are_not_used(tmp_path: Path, scores: torch.Tensor) -> None:
    known, found = save(tmp_path / "known.json"), save(tmp_path / "run" / "circuit.json", PATH, (1.0, 2.0, 3.0))
    beside(found, scores=scores)
    compared = compare(found, known)
    assert not compared.rankings and "holds scores of another run than the circuit's: not used." in compared.remarks[0]


def test_damaged_scores_are_refused(tmp_path: Path) -> None:
    known, found = save(tmp_path / "known.json"), save(tmp_path / "run" / "circuit.json")
    (found.parent / "scores.safetensors").write_bytes(b"no tensors")
    assert "Cannot read the scores" in refused(found, known)


def test_json_of_eap_ig_has_scores_of_its_own(tmp_path: Path) -> None:
    """The model's name is not in it; it takes that of the known circuit."""
    known = save(tmp_path / "known.json")
    content = json.loads(FORMATS["eap"].value().text(Circuit.load(save(tmp_path / "own.json", PATH, (3.0, -2.0, 1.0)))))
    (tmp_path / "eap.json").write_text(json.dumps(content))
    only = compare(tmp_path / "eap.json", known)
    assert only.rankings == () and only.remarks[0] == "eap.json has no scores of edges outside its circuit."
    content["edges"]["input->m0"]["score"] = 0.5
    (tmp_path / "eap.json").write_text(json.dumps(content))
    compared = compare(tmp_path / "eap.json", known)
    assert compared.scores == "eap.json, of EAP-IG or MIB"
    areas = {row.rank: row.auc for row in compared.rankings if (row.scope, row.mlps) == ("edges", True)}
    assert areas["absolute"] == 1.0 and areas["signed"] == pytest.approx(2 / 3)
    del content["edges"]["input->m0"]
    (tmp_path / "eap.json").write_text(json.dumps(content))
    fewer = compare(tmp_path / "eap.json", known)
    assert fewer.rankings == () and "no scores of edges outside" in fewer.remarks[0]


def test_json_of_eap_ig_of_other_sizes(tmp_path: Path) -> None:
    export(Circuit.load(save(tmp_path / "own.json", n_layers=3)), "eap", tmp_path / "eap.json")
    message = refused(tmp_path / "eap.json", save(tmp_path / "known.json"))
    assert "another model than tiny: n_layers is 3 in the file and 2 in the model" in message


@pytest.mark.parametrize(
    ("model", "differ"),
    [
        ({"n_layers": 3, "d_vocab": 12}, "n_layers 3 and 2; d_vocab 12 and 11"),
        ({"parallel": True}, "parallel True and False"),
        ({"n_kv_heads": 1, "ungrouped_kv": True}, "n_kv_heads 1 and 2; ungrouped_kv True and False"),
    ],
)
def test_other_sizes_are_refused_with_both(tmp_path: Path, model: dict[str, Any], differ: str) -> None:
    found, known = save(tmp_path / "found.json", OTHER, name="big", **model), save(tmp_path / "known.json")
    for other_model in (False, True):
        message = refused(found, known, other_model=other_model)
        assert f"{found} is a circuit of big, {known} one of tiny, and their graphs differ: {differ}." in message
        assert ("--ungroup-kv" in message) == ("ungrouped_kv" in model)


def test_another_name_is_refused_unless_asked_for(tmp_path: Path) -> None:
    found, known = save(tmp_path / "found.json", name="org/tuned"), save(tmp_path / "known.json")
    assert "same sizes, other names" in refused(found, known) and "add --other-model" in refused(found, known)
    assert compare(found, known, other_model=True).overlaps[0].jaccard == 1.0
    assert compare(save(tmp_path / "copy.json", name="someone/Tiny"), known).overlaps[0].jaccard == 1.0


def test_the_known_circuit_may_be_of_any_format(tmp_path: Path) -> None:
    """Of the two files, one must say of which model it is."""
    found, known = save(tmp_path / "found.json", OTHER), Circuit.load(save(tmp_path / "known.json"))
    for fmt in ("networkx-json", "csv", "eap"):
        export(known, fmt, tmp_path / f"known.{fmt}")
        compared = compare(found, tmp_path / f"known.{fmt}")
        assert compared.missing == compare(found, tmp_path / "known.json").missing and compared.model == MODEL
    with pytest.raises(ModelNeededError, match=r"known\.csv is .* first make a circuit file: acdc import FILE --model"):
        compare(tmp_path / "known.csv", tmp_path / "known.eap")


@pytest.mark.parametrize(("fmt", "suffix"), [("networkx-json", "json"), ("csv", "csv"), ("auto-circuit", "pt")])
def test_compare_takes_any_format(tmp_path: Path, fmt: str, suffix: str) -> None:
    """A table has no model: it is compared as one of the known circuit's model."""
    path = tmp_path / f"x.{suffix}"
    export(Circuit.load(find_circuit("gpt2/ioi")), fmt, path)
    compared = compare(path, "gpt2/ioi")
    assert compared.missing == compared.extra == () and compared.overlaps[0].n_both == 963


def test_truths_without_anything_to_find(tmp_path: Path) -> None:
    found, layout = save(tmp_path / "found.json"), Circuit(model=MODEL, nodes=(), edges=()).graph()
    assert "empty.json has no edges: there is nothing to find" in refused(found, save(tmp_path / "empty.json", ()))
    everything = tuple(layout.edge_name(s, r) for r in range(layout.n_receivers) for s in layout.sources(r))
    assert "has all 46 edges of its graph" in refused(found, save(tmp_path / "all.json", everything))


def test_remarks_on_mlps_and_weights(tmp_path: Path) -> None:
    known = save(tmp_path / "known.json", ("input->m0", "m0->logits", "input->logits", "input->m1", "m1->logits"))
    assert any(
        text.startswith("4 of the 5 known edges start or end at an MLP (80%)") for text in compare(known, known).remarks
    )
    one, two = (save(tmp_path / f"{name}.json", weights_hash=name) for name in ("one", "two"))
    assert any("the weights are not those" in text for text in compare(one, two).remarks)
    assert not any("the weights" in text for text in compare(one, known).remarks)


def test_different_tasks_are_said_to_be(tmp_path: Path) -> None:
    known = Circuit.load(save(tmp_path / "known.json"))
    for name in ("ioi", "greater_than"):
        known.model_copy(update={"behaviour": name, "checksum": None}).save(tmp_path / f"{name}.json")
    compared = compare(tmp_path / "greater_than.json", tmp_path / "ioi.json")
    assert compared.other_task == "different tasks: greater_than and ioi"
    assert compared.remarks[0].startswith("the circuits are for different tasks, greater_than and ioi:")
    for same in (
        compare(tmp_path / "ioi.json", tmp_path / "ioi.json"),
        compare(tmp_path / "known.json", tmp_path / "ioi.json"),
    ):
        assert same.other_task == "" and not any("tasks" in text for text in same.remarks)


def test_a_run_against_its_own_circuit(tmp_path: Path) -> None:
    """What discover leaves is what compare reads; the circuit is its own truth."""
    run = tmp_path / "run"
    found = discover(
        str(write_card(tmp_path)), tiny_view(), n=8, n_held_out=4, method="eap", strategy="top-k", size=20,
        out=run, force=True, n_random=0,
    )  # fmt: skip
    compared = compare(run, run / "circuit.json")
    best = {row.rank: row.auc for row in compared.rankings if (row.scope, row.mlps) == ("edges", True)}
    assert best["absolute"] > 0.99, "the strongest edges, less those on no path"
    assert all(row.jaccard == 1.0 for row in compared.overlaps)
    assert compared.overlaps[0].n_found == len(found.edges) and not (compared.missing or compared.extra)
    compared.save(tmp_path / "compared.json")
    assert Comparison.model_validate_json((tmp_path / "compared.json").read_text()) == compared
