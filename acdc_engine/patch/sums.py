"""What receivers read in a patched run: masks, the changes of senders, and the sums that both make.

What a run needs of its masks is laid out on the CPU and moved to the device at once, before it starts: nothing in it
waits for the host.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.connectivity import Candidate
from acdc_engine.model.devices import Work
from acdc_engine.model.twins import Reads

_GAPS = 3
"""Senders that nobody uses are multiplied with zero rather than left out, up to so many times those in use."""


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

    def union(self) -> NDArray[np.bool_]:
        """Whether any of them keeps an edge, bool `[senders, receivers]`."""
        union: NDArray[np.bool_] = np.not_equal(self.usual, 0)
        for changes in self.changes:
            union.reshape(-1)[changes] = True
        return union


@dataclass(eq=False)
class Bank:
    """Changes `current_u - ablated_u` of some senders, under one or many masks.

    Attributes:
        everywhere: Senders kept at all positions, in order of computation.
        all: All senders, in order of computation.
        values: Of `everywhere` `[masks, senders, batch, pos, d_model]`.
        at_reads: Of `all` at the reading positions `[masks, senders, batch, d_model]`.
        spans: At which spans those of `everywhere` are there, zero elsewhere, bool `[everywhere, spans]`; None: all.
    """

    everywhere: NDArray[np.int64]
    all: NDArray[np.int64]
    values: Tensor
    at_reads: Tensor
    spans: NDArray[np.bool_] | None = None

    @staticmethod
    def empty(
        everywhere: NDArray[np.int64],
        senders: NDArray[np.int64],
        n_masks: int,
        like: Tensor,
        spans: NDArray[np.bool_] | None = None,
    ) -> "Bank":
        """Room for the senders of a run, for residual streams `[batch, pos, d_model]` like the one given."""
        n, pos, d_model = like.shape
        shape = (n_masks, len(everywhere), n, pos, d_model)
        values = like.new_empty(shape) if spans is None else like.new_zeros(shape)
        return Bank(everywhere, senders, values, like.new_empty(n_masks, len(senders), n, d_model), spans)

    def store(
        self,
        senders: NDArray[np.int64],
        everywhere: bool,
        delta: Tensor,
        read_at: Int[Tensor, "batch"],
        at: Int[Tensor, "batch positions"] | None = None,
    ) -> None:
        """Puts in what a step computed `[masks, senders, batch, positions, d_model]`.

        That is at all positions, or at the reading ones alone, or at those of `at`, the first of which are these.
        """
        first = int(np.searchsorted(self.all, senders[0]))
        places = slice(first, first + len(senders))
        if not everywhere:
            self.at_reads[:, places] = delta[:, :, :, 0]
            return
        wide = int(np.searchsorted(self.everywhere, senders[0]))
        into = self.values[:, wide : wide + len(senders)]
        if at is not None:
            into[:, :, torch.arange(len(at), device=delta.device)[:, None], at] = delta
            self.at_reads[:, places] = delta[:, :, :, 0]
            return
        into.copy_(delta)
        self.at_reads[:, places] = delta[:, :, torch.arange(len(read_at), device=delta.device), read_at]

    def joined(self, later: "Bank") -> "Bank":
        """One bank of two, of the same masks."""
        return Bank(
            np.concatenate([self.everywhere, later.everywhere]),
            np.concatenate([self.all, later.all]),
            torch.cat([self.values, later.values], 1),
            torch.cat([self.at_reads, later.at_reads], 1),
            None if later.spans is None else _both_spans(self, later.spans),
        )


def _both_spans(first: Bank, later: NDArray[np.bool_]) -> NDArray[np.bool_]:
    own = np.ones((len(first.everywhere), later.shape[1]), np.bool_) if first.spans is None else first.spans
    return np.concatenate([own, later])


class Pack:
    """Numbers that a run needs on the device: collected on the CPU, moved together, handed out by their places."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._arrays: list[NDArray[np.generic]] = []
        self._tensors: list[Tensor] = []

    def add(self, array: NDArray[np.generic]) -> int:
        """Puts in an array; returns its place."""
        self._arrays.append(np.ascontiguousarray(array))
        return len(self._arrays) - 1

    def move(self, device: torch.device, dtype: torch.dtype) -> None:
        """Moves all arrays: whole numbers as int64, others in the given format. Does not wait for the device."""
        places: dict[bool, list[int]] = {True: [], False: []}
        for place, array in enumerate(self._arrays):
            places[array.dtype == np.int64].append(place)
        self._tensors = [torch.empty(0)] * len(self._arrays)
        for whole, some in places.items():
            if some:
                wide = np.concatenate([self._arrays[place].reshape(-1) for place in some])
                if not whole:
                    wide = wide.astype(np.float64 if dtype == torch.float64 else np.float32)
                moved = torch.from_numpy(wide)
                moved = (moved.pin_memory() if device.type == "cuda" else moved).to(device, non_blocking=True)
                parts = (moved if whole else moved.to(dtype)).split([self._arrays[place].size for place in some])
                for place, part in zip(some, parts, strict=True):
                    self._tensors[place] = part.view(self._arrays[place].shape)
        self._arrays = []

    def __getitem__(self, place: int) -> Tensor:
        """What was put in at that place, on the device."""
        return self._tensors[place]


@dataclass(frozen=True)
class _Chosen:
    """Some places of a bank's senders: a slice, or an index in the pack.

    Attributes:
        slice: From the first to the last.
        index: Place in the pack; None where the slice is meant, gaps included.
    """

    slice: slice
    index: int | None = None

    @staticmethod
    def of(places: NDArray[np.int64], pack: Pack) -> tuple["_Chosen", NDArray[np.int64]]:
        """Chooses the places, and says which ones are then gone through."""
        if not len(places):
            return _Chosen(slice(0, 0)), places
        first, last = int(places[0]), int(places[-1]) + 1
        if last - first <= _GAPS * len(places):
            return _Chosen(slice(first, last)), np.arange(first, last)
        return _Chosen(slice(first, last), pack.add(places)), places

    def of_bank(self, values: Float[Tensor, "masks senders *rest"], pack: Pack) -> Tensor:
        """Those senders' values."""
        return values[:, self.slice] if self.index is None else values.index_select(1, pack[self.index])


@dataclass(frozen=True, eq=False)
class Sums:
    """How the inputs of some receivers are summed up; numbers are places in the pack.

    Attributes:
        moving: Receivers, counted from the first of their block, that do not read the same under all masks.
        steady: The others.
        shared: Senders that the masks share.
        usual: Their weights, of moving and then steady receivers `[rows, shared]`.
        odd: Where masks differ in them: changes of weights `[pairs, shared]`, and which mask's moving row each is of.
        own: Senders that were run under every mask.
        weights: What is usual of theirs `[moving, own]`.
        toggled: Where masks differ in them: places in `[masks, moving, own]`, and what stands there.
    """

    moving: list[int]
    steady: list[int]
    shared: _Chosen
    usual: int
    odd: tuple[int, int] | None
    own: _Chosen
    weights: int
    toggled: tuple[int, int] | None

    def reads(
        self,
        base: Float[Tensor, "*rest"],
        shared: Tensor,
        own: Tensor,
        pack: Pack,
        work: Work,
        tokens: Int[Tensor, "some"] | None = None,
    ) -> Reads:
        """Sums up: the baseline, and weight times change of every sender. What masks have in common is added once.

        Args:
            base: What the receivers read when nothing is kept.
            shared: Changes of the senders that are the same under all masks `[1, senders, *rest]`.
            own: Changes of the senders that were run under every mask `[masks, senders, *rest]`.
            pack: Holds the numbers.
            work: Counts what is computed.
            tokens: Of which tokens of the batch `base` is; None for all. Changes are given of all.
        """
        n_masks, usual = len(own), pack[self.usual]
        senders = _some_tokens(self.shared.of_bank(shared, pack), tokens)[0].flatten(1)
        work.product(*usual.shape, base.numel())
        common = usual @ senders + base.flatten()
        flat, same = common.split([len(self.moving), len(self.steady)])
        weights = pack[self.weights]
        if weights.numel():
            every = weights.expand(n_masks, -1, -1)
            if self.toggled is not None:
                every = every.clone()
                every.view(-1).index_copy_(0, pack[self.toggled[0]], pack[self.toggled[1]])
            work.product(*every.shape, base.numel())
            changes = _some_tokens(self.own.of_bank(own, pack), tokens).flatten(2)
            values = torch.baddbmm(flat.expand(n_masks, -1, -1), every, changes)
        else:
            values = flat.repeat(n_masks, 1, 1)
        if self.odd is not None:
            change = pack[self.odd[0]]
            work.product(*change.shape, base.numel())
            values.view(-1, base.numel()).index_add_(0, pack[self.odd[1]], change @ senders)
        shapes = ((n_masks, len(self.moving)), (1, len(self.steady)))
        moving, steady = (part.view(*shape, *base.shape) for part, shape in zip((values, same), shapes, strict=True))
        return Reads(self.moving, moving, self.steady, steady)


def _some_tokens(values: Float[Tensor, "masks senders batch pos d_model"], tokens: Tensor | None) -> Tensor:
    return values if tokens is None else values.flatten(2, 3).index_select(2, tokens)


class Weights:
    """The masks' weights, as the sums of a run need them.

    Args:
        graph: The graph that the masks are laid out by.
        masks: The masks.
        holds: Whether a sender is taken from the shared bank, bool `[senders]`.
        shared: That bank.
        own: The bank of senders computed in the run, all of them in order.
        pack: Takes the numbers.
    """

    def __init__(
        self, graph: Graph, masks: Masks, holds: NDArray[np.bool_], shared: Bank, own: Bank, pack: Pack
    ) -> None:
        """Sorts the changes of all masks by receiver, and looks up where senders stand in the banks."""
        self._graph, self._n_masks, self._pack, self._holds = graph, len(masks), pack, holds
        self._usual = masks.usual.T
        ids = np.concatenate(masks.changes)
        owners = np.repeat(np.arange(len(masks)), [len(one) for one in masks.changes])
        senders, receivers = np.divmod(ids, len(self._usual))
        order = np.argsort(receivers, kind="stable")
        self._owners, self._senders, self._receivers = owners[order], senders[order], receivers[order]
        self._changed: NDArray[np.bool_] = np.zeros(graph.n_receivers, np.bool_)
        self._changed[receivers] = True
        self.common = self._at_most_spans()
        self._banks = {}
        for everywhere in (True, False):
            ours, theirs = (bank.everywhere if everywhere else bank.all for bank in (own, shared))
            self._banks[everywhere] = _Places.of(theirs, holds), _Places.of(ours, np.ones_like(holds))

    def sums(self, rows: NDArray[np.int64], first: int, everywhere: bool, done: int, span: int = 0) -> Sums:
        """Of some receivers of a block, at one span.

        Args:
            rows: The receivers, ascending, as of a graph without spans.
            first: The block's first receiver; their places are counted from it.
            everywhere: Whether they are read at all positions; otherwise at the reading ones.
            done: How many senders of the run are there at those positions.
            span: Which span.
        """
        at = self._at(rows, span)
        beyond = _some(self.common, rows) if self.common is not None and everywhere else None
        return self._laid_out(rows - first, _some(self._usual, at), beyond, self._changes(at), everywhere, done)

    def sums_of_most_spans(self, rows: NDArray[np.int64], first: int, done: int) -> Sums:
        """The same by what is kept at most spans, under all masks: what spans and masks change of it comes on top."""
        assert self.common is not None, "there is something"
        nothing = np.empty(0, np.int64)
        return self._laid_out(rows - first, _some(self.common, rows), None, (nothing,) * 3, True, done)

    def _laid_out(
        self,
        in_block: NDArray[np.int64],
        kept: NDArray[np.generic],
        beyond: NDArray[np.generic] | None,
        changes: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
        everywhere: bool,
        done: int,
    ) -> Sums:
        """Of receivers at some places of their block, by weights `[rows, senders]`, less what is summed up already."""
        shared, own = self._banks[everywhere]
        usual = kept if beyond is None else np.subtract(kept, beyond, dtype=np.float32)
        by_own, by_shared = _some(usual.T, own.senders[:done]).T, _some(usual.T, shared.senders[shared.held]).T
        masks, senders, at_rows = changes
        told, ran = shared.at[senders] >= 0, (own.at[senders] >= 0) & (own.at[senders] < done)
        used, needed = np.asarray(by_own.any(0)), np.asarray(by_shared.any(0))
        moves = np.full(len(kept), True) if self._n_masks == 1 else np.asarray(by_own.any(1))
        if len(masks):
            moves[at_rows[told | ran]] = True
            used[own.at[senders[ran]]] = True
            needed[np.searchsorted(shared.held, shared.at[senders[told]])] = True
        order = np.argsort(~moves, kind="stable")
        moving, steady = order[: int(moves.sum())], order[int(moves.sum()) :]
        row_of = np.empty(len(kept), np.int64)
        row_of[order] = np.arange(len(kept))

        chosen, places = _Chosen.of(shared.held[needed], self._pack)
        weights = usual[order][:, shared.senders[places]] * self._holds[shared.senders[places]]
        odd, toggled = None, None
        if told.any():
            pairs, which = np.unique(masks[told] * len(moving) + row_of[at_rows[told]], return_inverse=True)
            change = np.zeros((len(pairs), len(places)), np.float32)
            signs = np.where(kept[at_rows[told], senders[told]] != 0, -1, 1)
            change[which, np.searchsorted(places, shared.at[senders[told]])] = signs
            odd = self._pack.add(change), self._pack.add(pairs)
        own_chosen, own_places = _Chosen.of(np.flatnonzero(used), self._pack)
        if ran.any():
            column = np.searchsorted(own_places, own.at[senders[ran]])
            at = (masks[ran] * len(moving) + row_of[at_rows[ran]]) * len(own_places) + column
            to = (kept[at_rows[ran], senders[ran]] == 0).astype(np.float32)
            if beyond is not None:
                to -= beyond[at_rows[ran], senders[ran]]
            toggled = self._pack.add(at), self._pack.add(to)
        return Sums(
            moving=in_block[moving].tolist(),
            steady=in_block[steady].tolist(),
            shared=chosen,
            usual=self._pack.add(weights),
            odd=odd,
            own=own_chosen,
            weights=self._pack.add(by_own[moving][:, own_places]),
            toggled=toggled,
        )

    def _at_most_spans(self) -> NDArray[np.float32] | None:
        """Which edges are kept at most spans `[receivers, senders]`, as of a graph without; None where they are few."""
        n_spans = self._graph.n_spans
        if n_spans == 1 or np.count_nonzero(self._usual) * 8 <= self._usual.size:
            return None
        times = (self._usual[: self._graph.logits] != 0).reshape(-1, n_spans, self._usual.shape[1]).sum(1)
        return np.asarray(2 * times > n_spans, np.float32)

    def differ(self, rows: NDArray[np.int64], span: int) -> NDArray[np.bool_]:
        """Whether receivers read anything at a span, under any of the masks, that is not summed up for all spans."""
        at = self._at(rows, span)
        kept, beyond = _some(self._usual, at), 0 if self.common is None else _some(self.common, rows)
        return np.asarray((kept != beyond).any(1)) | self._changed[at]

    def _at(self, rows: NDArray[np.int64], span: int) -> NDArray[np.int64]:
        """Receivers at a span; the logits have theirs."""
        return np.minimum(rows * self._graph.n_spans + span, self._graph.logits)

    def readers(self, senders: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether anyone reads some senders under each mask, span by span, bool `[masks, senders, spans]`."""
        span_of, kept = self._graph.span_of, self._usual[:, senders] != 0
        counts = kept[: self._graph.logits].reshape(-1, self._graph.n_spans, len(senders)).sum(0).T
        counts[:, self._graph.end] += kept[self._graph.logits]
        counts = np.tile(counts, (self._n_masks, 1, 1))
        at = _Places.of(senders, np.ones(self._usual.shape[1], np.bool_)).at[self._senders]
        inside = at >= 0
        receivers = self._receivers[inside]
        signs = np.where(self._usual[receivers, self._senders[inside]] != 0, -1, 1)
        np.add.at(counts, (self._owners[inside], at[inside], span_of[receivers]), signs)
        return counts > 0

    def _changes(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Masks, senders and places among `rows` of what is not as usual there."""
        start, stop = np.searchsorted(self._receivers, [rows[0], rows[-1] + 1]) if len(rows) else (0, 0)
        receivers = self._receivers[start:stop]
        at = np.searchsorted(rows, receivers)
        inside = rows[at] == receivers if stop > start else slice(0, 0)
        return self._owners[start:stop][inside], self._senders[start:stop][inside], at[inside]


@dataclass(frozen=True, eq=False)
class _Places:
    """Where senders stand in a bank.

    Attributes:
        senders: Its senders.
        at: Of every sender of the graph, -1 where it is not there or does not hold.
        held: Places of those that hold.
    """

    senders: NDArray[np.int64]
    at: NDArray[np.int64]
    held: NDArray[np.int64]

    @staticmethod
    def of(senders: NDArray[np.int64], holds: NDArray[np.bool_]) -> "_Places":
        """Looks them up."""
        at = np.full(len(holds), -1)
        at[senders] = np.arange(len(senders))
        at[~holds] = -1
        return _Places(senders, at, np.flatnonzero(holds[senders]))


def _some(x: NDArray[np.generic], places: NDArray[np.int64]) -> NDArray[np.generic]:
    """Rows of an array: a view where they lie side by side."""
    if len(places) and places[-1] + 1 - places[0] == len(places):
        return x[places[0] : places[-1] + 1]
    return x[places]
