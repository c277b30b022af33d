"""Intervals of ratios of means (coverage, pairing, broken bootstraps); stability and necessity against loops."""

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from acdc_engine.errors import MethodError
from acdc_engine.evidence import resampling as module
from acdc_engine.evidence.resampling import (
    _LEVEL,
    MIN_PROMPTS,
    _resample_weights,
    check_enough_prompts,
    necessity,
    ratio_interval,
    score_stability,
)
from acdc_engine.patch.judge import Target


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def normal(rng: np.random.Generator, n: int, noise: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Circuit, clean and ablated values of prompts whose faithfulness is 0.8 in the long run."""
    clean, ablated = rng.normal(5, 2, n), rng.normal(1, 1, n)
    circuit = ablated + 0.8 * (clean - ablated) + rng.normal(0, noise, n)
    return torch.tensor(circuit).float(), torch.tensor(clean).float(), torch.tensor(ablated).float()


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """400 samples of 32: the share has a standard error of 1.1 %, the bootstrap is known to be some 1 % low."""
    rng, held = np.random.default_rng(0), 0
    for seed in range(400):
        found = ratio_interval(*normal(rng, 32), seed=seed, resamples=499)
        assert found is not None and found.method == "BCa" and found.level == _LEVEL
        held += found.low <= 0.8 <= found.high
    assert 0.91 <= held / 400 <= 0.975


def test_as_wide_as_the_delta_method_says() -> None:
    """The noise of 1 over a mean range of 4 on 400 prompts: standard error 1 / 4 / 20."""
    found = ratio_interval(*normal(np.random.default_rng(1), 400))
    assert found is not None and found.high - found.low == pytest.approx(2 * 1.96 / 80, rel=0.1)


def test_the_three_values_of_a_prompt_stay_together() -> None:
    """Every prompt has a faithfulness of exactly 0.75, so every resample has."""
    circuit, clean, ablated = normal(np.random.default_rng(2), 20)
    circuit = ablated + 0.75 * (clean - ablated)
    found = ratio_interval(circuit, clean, ablated)
    assert found is not None and (found.low, found.high) == pytest.approx((0.75, 0.75), abs=1e-6)


def test_prompts_all_alike_give_width_zero() -> None:
    found = ratio_interval(torch.full((12,), 2.0), torch.full((12,), 4.0), torch.full((12,), 0.0))
    assert found is not None and (found.low, found.high, found.method) == (0.5, 0.5, "percentile")


def test_seeded() -> None:
    values = normal(np.random.default_rng(3), 24)
    assert ratio_interval(*values, seed=5) == ratio_interval(*values, seed=5)
    assert ratio_interval(*values, seed=5) != ratio_interval(*values, seed=6)


def test_a_metric_that_is_better_corrupt_has_an_interval_too() -> None:
    """As with --force: clean and ablated change places, and f becomes 1 - f."""
    circuit, clean, ablated = normal(np.random.default_rng(4), 40)
    one, other = ratio_interval(circuit, clean, ablated), ratio_interval(circuit, ablated, clean)
    assert one is not None and other is not None
    assert (1 - other.high, 1 - other.low) == pytest.approx((one.low, one.high), abs=1e-6)


def test_no_interval_where_the_range_changes_sign_in_many_resamples() -> None:
    clean = torch.tensor([3.0, -2.9] * 10)
    assert ratio_interval(torch.linspace(0, 1, 20), clean, torch.zeros(20)) is None


def test_percentiles_where_it_changes_sign_in_few() -> None:
    """Mean 1, standard error 0.4: below zero in about 0.6 % of the resamples, which count against both ends."""
    rng = np.random.default_rng(0)
    drawn = rng.normal(0, 1, 25)
    clean = torch.tensor((drawn - drawn.mean()) / drawn.std() * 2 + 1).float()
    circuit = 0.5 * clean + torch.tensor(rng.normal(0, 0.2, 25)).float()
    found = ratio_interval(circuit, clean, torch.zeros(25))
    assert found is not None and found.method == "percentile" and found.low < 0.5 < found.high < 10


def test_nothing_to_divide_by() -> None:
    assert ratio_interval(torch.ones(12), torch.zeros(12), torch.zeros(12)) is None


def test_too_few_prompts() -> None:
    circuit, clean, ablated = normal(np.random.default_rng(0), MIN_PROMPTS)
    assert ratio_interval(circuit, clean, ablated) is not None
    assert ratio_interval(circuit[1:], clean[1:], ablated[1:]) is None
    check_enough_prompts(MIN_PROMPTS)
    with pytest.raises(
        MethodError, match=r"9 prompts are too few for an interval; at least 10 are needed. Ask for more"
    ):
        check_enough_prompts(9)


numbers = st.floats(-1e6, 1e6, width=32) | st.sampled_from((0.0, 1.0, -1.0))


@settings(max_examples=100)
@given(st.lists(st.tuples(numbers, numbers, numbers), min_size=10, max_size=16))
def test_never_nan_whatever_the_values(rows: list[tuple[float, float, float]]) -> None:
    circuit, clean, ablated = torch.tensor(rows).T
    found = ratio_interval(circuit, clean, ablated, resamples=99)
    assert found is None or found.low <= found.high  # an Interval refuses NaN and infinities


def slow_stability(scores: Tensor, mask: Tensor, rank: str, count: int, resamples: int, seed: int) -> Tensor:
    """One resample after the other, one edge after the other; edges that score nothing anywhere are not ranked."""
    out = torch.full(mask.shape, torch.nan)
    ranked = [(s, r) for s, r in mask.new_ones(mask.shape).nonzero().tolist() if scores[:, s, r].any() or mask[s, r]]
    for sender, receiver in mask.nonzero().tolist():
        selected = 0
        for weights in _resample_weights(len(scores), resamples, seed):
            mean = (weights[:, None, None] * scores).sum(0)
            strength = {edge: float(mean[edge].abs() if rank == "absolute" else mean[edge]) for edge in ranked}
            stronger = sum(value > strength[sender, receiver] for value in strength.values())
            selected += stronger < count
        out[sender, receiver] = selected / resamples
    return out


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from(("signed", "absolute")), st.integers(1, 20))
def test_stability_equals_the_obvious_loop(seed: int, rank: str, count: int) -> None:
    """Whole numbers and 8 prompts, so that means are exact and ties are frequent."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(-2, 3, (8, 3, 4), generator=generator).float()
    scores[:, 0] = 0
    mask = torch.rand(3, 4, generator=generator) < 0.4
    found = score_stability(scores, mask, "signed" if rank == "signed" else "absolute", count, 12, seed)
    assert torch.equal(found.nan_to_num(-1), slow_stability(scores, mask, rank, count, 12, seed).nan_to_num(-1))


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.randint(-9, 9, (16, 5, 6), generator=torch.Generator().manual_seed(0)).float()
    mask = torch.ones(5, 6, dtype=torch.bool)
    whole = score_stability(scores, mask, "signed", 7, 50)
    monkeypatch.setattr(module, "_CHUNK_NUMBERS", 70)
    assert torch.equal(score_stability(scores, mask, "signed", 7, 50), whole)


def test_weights_are_resamples() -> None:
    weights = _resample_weights(7, 200, 3)
    assert torch.allclose(weights.sum(1), torch.ones(200)) and torch.equal(weights * 7, (weights * 7).round())
    assert torch.equal(weights, _resample_weights(7, 200, 3)) and not torch.equal(weights, _resample_weights(7, 200, 4))


def slow_necessity(without: Tensor, whole: Tensor, clean: Tensor, ablated: Tensor, target: Target) -> list[float]:
    missed, counted = [0] * len(without), 0
    for weights in _resample_weights(len(whole), 80, 1).double():

        def f(values: Tensor, weights: Tensor = weights) -> float:
            low = float(weights @ ablated.double())
            return (float(weights @ values.double()) - low) / (float(weights @ clean.double()) - low)

        if target.met(f(whole)):
            counted += 1
            missed = [count + (not target.met(f(values))) for count, values in zip(missed, without, strict=True)]
    return [count / counted for count in missed]


@pytest.mark.parametrize("seed", range(5))
def test_necessity_equals_the_obvious_loop(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    clean, ablated = 4 + torch.randn(12, generator=generator), torch.randn(12, generator=generator)
    whole = clean + 0.5 * torch.randn(12, generator=generator)
    without = whole - torch.rand(6, 1, generator=generator) + 0.3 * torch.randn(6, 12, generator=generator)
    found = necessity(without, whole, clean, ablated, Target(0.9), 80, 1)
    assert found.tolist() == pytest.approx(slow_necessity(without, whole, clean, ablated, Target(0.9)))


def test_needed_not_needed_and_needed_by_some_prompts() -> None:
    """Without the third edge f is 1 on three prompts and 0 on one: 0.75 on the whole, 1 where that one is not drawn."""
    clean, ablated = torch.ones(4), torch.zeros(4)
    without = torch.stack([torch.zeros(4), torch.full((4,), 0.95), torch.tensor([1.0, 1.0, 1.0, 0.0])])
    found = necessity(without, torch.ones(4), clean, ablated, Target(0.9), 4000)
    assert found[:2].tolist() == [1, 0] and float(found[2]) == pytest.approx(1 - 0.75**4, abs=0.03)


def test_a_circuit_that_never_meets_the_target_says_nothing_about_its_edges() -> None:
    assert necessity(torch.zeros(2, 4), torch.full((4,), 0.5), torch.ones(4), torch.zeros(4), Target()).isnan().all()


def test_resamples_without_a_range_are_left_out() -> None:
    """Clean equals ablated on the first prompt: where only that one is drawn f is 0 / 0 or infinite."""
    clean, ablated = torch.tensor([0.0, 1.0]), torch.zeros(2)
    found = necessity(torch.tensor([[1.0, 0.0]]), torch.tensor([0.0, 1.0]), clean, ablated, Target(0.9))
    assert 0 < float(found[0]) < 1


def test_nothing_to_resample() -> None:
    with pytest.raises(MethodError, match="at least 1 prompt and 1 resample, not 0 prompts and 5 resamples"):
        score_stability(torch.zeros(0, 2, 2), torch.ones(2, 2, dtype=torch.bool), "signed", 1, 5)
    with pytest.raises(MethodError, match="at least 1, not 0"):
        score_stability(torch.zeros(3, 2, 2), torch.ones(2, 2, dtype=torch.bool), "signed", 0, 5)
