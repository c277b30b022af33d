"""The exact effect of every edge of a circuit."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine.graph.connectivity import clean
from acdc_engine.patching.judge import Judge

BATCH = 8
"""Circuits run at once."""


def edge_effects(
    judge: Judge, mask: Bool[Tensor, "senders receivers"], progress: Callable[[int], None] | None = None
) -> Float[Tensor, "senders receivers"]:
    """What the mean metric loses without each single edge of a circuit.

    Args:
        judge: The prompts.
        mask: The circuit.
        progress: Called with the number of edges done.

    Returns:
        `m(C) - m(C without the edge)` in units of the metric, positive where the edge supports the behaviour; NaN
        outside the circuit. One exact evaluation per edge.
    """
    effects = torch.full(mask.shape, torch.nan)
    whole = float(judge.evaluator.values(mask[None], judge.metric).mean())
    for edges in mask.nonzero().split(BATCH):
        without = mask.repeat(len(edges), 1, 1)
        without[torch.arange(len(edges)), edges[:, 0], edges[:, 1]] = False
        values = judge.evaluator.values(clean(judge.evaluator.view.graph, without), judge.metric).mean(1)
        effects[edges[:, 0], edges[:, 1]] = whole - values.float().cpu()
        if progress is not None:
            progress(len(edges))
    return effects
