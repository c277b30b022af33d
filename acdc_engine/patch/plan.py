"""Which nodes of a patched run are computed, and where: decided before it starts, in numpy on the CPU, block by block.

What a batch of candidates costs here does not grow with their number times the graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acdc_engine.graph.blocks import Graph
from acdc_engine.model.twins import Twin
from acdc_engine.patch.sums import Bank, Masks


@dataclass(frozen=True, eq=False)
class Step:
    """One block, as far as the masks need it.

    Attributes:
        place: Of the block in the graph.
        rows: Its receivers with at least one kept incoming edge, and those of origins, to be read from the patched
            residual stream.
        senders: Those of its senders that are computed, in order.
        everywhere: Whether they are needed at other positions than the reading ones.
        spans: At which spans they are, then, bool `[spans]`; None: at all positions.
    """

    place: int
    rows: NDArray[np.int64]
    senders: NDArray[np.int64]
    everywhere: bool
    spans: NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class Plan:
    """Steps of a patched run, for the union of its masks.

    Attributes:
        steps: In order of computation; the logits come after the last one.
        shared: Whether a sender runs but is taken from an earlier run, bool `[senders]`.
    """

    steps: tuple[Step, ...]
    shared: NDArray[np.bool_]

    @property
    def everywhere(self) -> NDArray[np.int64]:
        """Computed senders that are needed at all positions, in order."""
        return _joined([step.senders for step in self.steps if step.everywhere])

    @property
    def spans(self) -> NDArray[np.bool_] | None:
        """At which spans the senders of `everywhere` are computed; None where nothing tells spans apart."""
        some = [np.tile(step.spans, (len(step.senders), 1)) for step in self.steps if step.spans is not None]
        return np.concatenate(some) if some else None

    @property
    def computed(self) -> NDArray[np.int64]:
        """All computed senders, in order."""
        return _joined([step.senders for step in self.steps])


def make_plan(
    graph: Graph,
    twins: Sequence[Twin],
    masks: Masks,
    *,
    known: Bank | None = None,
    touched: Sequence[int] = (),
    all_positions: bool = False,
) -> Plan:
    """Finds the nodes that must run.

    A node runs if, in any mask, it has a kept outgoing and a kept incoming edge: without the first nobody reads it,
    without the second it writes what the baseline writes, unless it is one of the graph's origins, which read the
    baseline's stream then. The logits read one position of each prompt, so what only
    logits, MLPs and queries there depend on is computed at that position alone. What no changed edge leads to is
    `shared` with an earlier run.

    Args:
        graph: The model's graph, with the spans of the masks.
        twins: Of its blocks.
        masks: Kept edges.
        known: What the run of the masks' base left, which may be used; only `input` is known without one.
        touched: Senders that are changed otherwise than by the masks: what a known run has of them does not hold.
        all_positions: Compute everything at all positions, as gradients with respect to missing edges need it.
    """
    whole = masks.union()
    union = graph.plain(whole)
    read, fed = np.asarray(union.any(1)), np.asarray(union.any(0))
    running = []
    for place, twin in enumerate(twins):
        depends = np.ones_like(twin.block.feeds) if twin.entangled else twin.block.feeds
        fed[twin.block.reads] |= (depends & graph.origins[twin.block.writes]).any(1)
        runs = read[twin.block.writes] & (depends & fed[twin.block.reads, None]).any(0)
        if runs.any():
            running.append(_Running(place, twin, depends, runs))
    wide = _needed_everywhere(running, union, fed, all_positions)
    needed = None if graph.spans is None or all_positions else _needed_spans(graph, running, whole)
    changes = None if known is None else _Changes(graph, masks, union, known, running, needed, touched)
    shared = np.zeros(graph.n_senders, np.bool_)
    shared[graph.INPUT] = read[graph.INPUT]
    steps = []
    for one in running:
        block = one.twin.block
        everywhere = bool(wide[block.writes][one.runs].any())
        stale = one.runs if changes is None else changes.stale(one, everywhere)
        shared[block.writes] = one.runs & ~stale
        if stale.any():
            rows = block.reads.start + np.flatnonzero((one.depends & stale).any(1) & fed[block.reads])
            spans = np.asarray(needed[block.writes][stale].any(0)) if needed is not None and everywhere else None
            steps.append(Step(one.place, rows, block.writes.start + np.flatnonzero(stale), everywhere, spans))
    return Plan(tuple(steps), shared)


@dataclass(frozen=True, eq=False)
class _Running:
    """A block that runs: which receivers its senders depend on `[receivers, senders]`, and which senders run."""

    place: int
    twin: Twin
    depends: NDArray[np.bool_]
    runs: NDArray[np.bool_]


def _needed_everywhere(
    running: list[_Running], union: NDArray[np.bool_], fed: NDArray[np.bool_], whole: bool
) -> NDArray[np.bool_]:
    """Per sender, whether anything needs it at other positions than the reading ones."""
    wide = np.full(len(union), whole)
    for one in reversed(running):
        block = one.twin.block
        rows = (one.depends & one.runs).any(1) & fed[block.reads]
        if not wide[block.writes][one.runs].any():
            rows &= block.spreads
        wide[: block.before] |= union[: block.before, block.reads][:, rows].any(1)
    return wide


def _needed_spans(graph: Graph, running: list[_Running], union: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Per sender, at which spans anything needs it, bool `[senders, spans]`."""
    needed = np.zeros((graph.n_senders, graph.n_spans), np.bool_)
    needed[:, graph.end] = union[:, graph.logits]
    for one in reversed(running):
        block = graph.blocks[one.place]
        nodes = (needed[block.writes] & one.runs[:, None]).reshape(-1)
        used = np.asarray(graph.feeds(block)[:, nodes].any(1))
        if one.twin.entangled:  # every head depends on the queries of all
            used[:] = nodes.any()
        kept = union[: block.before, block.reads] & used
        needed[: block.before] |= kept.reshape(block.before, -1, graph.n_spans).any(1)
    return needed


class _Changes:
    """What has changed since the known run, block after block."""

    def __init__(
        self,
        graph: Graph,
        masks: Masks,
        union: NDArray[np.bool_],
        known: Bank,
        running: list[_Running],
        needed: NDArray[np.bool_] | None,
        touched: Sequence[int],
    ) -> None:
        self._union, self._lacks = union, np.zeros(graph.n_senders, np.bool_)
        self._touched = np.zeros(graph.n_senders, np.bool_)
        self._touched[list(touched)] = True
        if known.spans is not None:
            there = np.ones((graph.n_senders, graph.n_spans), np.bool_)
            there[known.everywhere] = known.spans
            self._lacks = np.asarray((~there if needed is None else needed & ~there).any(1))
        senders, receivers = np.divmod(masks.moved, graph.n_receivers)
        self._into, self._out_of = np.zeros(graph.n_receivers, np.bool_), np.zeros(graph.n_senders, np.bool_)
        self._into[receivers // graph.n_spans], self._out_of[senders] = True, True
        self._everywhere, self._at_reads = np.zeros(graph.n_senders, np.bool_), np.zeros(graph.n_senders, np.bool_)
        self._everywhere[known.everywhere], self._at_reads[known.all] = True, True
        # What ran there and does not here has changed too.
        self._dirty = self._at_reads.copy()
        self._dirty[graph.INPUT] = False
        for one in running:
            self._dirty[one.twin.block.writes] &= ~one.runs

    def stale(self, one: _Running, everywhere: bool) -> NDArray[np.bool_]:
        """Senders that differ from the known run, or that it does not have where they are needed."""
        block, have = one.twin.block, self._everywhere if everywhere else self._at_reads
        dirty = np.flatnonzero(self._dirty[: block.before])
        moved = self._into[block.reads] | self._union[:, block.reads][dirty].any(0)
        lacks = ~have[block.writes] | (self._lacks[block.writes] & everywhere)
        lacks |= self._touched[block.writes]
        stale: NDArray[np.bool_] = one.runs & (lacks | (one.depends & moved[:, None]).any(0))
        if one.twin.coupled and (stale.any() or moved.any() or self._out_of[block.writes].any()):
            # A norm over all heads sees which of them are read, and what the others compute.
            stale = one.runs
        self._dirty[block.writes] |= stale
        return stale


def _joined(parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
