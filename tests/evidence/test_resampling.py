"""Intervals of ratios of means: coverage, pairing, broken bootstraps."""

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from acdc_engine.errors import MethodError
from acdc_engine.evidence.resampling import _LEVEL, MIN_PROMPTS, check_enough_prompts, ratio_interval


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
