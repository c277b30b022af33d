"""Everything together: what is run, what it costs, and completeness."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from acdc_engine.errors import MethodError
from acdc_engine.evidence.evaluate import evaluate
from acdc_engine.evidence.figures import completeness_of, figures_of
from acdc_engine.evidence.hypotheses import run_tests
from acdc_engine.evidence.random_circuits import random_circuits
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.judge import Judge
from acdc_engine.prompts.metrics import get_metric
from tests.evidence.judges import tiny_judge as judge
from tests.micro_models import mask_of, shared_values
from tests.tiny_models import view


def circuit(size: int = 30) -> torch.Tensor:
    return random_circuits(view("llama_grouped").graph, size, 1, 0)[0]


def test_few_prompts_have_no_intervals() -> None:
    found = figures_of(judge(), circuit())
    assert found.kl_interval is not None and found.kl_interval.low <= found.kl_recovered <= found.kl_interval.high
    few = figures_of(judge(9), circuit())
    assert few.faithfulness_interval is None and few.kl_interval is None


def test_nothing_but_figures_and_completeness() -> None:
    discovery, held_out = judge(), judge(seed=1)
    found = evaluate(discovery, held_out, circuit(), n_random=0, tests=False)
    assert discovery.evaluator.exact_evaluations == 1 and held_out.evaluator.exact_evaluations == 2
    assert found.random_circuits is None and found.tests == () and found.completeness is not None
    assert found.discovery == figures_of(discovery, circuit()) and found.held_out == figures_of(held_out, circuit())


def test_everything_and_its_stages() -> None:
    stages: dict[str, tuple[int | None, list[int]]] = {}

    class Counting:
        def __init__(self, done: list[int]) -> None:
            self.advance = done.append

    @contextmanager
    def stage(title: str, total: int | None) -> Iterator[Any]:
        stages[title] = (total, [])
        yield Counting(stages[title][1])

    held_out = judge(seed=1)
    found = evaluate(judge(), held_out, circuit(), n_random=11, seed=3, progress=stage)
    assert found.random_circuits is not None and len(found.random_circuits.faithfulness) == 11
    assert found.tests == run_tests(held_out, circuit(), seed=3)
    assert found.completeness == completeness_of(held_out, circuit())
    assert list(stages) == ["Figures", "Completeness", "Random circuits", "Hypothesis tests"]
    for title in ("Random circuits", "Hypothesis tests"):
        total, done = stages[title]
        assert sum(done) == total
    assert evaluate(judge(), judge(seed=1), circuit(), n_random=11, seed=3) == found


def test_completeness_of_all_and_nothing() -> None:
    j, exists = judge(), view("llama_grouped").graph.exists
    nothing_left, all_left = completeness_of(j, exists), completeness_of(j, exists & False)
    assert (nothing_left.faithfulness, nothing_left.kl_recovered) == pytest.approx((0, 0), abs=1e-4)
    assert (all_left.faithfulness, all_left.kl_recovered) == pytest.approx((1, 1), abs=1e-4)


def test_completeness_by_hand() -> None:
    """Clean 30, corrupt 18 (tests/micro_models.py). Without a0.h0->m0 the MLP reads (1, 8), writes (2, 16).

    The logits read heads (2, 6) and MLP (2, 16): 26, so 8/12 remain.
    """
    model, prompts = shared_values()
    j = Judge(CircuitEvaluator(model, prompts), get_metric("logit_diff"))
    assert completeness_of(j, mask_of(model, "a0.h0->m0")).faithfulness == pytest.approx(10 / 12)


def test_circuits_that_connect_nothing() -> None:
    mask = mask_of(view("llama_grouped"), "input->m0 m1->logits")
    with pytest.raises(MethodError, match=r"None of the circuit's 2 edges lies on a path .* equals the ablated model"):
        evaluate(judge(), judge(), mask)
    with pytest.raises(MethodError, match="-1 random circuits were asked for; 0 leaves them out"):
        evaluate(judge(), judge(), circuit(), n_random=-1)
