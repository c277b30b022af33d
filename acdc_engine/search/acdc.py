"""ACDC's greedy sweep, run speculatively: the same edges in the same order as one by one, in far fewer batches."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise, takewhile
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from acdc_engine.errors import MethodError
from acdc_engine.graph.connectivity import Candidate, clean
from acdc_engine.patch.evaluator import Variants
from acdc_engine.registers import parameter
from acdc_engine.search.order import best_first, check_threshold, first_edges
from acdc_engine.search.strategies import SEARCHES, Found, Search, SearchParameters

_MOST = 64
"""Candidates tried at once, at most."""
_REBASE = 256
"""Edges gone until evaluations start from a new run of the circuit, which costs as much as several of them."""


@dataclass(frozen=True)
class _Parameters(SearchParameters):
    keeps: ClassVar[bool] = True
    aims = False

    threshold: float | None = parameter(
        None, "largest loss that one removal may cost, in units of the metric (nats with --objective kl)"
    )
    candidates: int | None = parameter(None, "sweep over so many of the best edges only; without, over the whole graph")

    def __post_init__(self) -> None:
        if check_threshold("acdc", self.threshold) <= 0:
            raise MethodError(
                f"ACDC's threshold must be above 0, not {self.threshold:g}: an edge goes if its removal costs less "
                "than that, and at 0 nothing but harmful edges would go. Try 0.01."
            )
        if self.candidates is not None and self.candidates < 1:
            raise MethodError(f"At least one candidate edge is needed, not {self.candidates}.")


@SEARCHES.add(
    "acdc",
    "greedy sweep from the logits back (Conmy et al.): drop what costs less than --threshold",
    parameters=_Parameters,
)
def _acdc(search: Search, parameters: _Parameters) -> Found:
    graph, start = search.graph, search.graph.exists
    threshold = check_threshold("acdc", parameters.threshold)
    if parameters.candidates is not None:
        order = best_first(graph, search.scores, search.judge.ranks[-1])
        start = first_edges(graph, order, parameters.candidates, search.kept)
        if not start.any():
            raise MethodError(
                f"The best {parameters.candidates} edges by score do not connect the input to the logits. Ask for more "
                "with --candidates."
            )
    found, tally = acdc(search, start, threshold)
    search.note(f"ACDC: {tally}.")
    if not found.size:
        raise MethodError(
            f"Threshold {threshold:g} leaves no circuit: every edge could go, one after the other. Choose a "
            "smaller threshold."
        )
    return found


@dataclass
class Tally:
    """What a sweep took.

    Attributes:
        tested: Edges tried exactly; one by one, each would be an evaluation of its own from the input on.
        evaluations: Exact evaluations made, those thrown away included.
        batches: Batches they were made in.
        untested: Edges dropped without a test, because nobody reads their receiver's node any more.
    """

    tested: int = 0
    evaluations: int = 0
    batches: int = 0
    untested: int = 0

    def __str__(self) -> str:
        """One line for the log of a run."""
        return (
            f"{self.tested:,} of {self.tested + self.untested:,} edges tried exactly, in {self.batches:,} batches with "
            f"{self.evaluations - self.tested:,} evaluations thrown away; {self.untested:,} evaluations saved: nobody "
            "reads those edges' nodes any more"
        )


def acdc(search: Search, start: Bool[Tensor, "senders receivers"], threshold: float) -> tuple[Found, Tally]:
    """Conmy et al.'s automatic circuit discovery (2023, arXiv 2304.14997, algorithm 1).

    Receivers are visited from the logits back, the edges into each from the latest sender to the earliest. An edge u->v
    is removed for good if

        m(H) - m(H without u->v) < threshold

    with H the circuit so far and m the mean metric: for "kl", m = -KL(model || H), the paper's rule. Edges into a
    receiver whose node has lost all outgoing edges are dropped untested, as in the paper.

    Almost all steps remove their edge, so the cumulative removals of the next candidates run in one batch; those up to
    the first that fails are accepted, the rest is thrown away, and the sweep goes on behind the edge that stays. Blocks
    grow by one edge while everything is accepted and begin again with one otherwise: 5 to 20 % of the evaluations are
    thrown away, where doubling throws away a third. Evaluations start at the block of the receivers, from a run of the
    circuit as it was 256 edges ago at most: what lies behind that block is run anew anyway. The result is that of one
    test at a time, up to rounding at the threshold.

    Cost: one exact evaluation per tested edge and those thrown away; each from the receiver's block on, over nodes that
    are still in the circuit.

    When it misleads: removals are judged one after the other, so many small losses add up without bound, and edges
    that stand in for each other lose the one that comes first. Edges that work against the metric always go.

    Args:
        search: What it works with; told after every batch that removed something.
        start: Edges to begin with: all, or a clean circuit of candidates.
        threshold: In units of the metric, above 0.

    Returns:
        The circuit, cleaned, and what it took.
    """
    sweep = _Sweep(search, start.clone(), threshold)
    while ahead := sweep.ahead():
        if sweep.test(ahead):
            search.report("sweep", Found(sweep.mask, search.judge.faithfulness_of(sweep.current)), False)
        search.progress(sweep.place, len(sweep.order))
    sweep.drop_unread()
    return Found(clean(search.graph, sweep.mask), search.judge.faithfulness_of(sweep.current)), sweep.tally


class _Sweep:
    """The circuit so far, and how far down the order in which edges are visited.

    Attributes:
        mask: The circuit so far.
        current: The metric of every prompt under it; edges dropped untested change nothing.
        order: Flat ids of the edges.
        place: Of the next edge to visit.
        tally: What it took.
    """

    def __init__(self, search: Search, mask: Bool[Tensor, "senders receivers"], threshold: float) -> None:
        self._graph, self._judge, self._threshold = search.graph, search.judge, threshold
        self.mask, self.current = mask, self._judge.values(Variants(mask, (Candidate(np.empty(0, np.int64)),)))[0]
        visited, receivers = search.free(mask).nonzero().T.numpy()
        latest_first = np.lexsort((-visited, -receivers))
        self.order: list[int] = (visited * self._graph.n_receivers + receivers)[latest_first].tolist()
        senders, receivers = mask.nonzero().T.numpy()
        nodes = senders * self._graph.n_spans + self._graph.span_of[receivers]
        self._readers = np.bincount(nodes, minlength=self._graph.n_nodes).tolist()
        self.place, self.tally = 0, Tally()
        self._length = 8
        self._base, self._gone = mask, list[int]()

    def ahead(self) -> list[tuple[int, int]]:
        """The next block of candidates: places of edges that need a test, and how many before each need none."""
        return list(islice(self._candidates(), self._length))

    def _candidates(self) -> Iterator[tuple[int, int]]:
        lost, unread = Counter[int](), 0
        for place, edge in enumerate(islice(self.order, self.place, None), self.place):
            lost[self._node(edge)] += 1
            if self._unread(edge, lost):
                unread += 1
            else:
                yield place, unread

    def test(self, ahead: list[tuple[int, int]]) -> bool:
        """Tries each candidate without all before it; goes on behind the last that could go, or first that could not.

        Returns:
            Whether any was removed.
        """
        places = [place for place, _ in ahead]
        if len(self._gone) > _REBASE:
            self._base, self._gone = self.mask, []
        gone = np.array(self._gone + self.order[self.place : places[-1] + 1])
        first = len(self._gone) - self.place + 1
        rows = self._judge.values(Variants(self._base, tuple(Candidate(gone[: first + place]) for place in places)))
        means = [float(row.mean()) for row in (self.current, *rows)]
        passed = (before - after < self._threshold for before, after in pairwise(means))
        accepted = sum(takewhile(bool, passed))
        if accepted:
            place, unread = ahead[accepted - 1]
            self._take_out(self.order[self.place : place + 1])
            self.current, self.place = rows[accepted - 1], place + 1
            self.tally.untested += unread
        failed = accepted < len(ahead)
        if failed:  # up to the edge that stays, and past it
            self.drop_unread(places[accepted])
            self.place = places[accepted] + 1
        self.tally.tested += accepted + failed
        self.tally.evaluations += len(ahead)
        self.tally.batches += 1
        self._length = 1 if failed else min(_MOST, self._length + 1)
        return accepted > 0

    def drop_unread(self, stop: int | None = None) -> None:
        """Removes edges that need no test, from the next to visit on."""
        lost, unread = Counter[int](), list[int]()
        for edge in self.order[self.place : stop]:
            if self._unread(edge, lost):
                lost[self._node(edge)] += 1
                unread.append(edge)
        self._take_out(unread)
        self.tally.untested += len(unread)

    def _unread(self, edge: int, lost: Counter[int]) -> bool:
        """Whether nobody reads the nodes that an edge's receiver feeds, once senders have lost so many readers."""
        receiver = edge % self._graph.n_receivers
        if receiver == self._graph.logits:
            return False
        return all(self._readers[fed] == lost[fed] for fed in self._graph.fed(receiver))

    def _take_out(self, edges: list[int]) -> None:
        self.mask = self.mask.clone()
        self.mask.view(-1)[torch.tensor(edges, dtype=torch.long)] = False
        self._gone += edges
        for edge in edges:
            self._readers[self._node(edge)] -= 1

    def _node(self, edge: int) -> int:
        return self._graph.node(*divmod(edge, self._graph.n_receivers))
