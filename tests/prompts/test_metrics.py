"""The metrics, computed by hand."""

import math
from typing import Any

import jaxtyping
import pytest
import torch
from torch.autograd import gradcheck

from acdc_engine.errors import MetricError
from acdc_engine.prompts.metrics import METRICS, accuracy, as_metric, columns_read, get_metric
from acdc_engine.prompts.prompt_set import PromptSet

# Probabilities (1, 2, 3, 4) / 10 and (1, 1, 1, 1) / 4; the constant added must not matter to any metric.
LOGITS = torch.log(torch.tensor([[1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 1.0, 1.0]])) + torch.tensor([[0.0], [5.0]])


def prompts(answers: list[list[int]], wrong: list[list[int]]) -> PromptSet:
    n = max(len(answers), len(wrong))
    return PromptSet.from_tokens([[1]] * n, [[2]] * n, answers, wrong)


TWO = prompts([[3], [0, 1]], [[0, 1], [2]])

NAMES = [entry.name for entry in METRICS.own()]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("logit_diff", [math.log(4) - (math.log(1) + math.log(2)) / 2, 0.0]),
        ("prob_diff", [0.4 - 0.3, 0.5 - 0.25]),
        ("nll", [math.log(0.4), math.log(0.5)]),
    ],
)
def test_by_hand(name: str, expected: list[float]) -> None:
    assert get_metric(name)(LOGITS, TWO).tolist() == pytest.approx(expected, abs=1e-6)


def test_kl_by_hand() -> None:
    # KL(clean || run) with clean (1, 2, 3, 4) / 10 and run uniform, and the other way round; minus it.
    p = [0.1, 0.2, 0.3, 0.4]
    one = sum(x * math.log(x / 0.25) for x in p)
    other = sum(0.25 * math.log(0.25 / x) for x in p)
    kl = get_metric("kl")
    assert kl(LOGITS.flip(0), TWO, LOGITS).tolist() == pytest.approx([-one, -other], abs=1e-6)
    assert kl(LOGITS, TWO, LOGITS).tolist() == pytest.approx([0.0, 0.0], abs=1e-7)


def test_only_kl_has_no_gradient_at_the_clean_run() -> None:
    for name in NAMES:
        metric, logits = get_metric(name), LOGITS.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(metric(logits, TWO, LOGITS).sum(), logits)
        assert bool((gradient.abs() < 1e-6).all()) == metric.zero_gradient_at_clean == (name == "kl")


def test_the_clean_run_is_not_differentiated() -> None:
    logits, clean = LOGITS.flip(0).requires_grad_(), LOGITS.clone().requires_grad_()
    value = get_metric("kl")(logits, TWO, clean).sum()
    assert torch.autograd.grad(value, clean, allow_unused=True)[0] is None


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "float", lambda t: t)  # float64 for the finite differences
    logits = LOGITS.double().flip(0).requires_grad_()
    assert gradcheck(lambda x: get_metric(name)(x, TWO, LOGITS.double()), (logits,))


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_computed_in_float32(name: str) -> None:
    half = LOGITS.to(torch.bfloat16)
    found = get_metric(name)(half, TWO, half)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, get_metric(name)(half.float(), TWO, half.float()))


def test_what_is_missing_is_said() -> None:
    no_wrong, nothing = prompts([[0], [0]], []), prompts([], [[], []])
    for name, logits, given, message in (
        ("logit_diff", LOGITS, no_wrong, r"'logit_diff' compares right with wrong answers .* use 'nll' or 'kl'"),
        ("prob_diff", LOGITS, no_wrong, r"'prob_diff' compares right with wrong answers .* use 'nll' or 'kl'"),
        ("nll", LOGITS, nothing, "'nll' needs right answers; these prompts have none"),
        ("kl", LOGITS, nothing, "'kl' compares with the clean run: give clean_logits"),
        ("nll", LOGITS[:1], TWO, "1 rows of logits were given for 2 prompts"),
    ):
        with pytest.raises(MetricError, match=message):
            get_metric(name)(logits, given)
    with pytest.raises(MetricError, match="Accuracy needs right answers"):
        accuracy(LOGITS, nothing)


def test_accuracy() -> None:
    assert accuracy(LOGITS, TWO).tolist() == [True, False]  # a tie is not right
    assert accuracy(LOGITS, prompts([[1, 2], [3]], [[0, 3], [0]])).tolist() == [False, False]
    assert accuracy(LOGITS, prompts([[0, 3], [1]], [])).tolist() == [True, False]


def test_columns_that_a_metric_reads() -> None:
    prompts = PromptSet.from_tokens([[1], [2]], [[2], [1]], [[7], [5, 9]], [[5, 7], [3]])
    found, columns = columns_read(get_metric("logit_diff"), prompts)
    assert columns is not None
    assert columns.tolist() == [3, 5, 7, 9]
    assert found.answers.tolist() == [[2, -1], [1, 3]]
    assert found.wrong_answers.tolist() == [[1, 2], [0, -1]]
    logits = torch.randn(2, 12, generator=torch.Generator().manual_seed(0))
    metric = get_metric("logit_diff")
    assert torch.equal(metric(logits[:, columns], found), metric(logits, prompts))
    for name in ("kl", "nll", "prob_diff"):
        assert columns_read(get_metric(name), prompts) == (prompts, None)


def best_other(logits: torch.Tensor, prompts: PromptSet) -> torch.Tensor:
    return logits[:, 3] - logits[:, 0]


def test_a_function_is_a_metric() -> None:
    metric = as_metric(best_other)
    assert metric.name == "best_other" and as_metric(lambda logits, prompts: logits[:, 0]).name == "own"
    half = metric(LOGITS.to(torch.bfloat16), prompts([], [[], []]))
    assert half.dtype == torch.float32 and half.tolist() == pytest.approx([math.log(4), 0.0], abs=1e-2)
    assert columns_read(metric, TWO) == (TWO, None)
    for same in ("nll", METRICS["nll"].value, get_metric("nll")):
        assert torch.equal(as_metric(same)(LOGITS, TWO), get_metric("nll")(LOGITS, TWO))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda logits, prompts: logits[:, 0].mean(), r"'own' is to give one number for each .* \[2\], .* shape \[\]"),
        (lambda logits, prompts: logits[:, :1], r"a tensor of shape \[2\], and gives something of shape \[2, 1\]"),
        (lambda logits, prompts: 1.0, r"gives something of type float"),
        (lambda logits, prompts: logits.argmax(dim=1), r"without a gradient .*edges are scored by its gradient"),
        (3, r"A metric is a name or a function \(logits, prompts\) -> one number each, not 3"),
    ],
)
def test_functions_that_are_no_metrics_are_refused(function: Any, message: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users have no type checks at run time
    with pytest.raises(MetricError, match=message):
        as_metric(function)(LOGITS.clone().requires_grad_(), TWO)


def test_a_metric_of_ones_own_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    METRICS.add("best", "logit of the fourth token - logit of the first (logits)")(best_other)
    assert get_metric("best").name == "best"
    with pytest.raises(MetricError, match=r"The metric 'kl' is there already: it comes with the engine"):
        METRICS.add("kl", "")(best_other)
