"""Circuits made of the first edges of an order: of a given size, above a threshold, or as few as meet a target."""

import math
from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from acdc_engine.errors import MethodError
from acdc_engine.graph.connectivity import clean
from acdc_engine.registers import parameter
from acdc_engine.search.order import best_first, check_rank, greedy_from_logits, of_size, smallest_of_order, strengths
from acdc_engine.search.strategies import SEARCHES, Found, Search, SearchParameters

_RANK_HELP = "edges are ranked by absolute or signed score, or by rms, the root mean square over prompts"


@dataclass(frozen=True)
class PrefixParameters(SearchParameters):
    """How many of the first edges of an order."""

    rank: str = parameter("absolute", _RANK_HELP)
    size: int | None = parameter(None, "number of edges; without, as few as reach the target")

    def __post_init__(self) -> None:
        """Checks them."""
        check_rank(self.rank)
        if self.size is not None and self.size < 1:
            raise MethodError(f"A circuit needs at least one edge, not {self.size}.")

    @property
    def aims(self) -> bool:
        """See `SearchParameters`."""
        return self.size is None


@SEARCHES.add("top-k", "the strongest edges: --size many, or as few as reach the target", parameters=PrefixParameters)
def _top_k(search: Search, parameters: PrefixParameters) -> Found:
    order = best_first(search.graph, search.scores, check_rank(parameters.rank))
    return _of_order(search, order, parameters.size, "top-k")


@SEARCHES.add(
    "greedy",
    "grown from the logits, strongest edge first: --size many, or as few as reach the target",
    parameters=PrefixParameters,
)
def _greedy(search: Search, parameters: PrefixParameters) -> Found:
    order = greedy_from_logits(search.graph, search.scores, check_rank(parameters.rank))
    return _of_order(search, order, parameters.size, "greedy")


@dataclass(frozen=True)
class ThresholdParameters(SearchParameters):
    """From where on an edge is kept."""

    rank: str = parameter("absolute", _RANK_HELP)
    threshold: float | None = parameter(None, "smallest strength of a kept edge")

    def __post_init__(self) -> None:
        """Checks them."""
        check_rank(self.rank)
        check_threshold("threshold", self.threshold)

    @property
    def aims(self) -> bool:
        """See `SearchParameters`."""
        return False


def check_threshold(strategy: str, threshold: float | None, unit: str = "") -> None:
    """Refuses a threshold that is missing or no number.

    Args:
        strategy: Whose it is.
        threshold: The threshold.
        unit: What is said of its unit, beside the metric's.

    Raises:
        MethodError: It does not do.
    """
    if threshold is None:
        raise MethodError(f"Strategy {strategy!r} needs a threshold (in units of the metric{unit}).")
    if not math.isfinite(threshold):
        raise MethodError(f"The threshold must be a finite number, not {threshold}.")


@SEARCHES.add("threshold", "every edge whose strength is at least --threshold", parameters=ThresholdParameters)
def _threshold(search: Search, parameters: ThresholdParameters) -> Found:
    graph, strength = search.graph, strengths(search.scores, check_rank(parameters.rank))
    assert parameters.threshold is not None, "checked when the choice was made"
    mask = clean(graph, (strength >= parameters.threshold) & graph.exists)
    if not mask.any():
        raise MethodError(
            f"Threshold {parameters.threshold:g} leaves no path from the input to the logits. The strongest edge has "
            f"{float(strength[graph.exists].max()):.4g}; choose a lower threshold."
        )
    return search.run(mask, "threshold")


def _of_order(search: Search, order: Int[Tensor, "edges"], size: int | None, what: str) -> Found:
    if size is None:
        return smallest_of_order(search, order)
    return search.run(of_size(search.graph, order, size), what)
