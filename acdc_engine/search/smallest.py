"""The smallest circuit of an order of edges that meets a target, without the user choosing a size."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Bool, Int
from torch import Tensor

from acdc_engine.graph.blocks import Graph
from acdc_engine.patch.judge import Judge, Target
from acdc_engine.search.order import first_edges


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


FIRST = 32
"""Edges of the shortest prefix that is run; each following one has twice as many."""
Report = Callable[[str, Found, bool], None]
"""Called for every circuit that was run: what it was, the circuit, whether it meets the target."""


def smallest_of_order(
    graph: Graph,
    order: Int[Tensor, "edges 2"],
    judge: Judge,
    target: Target,
    report: Report,
    up_to: int | None = None,
) -> Found:
    """Finds the smallest prefix of an order whose clean circuit meets the target.

    Prefixes of doubling length are run from short to long. The first interval in which the faithfulness enters the band
    or jumps across it is bisected to 3 % of its length; where that finds no circuit in the band, the search goes on.
    Faithfulness is not monotone in size, so this is the smallest circuit *seen*: O(log E) exact evaluations. The whole
    graph (faithfulness 1) always ends the search.

    Args:
        graph: The model's graph.
        order: Edges, best first.
        judge: Runs circuits.
        target: The band to reach.
        report: Called for every circuit that was run.
        up_to: Give up at circuits of that many edges.

    Returns:
        The smallest circuit seen that meets the target; the whole graph when no other does; when giving up, the last
        circuit run, which does not meet it.
    """
    search = _Search(graph, order, judge, target, report)
    below, upper, side_below = 0, min(FIRST, len(order)), -1
    while True:
        run, side = search.run("first edges", upper)
        if side != side_below:
            found = search.bisect(below, upper, side_below) or (run if side == 0 else None)
            if found is not None:
                return found
        if upper == len(order) or (up_to is not None and run.size >= up_to):
            return run
        below, upper, side_below = upper, min(upper * 2, len(order)), side


@dataclass(frozen=True)
class _Search:
    graph: Graph
    order: Tensor
    judge: Judge
    target: Target
    report: Report

    def run(self, what: str, length: int) -> tuple[Found, int]:
        """Runs a prefix; the side on which it misses the band: -1 below, 1 above, 0 inside."""
        mask = first_edges(self.graph, self.order, length)
        # Where nothing is kept this is the ablated model itself.
        found = Found(mask, self.judge.faithfulness(mask[None])[0] if mask.any() else 0.0)
        met = found.size > 0 and self.target.met(found.faithfulness)
        self.report(what, found, met)
        return found, 0 if met else -1 if found.faithfulness < self.target.faithfulness else 1

    def bisect(self, below: int, upper: int, side_below: int) -> Found | None:
        """Narrows an interval whose lower end misses the band on one side and whose upper end does not."""
        best = None
        while upper - below > max(1, upper // 32):
            middle = (upper + below) // 2
            run, side = self.run("bisection", middle)
            if side == side_below:
                below = middle
            else:
                upper, best = middle, run if side == 0 else best
        return best
