"""How much a circuit's edges depend on the prompts it was found on; no model runs."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine.errors import MethodError
from acdc_engine.patch.judge import Target

RESAMPLES = 1000
"""Bootstrap resamples of the prompts."""
ROUNDING = 1e-6
"""Room for rounding at the ends of a band, as in `Target.met`."""
CHUNK_NUMBERS = 4 * 2**20
"""Resampled means held at once."""


def resample_weights(n_prompts: int, resamples: int, seed: int) -> Float[Tensor, "resamples prompts"]:
    """Bootstrap resamples as weights: how often each prompt is drawn, divided by the number of prompts.

    Raises:
        MethodError: No prompts or no resamples.
    """
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
    mask: Bool[Tensor, "senders receivers"],
    rank: Literal["signed", "absolute", "rms"],
    count: int,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Float[Tensor, "senders receivers"]:
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
    weights = resample_weights(len(per_example), resamples, seed).to(per_example)
    ranked = (per_example != 0).any(0) | mask.to(per_example.device)
    scores, asked = per_example[:, ranked], mask.to(per_example.device)[ranked].nonzero().flatten()
    selected = torch.zeros(len(asked), dtype=torch.float32)
    for some in weights.split(max(1, CHUNK_NUMBERS // max(1, scores.shape[1]))):
        strengths = some @ (scores.square() if rank == "rms" else scores)
        strengths = strengths.abs_() if rank == "absolute" else strengths
        selected += (strengths[:, asked] >= _last_selected(strengths, count)).sum(0).cpu()
    out = torch.full(mask.shape, torch.nan, dtype=torch.float32)
    out[mask.cpu()] = selected / resamples
    return out


def necessity(
    without: Float[Tensor, "edges prompts"],
    whole: Float[Tensor, "prompts"],
    clean: Float[Tensor, "prompts"],
    ablated: Float[Tensor, "prompts"],
    target: Target,
    resamples: int = RESAMPLES,
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

    Args:
        without: Metric of every prompt without each edge.
        whole: Under the whole circuit.
        clean: On the clean run.
        ablated: Under full ablation.
        target: The band.
        resamples: Bootstrap resamples.
        seed: Of the resamples.

    Returns:
        From 0 to 1; NaN for all edges where no resample of the whole circuit meets the target.

    Raises:
        MethodError: There are no prompts or no resamples.
    """
    weights = resample_weights(len(whole), resamples, seed).double()
    low = ablated.double()
    span = weights @ (clean.double() - low)
    # Where the span is zero this is infinite or NaN, which no band holds.
    meets = _met((weights @ (whole.double() - low) / span)[:, None], target)[:, 0]
    faithfulness = (weights[meets] @ (without.double() - low).T) / span[meets, None]
    missed = ~_met(faithfulness, target)
    return missed.double().mean(0).float()


def _met(faithfulness: Float[Tensor, "resamples edges"], target: Target) -> Bool[Tensor, "resamples edges"]:
    """`Target.met` for many numbers, with the same room for rounding."""
    return (faithfulness >= target.faithfulness - ROUNDING) & (faithfulness <= target.upper + ROUNDING)


def _last_selected(strengths: Float[Tensor, "resamples edges"], count: int) -> Float[Tensor, "resamples 1"]:
    """The strength of the last of the first `count` edges, in every resample."""
    edges = strengths.shape[1]
    return strengths.kthvalue(max(1, edges - count + 1), dim=1, keepdim=True).values
