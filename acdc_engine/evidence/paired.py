"""Effects in two models, prompt by prompt: what differs, how surely, after correction for how many were looked at."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import stats
from torch import Tensor

from acdc_engine.evidence.hypotheses import holm
from acdc_engine.evidence.single_edges import resample_weights
from acdc_engine.graph.diff_records import ALPHA, DiffEffect, DiffEffects, Status
from acdc_engine.graph.evidence_records import Interval

_LEVEL, _RESAMPLES = 0.95, 9999
_MOST = 400
"""Changed edges or nodes that are shown beside those of the circuits."""


def paired_effects(
    names: list[str],
    base: Float[Tensor, "prompts items"],
    tuned: Float[Tensor, "prompts items"],
    in_base: Bool[Tensor, "items"],
    in_tuned: Bool[Tensor, "items"],
    seed: int = 0,
) -> DiffEffects:
    """Compares the effects of edges or nodes in two models on the same prompts.

    The test of no difference is a paired t-test over prompts, all of them corrected together (Holm). Intervals are
    percentiles of bootstrap means, each by itself. O(prompts x items) time and memory.

    Args:
        names: Of the items.
        base: Their effects on every prompt in the base model.
        tuned: In the tuned model.
        in_base: Which of them the base model's circuit has.
        in_tuned: The tuned model's.
        seed: Of the resamples.
    """
    differences = (tuned - base).double()
    mean, spread = differences.mean(0), differences.std(0)
    n = len(differences)
    t = (mean.abs() / (spread / n**0.5)).nan_to_num(nan=0.0, posinf=np.inf)  # 0 / 0: nothing differs
    p_values = holm((2 * stats.t.sf(t.numpy(), n - 1)).tolist())
    p = torch.tensor(p_values, dtype=torch.float64)
    order = mean.abs().argsort(descending=True, stable=True)
    changed = (p <= ALPHA)[order]
    shown = order[(changed & (changed.cumsum(0) <= _MOST)) | (in_base | in_tuned)[order]]
    draws = resample_weights(n, _RESAMPLES, seed).double() @ differences[:, shown]
    ends = torch.tensor([(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], dtype=torch.float64)
    low, high = np.quantile(draws.numpy(), ends.numpy(), axis=0)
    return DiffEffects(
        n_tested=len(names),
        n_changed=int((p <= ALPHA).sum()),
        shown=tuple(
            DiffEffect(
                name=names[place],
                base=float(base[:, place].double().mean()),
                tuned=float(tuned[:, place].double().mean()),
                difference=float(mean[place]),
                interval=Interval(level=_LEVEL, low=float(a), high=float(b), method="percentile", resamples=_RESAMPLES),
                p=p_values[place],
                status=_status(bool(in_base[place]), bool(in_tuned[place])),
            )
            for place, a, b in zip(shown.tolist(), low, high, strict=True)
        ),
    )


def _status(in_base: bool, in_tuned: bool) -> Status | None:
    if not (in_base or in_tuned):
        return None
    return "kept" if in_base and in_tuned else "gained" if in_tuned else "lost"
