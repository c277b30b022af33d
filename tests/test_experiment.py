"""Experiment: from a model, tensors and a metric of one's own to a circuit like any other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from acdc_engine import Circuit, EdgeScores, Experiment, PromptSet, Report, Viewer, evaluate, verify
from acdc_engine.errors import AcdcError, MethodError, MetricError, ScoreError
from acdc_engine.graph.connectivity import is_clean
from tests.tiny_models import VOCAB, hf_model, random_prompts, view

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SCRIPT = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)[1]
"""The one in the README that works on tensors of one's own."""


def own(logits: Tensor, prompts: PromptSet) -> Tensor:
    return logits[:, 7] - logits[:, 11]


@pytest.fixture(scope="module")
def lab() -> Experiment:
    return Experiment(view("llama_grouped"), random_prompts(12, seed=1), random_prompts(11, seed=2), metric=own)


@pytest.fixture(scope="module")
def found(lab: Experiment) -> Iterator[Any]:
    yield lab.minimal(lab.search(lab.score("eap-ig"), target=0.7))


@pytest.fixture(scope="module")
def circuit(lab: Experiment, found: Any) -> Circuit:
    return lab.circuit(found, n_random=3)


def test_a_script_of_fifteen_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    clean, corrupt = torch.randint(1, VOCAB, (2, 23, 6))
    told: list[Any] = []
    exec(SCRIPT, {"hf_model": hf_model("gpt2"), "clean": clean, "corrupt": corrupt, "print": told.append})
    assert told[0].holds and len(told[0].claims) > 20
    circuit = Circuit.load("circuit.json")
    assert circuit.certificate is not None and circuit.certificate.minimal and circuit.evaluation is not None
    assert len(SCRIPT.strip().splitlines()) <= 15
    imported = {node.module for node in ast.walk(ast.parse(SCRIPT)) if isinstance(node, ast.ImportFrom)}
    assert imported == {"acdc_engine"}


def test_what_the_circuit_says_of_itself(lab: Experiment, found: Any, circuit: Circuit, tmp_path: Path) -> None:
    assert is_clean(lab.view.graph, found.mask) and torch.equal(circuit.mask(), found.mask)
    assert circuit.metric is not None and circuit.metric.name == "own" and circuit.evaluation is not None
    assert circuit.evaluation.discovery.faithfulness == pytest.approx(lab.faithfulness(found), abs=1e-6)
    assert circuit.evaluation.held_out.faithfulness == pytest.approx(lab.faithfulness(circuit, held_out=True), abs=1e-6)
    assert circuit.attribution is not None and circuit.attribution.settings["alphas"] == [0.1, 0.3, 0.5, 0.7, 0.9]
    assert circuit.search is not None and circuit.search.target_faithfulness == 0.7
    assert all(edge.effect is not None and edge.score is not None for edge in circuit.edges)
    assert circuit.certificate is not None and circuit.certificate.minimal and circuit.sizes and circuit.examples
    circuit.save(tmp_path / "c.json")
    assert Circuit.load(tmp_path / "c.json") == circuit
    assert "<html" in Report(circuit).html and "<html" in Viewer(circuit).html


def test_a_metric_of_ones_own_is_given_again(lab: Experiment, circuit: Circuit) -> None:
    assert verify(circuit, model=lab.view, metric=own).holds
    with pytest.raises(MetricError, match=r"measured by 'own', a function of somebody's own: give it, as in verify"):
        verify(circuit, model=lab.view)
    other = verify(circuit, model=lab.view, metric=lambda logits, prompts: logits[:, 3])
    assert "discovery: metric, clean" in {claim.what for claim in other.failing}
    again = evaluate(circuit, model=lab.view, metric=own, n_random=0, tests=False)
    assert again.evaluation is not None and circuit.evaluation is not None
    assert again.evaluation.held_out == circuit.evaluation.held_out
    with pytest.warns(UserWarning, match="measured by kl, as asked, not by the file's own"):
        other_metric = evaluate(circuit, model=lab.view, metric="kl", n_random=0, tests=False)
    assert other_metric.metric is not None and other_metric.metric.name == "kl"


@pytest.mark.parametrize("ablation", ["patch", "mean"])
def test_all_edges_are_the_clean_run_and_none_the_ablated_one(ablation: str) -> None:
    lab = Experiment(view("gpt2"), random_prompts(5, seed=3), metric="kl", ablation=ablation)
    exists = lab.view.graph.exists
    assert torch.allclose(lab.logits(exists), lab.evaluator.clean_logits(), atol=1e-5)
    assert torch.allclose(lab.logits(torch.zeros_like(exists)), lab.evaluator.ablated_logits(), atol=1e-5)
    assert lab.faithfulness(exists) == pytest.approx(1, abs=1e-4) and lab.faithfulness([]) == 0


def test_edges_may_be_named(lab: Experiment, circuit: Circuit) -> None:
    names = [f"{edge.sender}->{edge.receiver}" for edge in circuit.edges]
    assert lab.faithfulness(names) == lab.faithfulness(circuit) == lab.faithfulness(circuit.mask())
    bare = lab.circuit(names[:0] or ["input->logits"], n_random=0)
    assert len(bare.edges) == 1 and bare.search is None and bare.attribution is None and bare.certificate is None


def test_without_held_out_prompts(lab: Experiment) -> None:
    alone = Experiment(lab.view, lab.prompts, metric=own)
    circuit = alone.circuit(alone.minimal(alone.search(alone.score("eap"), target=0.7)))
    assert circuit.certificate is not None and circuit.evaluation is None and not circuit.sizes
    by_kl = Experiment(lab.view, lab.prompts, metric=own, objective="kl")
    by_kl.search(by_kl.score("eap-ig"), target=0.3)
    assert by_kl.exact_evaluations == by_kl.evaluator.exact_evaluations > 0, "also before anything asks for the metric"
    assert verify(circuit, model=lab.view, metric=own).holds
    with pytest.raises(MethodError, match=r"no held-out prompts: give some, as in Experiment\(view, prompts, held_out"):
        alone.faithfulness(circuit, held_out=True)
    with pytest.raises(AcdcError, match='holds no prompts of split "held_out"'):
        evaluate(circuit, model=lab.view, metric=own)


def test_scores_of_ones_own(lab: Experiment) -> None:
    def magnitudes(lab: Experiment, power: float = 1.0) -> EdgeScores:
        scores = lab.score("eap")
        return EdgeScores(scores.mean.abs() ** power)

    scores = lab.score(magnitudes, power=0.5)
    found = lab.search(scores, strategy="top-k", size=20)
    assert found.size <= 20 and scores.method == "magnitudes"
    attribution = lab.bare(found).attribution
    assert attribution is not None and (attribution.method, attribution.settings) == ("magnitudes", {"power": 0.5})
    with pytest.raises(MethodError, match="Only edges chosen for a target can be made minimal"):
        lab.minimal(found)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (lambda lab: EdgeScores(torch.zeros(2, 2)), r"one number per edge, \d+ x \d+, not \[2, 2\]"),
        (lambda lab: torch.zeros(2, 2), "must give EdgeScores.*, not a Tensor"),
        (lambda lab: EdgeScores(torch.full(lab.view.graph.exists.shape, torch.nan)), "'lambda' gives .* NaN or infin"),
    ],
)
def test_scores_that_are_none(lab: Experiment, method: Any, message: str) -> None:
    with pytest.raises(ScoreError, match=message):
        lab.score(method)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "logit_dif"}, "logit_dif.*Did you mean 'logit_diff'"),
        ({"ablation": "noise"}, "noise"),
        ({"objective": "loss"}, r"Unknown objective 'loss'\. Known: faithfulness, kl, prompts\."),
    ],
)
def test_what_an_experiment_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(AcdcError, match=message):
        Experiment(view("gpt2"), random_prompts(5, seed=3), **options)


def test_what_was_not_loaded(lab: Experiment, unchecked: None) -> None:
    with pytest.raises(MethodError, match=r"takes what load_model\(\.\.\.\) gives, not a str"):
        Experiment("gpt2", lab.prompts)  # type: ignore[arg-type]
    with pytest.raises(MethodError, match=r"takes what PromptSet\.from_tokens\(\.\.\.\) gives, not a list"):
        Experiment(lab.view, [[1, 2]])  # type: ignore[arg-type]


def test_masks_of_another_graph(lab: Experiment) -> None:
    with pytest.raises(MethodError, match=r"one place per sender and receiver: it is \[2, 3\], not"):
        lab.faithfulness(torch.ones(2, 3))
