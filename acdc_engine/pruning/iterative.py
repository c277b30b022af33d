"""Iterative pruning: score again inside the circuit, drop the weakest share, check exactly, back off."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.edges import Graph
from acdc_engine.patching.judge import Judge, Target
from acdc_engine.pruning.order import RANKS, best_first, strengths
from acdc_engine.pruning.smallest import Found, Report, smallest_of_order

SHARES = (0.5, 0.35, 0.25, 0.17, 0.12, 0.08, 0.05, 0.03, 0.02, 0.01, 0.005, 0.0)
"""Shares of the edges tried in one round, largest first; the last stands for a single edge."""
BATCH = 2
"""Shares tried at once."""


def iterative(
    graph: Graph, scores: Float[Tensor, "senders receivers"], judge: Judge, target: Target, report: Report
) -> Found:
    """Finds a small circuit that meets the target.

    1. The smallest circuit among the best edges by |score| and by signed score that meets the target; the whole graph
       where none does.
    2. Rounds: edges are scored inside the circuit (the gradient of the metric with respect to the mask, at the
       circuit's own activations), shares of the weakest by |score| and of the lowest by signed score are dropped, the
       results are cleaned and run exactly, and the smallest that still meets the target is kept. Where none does,
       smaller shares are tried, down to one edge; when that fails too, the search ends.

    The estimate decides only what is tried; every circuit that is kept was run exactly. No single edge among the
    weakest two can go in the end, which is less than 1-minimality.

    Cost: one forward and backward pass inside the circuit and a few exact evaluations per round, each cheaper than a
    forward pass once the circuit is sparse.

    Args:
        graph: The model's graph.
        scores: Attribution scores; positive supports the behaviour.
        judge: Runs circuits on the discovery prompts.
        target: The band to stay in.
        report: Called for every circuit that was run.

    Returns:
        The circuit; the whole graph when nothing can be dropped.
    """
    signed = smallest_of_order(graph, best_first(graph, scores, "signed"), judge, target, report)
    absolute = smallest_of_order(graph, best_first(graph, scores, "absolute"), judge, target, report, signed.size)
    best = absolute if absolute.size < signed.size and target.met(absolute.faithfulness) else signed
    level = 0
    while (step := _round(graph, best, judge, target, report, level)) is not None:
        best, level = step.found, max(0, step.level - BATCH)
    return best


@dataclass(frozen=True)
class _Step:
    found: Found
    level: int


def _round(graph: Graph, current: Found, judge: Judge, target: Target, report: Report, level: int) -> _Step | None:
    """One round from one circuit, starting with the share at `level`; None when nothing can be dropped."""
    inside = judge.contributions(current.mask)
    tried: set[int] = set()
    while level < len(SHARES):
        counts = {max(1, int(current.size * share)) for share in SHARES[level : level + BATCH]} - tried
        tried |= counts
        masks = _distinct([m for n in sorted(counts) for m in _without_weakest(graph, current.mask, inside, n)])
        values = judge.faithfulness(torch.stack(masks)) if masks else []
        runs = [Found(mask, value) for mask, value in zip(masks, values, strict=True)]
        for run in runs:
            report("dropped a share", run, target.met(run.faithfulness))
        fitting = [run for run in runs if target.met(run.faithfulness)]
        if fitting:
            return _Step(min(fitting, key=lambda run: run.size), level)
        level += BATCH
    return None


def _without_weakest(
    graph: Graph, mask: Bool[Tensor, "senders receivers"], inside: Float[Tensor, "senders receivers"], count: int
) -> list[Bool[Tensor, "senders receivers"]]:
    """The circuit without its `count` weakest edges, by |score| and by signed score; empty circuits are left out."""
    edges = mask.nonzero()
    out = []
    for rank in RANKS:
        weakest = edges[strengths(inside, rank)[mask].argsort(stable=True)[:count]]
        rest = mask.clone()
        rest[weakest[:, 0], weakest[:, 1]] = False
        rest = clean(graph, rest)
        if rest.any():
            out.append(rest)
    return out


def _distinct(masks: list[Tensor]) -> list[Tensor]:
    out: list[Tensor] = []
    for mask in masks:
        if not any(torch.equal(mask, other) for other in out):
            out.append(mask)
    return out
