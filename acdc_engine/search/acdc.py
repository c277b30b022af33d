"""ACDC's greedy sweep, run speculatively: the same edges in the same order as one by one, in far fewer batches."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.connectivity import clean
from acdc_engine.patch.judge import Judge
from acdc_engine.search.smallest import Found, Report

MOST = 64
"""Candidates tried at once, at most."""


@dataclass
class Tally:
    """What a sweep took.

    Attributes:
        edges: Edges the sweep started with.
        tested: Edges tried exactly; one by one, each would be an evaluation of its own from the input on.
        evaluations: Exact evaluations made, those thrown away included.
        batches: Batches they were made in.
        untested: Edges dropped without a test, because nobody reads their receiver's node any more.
    """

    edges: int = 0
    tested: int = 0
    evaluations: int = 0
    batches: int = 0
    untested: int = 0

    def __str__(self) -> str:
        """One line for the log of a run."""
        return (
            f"{self.tested:,} of {self.edges:,} edges tried exactly, in {self.batches:,} batches with "
            f"{self.evaluations - self.tested:,} evaluations thrown away; {self.untested:,} evaluations saved: nobody "
            "reads those edges' nodes any more"
        )


def acdc(
    graph: Graph,
    start: Bool[Tensor, "senders receivers"],
    judge: Judge,
    threshold: float,
    report: Report,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Found, Tally]:
    """Conmy et al.'s automatic circuit discovery (2023, arXiv 2304.14997, algorithm 1).

    Receivers are visited from the logits back, the edges into each from the latest sender to the earliest. An edge u->v
    is removed for good if

        m(H) - m(H without u->v) < threshold

    with H the circuit so far and m the mean metric: for "kl", m = -KL(model || H), the paper's rule. Edges into a
    receiver whose node has lost all outgoing edges are dropped untested, as in the paper.

    Almost all steps remove their edge, so the cumulative removals of the next candidates run in one batch; those up to
    the first that fails are accepted, the rest is thrown away, and the sweep goes on behind the edge that stays. Blocks
    grow by one edge while everything is accepted and begin again with one otherwise: 5 to 20 % of the evaluations are
    thrown away, where doubling throws away a third. Evaluations start at the layer of the receivers, from a run of the
    circuit at the beginning of that layer. The result is that of one test at a time, up to rounding at the threshold.

    Cost: one exact evaluation per tested edge and those thrown away; each from the receiver's layer on, over nodes that
    are still in the circuit.

    When it misleads: removals are judged one after the other, so many small losses add up without bound, and edges
    that stand in for each other lose the one that comes first. Edges that work against the metric always go.

    Args:
        graph: The model's graph.
        start: Edges to begin with: all, or a clean circuit of candidates.
        judge: Runs circuits on the discovery prompts.
        threshold: In units of the metric, above 0.
        report: Called after every batch that removed something.
        progress: Called with edges visited and edges to visit.

    Returns:
        The circuit, cleaned, and what it took.
    """
    sweep = _Sweep(graph, start.clone(), judge, threshold)
    while ahead := sweep.ahead():
        if sweep.test(ahead):
            report("sweep", Found(sweep.mask, judge.faithfulness_of(sweep.current)), False)
        if progress is not None:
            progress(sweep.place, len(sweep.order))
    sweep.drop_unread()
    return Found(clean(graph, sweep.mask), judge.faithfulness_of(sweep.current)), sweep.tally


def _accepted(current: float, rows: Float[Tensor, "masks prompts"], threshold: float) -> int:
    """How many of the cumulative removals pass, up to the first that fails."""
    for count, value in enumerate(float(row.mean()) for row in rows):
        if not current - value < threshold:
            return count
        current = value
    return len(rows)


@dataclass(frozen=True)
class _Step:
    """One candidate, if all before it are removed.

    Attributes:
        place: Of its edge in the sweep's order.
        receiver: Of its edge.
        mask: Without it and all before it.
        unread: Edges dropped untested since the block began.
    """

    place: int
    receiver: int
    mask: Tensor
    unread: int


class _Sweep:
    """The circuit so far, and how far down the order in which edges are visited.

    Attributes:
        mask: The circuit so far.
        current: The metric of every prompt under it; edges dropped untested change nothing.
        order: The edges, as sender and receiver.
        place: Of the next edge to visit.
        tally: What it took.
    """

    def __init__(self, graph: Graph, mask: Tensor, judge: Judge, threshold: float) -> None:
        self._graph, self._judge, self._threshold = graph, judge, threshold
        self.mask, self.current = mask, judge.values(mask[None], mask)[0]
        edges = mask.nonzero()
        latest_first = (edges[:, 1] * graph.n_senders + edges[:, 0]).argsort(descending=True)
        self.order: list[tuple[int, int]] = [(int(u), int(v)) for u, v in edges[latest_first]]
        self.place, self.tally = 0, Tally(edges=len(edges))
        self._block = 8
        self._base, self._base_layer = mask, -1
        self._layers = {}
        for block in graph.blocks:
            self._layers.update(dict.fromkeys(range(block.reads.start, block.reads.stop), block.layer))

    def ahead(self) -> list[_Step]:
        """The next block of candidates; empty when no edge is left that needs a test."""
        return list(islice(self._candidates(), self._block))

    def test(self, ahead: list[_Step]) -> bool:
        """Tries a block of candidates and goes on behind the last that could go, or the first that could not.

        Returns:
            Whether any was removed.
        """
        near = self._base_for(ahead[0].receiver)
        rows = self._judge.values(torch.stack([step.mask for step in ahead]), near)
        accepted = _accepted(float(self.current.mean()), rows, self._threshold)
        if accepted:
            last = ahead[accepted - 1]
            self.mask, self.current, self.place = last.mask, rows[accepted - 1], last.place + 1
            self.tally.untested += last.unread
        failed = accepted < len(ahead)
        if failed:  # up to the edge that stays, and past it
            self.drop_unread(ahead[accepted].place)
            self.place = ahead[accepted].place + 1
        self.tally.tested += accepted + failed
        self.tally.evaluations += len(ahead)
        self.tally.batches += 1
        self._block = 1 if failed else min(MOST, self._block + 1)
        return accepted > 0

    def drop_unread(self, stop: int | None = None) -> None:
        """Removes edges that need no test, from the next to visit on."""
        self.mask = self.mask.clone()
        for sender, receiver in self.order[self.place : stop]:
            if self._unread(self.mask, receiver):
                self.mask[sender, receiver] = False
                self.tally.untested += 1

    def _candidates(self) -> Iterator[_Step]:
        """The edges from the next to visit on that need a test, each without all before it."""
        mask, unread = self.mask, 0
        for place, (sender, receiver) in enumerate(islice(self.order, self.place, None), self.place):
            mask = mask.clone()
            mask[sender, receiver] = False
            if self._unread(mask, receiver):
                unread += 1
            else:
                yield _Step(place, receiver, mask, unread)

    def _unread(self, mask: Tensor, receiver: int) -> bool:
        """Whether nobody reads the nodes that a receiver feeds."""
        return receiver != self._graph.logits and not bool(mask[list(self._graph.fed(receiver))].any())

    def _base_for(self, receiver: int) -> Tensor:
        """The circuit that evaluations start from: what it was when the receiver's layer was reached."""
        layer = self._layers.get(receiver, self._graph.shape.n_layers)
        if layer != self._base_layer:
            self._base, self._base_layer = self.mask, layer
        return self._base
