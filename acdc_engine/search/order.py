"""Orders of edges, the circuits that their first edges make, and the strategies that keep those.

A strategy keeps a given number of them, those above a threshold, or as few as meet a target.
"""

import heapq
import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acdc_engine.errors import MethodError, one_of
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.connectivity import clean
from acdc_engine.registers import parameter
from acdc_engine.search.strategies import SEARCHES, Found, Search, SearchParameters

Rank = Literal["absolute", "signed", "rms"]
RANKS: tuple[Rank, ...] = get_args(Rank)
FIRST = 32
"""Edges of the shortest prefix that is run; each following one has twice as many."""


def check_rank(name: str) -> Rank:
    """Returns the name if edges can be ranked that way.

    Raises:
        MethodError: For an unknown name.
    """
    return one_of(name, RANKS, "rank", MethodError)


def strengths(scores: Float[Tensor, "means_and_rms *edges"], rank: Rank) -> Float[Tensor, "*edges"]:
    """What edges are ranked by.

    Args:
        scores: Of all edges or of some: mean over each group of prompts, and last the root mean square over all.
        rank: "absolute" for |mean|, the largest of all groups'; "signed" for the mean (which puts edges that work
            against the metric last); "rms" for the root mean square (an edge that helps one prompt and hurts another is
            strong all the same).
    """
    means, rms = scores[:-1], scores[-1]
    return rms if rank == "rms" else means.mean(0) if rank == "signed" else means.abs().amax(0)


def best_first(graph: Graph, scores: Float[Tensor, "2 senders receivers"], rank: Rank) -> Int[Tensor, "edges"]:
    """Flat ids (`sender * n_receivers + receiver`) of all edges, strongest first; ties in the graph's order."""
    edges = graph.exists.flatten().nonzero().flatten()
    values = strengths(scores, rank).flatten()[edges]
    return edges[values.argsort(descending=True, stable=True)]


def greedy_from_logits(graph: Graph, scores: Float[Tensor, "2 senders receivers"], rank: Rank) -> Int[Tensor, "edges"]:
    """Flat ids of all edges in the order in which a greedy search from the logits takes them.

    Starting with the logits, the strongest edge into any node reached so far is taken next and its sender becomes
    reached (Hanna et al. 2024, arXiv 2403.17806, section 3). Every prefix is connected to the logits. O(E log E).
    """
    values = strengths(scores, rank).T.tolist()
    heap: list[tuple[float, int, int]] = []
    opened: set[int] = set()

    def reach(receivers: tuple[int, ...]) -> None:
        for receiver in receivers:
            if receiver not in opened:  # heads of a group share their k and v
                opened.add(receiver)
                for sender in graph.exists[:, receiver].nonzero().flatten().tolist():
                    heapq.heappush(heap, (-values[receiver][sender], sender, receiver))

    reach((graph.logits,))
    order, reached = [], set[int]()
    while heap:
        _, sender, receiver = heapq.heappop(heap)
        order.append(sender * graph.n_receivers + receiver)
        node = graph.node(sender, receiver)
        if node not in reached:
            reached.add(node)
            reach(graph.feeding(node))
    return torch.tensor(order)


def first_edges(
    graph: Graph, order: Int[Tensor, "edges"], count: int, kept: Bool[Tensor, "senders receivers"] | None = None
) -> Bool[Tensor, "senders receivers"]:
    """The clean circuit made by the first `count` edges of an order, and by those that are kept anyway."""
    mask = torch.zeros_like(graph.exists) if kept is None else kept.clone()
    mask.view(-1)[order[:count]] = True
    return clean(graph, mask)


def of_size(
    graph: Graph, order: Int[Tensor, "edges"], size: int, kept: Bool[Tensor, "senders receivers"] | None = None
) -> Bool[Tensor, "senders receivers"]:
    """The largest clean circuit with at most `size` edges that a prefix of the order makes, with those that are kept.

    Cleaning removes edges that lie on no path, so prefixes longer than `size` are looked at: the size asked for is
    the size of the circuit, not of the request. Cleaned prefixes grow with the prefix, which allows bisection.

    Raises:
        MethodError: The size is below one, leaves no room beside the edges that are kept, or no non-empty circuit is
            that small.
    """
    if size < 1:
        raise MethodError(f"A circuit needs at least one edge, not {size}.")
    if kept is not None:
        check_room(size, int(kept.sum()))
    low, high = 0, len(order)
    while low < high:
        middle = (low + high + 1) // 2
        if int(first_edges(graph, order, middle, kept).sum()) <= size:
            low = middle
        else:
            high = middle - 1
    mask = first_edges(graph, order, low, kept)
    if not mask.any():
        smallest = int(first_edges(graph, order, low + 1).sum())
        raise MethodError(
            f"No circuit of at most {size} edges connects the input to the logits in this order; the smallest has "
            f"{smallest}. Ask for a size of at least {smallest}."
        )
    return mask


def check_room(size: int, kept: int) -> None:
    """Refuses, with a MethodError, a size that an inner circuit fills by itself."""
    if size <= kept:
        raise MethodError(
            f"The inner circuit has {kept:,} edges by itself, so one around it has more, not {size:,}: ask for a "
            "larger --size."
        )


def smallest_of_order(
    search: Search, order: Int[Tensor, "edges"], up_to: int | None = None, first: int = FIRST
) -> Found:
    """Finds the smallest prefix of an order (flat ids, best first) whose clean circuit meets the target.

    Prefixes of doubling length, the shortest of `first` edges, are run from short to long. The first interval in which
    the faithfulness enters the band or jumps across it is bisected to 3 % of its length; where that finds no circuit in
    the band, the search goes on. Faithfulness is not monotone in size, so this is the smallest circuit *seen*:
    O(log E) exact evaluations. The whole graph (faithfulness 1) always ends the search.

    Returns:
        The smallest circuit seen that meets the target; the whole graph when no other does; when giving up, at
        circuits of `up_to` edges, the last one run, which does not meet it.
    """
    below, upper, side_below = 0, min(first, len(order)), -1
    while True:
        run, side = _run_prefix(search, order, "first edges", upper)
        if side != side_below:
            found = _bisect(search, order, below, upper, side_below) or (run if side == 0 else None)
            if found is not None:
                return found
        if upper == len(order) or (up_to is not None and run.size >= up_to):
            return run
        below, upper, side_below = upper, min(upper * 2, len(order)), side


def _run_prefix(search: Search, order: Tensor, what: str, length: int) -> tuple[Found, int]:
    """Runs a prefix; the side on which it misses the band: -1 below, 1 above, 0 inside."""
    found = search.run(first_edges(search.graph, order, length, search.kept), what)
    if search.met(found):
        return found, 0
    return found, -1 if found.faithfulness < search.target.faithfulness else 1


def _bisect(search: Search, order: Tensor, below: int, upper: int, side_below: int) -> Found | None:
    """Narrows an interval whose lower end misses the band on one side and whose upper end does not."""
    best = None
    while upper - below > max(1, upper // 32):
        middle = (upper + below) // 2
        run, side = _run_prefix(search, order, "bisection", middle)
        if side == side_below:
            below = middle
        else:
            upper, best = middle, run if side == 0 else best
    return best


_RANK_HELP = "edges are ranked by absolute or signed score, or by rms, the root mean square over prompts"


@dataclass(frozen=True)
class _Prefix(SearchParameters):
    keeps: ClassVar[bool] = True
    rank: str = parameter("absolute", _RANK_HELP)
    size: int | None = parameter(None, "number of edges; without, as few as reach the target")

    def __post_init__(self) -> None:
        check_rank(self.rank)
        if self.size is not None and self.size < 1:
            raise MethodError(f"A circuit needs at least one edge, not {self.size}.")

    @property
    def aims(self) -> bool:
        """See `SearchParameters`."""
        return self.size is None


@SEARCHES.add("top-k", "the strongest edges: --size many, or as few as reach the target", parameters=_Prefix)
def _top_k(search: Search, parameters: _Prefix) -> Found:
    order = best_first(search.graph, search.scores, check_rank(parameters.rank))
    return _of_order(search, order, parameters.size, "top-k")


@SEARCHES.add(
    "greedy",
    "grown from the logits, strongest edge first: --size many, or as few as reach the target",
    parameters=_Prefix,
)
def _greedy(search: Search, parameters: _Prefix) -> Found:
    order = greedy_from_logits(search.graph, search.scores, check_rank(parameters.rank))
    return _of_order(search, order, parameters.size, "greedy")


@dataclass(frozen=True)
class _Threshold(SearchParameters):
    keeps: ClassVar[bool] = True
    aims = False
    rank: str = parameter("absolute", _RANK_HELP)
    threshold: float | None = parameter(None, "smallest strength of a kept edge")

    def __post_init__(self) -> None:
        check_rank(self.rank)
        check_threshold("threshold", self.threshold)


def check_threshold(strategy: str, threshold: float | None) -> float:
    """The threshold of a strategy.

    Raises:
        MethodError: It is missing, or no number.
    """
    if threshold is None:
        raise MethodError(
            f"Strategy {strategy!r} needs a threshold (in units of the metric, or nats with --objective kl)."
        )
    if not math.isfinite(threshold):
        raise MethodError(f"The threshold must be a finite number, not {threshold}.")
    return threshold


@SEARCHES.add("threshold", "every edge whose strength is at least --threshold", parameters=_Threshold)
def _threshold(search: Search, parameters: _Threshold) -> Found:
    graph, strength = search.graph, strengths(search.scores, check_rank(parameters.rank))
    threshold = check_threshold("threshold", parameters.threshold)
    mask = (strength >= threshold) & graph.exists
    mask = clean(graph, mask if search.kept is None else mask | search.kept)
    if not mask.any():
        raise MethodError(
            f"Threshold {threshold:g} leaves no path from the input to the logits. The strongest edge has "
            f"{float(strength[graph.exists].max()):.4g}; choose a lower threshold."
        )
    return search.run(mask, "threshold")


def _of_order(search: Search, order: Int[Tensor, "edges"], size: int | None, what: str) -> Found:
    if size is None:
        return smallest_of_order(search, order)
    return search.run(of_size(search.graph, order, size, search.kept), what)
