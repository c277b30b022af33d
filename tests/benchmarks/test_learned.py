"""Learned masks: the distribution by hand, the search on models whose circuit is known, and divergence."""

from typing import Any

import pytest
import torch

from acdc_engine.errors import SearchError
from acdc_engine.graph.connectivity import is_clean
from acdc_engine.model.view import TransformerView
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.judge import Judge, Target
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.score import get_method, score_edges
from acdc_engine.search import Found, Report
from benchmarks.learned import learned, soft_gradients, stretched
from tests.micro_models import head_feeds_query, mask_of
from tests.tiny_models import random_prompts, view

Seen = list[tuple[str, Found, bool]]
"""What a search reported."""


def setup(model: TransformerView, prompts: PromptSet, metric: str = "logit_diff") -> tuple[Judge, torch.Tensor]:
    judge = Judge(CircuitEvaluator(model, prompts), get_metric(metric))
    return judge, score_edges(model, prompts, judge.metric, get_method("eap-ig"), rms=True).both


def search(judge: Judge, scores: torch.Tensor, seen: Seen | None = None, **given: Any) -> Found:
    target = given.pop("target", Target(0.8))
    chosen = {"candidates": 100, "steps": 30} | given
    runs = Seen() if seen is None else seen
    report: Report = lambda what, found, met: runs.append((what, found, met))  # noqa: E731
    return learned(judge.graph, scores, judge, target, report, **chosen)


def test_weights_by_hand() -> None:
    # Medians: sigmoid(log_alpha / (2/3)) stretched from -0.1 to 1.1; sigmoid(0) = 1/2 stays 1/2.
    # sigmoid(ln 3) = 3/4 at log_alpha = 2/3 ln 3 gives 0.8; its mirror image 0.2; far out they are cut off.
    log_alpha = torch.tensor([0.0, 2 / 3 * 1.0986123, -2 / 3 * 1.0986123, 5.0, -5.0])
    found = stretched(log_alpha, torch.full((5,), 0.5))
    assert found.tolist() == pytest.approx([0.5, 0.8, 0.2, 1.0, 0.0], abs=1e-6)


def test_recovers_the_known_circuit() -> None:
    model, prompts = head_feeds_query()
    judge, scores = setup(model, prompts)
    found = search(judge, scores, target=Target(0.9))
    assert torch.equal(found.mask, mask_of(model, "input->a0.h0<v> a0.h0->a1.h0<q> a1.h0->logits"))
    assert found.faithfulness == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "metric"), [("gpt2", "logit_diff"), ("llama_grouped", "kl"), ("gemma3", "logit_diff")]
)
def test_what_is_found_meets_the_target_and_is_clean(name: str, metric: str) -> None:
    judge, scores = setup(view(name), random_prompts(4), metric)
    graph, seen = judge.graph, Seen()
    found = search(judge, scores, seen)
    assert is_clean(graph, found.mask) and 0 < found.size < graph.n_edges
    (again,) = judge.faithfulness(found.mask[None])
    assert again == pytest.approx(found.faithfulness, abs=1e-5) and Target(0.8).met(again)
    assert found.size == min(run.size for _, run, met in seen if met), "the smallest that was seen"


def broken(monkeypatch: pytest.MonkeyPatch, after: int, values: float, gradient: float) -> None:
    """Makes weighted runs return these numbers after some steps."""
    real, calls = soft_gradients, [0]

    def watched(evaluator: Any, weights: torch.Tensor, metric: Any) -> tuple[torch.Tensor, torch.Tensor]:
        calls[0] += 1
        good = real(evaluator, weights, metric)
        return good if calls[0] <= after else (good[0] * values, good[1] * gradient)

    monkeypatch.setattr("benchmarks.learned.soft_gradients", watched)


@pytest.mark.parametrize(
    ("values", "gradient", "says"),
    [
        (float("nan"), 1.0, "step 13: the faithfulness of the weighted run is nan"),
        (1e9, 1.0, r"step 13: the faithfulness of the weighted run is -?\d\.\d+e\+\d+"),
        (1.0, float("inf"), r"step 13: \d+ of \d+ gradients are not finite"),
    ],
)
def test_divergence_is_named_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch, values: float, gradient: float, says: str
) -> None:
    judge, scores = setup(view("gpt2"), random_prompts(4))
    broken(monkeypatch, 12, values, gradient)
    seen = Seen()
    with pytest.raises(SearchError, match=says + r".*reported\. Use strategy 'iterative', or start"):
        search(judge, scores, seen)
    assert [what for what, _, _ in seen] == ["learned masks, step 10"]
