"""The minimality pass: exact tests until no single edge can go, and the table that proves it."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from acdc_engine.graph.connectivity import Candidate, CleanBase
from acdc_engine.patch.evaluator import Variants
from acdc_engine.patch.judge import Judge, Target
from acdc_engine.search.order import strengths
from acdc_engine.search.strategies import Found, Progress, Report, nobody

BATCH = 32
"""Circuits run at once when every edge is tried on its own."""
_REBASE = 16
"""Edges by which a circuit may differ from the one that evaluations start from."""


@dataclass(frozen=True)
class Minimal:
    """A circuit, and what exact tests say about its edges, in the order of `mask.nonzero()`.

    Attributes:
        found: The circuit.
        without: Metric of every prompt without that one edge `[edges, prompts]`.
        whole: Metric of every prompt under the circuit itself `[prompts]`.
        needed: Whether the target is missed without the edge.
    """

    found: Found
    without: Float[Tensor, "edges prompts"]
    whole: Float[Tensor, "prompts"]
    needed: Bool[Tensor, "edges"]


def minimal(
    judge: Judge, found: Found, target: Target, report: Report = nobody, progress: Progress = nobody
) -> Minimal:
    """Drops edges until none can go on its own.

    1. Sweep: the edges are gone through, weakest first by the gradient at the circuit. The next block of them is
       removed together with the first half, quarter, ... single edge of it, all in one batch; the largest removal that
       stays in the target is kept, and a block that fails down to its first edge keeps that edge.
    2. Every remaining edge is tried on its own. Those that can go are swept as in 1, least effect first, and all that
       remain are tried again.
    3. It ends when a full pass drops nothing: the circuit is 1-minimal, and the last pass is the certificate.

    Every removal that is kept was run exactly, with what it disconnects. Other circuits of fewer edges may exist: no
    *single* edge can go from this one.

    Cost: one exact evaluation per edge and pass, restarted at the edge's block, and O(log block) per block of a sweep;
    where most edges can go, far fewer than one evaluation per edge.

    Args:
        judge: Runs circuits on the discovery prompts.
        found: A clean circuit that meets the target.
        target: The band to stay in.
        report: Called for every circuit that was kept.
        progress: Called with edges tried and edges to try in the present pass.

    Returns:
        The 1-minimal circuit with its certificate.
    """
    inside = strengths(judge.contributions(found.mask), judge.ranks[-1])
    weakest = inside[found.mask].argsort(stable=True).numpy()
    found = _sweep(judge, found, target, report, _edges_of(found.mask)[weakest])
    while True:
        tested = singles(judge, found, target, progress)
        free = ~tested.needed
        if not free.any():
            return tested
        least = (tested.without - tested.whole).mean(1).abs()[free].argsort(stable=True).numpy()
        smaller = _sweep(judge, found, target, report, _edges_of(found.mask)[free.numpy()][least])
        if smaller.size == found.size:
            # Rounding may let an edge go in one batch and not in another; what one test says is enough to end.
            return tested
        found = smaller


def singles(judge: Judge, found: Found, target: Target | None, progress: Progress = nobody) -> Minimal:
    """Runs a circuit without each single edge, one after the other.

    Args:
        judge: Runs circuits on the discovery prompts.
        found: The circuit.
        target: The band; None where the circuit does not claim any: then every edge counts as needed.
        progress: Called with edges tried and edges to try.
    """
    edges, base = _edges_of(found.mask), CleanBase(judge.graph, found.mask)
    by_receiver = (edges % judge.graph.n_receivers).argsort(kind="stable")
    rows = torch.empty(len(edges), len(judge.clean), dtype=torch.float32)
    whole = judge.values(Variants(found.mask, (Candidate(np.empty(0, np.int64)),)))[0]
    for start in range(0, len(edges), BATCH):
        some = by_receiver[start : start + BATCH]
        candidates = tuple(base.without([edge]) for edge in edges[some].tolist())
        rows[torch.from_numpy(some)] = judge.values(Variants(found.mask, candidates))
        progress(start + len(some), len(edges))
    met = [target is not None and target.met(judge.faithfulness_of(row)) for row in rows]
    return Minimal(found, rows, whole, ~torch.tensor(met, dtype=torch.bool))


def _edges_of(mask: Bool[Tensor, "senders receivers"]) -> NDArray[np.int64]:
    """Flat ids of a mask's edges."""
    return np.flatnonzero(mask.numpy())


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


def _sweep(judge: Judge, found: Found, target: Target, report: Report, order: NDArray[np.int64]) -> Found:
    """Removes what can go of some edges, in their order, in blocks that grow and shrink with success."""
    place, block, left = 0, max(1, len(order) // 8), _Shrinking(judge, found)
    while place < len(order):
        sizes = _halvings(min(block, len(order) - place))
        candidates = [left.without(order[place : place + size]) for size in sizes]
        values = left.faithfulness(candidates)
        fitting = [i for i, f in enumerate(values) if left.size(candidates[i]) and target.met(f)]
        if not fitting:
            place, block = place + 1, max(1, block // 4)
            continue
        largest = fitting[0]
        left.take(candidates[largest], values[largest])
        report("removed exactly", left.found, True)
        place += sizes[largest]
        block = block * 2 if largest == 0 else max(1, sizes[largest])
    return left.found


def _halvings(size: int) -> list[int]:
    """The size, its half, its quarter, ..., one."""
    out = [size]
    while out[-1] > 1:
        out.append(out[-1] // 2)
    return out
