"""The search strategies by name, and which settings each of them takes."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine.errors import MethodError, SearchError, nearest
from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.edges import Graph
from acdc_engine.patching.judge import Judge, Target
from acdc_engine.pruning.iterative import iterative
from acdc_engine.pruning.order import best_first, check_rank, greedy_from_logits, of_size, strengths
from acdc_engine.pruning.smallest import Found, Report, smallest_of_order

STRATEGIES = {
    "iterative": "score again inside the circuit and drop the weakest, as long as the target holds",
    "top-k": "the strongest edges: --size many, or as few as reach the target",
    "greedy": "grown from the logits, strongest edge first: --size many, or as few as reach the target",
    "threshold": "every edge whose strength is at least --threshold",
}


@dataclass(frozen=True)
class Choice:
    """A strategy with its settings, checked when it is made.

    Attributes:
        strategy: Key of `STRATEGIES`.
        rank: "absolute" (by |score|) or "signed"; "iterative" tries both by itself.
        size: Number of edges for "top-k" and "greedy"; None to search for the smallest circuit that meets the target.
        threshold: For "threshold" only.
    """

    strategy: str = "iterative"
    rank: str = "absolute"
    size: int | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        """Checks the settings.

        Raises:
            MethodError: Unknown names, or settings that do not fit the strategy.
        """
        if self.strategy not in STRATEGIES:
            raise MethodError(f"Unknown strategy {self.strategy!r}.{nearest(self.strategy, STRATEGIES)}")
        check_rank(self.rank)
        if self.rank != "absolute" and self.strategy == "iterative":
            raise MethodError(
                "Strategy 'iterative' takes no rank: it tries both ranks by itself; --rank is for top-k, greedy and "
                "threshold."
            )
        if self.size is not None and self.strategy not in ("top-k", "greedy"):
            raise MethodError(f"Strategy {self.strategy!r} takes no size; use 'top-k' or 'greedy' for a given size.")
        if self.size is not None and self.size < 1:
            raise MethodError(f"A circuit needs at least one edge, not {self.size}.")
        if (self.threshold is not None) != (self.strategy == "threshold"):
            raise MethodError(
                "Strategy 'threshold' needs a threshold (in units of the metric)."
                if self.strategy == "threshold"
                else f"Strategy {self.strategy!r} takes no threshold; use 'threshold' for that."
            )

    @property
    def searches(self) -> bool:
        """Whether the target decides the size."""
        return self.size is None and self.threshold is None


def find_circuit(
    graph: Graph,
    scores: Float[Tensor, "senders receivers"],
    judge: Judge,
    target: Target,
    choice: Choice,
    report: Report,
) -> Found:
    """Turns scores into a clean circuit.

    Args:
        graph: The model's graph.
        scores: Attribution scores; positive supports the behaviour.
        judge: Runs circuits on the discovery prompts.
        target: The band to reach, for strategies that search.
        choice: The strategy and its settings.
        report: Called for every circuit that was run.

    Raises:
        SearchError: No circuit smaller than the whole graph meets the target.
        MethodError: The size or threshold leaves no circuit.
    """
    tried: list[Found] = []

    def remember(what: str, found: Found, met: bool) -> None:
        tried.append(found)
        report(what, found, met)

    if choice.searches:
        found = _search(graph, scores, judge, target, choice, remember)
        if found.size == graph.n_edges:
            raise SearchError(_how_far(graph, tried, target))
        return found
    mask = _of_given_size(graph, scores, choice)
    found = Found(mask, judge.faithfulness(torch.stack([mask]))[0])
    report(choice.strategy, found, target.met(found.faithfulness))
    return found


def _search(graph: Graph, scores: Tensor, judge: Judge, target: Target, choice: Choice, report: Report) -> Found:
    if choice.strategy == "iterative":
        return iterative(graph, scores, judge, target, report)
    return smallest_of_order(graph, _order(graph, scores, choice), judge, target, report)


def _order(graph: Graph, scores: Tensor, choice: Choice) -> Tensor:
    rank = check_rank(choice.rank)
    if choice.strategy == "greedy":
        return greedy_from_logits(graph, scores, rank)
    return best_first(graph, scores, rank)


def _of_given_size(graph: Graph, scores: Tensor, choice: Choice) -> Bool[Tensor, "senders receivers"]:
    if choice.size is not None:
        return of_size(graph, _order(graph, scores, choice), choice.size)
    assert choice.threshold is not None, "checked when the choice was made"
    strength = strengths(scores, check_rank(choice.rank))
    mask = clean(graph, (strength >= choice.threshold) & graph.exists)
    if not mask.any():
        raise MethodError(
            f"Threshold {choice.threshold:g} leaves no path from the input to the logits. The strongest edge has "
            f"{float(strength[graph.exists].max()):.4g}; choose a lower threshold."
        )
    return mask


def _how_far(graph: Graph, tried: list[Found], target: Target) -> str:
    """Says how near the search came, and which way it missed."""
    smaller = [found for found in tried if 0 < found.size < graph.n_edges]
    if not smaller:
        return f"No circuit smaller than the whole graph was found for the target {target}. Lower --faithfulness."
    closest = min(smaller, key=lambda found: abs(found.faithfulness - 1))
    way = "falls short" if closest.faithfulness < 1 else "overshoots: edges that work against the behaviour are missing"
    return (
        f"No circuit smaller than the whole graph meets the target {target}. The closest of {len(smaller)} circuits "
        f"run has {closest.size:,} of {graph.n_edges:,} edges and faithfulness {closest.faithfulness:.3f}: it {way}. "
        "Lower --faithfulness, or score with another --method or more prompts (--n)."
    )
