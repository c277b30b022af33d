"""Areas under ROC and precision-recall curves of scores against a known set; ties count as one step."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acdc_engine.errors import MethodError, ScoreError

ROUNDING = 1e-6
"""Share of the largest score below which a score is rounding."""


def without_rounding(scores: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Scores with those below 1e-6 of the largest set to zero, where they tie.

    Where a model is saturated or flat, gradients that are zero leave residues of that size, which change with the
    number format but would rank the edges they are of before those that are exactly zero.
    """
    return scores.masked_fill(scores.abs() < ROUNDING * scores.abs().max(), 0.0)


@dataclass(frozen=True)
class Sweep:
    """How many true and false items lie above each threshold, from none to all; a threshold per distinct score.

    Attributes:
        true_positives: `[thresholds]`, int64, never falling, from 0.
        false_positives: The same of the others.
    """

    true_positives: Int[Tensor, "thresholds"]
    false_positives: Int[Tensor, "thresholds"]

    @property
    def auc(self) -> float:
        """Area under the ROC curve by trapezoids: a tie of true and false items is a slope, worth a half.

        This is the probability that a true item scores above a false one, ties counting half (Mann-Whitney's U over
        the number of pairs). 1 is perfect, 0.5 chance.
        """
        true, false = self.true_positives.double(), self.false_positives.double()
        return float(torch.trapezoid(true / true[-1], false / false[-1]))

    @property
    def average_precision(self) -> float:
        """Sum over thresholds of (recall gained) x (precision there), as scikit-learn defines it: no interpolation."""
        true, false = self.true_positives.double(), self.false_positives.double()
        gained = true.diff() / true[-1]
        return float((gained * (true / (true + false))[1:]).sum())

    def corners(self) -> "Sweep":
        """Without the points inside a run of false items, which lie on straight lines."""
        still = self.true_positives.diff() == 0
        inside = torch.zeros_like(self.true_positives, dtype=torch.bool)
        inside[1:-1] = still[:-1] & still[1:]
        return Sweep(self.true_positives[~inside], self.false_positives[~inside])


def sweep(scores: Float[Tensor, "items"], truth: Bool[Tensor, "items"]) -> Sweep:
    """Counts true and false items above every threshold. O(items log items).

    Args:
        scores: Higher means more likely true.
        truth: What is true.

    Raises:
        ScoreError: A score that is not finite.
        MethodError: No true item, or no false one: there is no curve.
    """
    if not bool(scores.isfinite().all()):
        raise ScoreError(
            f"{int((~scores.isfinite()).sum()):,} of {scores.numel():,} scores are not finite, so they have no order. "
            "Score in float32."
        )
    n_true, n = int(truth.sum()), truth.numel()
    if n_true in (0, n):
        raise MethodError(
            f"A ROC curve needs both true and false items: {n_true:,} of {n:,} are true. Compare with a circuit that "
            "has some edges of the graph and not all."
        )
    ordered, order = scores.sort(descending=True)
    true = truth[order].long().cumsum(0)
    last = torch.ones_like(truth)
    last[:-1] = ordered.diff() != 0
    ends = last.nonzero().squeeze(1)
    none = true.new_zeros(1)
    return Sweep(torch.cat([none, true[ends]]), torch.cat([none, (ends + 1 - true[ends])]))


def edge_auc(
    scores: Float[Tensor, "senders receivers"],
    truth: Bool[Tensor, "senders receivers"],
    exists: Bool[Tensor, "senders receivers"],
    rank: Literal["absolute", "signed"] = "absolute",
) -> float:
    """Area under the ROC curve of edge scores against a known circuit.

    Args:
        scores: Of all edges. Positive: the edge supports the behaviour.
        truth: The known circuit.
        exists: The edges that count: those of the graph, or fewer, such as those between heads.
        rank: Edges rank by |score|, or by score: the most negative one last.

    Raises:
        ScoreError: A score that is not finite.
        MethodError: No true edge among those that count, or no other one.
    """
    values = scores.cpu()[exists.cpu()].float()
    return sweep(values.abs() if rank == "absolute" else values, truth.cpu()[exists.cpu()]).auc
