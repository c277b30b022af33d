"""How far a ratio of means over prompts can be trusted: its bootstrap interval. No model runs."""

import warnings
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from acdc_engine.errors import MethodError
from acdc_engine.graph.evidence_records import Interval

_LEVEL = 0.95
"""Confidence level."""
MIN_PROMPTS = 10
"""Fewest prompts for an interval or a test: with fewer, intervals are much too narrow (docs/method.md)."""
_VANISHED = 1e-6
"""A resample whose m(clean) - m(ablated) is less than this share of the sample's has no ratio."""
_BATCH_NUMBERS = 2**20
"""Numbers held at once per array of resampled values."""


def check_enough_prompts(n_prompts: int) -> None:
    """For commands that are asked for an interval by name: refuses too few prompts before anything runs.

    Raises:
        MethodError: Fewer than `MIN_PROMPTS`.
    """
    if n_prompts < MIN_PROMPTS:
        raise MethodError(too_few(n_prompts, "an interval"))


def too_few(n_prompts: int, purpose: str) -> str:
    """Says how many prompts would be needed for a purpose, such as `an interval`."""
    return (
        f"{n_prompts} prompts are too few for {purpose}; at least {MIN_PROMPTS} are needed. Ask for more held-out "
        "prompts, or add words or templates to the task."
    )


def ratio_interval(
    circuit: Float[Tensor, "prompts"],
    clean: Float[Tensor, "prompts"],
    ablated: Float[Tensor, "prompts"],
    seed: int = 0,
    resamples: int = 9999,
) -> Interval | None:
    """Bootstrap interval of faithfulness, a ratio of means over prompts.

        f = (mean(circuit) - mean(ablated)) / (mean(clean) - mean(ablated))

    Prompts are drawn with replacement, all three values of a prompt together, and f is computed anew for each draw,
    denominator included. With the values of -KL and clean = 0 the same ratio is KL recovered. BCa (Efron 1987;
    `scipy.stats.bootstrap`), or plain percentiles where BCa is not defined. Draws without a ratio count against both
    ends. See docs/method.md, "Statistics", also for when it misleads. O(resamples x prompts) time, bounded memory.

    Takes the metric of every prompt, higher for more of the behaviour, under the circuit, on the clean run and under
    full ablation; `seed` is that of the draws.

    Returns:
        The interval; None with fewer than `MIN_PROMPTS` prompts, or where none is finite.
    """
    if len(circuit) < MIN_PROMPTS:
        return None
    samples = tuple(part.double().cpu().numpy() for part in (circuit, clean, ablated))
    span = float(samples[1].mean() - samples[2].mean())
    if not span:
        return None

    def ratio(c: NDArray[np.float64], w: NDArray[np.float64], a: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        low = a.mean(axis=axis)
        of_span = (w.mean(axis=axis) - low) / span
        defined = of_span > _VANISHED
        return np.where(defined, (c.mean(axis=axis) - low) / (span * np.where(defined, of_span, 1.0)), np.inf)

    with warnings.catch_warnings():  # scipy warns where BCa is undefined, which is handled below
        warnings.simplefilter("ignore")
        found = stats.bootstrap(
            samples,
            ratio,
            paired=True,
            vectorized=True,
            confidence_level=_LEVEL,
            n_resamples=resamples,
            batch=max(1, _BATCH_NUMBERS // len(circuit)),
            method="BCa",
            random_state=np.random.default_rng(seed),
        )
    draws = np.asarray(found.bootstrap_distribution, dtype=np.float64)
    ends = float(found.confidence_interval.low), float(found.confidence_interval.high)
    method: Literal["BCa", "percentile"] = "BCa"
    if not (np.isfinite(draws).all() and np.isfinite(ends).all() and ends[0] <= ends[1]):
        ends, method = _percentiles(draws), "percentile"
    if not np.isfinite(ends).all():
        return None
    return Interval(level=_LEVEL, low=ends[0], high=ends[1], method=method, resamples=resamples)


def _percentiles(draws: NDArray[np.float64]) -> tuple[float, float]:
    """Ends that leave half of 1 - level outside on each side; draws without a ratio count as outside on both."""
    tail = (1 - _LEVEL) / 2
    lower = np.where(np.isfinite(draws), draws, -np.inf)
    # Without interpolation: between a number and infinity there is nothing.
    return float(np.quantile(lower, tail, method="lower")), float(np.quantile(draws, 1 - tail, method="higher"))
