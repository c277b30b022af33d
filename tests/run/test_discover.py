"""The whole run on tiny models: what it leaves, what it refuses, what an interruption leaves."""

import dataclasses
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open

from acdc_engine.errors import AcdcError, BehaviourError, MethodError, ModelError, ScoreError, TaskError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import is_clean
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.judge import Judge
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.run.discover import discover
from tests.tiny_models import view
from tests.tiny_task import tiny_view, write_card

QUICK: dict[str, Any] = {"n": 6, "n_validation": 0, "n_held_out": 5, "faithfulness": 0.7, "force": True}
LEFT = ["circuit.json", "scores.safetensors", "trace.jsonl"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the card, and the run in it."""
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def circuit(folder: Path) -> Circuit:
    return discover(write_card(folder), tiny_view(), out=folder / "run", **QUICK)


def test_a_run_leaves_a_circuit_scores_and_a_trace(folder: Path, circuit: Circuit) -> None:
    out = folder / "run"
    assert sorted(f.name for f in out.iterdir()) == LEFT
    assert Circuit.load(out) == circuit
    with safe_open(out / "scores.safetensors", "pt") as file:
        scores = file.get_tensor("scores")
        assert json.loads(file.metadata()["senders"]) == list(circuit.graph().senders)
    for edge in circuit.edges:
        at = circuit.graph().sender_index(edge.sender), circuit.graph().receiver_index(edge.receiver)
        assert edge.score == pytest.approx(float(scores[at]))
    lines = [json.loads(line) for line in (out / "trace.jsonl").read_text().splitlines()]
    assert lines[0]["kind"] == "run" and lines[-1]["kind"] == "end"
    steps = [line for line in lines if line["kind"] == "step"]
    assert [s["step"] for s in steps] == list(range(1, len(steps) + 1))
    assert any(s["meets_target"] and s["edges"] == len(circuit.edges) for s in steps)


def test_what_stands_around_the_circuit(folder: Path, circuit: Circuit) -> None:
    """Other sizes, roles, examples and the command; the same with and without a folder, every time."""
    own = next(point for point in circuit.sizes if point.kind == "circuit")
    assert circuit.evaluation is not None and own.edges == len(circuit.edges)
    assert own.faithfulness == pytest.approx(circuit.evaluation.held_out.faithfulness, abs=1e-6)
    assert {point.kind for point in circuit.sizes} >= {"circuit", "more"}
    assert circuit.examples and all(node.role_scores for node in circuit.nodes if node.kind == "head")
    assert circuit.command == (
        f'discover("{folder / "tiny.toml"}", model, faithfulness=0.7, n=6, n_validation=0, n_held_out=5, force=True) '
        "in Python, with model a loaded TransformerView"
    )
    again = discover(folder / "tiny.toml", tiny_view(), **QUICK)
    but_for_times = {"cost": None, "environment": None}
    assert again.model_copy(update=but_for_times) == circuit.model_copy(update=but_for_times)
    assert again.cost is not None and circuit.cost is not None
    assert again.cost.forward_passes == pytest.approx(circuit.cost.forward_passes, rel=1e-9)
    other = discover(folder / "tiny.toml", tiny_view(), **QUICK, seed=1)
    assert other.task is not None and circuit.task is not None
    assert other.task.prompts_hash != circuit.task.prompts_hash


def test_the_figures_are_those_of_the_circuit_on_disjoint_prompts(folder: Path, circuit: Circuit) -> None:
    v = tiny_view()
    assert circuit.evaluation is not None and circuit.task is not None
    discovery, held_out = build_splits(find_task(folder / "tiny.toml"), v.tokenizer, 6, 5, 0)
    for prompts, figures in ((discovery, circuit.evaluation.discovery), (held_out, circuit.evaluation.held_out)):
        judge = Judge(CircuitEvaluator(v, prompts), get_metric("logit_diff"))
        assert judge.faithfulness(circuit.mask()[None])[0] == pytest.approx(figures.faithfulness, abs=1e-4)
        assert figures.n_prompts == len(prompts)
    assert is_clean(circuit.graph(), circuit.mask())
    assert 0.7 <= circuit.evaluation.discovery.faithfulness <= 1.3
    assert all(edge.effect is not None for edge in circuit.edges)
    assert circuit.model.weights_hash == v.weights_hash() and circuit.task.prompts_hash


def test_cost_is_counted_by_stage(circuit: Circuit) -> None:
    """Operations, not time."""
    assert circuit.cost is not None and circuit.cost.cpu_seconds is not None
    passes = {stage.name: stage.forward_passes for stage in circuit.cost.stages}
    assert {"Running the model", "Scoring all edges", "Pruning", "Testing every edge", "Random circuits"} <= set(passes)
    assert {"Figures", "Joint necessity", "Indispensable edges", "Other sizes"} <= set(passes)
    assert sum(passes.values()) == pytest.approx(circuit.cost.forward_passes, rel=0.05)
    assert passes["Scoring all edges"] > 5


def test_a_run_hashes_the_weights_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace and circuit file both name the hash; of a large model it takes a second or more."""
    made: list[Any] = []

    def counted() -> Any:
        made.append(hashlib.sha256())
        return made[-1]

    fresh = dataclasses.replace(tiny_view())  # which nothing has hashed yet
    monkeypatch.setattr("acdc_engine.model.view.hashlib", SimpleNamespace(sha256=counted))
    circuit = discover(write_card(tmp_path), fresh, out=tmp_path / "run", **QUICK)
    assert [digest.hexdigest() for digest in made] == [circuit.model.weights_hash]


def test_under_kl_larger_circuits_take_the_largest_root_mean_squares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[torch.Tensor] = []

    def noted(judge: Judge, circuit: Circuit, scores: torch.Tensor, **options: Any) -> tuple[()]:
        asked.append(scores)
        return ()

    monkeypatch.setattr("acdc_engine.evidence.sizes.sizes_of", noted)
    card, out = write_card(tmp_path), tmp_path / "run"
    discover(card, tiny_view(), out=out, objective="kl", **QUICK)
    with safe_open(out / "scores.safetensors", "pt") as file:
        assert torch.equal(asked[0], file.get_tensor("rms"))


@pytest.mark.parametrize("name", ["gpt2", "gemma3", "mixtral", "phi"])
@pytest.mark.parametrize("ablation", ["mean", "zero"])
def test_other_architectures_and_ablations_run_to_the_end(name: str, ablation: str, tmp_path: Path) -> None:
    settings = {**QUICK, "ablation": ablation, "strategy": "top-k", "size": 60, "method": "eap"}
    circuit = discover(write_card(tmp_path), tiny_view(name), **settings)
    assert 0 < len(circuit.edges) <= 60 and circuit.ablation == ablation


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"faithfulness": 0.0}, MethodError, r"must lie in \(0, 1\], not 0.0"),
        ({"method": "eap_ig"}, MethodError, "Did you mean 'eap-ig'"),
        ({"metric": "logitdiff"}, AcdcError, "Did you mean 'logit_diff'"),
        ({"device": "gpu"}, AcdcError, "Unknown device 'gpu'"),
    ],
)
def test_bad_settings_are_refused_before_the_model_is_touched(
    settings: dict[str, Any], error: type[AcdcError], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acdc_engine.run.prepare.load_model", lambda *a, **k: pytest.fail("the model was loaded"))
    with pytest.raises(error, match=message):
        discover("ioi", **settings)
    with pytest.raises(TaskError, match=r"There is no task 'ioj'\. Did you mean 'ioi'"):
        discover("ioj")


def test_a_view_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="came without a tokenizer"):
        discover(write_card(tmp_path), view("llama"))


def test_a_model_that_does_not_do_the_task_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BehaviourError, match="--force"):
        discover(write_card(tmp_path), tiny_view(), out=tmp_path / "run", n=6, n_held_out=5)
    assert not (tmp_path / "run").exists()


def test_not_finite_weights_name_the_layer(tmp_path: Path) -> None:
    v = tiny_view("gpt2")
    broken = v.layers[1].attention.w_o.clone()
    broken[0, 0, 0] = torch.nan
    attention = dataclasses.replace(v.layers[1].attention, w_o=broken)
    v = dataclasses.replace(v, layers=(v.layers[0], dataclasses.replace(v.layers[1], attention=attention)))
    with pytest.raises(ScoreError, match="first in the attention of layer 1"):
        discover(write_card(tmp_path), v, out=tmp_path / "run", **QUICK)


def test_an_interruption_leaves_usable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(100))

    def impatient(self: Judge, mask: torch.Tensor) -> torch.Tensor:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return original(self, mask)

    original = Judge.contributions
    monkeypatch.setattr(Judge, "contributions", impatient)
    with pytest.raises(KeyboardInterrupt):
        discover(write_card(tmp_path), tiny_view(), out=tmp_path / "run", **QUICK)
    left = sorted(f.name for f in (tmp_path / "run").iterdir())
    assert left == ["circuit-so-far.json", "scores.safetensors", "trace.jsonl"]
    so_far = Circuit.load(tmp_path / "run" / "circuit-so-far.json")
    lines = [json.loads(line) for line in (tmp_path / "run" / "trace.jsonl").read_text().splitlines()]
    assert len(so_far.edges) == min(line["edges"] for line in lines if line.get("meets_target"))
    monkeypatch.undo()
    discover(write_card(tmp_path), tiny_view(), out=tmp_path / "run", **QUICK)
    assert sorted(f.name for f in (tmp_path / "run").iterdir()) == LEFT


@pytest.mark.parametrize("step", ["evidence.single_edges.edge_evidence", "evidence.describe.describe"])
def test_an_interruption_after_the_search_leaves_what_was_found(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"acdc_engine.{step}", interrupted)
    with pytest.raises(KeyboardInterrupt):
        discover(write_card(tmp_path), tiny_view(), out=tmp_path / "run", **QUICK)
    so_far = Circuit.load(tmp_path / "run" / "circuit-so-far.json")
    assert so_far.edges and (so_far.evaluation is not None) is (step == "evidence.describe.describe")
    monkeypatch.undo()
    discover(write_card(tmp_path), tiny_view(), out=tmp_path / "run", **QUICK)
    assert sorted(f.name for f in (tmp_path / "run").iterdir()) == LEFT
