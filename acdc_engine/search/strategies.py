"""The search strategies by name, and which settings each of them takes."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine.errors import MethodError, SearchError, nearest
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.connectivity import clean
from acdc_engine.patch.judge import Judge, Target
from acdc_engine.search.acdc import acdc
from acdc_engine.search.iterative import iterative
from acdc_engine.search.order import best_first, check_rank, first_edges, greedy_from_logits, of_size, strengths
from acdc_engine.search.smallest import Found, Report, smallest_of_order

STRATEGIES = {
    "iterative": "score again inside the circuit and drop the weakest, as long as the target holds",
    "top-k": "the strongest edges: --size many, or as few as reach the target",
    "greedy": "grown from the logits, strongest edge first: --size many, or as few as reach the target",
    "threshold": "every edge whose strength is at least --threshold",
    "acdc": "greedy sweep from the logits back (Conmy et al.): drop what costs less than --threshold",
}
MINIMAL = ("iterative",)
"""Strategies whose circuit is made 1-minimal by exact tests in the end."""


@dataclass(frozen=True)
class Choice:
    """A strategy with its settings, checked when it is made.

    Attributes:
        strategy: Key of `STRATEGIES`.
        rank: "absolute" (by |score|), "signed", or "rms" (root mean square over prompts), for "top-k", "greedy" and
            "threshold"; the others decide by themselves.
        size: Number of edges for "top-k" and "greedy"; None to search for the smallest circuit that meets the target.
        threshold: For "threshold": smallest strength of a kept edge. For "acdc": largest loss of the objective that
            one removal may cost, in units of the metric (nats when the objective is "kl").
        candidates: For "acdc": sweep only over this many of the best edges, by |score| (where the objective
            is "kl", by root mean square); None for the whole graph.
    """

    strategy: str = "iterative"
    rank: str = "absolute"
    size: int | None = None
    threshold: float | None = None
    candidates: int | None = None

    def __post_init__(self) -> None:
        """Checks the settings.

        Raises:
            MethodError: Unknown names, or settings that do not fit the strategy.
        """
        if self.strategy not in STRATEGIES:
            raise MethodError(f"Unknown strategy {self.strategy!r}.{nearest(self.strategy, STRATEGIES)}")
        check_rank(self.rank)
        if self.rank != "absolute" and not self.takes_rank:
            why = "tries its ranks" if self.strategy == "iterative" else "takes its candidates"
            raise MethodError(
                f"Strategy {self.strategy!r} takes no rank: it {why} by itself; --rank is for top-k, greedy and "
                "threshold."
            )
        if self.size is not None and self.strategy not in ("top-k", "greedy"):
            raise MethodError(f"Strategy {self.strategy!r} takes no size; use 'top-k' or 'greedy' for a given size.")
        if self.size is not None and self.size < 1:
            raise MethodError(f"A circuit needs at least one edge, not {self.size}.")
        self._check_threshold()
        if self.candidates is not None and self.strategy != "acdc":
            raise MethodError(f"Strategy {self.strategy!r} takes no candidates; --candidates is for 'acdc'.")
        if self.candidates is not None and self.candidates < 1:
            raise MethodError(f"At least one candidate edge is needed, not {self.candidates}.")

    def _check_threshold(self) -> None:
        takes_one = self.strategy in ("threshold", "acdc")
        if self.threshold is None and takes_one:
            raise MethodError(
                f"Strategy {self.strategy!r} needs a threshold (in units of the metric"
                f"{', or nats with --objective kl' if self.strategy == 'acdc' else ''})."
            )
        if self.threshold is not None and not takes_one:
            raise MethodError(f"Strategy {self.strategy!r} takes no threshold; use 'threshold' or 'acdc' for that.")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise MethodError(f"The threshold must be a finite number, not {self.threshold}.")
        if self.strategy == "acdc" and self.threshold is not None and self.threshold <= 0:
            raise MethodError(
                f"ACDC's threshold must be above 0, not {self.threshold:g}: an edge goes if its removal costs less "
                "than that, and at 0 nothing but harmful edges would go. Try 0.01."
            )

    @property
    def searches(self) -> bool:
        """Whether the target decides the size."""
        return self.size is None and self.threshold is None

    @property
    def takes_rank(self) -> bool:
        """Whether edges are ranked as `rank` says; otherwise the strategy decides."""
        return self.strategy in ("top-k", "greedy", "threshold")


def find_circuit(
    graph: Graph,
    scores: Float[Tensor, "2 senders receivers"],
    judge: Judge,
    target: Target,
    choice: Choice,
    report: Report,
    note: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Found:
    """Turns scores into a clean circuit.

    Args:
        graph: The model's graph.
        scores: Attribution scores, mean and root mean square over prompts; positive means support the behaviour.
        judge: Runs circuits on the discovery prompts.
        target: The band to reach, for strategies that search.
        choice: The strategy and its settings.
        report: Called for every circuit that was run.
        note: Called with what a search says of itself when it is done.
        progress: Called with edges visited and edges to visit, by searches that know them.

    Raises:
        SearchError: No circuit smaller than the whole graph meets the target.
        MethodError: The size or threshold leaves no circuit.
    """
    if choice.strategy == "acdc":
        return _sweep(graph, scores, judge, choice, report, note, progress)
    tried: list[Found] = []

    def remember(what: str, found: Found, met: bool) -> None:
        tried.append(found)
        report(what, found, met)

    found = _search(graph, scores, judge, target, choice, remember)
    if choice.searches and found.size == graph.n_edges:
        raise SearchError(_how_far(graph, tried, target))
    return found


def _sweep(
    graph: Graph,
    scores: Tensor,
    judge: Judge,
    choice: Choice,
    report: Report,
    note: Callable[[str], None] | None,
    progress: Callable[[int, int], None] | None,
) -> Found:
    assert choice.threshold is not None, "checked when the choice was made"
    start = graph.exists
    if choice.candidates is not None:
        start = first_edges(graph, best_first(graph, scores, judge.unsigned_rank), choice.candidates)
        if not start.any():
            raise MethodError(
                f"The best {choice.candidates} edges by score do not connect the input to the logits. Ask for more "
                "with --candidates."
            )
    found, tally = acdc(graph, start, judge, choice.threshold, report, progress)
    if note is not None:
        note(f"ACDC: {tally}.")
    if not found.size:
        raise MethodError(
            f"Threshold {choice.threshold:g} leaves no circuit: every edge could go, one after the other. Choose a "
            "smaller threshold."
        )
    return found


def _search(graph: Graph, scores: Tensor, judge: Judge, target: Target, choice: Choice, report: Report) -> Found:
    if choice.strategy == "iterative":
        return iterative(graph, scores, judge, target, report)
    if choice.searches:
        return smallest_of_order(graph, _order(graph, scores, choice), judge, target, report)
    mask = _of_given_size(graph, scores, choice)
    found = Found(mask, judge.faithfulness(mask[None])[0])
    report(choice.strategy, found, target.met(found.faithfulness))
    return found


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
