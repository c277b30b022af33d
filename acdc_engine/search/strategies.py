"""Search strategies by name, what each of them takes, running one of them, and what it has found."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic_core import to_jsonable_python
from torch import Tensor

from acdc_engine.display import counted
from acdc_engine.errors import MethodError, SearchError
from acdc_engine.graph.blocks import Graph
from acdc_engine.patch.judge import Judge, Target, farthest
from acdc_engine.registers import Register

if TYPE_CHECKING:
    from acdc_engine.graph.records import SearchRecord
    from acdc_engine.score import EdgeScores
    from acdc_engine.search.minimal import Minimal


@dataclass(frozen=True)
class Found:
    """A circuit and its faithfulness on the prompts it was searched on.

    Attributes:
        mask: Kept edges, clean.
        faithfulness: On the discovery prompts, by the objective; NaN where nobody has measured it.
        by_group: The same for each group of prompts that is judged by itself, of which `faithfulness` is the one
            farthest from 1; empty where nobody has kept it.
    """

    mask: Bool[Tensor, "senders receivers"]
    faithfulness: float = math.nan
    by_group: tuple[float, ...] = ()

    @cached_property
    def size(self) -> int:
        """Number of edges."""
        return int(np.count_nonzero(self.mask.numpy(force=True)))  # far faster than the tensor's own sum


@dataclass(frozen=True, repr=False)
class Selection(Found):
    """Edges of a graph that were chosen, with what led to them.

    Attributes:
        scores: Of all edges, by which they were chosen.
        search: How they were chosen; None for edges that somebody names.
        tested: The exact tests of single edges by the objective, once they were made.
        by_metric: The same by the metric.
    """

    scores: EdgeScores | None = None
    search: SearchRecord | None = None
    tested: Minimal | None = None
    by_metric: Minimal | None = None

    @property
    def target(self) -> Target | None:
        """The band that the edges keep to; None where their number or a threshold was given."""
        asked = None if self.search is None else self.search.aim or self.search.target_faithfulness
        return None if asked is None else Target(asked)

    @property
    def asked(self) -> Target | None:
        """The target itself; None as for `target`."""
        asked = None if self.search is None else self.search.target_faithfulness
        return None if asked is None else Target(asked)

    @property
    def first_target(self) -> Target | None:
        """The band that the search kept to before validation prompts corrected it, and would on other prompts."""
        if self.search is None or not self.search.corrections or self.asked is None:
            return self.target
        return self.asked.inner_half

    def __repr__(self) -> str:
        """One line: a mask has thousands of places."""
        return f"<{counted(self.size, 'edge')}, objective {self.faithfulness:.3f}>"


Report = Callable[[str, Found, bool], None]
"""Called for every circuit that was run: what it was, the circuit, whether it meets the target."""
Progress = Callable[[int, int], None]
"""Called with how many edges are done, and of how many."""


def nobody(*told: object) -> None:
    """A report, a note or progress that nobody listens to."""


@dataclass(frozen=True)
class Search:
    """What a strategy works with.

    Attributes:
        judge: Runs circuits on the discovery prompts.
        scores: Attribution scores, mean and root mean square over prompts; positive means support the behaviour.
        target: The band to reach, for strategies that aim at it.
        report: Called for every circuit that was run.
        note: Called with what a search says of itself when it is done.
        progress: Called with edges visited and edges to visit, by searches that know them.
        start: A circuit to go on from, for searches that can; None to start with the scores.
        validation: Judges circuits on prompts that the search does not see, for searches that ask whether a smaller
            circuit is as good there; None for none.
        kept: The edges of an inner circuit, clean, which no circuit that is run may lack; None for none.
    """

    judge: Judge
    scores: Float[Tensor, "2 senders receivers"]
    target: Target
    report: Report = nobody
    note: Callable[[str], None] = nobody
    progress: Progress = nobody
    start: Found | None = None
    validation: Judge | None = None
    kept: Bool[Tensor, "senders receivers"] | None = None

    @property
    def graph(self) -> Graph:
        """The model's graph."""
        return self.judge.graph

    def run(self, mask: Bool[Tensor, "senders receivers"], what: str) -> Found:
        """Runs one circuit and reports it. An empty one is the ablated model itself, and meets no target."""
        by_group = self.judge.by_group(mask[None])[0] if mask.any() else (0.0,)
        found = Found(mask, farthest(by_group), by_group)
        self.report(what, found, self.met(found))
        return found

    def free(self, mask: Bool[Tensor, "senders receivers"]) -> Bool[Tensor, "senders receivers"]:
        """Those of some edges that may be dropped."""
        return mask if self.kept is None else mask & ~self.kept

    def as_good_elsewhere(self, smaller: Found, than: Found) -> bool:
        """Whether a smaller circuit lies no farther from the target on the validation prompts; so without any."""
        if self.validation is None:
            return True
        one, other = self.validation.faithfulness(torch.stack([smaller.mask, than.mask]))
        return self.target.distance(one) <= self.target.distance(other)

    def met(self, found: Found) -> bool:
        """Whether a circuit meets the target."""
        return found.size > 0 and self.target.met(found.faithfulness)


@dataclass(frozen=True)
class SearchParameters:
    """What every strategy's parameters say of it; its fields are what it takes.

    Attributes:
        minimal: Whether its circuit is made 1-minimal by exact tests in the end.
        keeps: Whether it can keep the edges of an inner circuit (`Search.kept`).
    """

    minimal: ClassVar[bool] = False
    keeps: ClassVar[bool] = False

    @property
    def aims(self) -> bool:
        """Whether the target decides the size."""
        return True


SEARCHES: Register[Callable[[Search, Any], Found]] = Register(
    "strategy", "acdc_engine.searches", MethodError, SearchParameters
)
"""A strategy is given what it works with and its parameters, and returns a clean circuit; the whole graph where nothing
smaller meets the target."""


@dataclass(frozen=True)
class Choice:
    """A strategy with its parameters, checked when it is made (`Choice.of`)."""

    strategy: str
    parameters: SearchParameters = field(default_factory=SearchParameters)

    @classmethod
    def of(cls, strategy: str = "iterative", *, objective: str = "faithfulness", **given: Any) -> Choice:
        """Chooses a strategy.

        Args:
            strategy: A name in `SEARCHES`, and what stands behind it: `top-k:size=200`.
            objective: What the search works with: all but "faithfulness" rank edges by root mean square by default.
            **given: Its parameters; None stands for the default.

        Raises:
            MethodError: Unknown names, or parameters that do not fit the strategy.
        """
        entry = SEARCHES[strategy]
        chosen = {name: value for name, value in given.items() if value is not None}
        for name in chosen:
            if not _takes(entry.parameters, name):
                *some, last = [other.name for other in SEARCHES if _takes(other.parameters, name)] or ["no strategy"]
                others = f"{', '.join(some)} and {last}" if some else last
                raise MethodError(f"Strategy {entry.name!r} takes no {name}; --{name} is for {others}.")
        if objective != "faithfulness" and _takes(entry.parameters, "rank") and "rank" not in SEARCHES.given(strategy):
            chosen = {"rank": "rms", **chosen}
        return cls(entry.name, SEARCHES.parameters_of(strategy, chosen))

    @property
    def aims(self) -> bool:
        """Whether the target decides the size."""
        return self.parameters.aims

    @property
    def given(self) -> Mapping[str, Any]:
        """The parameters that are set, by name, as JSON has them."""
        values = {one.name: to_jsonable_python(getattr(self.parameters, one.name)) for one in fields(self.parameters)}
        return {name: value for name, value in values.items() if value is not None}


def _takes(parameters: type, name: str) -> bool:
    return any(one.name == name for one in fields(parameters))


def find_circuit(search: Search, choice: Choice) -> Found:
    """Turns scores into a clean circuit.

    Raises:
        SearchError: No circuit smaller than the whole graph meets the target.
        MethodError: The parameters leave no circuit, or the strategy cannot keep the edges of an inner one.
    """
    if search.kept is not None:
        check_keeps(choice)
    tried: list[tuple[float, int]] = []  # not the circuits: a mask of a large graph takes megabytes

    def remember(what: str, found: Found, met: bool) -> None:
        tried.append((found.faithfulness, found.size))
        search.report(what, found, met)

    found = SEARCHES[choice.strategy].value(replace(search, report=remember), choice.parameters)
    if choice.aims and found.size == search.graph.n_edges:
        raise SearchError(_how_far(search.graph, tried, search.target))
    return found


def check_keeps(choice: Choice) -> None:
    """Refuses a strategy that may drop edges of an inner circuit, with a MethodError that says which do not."""
    if not choice.parameters.keeps:
        kinds = {entry.name: entry.parameters for entry in SEARCHES}
        able = [name for name, kind in kinds.items() if issubclass(kind, SearchParameters) and kind.keeps]
        raise MethodError(
            f"--around asks that no edge of the inner circuit is dropped, and strategy {choice.strategy!r} does not "
            f"promise that; {', '.join(able)} do."
        )


def _how_far(graph: Graph, tried: list[tuple[float, int]], target: Target) -> str:
    """Says how near the search came, and which way it missed, by faithfulness and edges of all that it tried."""
    smaller = [(faithfulness, size) for faithfulness, size in tried if 0 < size < graph.n_edges]
    if not smaller:
        return f"No circuit smaller than the whole graph was found for the target {target}. Lower --faithfulness."
    faithfulness, size = min(smaller, key=lambda one: abs(one[0] - 1))
    way = "falls short" if faithfulness < 1 else "overshoots: edges that work against the behaviour are missing"
    return (
        f"No circuit smaller than the whole graph meets the target {target}. The closest of {len(smaller)} circuits "
        f"run has {size:,} of {graph.n_edges:,} edges and faithfulness {faithfulness:.3f}: it {way}. "
        "Lower --faithfulness, or score with another --method or more prompts (--n)."
    )
