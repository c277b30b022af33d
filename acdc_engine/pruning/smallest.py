"""The smallest circuit of an order of edges that meets a target, without the user choosing a size."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from acdc_engine.errors import SearchError
from acdc_engine.graph.edges import Graph
from acdc_engine.patching.judge import Judge, Target
from acdc_engine.pruning.order import first_edges


@dataclass(frozen=True)
class Found:
    """A circuit and its faithfulness on the prompts it was searched on.

    Attributes:
        mask: Kept edges, clean.
        faithfulness: On the discovery prompts.
    """

    mask: Bool[Tensor, "senders receivers"]
    faithfulness: float

    @property
    def size(self) -> int:
        """Number of edges."""
        return int(self.mask.sum())


Report = Callable[[str, Found, bool], None]
"""Called for every circuit that was run: what it was, the circuit, whether it meets the target."""


def smallest_of_order(
    graph: Graph, order: Int[Tensor, "edges 2"], judge: Judge, target: Target, report: Report
) -> Found:
    """Finds the smallest prefix of an order whose clean circuit meets the target.

    Prefixes of doubling length are run from short to long until one meets the target; the gap below it is bisected to
    3 % of the length. Faithfulness is not monotone in size, so this is the smallest circuit *seen*: O(log E) exact
    evaluations, and the whole graph (faithfulness 1) always ends the search.

    Args:
        graph: The model's graph.
        order: Edges, best first.
        judge: Runs circuits.
        target: The band to reach.
        report: Called for every circuit that was run.

    Raises:
        SearchError: Only the whole graph meets the target.
    """
    length, below, tried = 16, 0, []
    found: tuple[int, Found] | None = None
    while found is None:
        length = min(length * 2, len(order))
        run = _run(graph, order, length, judge)
        tried.append(run)
        report("first edges", run, target.met(run.faithfulness))
        if target.met(run.faithfulness):
            found = (length, run)
        elif length == len(order):
            raise SearchError(_why(tried, target))
        else:
            below = length
    upper, best = found
    undershoots = tried[-2].faithfulness < target.faithfulness if len(tried) > 1 else True
    while upper - below > max(1, upper // 32):
        middle = (upper + below) // 2
        run = _run(graph, order, middle, judge)
        met = target.met(run.faithfulness)
        report("bisection", run, met)
        # Between a circuit that undershoots and one that fits, a circuit that overshoots lies beyond the smallest fit.
        if met or (undershoots and run.faithfulness > target.upper):
            upper, best = middle, run if met else best
        else:
            below = middle
    if best.size == graph.n_edges:
        raise SearchError(_why(tried, target))
    return best


def _run(graph: Graph, order: Tensor, length: int, judge: Judge) -> Found:
    mask = first_edges(graph, order, length)
    if not mask.any():
        return Found(mask, 0.0)
    return Found(mask, judge.faithfulness(mask[None])[0])


def _why(tried: list[Found], target: Target) -> str:
    closest = min((t for t in tried[:-1]), key=lambda t: abs(t.faithfulness - 1), default=tried[-1])
    return (
        f"No circuit smaller than the whole graph meets the target {target}. The closest of {len(tried)} tried has "
        f"{closest.size} edges and faithfulness {closest.faithfulness:.3f}. Lower --faithfulness, or score with another "
        "--method: the edges' order does not fit this behaviour."
    )
