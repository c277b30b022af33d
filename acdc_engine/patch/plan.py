"""Which nodes of a patched run are computed, where, and which are taken from an earlier run: decided before it starts.

Numpy on the CPU, block by block: what a batch of candidates costs here does not grow with their number times the graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped
from numpy.typing import NDArray
from torch import Tensor

from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.connectivity import Candidate
from acdc_engine.model.twins import Twin


@dataclass(frozen=True, eq=False)
class Masks:
    """Masks as what is usual among them, and the edges in which each differs from that.

    Attributes:
        usual: Whether most of them keep an edge, bool `[senders, receivers]`; or the weights of a single mask.
        changes: Per mask, flat ids of the edges that it keeps and others do not, or the other way round.
        moved: Flat ids of the edges in which any mask differs from the base that they are near.
    """

    usual: NDArray[np.generic]
    changes: tuple[NDArray[np.int64], ...]
    moved: NDArray[np.int64]

    def __len__(self) -> int:
        """How many they are."""
        return len(self.changes)

    @staticmethod
    def near(base: NDArray[np.bool_], candidates: Sequence[Candidate]) -> "Masks":
        """Masks that differ from one in few edges."""
        differences = [np.concatenate([one.remove, one.add]) for one in candidates]
        moved, times = np.unique(np.concatenate(differences), return_counts=True)
        flipped = moved[2 * times > len(differences)]
        usual = base.copy()
        usual.reshape(-1)[flipped] ^= True
        changes = (np.setxor1d(one, flipped, assume_unique=True) for one in differences)
        return Masks(usual, tuple(changes), moved)

    @staticmethod
    def of(masks: Shaped[Tensor, "masks senders receivers"]) -> "Masks":
        """Masks that are written out; or a single one of weights between 0 and 1."""
        written = masks.numpy(force=True)
        if len(written) == 1:
            nothing = np.empty(0, np.int64)
            return Masks(written[0], (nothing,), nothing)
        return Masks.near(written[0], [Candidate(np.flatnonzero(mask != written[0])) for mask in written])

    def union(self) -> NDArray[np.bool_]:
        """Whether any of them keeps an edge, bool `[senders, receivers]`."""
        union: NDArray[np.bool_] = np.not_equal(self.usual, 0)
        for changes in self.changes:
            union.reshape(-1)[changes] = True
        return union


@dataclass(frozen=True, eq=False)
class Step:
    """One block, as far as the masks need it.

    Attributes:
        place: Of the block in the graph.
        rows: Its receivers with at least one kept incoming edge, to be read from the patched residual stream.
        senders: Those of its senders that are computed, in order.
        everywhere: Whether they are needed at all positions; otherwise at the reading positions only.
    """

    place: int
    rows: NDArray[np.int64]
    senders: NDArray[np.int64]
    everywhere: bool


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
    def computed(self) -> NDArray[np.int64]:
        """All computed senders, in order."""
        return _joined([step.senders for step in self.steps])


@dataclass(frozen=True, eq=False)
class Known:
    """What an earlier run of the masks' base left.

    Attributes:
        everywhere: Senders whose changes it has at all positions, bool `[senders]`.
        at_reads: Senders whose changes it has at the reading positions at least.
    """

    everywhere: NDArray[np.bool_]
    at_reads: NDArray[np.bool_]


def make_plan(
    graph: Graph, twins: Sequence[Twin], masks: Masks, *, known: Known | None = None, all_positions: bool = False
) -> Plan:
    """Finds the nodes that must run.

    A node runs if, in any mask, it has a kept outgoing and a kept incoming edge: without the first nobody reads it,
    without the second it writes what the baseline writes. The logits read one position of each prompt, so what only
    logits, MLPs and queries there depend on is computed at that position alone. What no changed edge leads to is
    `shared` with an earlier run.

    Args:
        graph: The model's graph.
        twins: Of its blocks.
        masks: Kept edges.
        known: The earlier run whose values may be used; only `input` is known without one.
        all_positions: Compute everything at all positions, as gradients with respect to missing edges need it.
    """
    union = masks.union()
    read, fed = np.asarray(union.any(1)), np.asarray(union.any(0))
    running = [(place, *_running(twin, read, fed)) for place, twin in enumerate(twins)]
    running = [(place, depends, runs) for place, depends, runs in running if runs.any()]
    wide = _needed_everywhere(twins, running, union, fed, all_positions)
    changes = None if known is None else _Changes(graph, twins, masks, union, known, running)
    shared = np.zeros(graph.n_senders, np.bool_)
    shared[graph.INPUT] = read[graph.INPUT]
    steps = []
    for place, depends, runs in running:
        block = twins[place].block
        everywhere = bool(wide[block.writes][runs].any())
        stale = runs if changes is None else changes.stale(twins[place], depends, runs, everywhere)
        shared[block.writes] = runs & ~stale
        if stale.any():
            rows = block.reads.start + np.flatnonzero((depends & stale).any(1) & fed[block.reads])
            steps.append(Step(place, rows, block.writes.start + np.flatnonzero(stale), everywhere))
    return Plan(tuple(steps), shared)


_Running = list[tuple[int, NDArray[np.bool_], NDArray[np.bool_]]]
"""Places of blocks, which receivers their senders depend on, and which senders run."""


def _running(
    twin: Twin, read: NDArray[np.bool_], fed: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    block = twin.block
    depends = np.ones_like(block.feeds) if twin.entangled else block.feeds
    return depends, read[block.writes] & (depends & fed[block.reads, None]).any(0)


def _needed_everywhere(
    twins: Sequence[Twin], running: _Running, union: NDArray[np.bool_], fed: NDArray[np.bool_], whole: bool
) -> NDArray[np.bool_]:
    """Per sender, whether anything needs it at other positions than the reading ones."""
    wide = np.full(len(union), whole)
    for place, depends, runs in reversed(running):
        block = twins[place].block
        rows = (depends & runs).any(1) & fed[block.reads]
        if not wide[block.writes][runs].any():
            rows &= block.spreads
        wide[: block.before] |= union[: block.before, block.reads][:, rows].any(1)
    return wide


class _Changes:
    """What has changed since the known run, block after block."""

    def __init__(
        self,
        graph: Graph,
        twins: Sequence[Twin],
        masks: Masks,
        union: NDArray[np.bool_],
        known: Known,
        running: _Running,
    ) -> None:
        self._union, self._known = union, known
        self._into, self._out_of = np.zeros(graph.n_receivers, np.bool_), np.zeros(graph.n_senders, np.bool_)
        senders, receivers = np.divmod(masks.moved, graph.n_receivers)
        self._into[receivers], self._out_of[senders] = True, True
        # What ran there and does not here has changed too.
        self._dirty = known.at_reads.copy()
        self._dirty[graph.INPUT] = False
        for place, _, runs in running:
            self._dirty[twins[place].block.writes] &= ~runs

    def stale(
        self, twin: Twin, depends: NDArray[np.bool_], runs: NDArray[np.bool_], everywhere: bool
    ) -> NDArray[np.bool_]:
        """Senders that differ from the known run, or that it does not have where they are needed."""
        block, have = twin.block, self._known.everywhere if everywhere else self._known.at_reads
        dirty = np.flatnonzero(self._dirty[: block.before])
        moved = self._into[block.reads] | self._union[:, block.reads][dirty].any(0)
        stale: NDArray[np.bool_] = runs & (~have[block.writes] | (depends & moved[:, None]).any(0))
        if twin.coupled and (stale.any() or moved.any() or self._out_of[block.writes].any()):
            # A norm over all heads sees which of them are read, and what the others compute.
            stale = runs
        self._dirty[block.writes] |= stale
        return stale


def _joined(parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
