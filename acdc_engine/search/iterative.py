"""Iterative search: score inside the circuit, drop the weakest, check exactly, back off; then add, and drop again."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from jaxtyping import Bool, Float, Int
from torch import Tensor

from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.evidence_records import LARGEST
from acdc_engine.patch.judge import Judge
from acdc_engine.search.balance import above, balanced, balanced_start, with_more, without_least
from acdc_engine.search.order import FIRST, Rank, best_first, first_edges, smallest_of_order, strengths
from acdc_engine.search.strategies import SEARCHES, Found, Search, SearchParameters

_SHARES = (0.5, 0.35, 0.25, 0.17, 0.12, 0.08, 0.05, 0.03, 0.02, 0.01, 0.005)
"""Shares of the edges tried in one round, largest first; one edge at least."""
_BATCH = 2
"""Shares tried before the next smaller ones."""
_GROWN_FROM = 0.5
"""Share of the target that the best edges must reach for growth to begin with them."""
_GROWN_BY = 0.03
"""Share of the edges added before the next look at the gradient."""
_KICKS = (0.3, 0.1, 0.04)
"""Shares of the edges added before pruning again, in the order tried."""
_ROOM = 0.15
"""How far above 1 templates are aimed at when edges are added, so that some can go again."""
_LIFTED_BY = 0.04
"""Share of the edges that move at one look where a circuit is brought into the target on more prompts."""
_MORE = (2, 4)
"""Where that leads nowhere, so many times as many edges of the best rank join them before."""
_WORTH = 0.05
"""Share of the edges that adding and pruning again must save to be tried another time."""


@dataclass(frozen=True)
class _Parameters(SearchParameters):
    minimal: ClassVar[bool] = True
    keeps: ClassVar[bool] = True


@SEARCHES.add(
    "iterative",
    "score again inside the circuit and drop the weakest, as long as the target holds",
    parameters=_Parameters,
)
def iterative(search: Search, parameters: SearchParameters) -> Found:
    """Finds a small circuit that meets the target.

    1. The smallest circuit among the best edges of each rank that meets the target; the whole graph where none does.
       Where the metric is highest at the clean run (KL), the first edges that reach half the target are grown instead:
       the gradient at the circuit says which missing edges between its nodes would help most (its mean less the
       standard error), a few are added, the gradient is taken again, until the target is met. Where that leads nowhere,
       twice as many edges are grown.
    2. Rounds: edges are scored inside the circuit (the gradient of the metric with respect to the mask, at the
       circuit's own activations), shares of the weakest of each rank are dropped, the results are cleaned and run
       exactly, and the smallest that still meets the target is kept. Where none does, smaller shares are tried, down to
       half a percent.
    3. When that fails too, edges are added as in growth, and the rounds begin again from there; overshooting is allowed
       on the way. A smaller circuit that meets the target takes the place of the one before. This goes on while it
       saves more than 5 % of the edges, and while the smaller circuit lies no farther from the target on validation
       prompts, where there are any.

    Where 1 comes to more than `LARGEST` edges, the behaviour is spread over the graph, and which of so many could go
    is a matter of the prompts that are searched on. Where there are validation prompts, the circuit is then the
    shortest prefix by |score| (under KL rms) that meets the target there, and nothing is pruned. Where that is the
    whole graph, the search goes on as without them.

    Ranks are |score| and signed score. Where the metric is highest at the clean run (KL), the sign of a contribution
    says little and means cancel: there the root mean square over prompts ranks, inside the circuit multiplied by that
    of the scores.

    Where the target must be met by several templates (`Judge.groups`), the start is balanced between them, and what is
    dropped and added is also chosen by what it does to each: see `balance`.

    A search that goes on from another one's circuit (`Search.start`), on more prompts or in a narrower band, brings it
    into the target by the moves that promise most, where these lead nowhere together with the best edges of the first
    rank, and prunes no further: the smaller a circuit is made on the same prompts, the more it is made for them.

    The estimate decides only what is tried; every circuit that is kept was run exactly. The result is not 1-minimal:
    see `minimal`.

    Cost: one forward and backward pass inside the circuit and a few exact evaluations per round, each cheaper than a
    forward pass once the circuit is sparse.

    Returns:
        The circuit; the whole graph when nothing can be dropped.
    """
    rounds = _Rounds(search, search.judge.ranks)
    if search.start is not None:
        return rounds.lifted(search.start) or rounds.whole()
    start = rounds.start()
    if "rms" in rounds.ranks:
        start = rounds.grow(start) or start
    if search.validation is not None and start.size > LARGEST:
        spread = rounds.spread(start, search.validation)
        return spread or iterative(replace(search, validation=None), parameters)
    best = rounds.shrink(start, search.met)
    while (smaller := rounds.kick(best)) is not None and search.as_good_elsewhere(smaller, best):
        worth = best.size - smaller.size > _WORTH * best.size
        best = smaller
        if not worth:
            break
    return best


@dataclass(frozen=True)
class _Rounds:
    search: Search
    ranks: Sequence[Rank]
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def several(self) -> bool:
        """Whether templates are judged each by itself."""
        return len(self.search.judge.groups) > 1

    def start(self) -> Found:
        """The smallest of the circuits that the ranks lead to."""
        if self.several:
            order = best_first(self.search.graph, self.search.scores, self.ranks[0])
            balanced = balanced_start(self.search, order)
            if balanced is not None:
                return balanced
        best: Found | None = None
        for rank in self.ranks:
            order = best_first(self.search.graph, self.search.scores, rank)
            found = smallest_of_order(self.search, order, None if best is None else best.size)
            if best is None or (found.size < best.size and self.search.met(found)):
                best = found
        assert best is not None, "there is at least one rank"
        return best

    def spread(self, start: Found, validation: Judge) -> Found | None:
        """The shortest prefix that meets the target on validation prompts; None where only the whole graph does."""
        search, graph = self.search, self.search.graph
        order = best_first(graph, search.scores, self.ranks[-1])  # by how much edges do, for or against
        found = smallest_of_order(replace(search, judge=validation), order, first=start.size)
        if found.size == graph.n_edges:
            return None
        search.note(
            f"It takes {start.size:,} of the strongest edges to meet {search.target} on the discovery prompts: the "
            "behaviour is spread over the graph, and which of so many could go depends on the prompts. So the circuit "
            f"is as many as meet it on the validation prompts, {found.size:,}, and single edges are not tested. "
            "Prompts have smaller circuits if their corruption changes fewer tokens."
        )
        return search.run(found.mask, "the first edges, on the discovery prompts")

    def whole(self) -> Found:
        """The whole graph, which is the model: it says that nothing was found."""
        return Found(self.search.graph.exists, 1.0)

    def lifted(self, found: Found) -> Found | None:
        """A circuit in the target, from one that need not be; None where that leads nowhere."""
        found = self.search.run(found.mask, "the circuit so far")
        if self.search.met(found):
            return found
        if "rms" in self.ranks:
            return self._grown(found.mask, self.search.graph.n_edges)
        lifted = balanced(self.search, found, _LIFTED_BY)
        graph, order = self.search.graph, best_first(self.search.graph, self.search.scores, self.ranks[0])
        for times in _MORE if lifted is None else ():
            first = first_edges(graph, order, times * found.size, self.search.kept)
            more = self.search.run(clean(graph, found.mask | first), "with the first edges")
            if (lifted := balanced(self.search, more)) is not None:
                break
        return lifted

    def shrink(self, found: Found, good: Callable[[Found], bool]) -> Found:
        """Rounds from one circuit, as long as something can be dropped and the rest is good."""
        level = 0
        while (smaller := self._round(found, level, good)) is not None:
            found, level = smaller[0], max(0, smaller[1] - _BATCH)
        return found

    def grow(self, smallest: Found) -> Found | None:
        """A circuit in the target grown from the best edges; None where it does not get there with fewer edges."""
        graph, judge, least = self.search.graph, self.search.judge, _GROWN_FROM * self.search.target.faithfulness
        order = best_first(graph, self.search.scores, "rms")
        length = FIRST
        while int((mask := first_edges(graph, order, length, self.search.kept)).sum()) < smallest.size:
            length *= 2
            if mask.any() and judge.faithfulness(mask[None])[0] >= least:
                grown = self._grown(mask, smallest.size)
                if grown is not None:
                    return grown
        return None

    def _grown(self, mask: Bool[Tensor, "senders receivers"], up_to: int) -> Found | None:
        """Adds what promises most until the target is met; None where nothing does, or not with fewer edges."""
        look = self.search.judge.contributions
        while (grown := self._with(mask, self._promising(mask, look(mask), _GROWN_BY))) is not None:
            if not int(mask.sum()) < grown.size < up_to:
                return None
            if self.search.met(grown):
                return grown
            mask = grown.mask
        return None

    def kick(self, best: Found) -> Found | None:
        """Adds the missing edges that promise most and prunes again; None when that gives nothing smaller."""
        inside = self.search.judge.contributions(best.mask)
        for share in _KICKS:
            if self.several:
                more = with_more(best, inside[:-1], _ROOM, _least_two(best.mask, share))
            else:
                more = self._promising(best.mask, inside, share)
            if (found := self._with(best.mask, more)) is None:
                return None
            if not self._above(found):
                continue
            found = self.shrink(found, self._above)
            if found.size < best.size and self.search.met(found):
                return found
        return None

    def _promising(
        self,
        mask: Bool[Tensor, "senders receivers"],
        inside: Float[Tensor, "means_and_rms senders receivers"],
        share: float,
    ) -> Int[Tensor, "edges"]:
        """The missing edges that would gain most by the gradient at the circuit; under KL what they gain for sure.

        Hundreds of edges are added there one gradient after the other, each of which the prompts searched on decide:
        a standard error less of it keeps what helps other prompts too.
        """
        promise, rms = inside[:-1].mean(0), inside[-1]
        if "rms" in self.ranks:
            variance = (rms.square() - promise.square()).clamp(min=0.0)
            promise = promise - (variance / len(self.search.judge.clean)).sqrt()
        promise = promise.masked_fill(mask, 0.0).flatten()
        best = promise.topk(min(_least_two(mask, share), len(promise)))
        return best.indices[best.values > 0]

    def _with(self, mask: Bool[Tensor, "senders receivers"], more: Int[Tensor, "edges"]) -> Found | None:
        """The circuit with some more edges; None where there are none to add."""
        if not len(more):
            return None
        added = mask.flatten().index_fill(0, more, True).view_as(mask)
        return self.search.run(clean(self.search.graph, added), "added edges")

    def _above(self, found: Found) -> bool:
        return above(self.search, found)

    def _round(self, current: Found, level: int, good: Callable[[Found], bool]) -> tuple[Found, int] | None:
        """One round from one circuit, starting with the share at `level`, and the level at which something could go.

        Of the circuits that two shares leave the smallest is run first, and the first that is good is taken.
        """
        inside, what = self.search.judge.contributions(current.mask), f"round {next(self.numbers)}"
        edges = self.search.free(current.mask).flatten().nonzero().flatten()
        tried: set[int] = set()
        while level < len(_SHARES) and len(edges):
            counts = {max(1, int(len(edges) * share)) for share in _SHARES[level : level + _BATCH]} - tried
            tried |= counts
            smaller = list[Found]()
            for one in (
                Found(mask) for n in sorted(counts) for mask in self._without_weakest(current, edges, inside, n)
            ):
                if one.size and not any(one.size == other.size and one.mask.equal(other.mask) for other in smaller):
                    smaller.append(one)
            for one in sorted(smaller, key=lambda one: one.size):
                found = self.search.run(one.mask, what)
                if good(found):
                    return found, level
            level += _BATCH
        return None

    def _without_weakest(
        self,
        found: Found,
        edges: Int[Tensor, "edges"],
        inside: Float[Tensor, "means_and_rms senders receivers"],
        count: int,
    ) -> list[Bool[Tensor, "senders receivers"]]:
        """The circuit without the `count` weakest of some of its edges, by each rank."""
        mask, dropped = found.mask, []
        if self.several:
            dropped.append(without_least(found, edges, inside[:-1], count))
        for rank in self.ranks:
            strength = strengths(inside.flatten(1)[:, edges], rank)
            if rank == "rms":
                # Near the metric's maximum one gradient sees little; the scores along the path from the corrupt run see
                # the rest. Their product ranks better than either (docs/method.md).
                strength = strength * strengths(self.search.scores.flatten(1)[:, edges], rank)
            dropped.append(edges[strength.argsort(stable=True)[:count]])
        return [
            clean(self.search.graph, (mask.flatten().index_fill(0, weakest, False)).view_as(mask))
            for weakest in dropped
        ]


def _least_two(mask: Bool[Tensor, "senders receivers"], share: float) -> int:
    """That share of a circuit's edges, two at least."""
    return max(2, int(Found(mask).size * share))
