"""Orders in which edges enter a circuit, and the clean circuit that the first so many of them make."""

import heapq
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acdc_engine.errors import MethodError, nearest
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.connectivity import clean

Rank = Literal["absolute", "signed", "rms"]
RANKS: tuple[Rank, ...] = get_args(Rank)


def check_rank(name: str) -> Rank:
    """Returns the name if edges can be ranked that way.

    Raises:
        MethodError: For an unknown name.
    """
    for known in RANKS:
        if name == known:
            return known
    raise MethodError(f"Unknown rank {name!r}.{nearest(name, RANKS)}")


def strengths(scores: Float[Tensor, "2 senders receivers"], rank: Rank) -> Float[Tensor, "senders receivers"]:
    """What edges are ranked by.

    Args:
        scores: Mean and root mean square over prompts.
        rank: "absolute" for |mean|; "signed" for the mean (which puts edges that work against the metric last); "rms"
            for the root mean square (an edge that helps one prompt and hurts another is strong all the same).
    """
    mean, rms = scores.unbind()
    return rms if rank == "rms" else mean if rank == "signed" else mean.abs()


def best_first(graph: Graph, scores: Float[Tensor, "2 senders receivers"], rank: Rank) -> Int[Tensor, "edges 2"]:
    """All edges, strongest first; ties in the graph's order."""
    edges = graph.exists.nonzero()
    values = strengths(scores, rank)[graph.exists]
    return edges[values.argsort(descending=True, stable=True)]


def greedy_from_logits(
    graph: Graph, scores: Float[Tensor, "2 senders receivers"], rank: Rank
) -> Int[Tensor, "edges 2"]:
    """All edges in the order in which a greedy search from the logits takes them.

    Starting with the logits, the strongest edge into any node reached so far is taken next and its sender becomes
    reached (Hanna et al. 2024, arXiv 2403.17806, section 3). Every prefix is connected to the logits. O(E log E).
    """
    values = strengths(scores, rank).tolist()
    receivers_of: dict[int, list[int]] = {}
    for receiver in range(graph.n_receivers):
        for sender in graph.fed(receiver):
            receivers_of.setdefault(sender, []).append(receiver)
    heap: list[tuple[float, int, int]] = []
    opened: set[int] = set()

    def reach(receivers: list[int]) -> None:
        for receiver in receivers:
            if receiver not in opened:  # heads of a group share their k and v
                opened.add(receiver)
                for sender in graph.sources(receiver):
                    heapq.heappush(heap, (-values[sender][receiver], sender, receiver))

    reach([graph.logits])
    order, reached = [], set()
    while heap:
        _, sender, receiver = heapq.heappop(heap)
        order.append((sender, receiver))
        if sender not in reached:
            reached.add(sender)
            reach(receivers_of.get(sender, []))
    return torch.tensor(order)


def first_edges(graph: Graph, order: Int[Tensor, "edges 2"], count: int) -> Bool[Tensor, "senders receivers"]:
    """The clean circuit made by the first `count` edges of an order."""
    mask = torch.zeros_like(graph.exists)
    mask[order[:count, 0], order[:count, 1]] = True
    return clean(graph, mask)


def of_size(graph: Graph, order: Int[Tensor, "edges 2"], size: int) -> Bool[Tensor, "senders receivers"]:
    """The largest clean circuit with at most `size` edges that a prefix of the order makes.

    Cleaning removes edges that lie on no path, so prefixes longer than `size` are looked at: the size asked for is
    the size of the circuit, not of the request. Cleaned prefixes grow with the prefix, which allows bisection.

    Raises:
        MethodError: The size is below one or no non-empty circuit is that small.
    """
    if size < 1:
        raise MethodError(f"A circuit needs at least one edge, not {size}.")
    low, high = 0, len(order)
    while low < high:
        middle = (low + high + 1) // 2
        if int(first_edges(graph, order, middle).sum()) <= size:
            low = middle
        else:
            high = middle - 1
    mask = first_edges(graph, order, low)
    if not mask.any():
        smallest = int(first_edges(graph, order, low + 1).sum())
        raise MethodError(
            f"No circuit of at most {size} edges connects the input to the logits in this order; the smallest has "
            f"{smallest}. Ask for a size of at least {smallest}."
        )
    return mask
