"""What is asked of a model on a task without right answers, or read elsewhere than at the end."""

import pytest

from acdc_engine.errors import BehaviourError, MetricError
from acdc_engine.evidence.behaviour import check_behaviour
from acdc_engine.evidence.figures import figures_of
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.judge import Judge
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from tests.tiny_models import random_prompts, view


def judge(metric: str, read_at: int) -> Judge:
    drawn = random_prompts()
    prompts = PromptSet.from_tokens(drawn.clean.tolist(), drawn.corrupt.tolist(), read_at=[read_at] * len(drawn))
    return Judge(CircuitEvaluator(view("llama"), prompts), get_metric(metric))


def test_without_answers_the_corruption_alone_is_judged() -> None:
    j = judge("kl", read_at=3)
    found = check_behaviour(j)
    assert found.accuracy is None and found.chance == 0
    assert found.metric_clean == pytest.approx(0, abs=1e-6) and found.metric_ablated < -1e-4
    assert figures_of(j, j.evaluator.view.graph.exists).accuracy_clean is None
    with pytest.raises(MetricError, match=r"'nll' needs right answers; .* add answers to the task, or use 'kl'\."):
        judge("nll", read_at=3)


def test_before_what_is_corrupted_nothing_can_be_read() -> None:
    with pytest.raises(BehaviourError, match="The corrupt metric equals the clean one"):
        judge("kl", read_at=0)
