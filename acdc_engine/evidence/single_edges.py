"""What a circuit file says of each edge, and the certificate, from exact tests and from resampled prompts.

Formulas, and when they mislead: docs/method.md, "Exact effect of an edge" and "Statistics".
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine.errors import MethodError
from acdc_engine.evidence import Mask, Scores
from acdc_engine.graph.evidence_records import Certificate
from acdc_engine.graph.nodes import edges_of_mask
from acdc_engine.graph.records import CircuitEdge, Objective
from acdc_engine.patch.evaluator import Groups
from acdc_engine.patch.judge import Judge, Target
from acdc_engine.search import Minimal

_RESAMPLES = 1000
"""Of the prompts."""
_ROUNDING = 1e-6
"""Room for rounding at the ends of a band, as in `Target.met`."""
_CHUNK_NUMBERS = 4 * 2**20
"""Resampled means held at once."""


@dataclass(frozen=True)
class EdgeEvidence:
    """Figures of every edge of a circuit, edges in the order of `mask.nonzero()`.

    Attributes:
        value: The objective of the whole circuit: faithfulness in the metric, or share of KL recovered.
        effects: `m(C) - m(C without e)`, in units of the metric; positive where the edge supports the behaviour.
        without: The objective of the circuit without each edge.
        necessity: See `necessity`; None without a target.
        certificate: That the circuit is 1-minimal; None without a target.
    """

    value: float
    effects: tuple[float, ...]
    without: tuple[float, ...]
    necessity: tuple[float, ...] | None
    certificate: Certificate | None


def edge_evidence(
    tested: Minimal,
    by_metric: Minimal | None,
    objective: Judge,
    target: Target | None,
    *,
    asked: Target | None = None,
    seed: int = 0,
    inner_edges: int = 0,
) -> EdgeEvidence:
    """Turns the exact tests of single edges, in the objective, into figures.

    Args:
        tested: The tests.
        by_metric: The same by the metric; None for no effects (NaN).
        objective: Judges the circuit by what its search aimed at.
        target: The band of the certificate; None for no claim.
        asked: The band of the necessity: the target, where the search kept to a narrower band; None for the same. Few
            resamples lie in a band that is narrower than f strays.
        seed: Of the bootstrap.
        inner_edges: Edges that count as needed because they are those of an inner circuit.
    """
    value = objective.faithfulness_of(tested.whole)
    without = tuple(objective.faithfulness_of(row) for row in tested.without)
    needed, certificate = None, None
    if target is not None:
        values = tested.without, tested.whole, objective.clean, objective.ablated
        needed = tuple(
            necessity(
                *values, asked or target, seed=seed, groups=objective.groups, corrections=objective.corrections
            ).tolist()
        )
        certificate = Certificate(
            objective=_aim(objective),
            low=target.faithfulness,
            high=target.upper,
            each_template=len(objective.groups) > 1,
            value=value,
            minimal=target.met(value) and bool(tested.needed.all()),
            inner_edges=inner_edges,
        )
    effects = (math.nan,) * len(without)
    if by_metric is not None:
        effects = tuple((by_metric.whole.double().mean() - by_metric.without.double().mean(1)).tolist())
    return EdgeEvidence(value, effects, without, needed, certificate)


def _aim(objective: Judge) -> Objective:
    """What a target is about, by the name of the metric that a search works with."""
    names: dict[str, Objective] = {"kl": "kl", "prompts": "prompts"}
    return names.get(objective.metric.name, "faithfulness")


def edge_records(
    judge: Judge, mask: Mask, scores: Scores | None, evidence: EdgeEvidence | None, stability: Scores | None
) -> tuple[CircuitEdge, ...]:
    """The edges of a circuit file, in the graph's order, with all that is known of them."""
    known: dict[str, Sequence[float] | None] = {"stability": None if stability is None else stability[mask].tolist()}
    if evidence is not None:
        known |= {"effect": evidence.effects, "without": evidence.without, "necessity": evidence.necessity}

    def of(row: int) -> dict[str, float | None]:
        numbers = {name: math.nan if values is None else values[row] for name, values in known.items()}
        return {name: number if math.isfinite(number) else None for name, number in numbers.items()}

    edges = enumerate(edges_of_mask(judge.graph, mask, scores))
    return tuple(edge.model_copy(update=of(row)) for row, edge in edges)


def score_stability(
    per_example: Float[Tensor, "examples senders receivers"],
    mask: Mask,
    rank: Literal["signed", "absolute", "rms"],
    count: int,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> Scores:
    """Share of bootstrap resamples of the prompts whose scores would select each edge.

        stability(e) = share of resamples in which e is among the first `count` edges by the resample's mean score

    Edges that tie with the last of the first `count` count as selected, all of them. Edges whose score is zero on every
    prompt, those that do not exist among them, are not ranked unless the mask keeps them. Edges at the cut are near 1/2
    by nature. No model runs: O(resamples x edges x examples); memory is bounded.

    Takes the scores of every prompt, `score_edges(..., per_example=True)`, zero where no edge exists; the edges asked
    about; `rank`, with `rms` for the root mean square over the resample's prompts; and the number of edges selected,
    such as the size of the circuit.

    Returns:
        From 0 to 1; NaN outside the mask.

    Raises:
        MethodError: There are no edges to select.
    """
    if count < 1:
        raise MethodError(f"Stability is about the first edges of a ranking; at least 1, not {count}.")
    weights = resample_weights(len(per_example), resamples, seed).to(per_example)
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
    resamples: int = _RESAMPLES,
    seed: int = 0,
    groups: Groups | None = None,
    corrections: Sequence[float] = (0.0,),
) -> Float[Tensor, "edges"]:
    """Share of bootstrap resamples of the prompts in which the target is missed without each edge.

        necessity(e) = share of the resamples in which f(C) meets the target, in which f(C without e) does not

    each resample with its own m(clean) and m(ablated). Resamples in which the whole circuit misses the target too are
    left out: they say nothing about the edge, and a circuit found at the edge of the band misses it in half of them. A
    resample whose m(clean) - m(ablated) vanishes is one of those. O(resamples x edges x prompts), no model runs.

    Takes the metric of every prompt without each edge, under the whole circuit, on the clean run and under full
    ablation; `seed` is that of the resamples, and each of the `groups` must meet the target: None for all prompts as
    one. `corrections` are added to the f of each group (see `Judge`).

    Returns:
        From 0 to 1; NaN for all edges where no resample of the whole circuit meets the target.
    """
    weights = resample_weights(len(whole), resamples, seed).double()
    low = ablated.double()
    values = torch.cat([whole[None], without]).double() - low
    meets = torch.ones(resamples, len(values), dtype=torch.bool)
    every = torch.ones(1, len(whole), dtype=torch.bool) if groups is None else groups
    for group, correction in zip(every, corrections, strict=True):
        # Where the span is zero this is infinite or NaN, which no band holds.
        span = (weights * group) @ (clean.double() - low)
        meets &= _met((weights * group) @ values.T / span[:, None] + correction, target)
    return (~meets[meets[:, 0], 1:]).double().mean(0).float()


def resample_weights(n_prompts: int, resamples: int, seed: int) -> Float[Tensor, "resamples prompts"]:
    """Bootstrap resamples as weights: how often each prompt is drawn, divided by the number of prompts."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(n_prompts, (resamples, n_prompts), generator=generator)
    counts = torch.zeros(resamples, n_prompts, dtype=torch.float32)
    return counts.scatter_add_(1, drawn, torch.ones(drawn.shape, dtype=torch.float32)) / n_prompts


def _met(faithfulness: Float[Tensor, "*any"], target: Target) -> Bool[Tensor, "*any"]:
    """`Target.met` for many numbers, with the same room for rounding."""
    return (faithfulness >= target.faithfulness - _ROUNDING) & (faithfulness <= target.upper + _ROUNDING)
