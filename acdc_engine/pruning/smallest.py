"""The smallest circuit of an order of edges that meets a target, without the user choosing a size."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Bool, Int
from torch import Tensor

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
    evaluations. The whole graph (faithfulness 1) always ends the search.

    Args:
        graph: The model's graph.
        order: Edges, best first.
        judge: Runs circuits.
        target: The band to reach.
        report: Called for every circuit that was run.

    Returns:
        The smallest circuit seen that meets the target; the whole graph when no other does.
    """
    upper, below, undershoots = 32, 0, True
    while not target.met((best := _run(graph, order, upper, judge)).faithfulness) and upper < len(order):
        report("first edges", best, False)
        below, undershoots = upper, best.faithfulness < target.faithfulness
        upper = min(upper * 2, len(order))
    report("first edges", best, target.met(best.faithfulness))
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
    return best


def _run(graph: Graph, order: Tensor, length: int, judge: Judge) -> Found:
    mask = first_edges(graph, order, length)
    if not mask.any():
        return Found(mask, 0.0)  # nothing is kept: the ablated model itself
    return Found(mask, judge.faithfulness(mask[None])[0])
