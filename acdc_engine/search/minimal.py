"""The minimality pass: exact tests until no single edge can go, and the table that proves it."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from acdc_engine.graph.connectivity import Candidate, CleanBase
from acdc_engine.patch.evaluator import Variants
from acdc_engine.patch.judge import Judge, Target, farthest
from acdc_engine.search.balance import best_moves
from acdc_engine.search.strategies import Found, Progress, Report, nobody

BATCH = 32
"""Circuits run at once when every edge is tried on its own."""
_REBASE = 16
"""Edges by which a circuit may differ from the one that evaluations start from."""
_PATIENCE, _OF_THEM = 3, 1 / 50
"""Edges tried in a row that cannot go, until edges are tried on their own; of many edges this share of them."""
_NEAR, _ESTIMATED, _KNOWN = 2.0, 1.5, 1.05
"""Half-widths of the band in which a circuit must lie without an edge: for it to be removed with others; to be tried by
itself, by what the gradient says of it; and likewise, by what it did when it was tried before."""
_FEW, _SHARE = 64, 1 / 8
"""Edges tried before what they say is made use of; of many edges this share of them."""
_WORTH = 0.05
"""Share of the edges that a look at the gradient must let go to be taken again."""


@dataclass(frozen=True)
class Minimal:
    """A circuit, and what exact tests say about its edges, in the order of `mask.nonzero()`.

    Attributes:
        found: The circuit.
        without: Metric of every prompt without that one edge `[edges, prompts]`.
        whole: Metric of every prompt under the circuit itself `[prompts]`.
        needed: Whether the target is missed without the edge, or it is one that is kept anyway.
    """

    found: Found
    without: Float[Tensor, "edges prompts"]
    whole: Float[Tensor, "prompts"]
    needed: Bool[Tensor, "edges"]


def minimal(
    judge: Judge,
    found: Found,
    target: Target,
    report: Report = nobody,
    progress: Progress = nobody,
    kept: Bool[Tensor, "senders receivers"] | None = None,
) -> Minimal:
    """Drops edges until none can go on its own.

    1. What the removal of each edge does to every template is estimated by the gradient at the circuit. The edges that
       might be removed together are put in the order in which their removals together stay nearest to 1, and as many as
       stay in the target are removed. This is done again as long as it removes more than 5 %.
    2. Of the edges that might go by themselves some are tried, each on its own, those that leave the circuit nearest to
       1 first. What each does takes the place of its estimate, and where one can go, edges are removed as in 1. This is
       done until all that might go have been tried at the very circuit.
    3. The others are tried at it, too, and where one can go it goes on with 2. Where none can it ends: the circuit is
       1-minimal, and the tries at it are the certificate.

    Edges might be removed together where the circuit without one of them, alone, lies in a band twice as wide as the
    target's; might go by themselves where it lies in one half as wide again or, if they have been tried before, in one
    wider by a twentieth.

    Every removal that is kept was run exactly, with what it disconnects. Other circuits of fewer edges may exist: no
    *single* edge can go from this one.

    Cost: one to two and a half exact evaluations per edge of the circuit that it begins with, as measured on six.
    Evaluations without single edges share what lies before the receivers that they change.

    Args:
        judge: Runs circuits on the discovery prompts.
        found: A clean circuit that meets the target.
        target: The band to stay in.
        report: Called for every circuit that was kept.
        progress: Called with edges tried and edges to try in the present round.
        kept: Edges of the circuit that are not tried, a clean circuit by themselves; None for none.

    Returns:
        The 1-minimal circuit with its certificate; with edges that are kept its table is that of the others.
    """
    circuit = _Dropping(judge, found, target, report, kept)
    circuit.estimate()
    while circuit.drop(circuit.near()) > _WORTH * circuit.found.size:
        circuit.estimate()
    while len(some := circuit.promising()) or len(some := circuit.untried()):
        free = circuit.note(some, _tried(judge, circuit.found, some, progress))
        if len(free) and not circuit.drop(circuit.near()):
            circuit.drop(free)
    return circuit.table()


def singles(
    judge: Judge,
    found: Found,
    target: Target | None,
    progress: Progress = nobody,
    kept: Bool[Tensor, "senders receivers"] | None = None,
) -> Minimal:
    """Runs a circuit without each single edge, one after the other.

    Args:
        judge: Runs circuits on the discovery prompts.
        found: The circuit.
        target: The band; None where the circuit does not claim any: then every edge counts as needed.
        progress: Called with edges tried and edges to try.
        kept: Edges that count as needed, whatever the target is without them; None for none.
    """
    whole, rows = _whole(judge, found), _tried(judge, found, np.flatnonzero(found.mask.numpy()), progress)
    met = [target is not None and target.met(judge.faithfulness_of(row)) for row in rows]
    needed = ~torch.tensor(met, dtype=torch.bool)
    return Minimal(found, rows, whole, needed if kept is None else needed | kept[found.mask])


def with_kept(
    judge: Judge, tested: Minimal, kept: Bool[Tensor, "senders receivers"], progress: Progress = nobody
) -> Minimal:
    """The table of `minimal` with the edges that it did not try: each is run without, and counts as needed."""
    inside = kept[tested.found.mask]
    rows = _tried(judge, tested.found, np.flatnonzero(kept.numpy()), progress)
    without = rows.new_empty(len(inside), rows.shape[1])
    without[inside], without[~inside] = rows, tested.without
    needed = torch.ones(len(inside), dtype=torch.bool)
    needed[~inside] = tested.needed
    return Minimal(tested.found, without, tested.whole, needed)


def _whole(judge: Judge, found: Found) -> Float[Tensor, "prompts"]:
    """The metric of every prompt under a circuit."""
    return judge.values(Variants(found.mask, (Candidate(np.empty(0, np.int64)),)))[0]


def _tried(judge: Judge, found: Found, edges: NDArray[np.int64], progress: Progress) -> Float[Tensor, "edges prompts"]:
    """The metric of every prompt under a circuit without each of some of its edges, alone."""
    base = CleanBase(judge.graph, found.mask)
    by_receiver = (edges % judge.graph.n_receivers).argsort(kind="stable")
    rows = torch.empty(len(edges), len(judge.clean), dtype=torch.float32)
    for start in range(0, len(edges), BATCH):
        some = by_receiver[start : start + BATCH]
        candidates = tuple(base.without([edge]) for edge in edges[some].tolist())
        rows[torch.from_numpy(some)] = judge.values(Variants(found.mask, candidates))
        progress(start + len(some), len(edges))
    return rows


class _Dropping:
    """A circuit that edges are dropped from, and what the removal of each is known to do to each group of prompts."""

    def __init__(
        self, judge: Judge, found: Found, target: Target, report: Report, kept: Bool[Tensor, "senders receivers"] | None
    ) -> None:
        self.judge, self.found, self._target, self._report = judge, found, target, report
        self._kept = np.empty(0, np.int64) if kept is None else np.flatnonzero(kept.numpy())
        self._known = self.edges
        self._changes = np.zeros((len(self._known), len(judge.groups)))
        self._within = np.full(len(self._known), _ESTIMATED)
        # What was tried at the very circuit, and what came of it.
        self._here, self._free = np.zeros(len(self._known), np.bool_), np.zeros(len(self._known), np.bool_)
        self._whole: Tensor | None = None
        self._rows = torch.empty(len(self._known), len(judge.clean))

    @property
    def edges(self) -> NDArray[np.int64]:
        """Flat ids of the circuit's edges that may go, ascending."""
        return np.setdiff1d(np.flatnonzero(self.found.mask.numpy()), self._kept, assume_unique=True)

    def estimate(self) -> None:
        """Looks at the gradient."""
        inside = self.judge.contributions(self.found.mask)[:-1].flatten(1).numpy()
        self._changes[self._places(self.edges)] = -inside[:, self.edges].T

    def promising(self) -> NDArray[np.int64]:
        """Some edges that might go and were not tried at this circuit: those that leave it nearest to 1."""
        some, left = self.untried(), self._left()
        places = self._places(some)
        off = np.abs(left + self._changes[places]).max(1)
        might = np.flatnonzero(off <= self._within[places] * (1.0 - self._target.faithfulness))
        few = max(_FEW, int(_SHARE * len(self.edges)))
        return np.sort(some[might[off[might].argsort(kind="stable")[:few]]])

    def untried(self) -> NDArray[np.int64]:
        """Edges that were not tried at this circuit."""
        return self.edges[~self._here[self._places(self.edges)]]

    def note(self, edges: NDArray[np.int64], rows: Float[Tensor, "edges prompts"]) -> NDArray[np.int64]:
        """Takes note of what was tried; returns the edges without which the target holds."""
        places, without = self._places(edges), [self.judge.by_group_of(row) for row in rows]
        self._changes[places] = np.array(without) - 1.0 - self._left()
        self._within[places], self._here[places] = _KNOWN, True
        self._free[places] = [self._target.met(farthest(one)) for one in without]
        self._rows[torch.from_numpy(places)] = rows
        return edges[self._free[places]]

    def table(self) -> Minimal:
        """What was tried at this circuit, which is all of it.

        Rounding may let an edge go in one batch and not in another; what one test says is enough to end.
        """
        places = torch.from_numpy(self._places(self.edges))
        return Minimal(self.found, self._rows[places], self.whole(), ~torch.from_numpy(self._free)[places])

    def near(self) -> NDArray[np.int64]:
        """Edges that might go together with others."""
        some = self.edges
        without = self._left() + self._changes[self._places(some)]
        near: NDArray[np.bool_] = np.abs(without).max(1) <= _NEAR * (1.0 - self._target.faithfulness)
        return some[near]

    def drop(self, edges: NDArray[np.int64]) -> int:
        """Drops as many of some edges as can go, in the order in which they do least together; returns how many."""
        if not len(edges):
            return 0
        size, left, changes = self.found.size, self._left(), self._changes[self._places(edges)]
        order = best_moves(torch.from_numpy(changes.T), left.tolist(), len(edges), all_of_them=True)
        fits = [self._target.met(farthest(one)) for one in (1.0 + left + changes[order].cumsum(0)).tolist()]
        block = max((place + 1 for place, fit in enumerate(fits) if fit), default=1)
        self.found = _in_blocks(self.judge, self.found, self._target, self._report, edges[order], block)
        if self.found.size < size:
            self._whole, self._here[:] = None, False
        return size - self.found.size

    def whole(self) -> Float[Tensor, "prompts"]:
        """The metric of every prompt under the circuit itself."""
        if self._whole is None:
            self._whole = _whole(self.judge, self.found)
        return self._whole

    def _left(self) -> NDArray[np.float64]:
        """How far each group lies above 1."""
        return np.array(self.judge.by_group_of(self.whole())) - 1.0

    def _places(self, edges: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self._known, edges)


class _Shrinking:
    """A circuit that edges are taken from, as what it lacks of one that was run and kept."""

    def __init__(self, judge: Judge, found: Found) -> None:
        self.judge, self.found = judge, found
        self._rebase()

    def _rebase(self) -> None:
        self._base, self._size = CleanBase(self.judge.graph, self.found.mask), self.found.size
        self._kept, self._gone = self.found.mask.numpy().reshape(-1), np.empty(0, np.int64)

    def without(self, edges: NDArray[np.int64]) -> Candidate:
        """The clean circuit without some more edges; those that are gone already do not count."""
        return self._base.without([*self._gone.tolist(), *edges[self._kept[edges]].tolist()])

    def faithfulness(self, candidates: list[Candidate]) -> list[float]:
        """Of each; an empty circuit is the ablated model, whatever the target."""
        values = self.judge.faithfulness(Variants(self._base.mask, tuple(candidates)))
        return [f if self.size(one) else 0.0 for f, one in zip(values, candidates, strict=True)]

    def size(self, candidate: Candidate) -> int:
        """Edges that a candidate has left."""
        return self._size - len(candidate.remove)

    def take(self, candidate: Candidate, faithfulness: float) -> None:
        """Goes on with a candidate."""
        mask = Variants(self._base.mask, (candidate,)).masks()[0]
        self.found, self._gone = Found(mask, faithfulness), candidate.remove
        if len(self._gone) > _REBASE:
            self._rebase()


def _in_blocks(
    judge: Judge, found: Found, target: Target, report: Report, order: NDArray[np.int64], block: int
) -> Found:
    """Removes some edges, in their order, in blocks that grow and shrink with success, while that does not fail."""
    place, in_vain, grows, left = 0, 0, True, _Shrinking(judge, found)
    patience = max(_PATIENCE, int(_OF_THEM * len(order)))
    while place < len(order) and in_vain < patience:
        block = min(max(1, block), len(order) - place)
        candidate = left.without(order[place : place + block])
        (faithfulness,) = left.faithfulness([candidate])
        if left.size(candidate) and target.met(faithfulness):
            left.take(candidate, faithfulness)
            report("removed exactly", left.found, True)
            place, in_vain = place + block, 0
            block, grows = block * 2 if grows else block, True
        elif block > 1:
            block, grows = block // 2, False
        else:
            place, in_vain, grows = place + 1, in_vain + 1, False
    return left.found
