"""Bootstraps over prompts: intervals of ratios of means, and how much edges depend on the prompts. No model runs."""

import warnings
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from acdc_engine.errors import MethodError
from acdc_engine.evidence import Mask, Scores
from acdc_engine.graph.evidence_records import Interval
from acdc_engine.patch.judge import Target

_LEVEL = 0.95
"""Confidence level."""
_OF_RATIOS, _OF_EDGES = 9999, 1000
"""Bootstrap resamples for intervals (scipy's own default), and for what is said of edges."""
MIN_PROMPTS = 10
"""Fewest prompts for an interval or a test. With fewer, intervals are much too narrow: on normal data those that claim
95 % hold 82 % with 5 prompts, 90 % with 10, 94 % with 32 (measured); and 5 prompts have only 126 different
resamples."""
_VANISHED = 1e-6
"""A resample whose m(clean) - m(ablated) is less than this share of the sample's has no ratio."""
_BATCH_NUMBERS = 2**20
"""Numbers held at once per array of resampled values."""
_ROUNDING = 1e-6
"""Room for rounding at the ends of a band, as in `Target.met`."""
_CHUNK_NUMBERS = 4 * 2**20
"""Resampled means held at once."""


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
    resamples: int = _OF_RATIOS,
) -> Interval | None:
    """Bootstrap interval of faithfulness, a ratio of means over prompts.

        f = (mean(circuit) - mean(ablated)) / (mean(clean) - mean(ablated))

    Prompts are drawn with replacement, all three values of a prompt together, and f is computed anew for each draw,
    denominator included. With the values of -KL and clean = 0 the same ratio is KL recovered. BCa (Efron 1987, *Better
    Bootstrap Confidence Intervals*; `scipy.stats.bootstrap`), or plain percentiles where BCa is not defined: values
    that are all alike, or all resamples on one side of f.

    Denominators that change sign or vanish have no ratio. Such draws are counted against both ends, as if f were minus
    infinity there for the lower end and plus infinity for the upper one; the ends are then percentiles. Where they are
    2.5 % of the draws or more, no finite interval has the level, and there is none (compare Fieller 1954).

    O(resamples x prompts) time; memory is bounded.

    *When it misleads.* It is about other prompts of the same generator, not about other wordings or tasks. The circuit
    is held fixed, so on the prompts it was searched on the interval is about nothing. Width zero says that the prompts
    are all alike. With few prompts it is too narrow (`MIN_PROMPTS`).

    Args:
        circuit: Metric of every prompt under the circuit, in the metric's unit; higher for more of the behaviour.
        clean: On the clean run.
        ablated: Under full ablation.
        seed: Of the draws.
        resamples: How many.

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


def _resample_weights(n_prompts: int, resamples: int, seed: int) -> Float[Tensor, "resamples prompts"]:
    """Bootstrap resamples as weights: how often each prompt is drawn, divided by the number of prompts."""
    if n_prompts < 1 or resamples < 1:
        raise MethodError(
            f"A bootstrap needs at least 1 prompt and 1 resample, not {n_prompts} prompts and {resamples} resamples."
        )
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(n_prompts, (resamples, n_prompts), generator=generator)
    counts = torch.zeros(resamples, n_prompts, dtype=torch.float32)
    return counts.scatter_add_(1, drawn, torch.ones(drawn.shape, dtype=torch.float32)) / n_prompts


def score_stability(
    per_example: Float[Tensor, "examples senders receivers"],
    mask: Mask,
    rank: Literal["signed", "absolute", "rms"],
    count: int,
    resamples: int = _OF_EDGES,
    seed: int = 0,
) -> Scores:
    """Share of bootstrap resamples of the prompts whose scores would select each edge.

        stability(e) = share of resamples in which e is among the first `count` edges by the resample's mean score

    Ranked by the score or by its absolute value. Edges that tie with the last of the first `count` count as selected,
    all of them. Edges whose score is zero on every prompt, those that do not exist among them, are not ranked unless
    the mask keeps them. No model runs: a resample's mean is a weighted mean of the prompts' scores.
    O(resamples x edges x examples) for the means and O(resamples x edges) to rank; memory is bounded.

    *When it misleads.* It is about the ranking by the scores over the whole graph. A search that scores again inside
    the circuit can need an edge that this ranking puts far down: low stability does not mean that the edge is
    superfluous (`necessity` is about that). Edges at the cut are near 1/2 by nature.

    Args:
        per_example: Scores of every prompt, `score_edges(..., per_example=True)`; zero where no edge exists.
        mask: The edges asked about.
        rank: `signed`; `absolute` for |score|; `rms` for the root mean square over the resample's prompts.
        count: Number of edges selected, such as the size of the circuit.
        resamples: Bootstrap resamples.
        seed: Of the resamples.

    Returns:
        From 0 to 1; NaN outside the mask.

    Raises:
        MethodError: There are no prompts, no resamples, or no edges to select.
    """
    if count < 1:
        raise MethodError(f"Stability is about the first edges of a ranking; at least 1, not {count}.")
    weights = _resample_weights(len(per_example), resamples, seed).to(per_example)
    ranked = (per_example != 0).any(0) | mask.to(per_example.device)
    scores, asked = per_example[:, ranked], mask.to(per_example.device)[ranked].nonzero().flatten()
    selected, edges = torch.zeros(len(asked), dtype=torch.float32), scores.shape[1]
    for some in weights.split(max(1, _CHUNK_NUMBERS // max(1, edges))):
        strengths = some @ (scores.square() if rank == "rms" else scores)
        strengths = strengths.abs_() if rank == "absolute" else strengths
        last_selected = strengths.kthvalue(max(1, edges - count + 1), dim=1, keepdim=True).values
        selected += (strengths[:, asked] >= last_selected).sum(0).cpu()
    out = torch.full(mask.shape, torch.nan, dtype=torch.float32)
    out[mask.cpu()] = selected / resamples
    return out


def necessity(
    without: Float[Tensor, "edges prompts"],
    whole: Float[Tensor, "prompts"],
    clean: Float[Tensor, "prompts"],
    ablated: Float[Tensor, "prompts"],
    target: Target,
    resamples: int = _OF_EDGES,
    seed: int = 0,
) -> Float[Tensor, "edges"]:
    """Share of bootstrap resamples of the prompts in which the target is missed without each edge.

        necessity(e) = share of the resamples in which f(C) meets the target, in which f(C without e) does not

    each resample with its own m(clean) and m(ablated). Resamples in which the whole circuit misses the target too are
    left out: they say nothing about the edge, and a circuit found at the edge of the band misses it in half of them. A
    resample whose m(clean) - m(ablated) vanishes is one of those. 1: the certificate's verdict does not hang on single
    prompts. O(resamples x edges x prompts), no model runs.

    *When it misleads.* Two edges that stand in for each other both look superfluous. An edge can be needed only because
    the circuit without it overshoots.

    Takes the metric of every prompt without each edge, under the whole circuit, on the clean run and under full
    ablation; `seed` is that of the resamples.

    Returns:
        From 0 to 1; NaN for all edges where no resample of the whole circuit meets the target.

    Raises:
        MethodError: There are no prompts or no resamples.
    """
    weights = _resample_weights(len(whole), resamples, seed).double()
    low = ablated.double()
    span = weights @ (clean.double() - low)
    # Where the span is zero this is infinite or NaN, which no band holds.
    meets = _met(weights @ (whole.double() - low) / span, target)
    faithfulness = (weights[meets] @ (without.double() - low).T) / span[meets, None]
    return (~_met(faithfulness, target)).double().mean(0).float()


def _met(faithfulness: Float[Tensor, "*any"], target: Target) -> Bool[Tensor, "*any"]:
    """`Target.met` for many numbers, with the same room for rounding."""
    return (faithfulness >= target.faithfulness - _ROUNDING) & (faithfulness <= target.upper + _ROUNDING)
