"""Twins of the graph's blocks: what a block computes, plainly, when it is patched, and backwards.

A view's `run`, scoring and patching are loops over twins. A new kind of node is a block, its twin and its names.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acdc_engine.graph.blocks import Block, Graph
from acdc_engine.model.devices import Work, moved
from acdc_engine.model.gradients import AttentionSums, ReceiverSums
from acdc_engine.model.layers import Layer, Residual, Rotation, positions, project

if TYPE_CHECKING:
    from acdc_engine.model.mixed import Watch


@dataclass
class BlockRecord:
    """What one block leaves behind in a run.

    Attributes:
        values: Of its senders, before they are written out `[senders, batch, pos, width]`. Heads are kept before `w_o`,
            norm after attention and write scale included: a head's write is `values[h] @ layer.effective_w_o[h]`,
            `n_heads` times larger. MLPs are kept as they write.
        x: The residual stream that it reads `[batch, pos, d_model]`; None where inputs were not asked for.
        inputs: What gradients at its receivers are taken at: raw q, k and v `[batch, pos, heads, d_head]`; `x` itself
            for an MLP, as a node of its own. Empty where inputs were not asked for.

    Of a block on another device than the view's, `x` and `inputs` lie there.
    """

    values: Tensor
    x: Tensor | None = None
    inputs: tuple[Tensor, ...] = ()


@dataclass
class Record:
    """What one run leaves behind; or the difference of two, or what stands in for one.

    Attributes:
        embed: What `input` writes `[batch, pos, d_model]`.
        blocks: In the order of the graph's blocks.
        final: Residual stream the logits read; None before the run has come there.
        past: The run of the positions before, recorded with its inputs: heads look back at its keys and values. None
            where the run begins at the first position.
    """

    embed: Tensor
    blocks: list[BlockRecord] = field(default_factory=list)
    final: Tensor | None = None
    past: "Record | None" = None

    @property
    def start(self) -> int:
        """The first position of the run."""
        return 0 if self.past is None else self.past.embed.shape[1]

    def of(self, graph: Graph, kind: str, layer: int) -> BlockRecord:
        """What the block of that kind and layer left, on the device of the run."""
        found: BlockRecord = moved(self.blocks[graph.place(kind, layer)], self.embed.device)
        return found

    def values(self) -> list[Tensor]:
        """Of all senders, `input` first."""
        return [self.embed, *(block.values for block in self.blocks)]


class Stream:
    """The residual stream of a run, as far as it has come, and as it was where a later block still reads it."""

    def __init__(self, x: Tensor, senders: int = 1) -> None:
        """Starts with what `input` writes, or with what so many senders have written."""
        self.now = x
        self._after = {senders: x}

    def before(self, block: Block) -> Tensor:
        """What a block reads. Blocks are asked for in order."""
        self._after = {senders: x for senders, x in self._after.items() if senders >= block.before}
        return self._after[block.before]

    def copy(self) -> "Stream":
        """The same as far as it has come, to go on from once more."""
        other = Stream(self.now)
        other._after = dict(self._after)
        return other

    def add(self, block: Block, write: Tensor) -> None:
        """Adds what a block writes."""
        self.now = self.now + write
        self._after[block.writes.stop] = self.now


@dataclass(frozen=True)
class Ground:
    """One block of the fully ablated model on one batch: the ground on which kept edges are added.

    Positions are those from `start` on. What lies before is the same whatever edges are kept, and is left out, but for
    `raw`: later positions look back at its keys and values.

    Attributes:
        x: Sum of the earlier senders' values `[batch, pos, d_model]`.
        values: What its own senders contribute `[senders, batch, pos, width]`.
        rotation: Rotary table of the layer.
        raw: Raw q, k, v of `x`, receivers in graph order `[receivers, batch, start + pos, d_head]`; for attention.
        z: Unscaled head outputs computed from `raw` `[heads, batch, pos, d_head]`; for norms after attention.
        total: Their sum through `w_o` `[batch, pos, d_model]`; for norms after attention.
        start: The first position.

    Of a block on another device than the view's, all but `x` lies there.
    """

    x: Tensor
    values: Tensor
    rotation: Rotation | None
    raw: Tensor | None = None
    z: Tensor | None = None
    total: Tensor | None = None
    start: int = 0


@dataclass(frozen=True)
class Reads:
    """What some receivers of a block read under many masks.

    Attributes:
        moving: Receivers, counted from the block's first, that do not read the same under all masks.
        values: What those read `[masks, moving, batch, positions, d_model]`.
        steady: Receivers that read the same under all masks.
        same: What those read `[1, steady, batch, positions, d_model]`.
    """

    moving: list[int]
    values: Tensor
    steady: list[int]
    same: Tensor

    def of(self, place: int) -> Float[Tensor, "masks batch positions d_model"]:
        """What one receiver reads, under every mask."""
        if place in self.moving:
            return self.values[:, self.moving.index(place)]
        return self.same[:, self.steady.index(place)].expand(len(self.values), -1, -1, -1)


@dataclass(frozen=True)
class Patched:
    """What some senders of a block are to be computed from, under many masks.

    Attributes:
        senders: Which run, counted from the block's first.
        here: What receivers read that act where they read, at all positions or at those of `at`; receivers that are
            not among them are as in the ground.
        elsewhere: The same for receivers that spread (`Block.spreads`), at all positions.
        read: Whether anyone reads the sender there, under that mask. Where senders are coupled the others count as they
            are in the ground (a head may run for another mask's sake and see patched keys of a group it shares).
        at: The only positions of each example at which the writes are needed; None for all.
        watch: Sees what heads mix, and may change it; of attention alone.
    """

    senders: list[int]
    here: Reads
    elsewhere: Reads
    read: Bool[Tensor, "masks some batch_or_1 positions_or_1"]
    at: Int[Tensor, "batch positions"] | None
    watch: "Watch | None" = None


class Twin(ABC):
    """The arithmetic of one block.

    Attributes:
        layer: The layer it belongs to.
        block: Its place in the graph.
        width: Size of a sender's value.
        coupled: A sender's write depends on which of its neighbours are read (a norm after attention, or over heads).
        entangled: Every sender depends on all receivers of the block (a norm over all heads' queries).
        removed_w_o: What writes out the values of removed heads `[heads, d_head, d_model]`; None for the layer's own.
    """

    coupled = False
    entangled = False
    removed_w_o: Tensor | None = None

    def __init__(self, layer: Layer, block: Block) -> None:
        self.layer, self.block, self.width = layer, block, layer.attention.w_q.shape[-1]

    @abstractmethod
    def count(self, work: Work, batch: int, pos: int, past: int = 0) -> None:
        """Counts a run of the block, behind `past` positions; another time for its gradients, with frozen weights."""

    @abstractmethod
    def run(self, x: Residual, rotation: Rotation | None, record: Record | None, keep: bool) -> Residual:
        """What the block writes; appends to the record, with its inputs if they are to be kept."""

    @abstractmethod
    def write_out(
        self, values: Float[Tensor, "senders tokens width"], out: Float[Tensor, "senders tokens d_model"], work: Work
    ) -> None:
        """Fills in what every sender writes to the residual stream."""

    @abstractmethod
    def sums(self, points: int, batch: int, pos: int, like: Tensor) -> ReceiverSums:
        """Room for gradients at the receivers, summed over points."""

    @abstractmethod
    def ground(
        self, x: Residual, values: Tensor, rotation: Rotation | None, work: Work, past: BlockRecord | None
    ) -> tuple[Ground, Residual]:
        """The block when no edge is kept, and what its senders' values write together; behind what it did before."""

    @abstractmethod
    def change(
        self, patched: Patched, ground: Ground, work: Work
    ) -> Float[Tensor, "masks some batch positions d_model"]:
        """Change of the writes of some senders against the ground, at the positions asked for."""


class _AttentionTwin(Twin):
    """Attention: one sender per head; receivers are q of all heads, k of all groups, v of all groups."""

    def __init__(self, layer: Layer, block: Block) -> None:
        super().__init__(layer, block)
        a = layer.attention
        self._weights, self._biases = (a.w_q, a.w_k, a.w_v), (a.b_q, a.b_k, a.b_v)
        biased = any(bias is not None for bias in self._biases)
        zero = a.w_q.new_zeros(a.w_q.shape[1]) if biased else None
        # Weight and bias of every receiver, in graph order; where any of them has a bias all do.
        self._receivers: list[tuple[Tensor, Tensor | None]] = [
            (weight, zero if bias is None else bias[place])
            for weights, bias in zip(self._weights, self._biases, strict=True)
            for place, weight in enumerate(weights)
        ]
        self._heads, self._groups, self.width = len(a.w_q), len(a.w_k), a.w_q.shape[1]
        self.entangled = a.norm_spans_heads
        self.coupled = layer.attention_post is not None or a.norm_spans_heads

    def count(self, work: Work, batch: int, pos: int, past: int = 0) -> None:
        work.product(batch * pos, sum(weight.numel() for weight in (*self._weights, self.layer.attention.w_o)))
        work.mix(self._heads, batch * pos, past + pos, self.width)

    def run(self, x: Residual, rotation: Rotation | None, record: Record | None, keep: bool) -> Residual:
        layer, attention = self.layer, self.layer.attention
        q, k, v = self._project_all(x)
        past = None if record is None or record.past is None else record.past.blocks[len(record.blocks)]
        z = self._mixed(q, k, v, rotation, past)
        total = F.linear(z.flatten(2), attention.w_o.flatten(0, 1).T, attention.b_o)
        if record is not None:
            scale = layer.share_scale(total)
            values = (z if scale is None else z * scale.unsqueeze(-1)).permute(2, 0, 1, 3)
            record.blocks.append(BlockRecord(values, x, (q, k, v)) if keep else BlockRecord(values))
        if layer.attention_post is not None:
            total = layer.attention_post(total)
        return total if layer.write_scale == 1.0 else total * layer.write_scale

    def _mixed(self, q: Tensor, k: Tensor, v: Tensor, rotation: Rotation | None, past: BlockRecord | None) -> Tensor:
        """What all heads mix, at the positions of the queries; they look back at keys and values of the past, too."""
        if past is None:
            return self.layer.attention.mix(q, k, v, rotation)
        keys, values = (torch.cat(both, 1) for both in zip(past.inputs[1:], (k, v), strict=True))
        at = torch.arange(keys.shape[1] - q.shape[1], keys.shape[1], device=q.device).expand(len(q), -1)
        return self.layer.attention.mix(q, keys, values, rotation, None, at)

    def write_out(self, values: Tensor, out: Tensor, work: Work) -> None:
        work.product(*values.shape, out.shape[-1])
        torch.bmm(values, self.layer.effective_w_o, out=out)

    def sums(self, points: int, batch: int, pos: int, like: Tensor) -> ReceiverSums:
        return AttentionSums(self.layer.attention_norm, self._weights, self._biases, points, batch, pos, like)

    def ground(
        self, x: Residual, values: Tensor, rotation: Rotation | None, work: Work, past: BlockRecord | None
    ) -> tuple[Ground, Residual]:
        layer, a = self.layer, self.layer.attention
        work.product(x.shape[:2].numel(), sum(weight.numel() for weight in (*self._weights, a.w_o)))
        q, k, v = self._project_all(x)
        before = [] if past is None else [torch.cat(past.inputs, 2)]
        raw, z, total = torch.cat([*before, torch.cat([q, k, v], 2)], 1).permute(2, 0, 1, 3).contiguous(), None, None
        if layer.attention_post is not None:
            z = self._mixed(q, k, v, rotation, past).permute(2, 0, 1, 3)
            total = torch.einsum("hnpe,hed->npd", z, a.w_o)
        removed_w_o = layer.effective_w_o if self.removed_w_o is None else self.removed_w_o
        write = torch.einsum("hnpe,hed->npd", values, removed_w_o)
        write = write if a.b_o is None else write + a.b_o * layer.write_scale
        return Ground(x, values, rotation, raw, z, total, raw.shape[2] - x.shape[1]), write

    def change(self, patched: Patched, ground: Ground, work: Work) -> Tensor:
        layer, heads, at, n_masks = self.layer, patched.senders, patched.at, len(patched.read)
        run = list(range(self._heads)) if self.entangled else heads
        group_of = {head: head * self._groups // self._heads for head in run}
        groups = sorted(set(group_of.values()))
        keys = [self._heads + group for group in groups]
        both = [*keys, *(self._groups + key for key in keys)]
        q = self._projected(patched.here, run, ground, at, n_masks, work)
        kv = self._projected(patched.elsewhere, both, ground, None, n_masks, work)
        if ground.start:  # keys and values before are those of the ground
            assert ground.raw is not None, "attention's ground has its projections"
            before = torch.stack([ground.raw[place, :, : ground.start] for place in both], 2)
            kv = torch.cat([before.repeat(n_masks, 1, 1, 1), kv], 1)
        k, v = kv.split(len(groups), 2)
        where = None  # positions of the queries of all masks' examples, counted from the beginning; None for all
        if at is not None:
            where = (at + ground.start).repeat(n_masks, 1)
        elif ground.start:
            where = torch.arange(ground.start, kv.shape[1], device=kv.device).expand(len(kv), -1)
        z = layer.attention.mix(q, k, v, ground.rotation, [groups.index(group_of[head]) for head in run], where)
        z = z.unflatten(0, (n_masks, -1)).permute(0, 3, 1, 2, 4)
        z = z if run == heads else _some(z, 1, heads)
        if patched.watch is not None:
            from acdc_engine.model.mixed import Mixed

            q, k, v = (part.unflatten(0, (n_masks, -1)) for part in (q, k, v))
            z = patched.watch(z, Mixed(layer.attention, ground, heads, run, groups, q, k, v, at, work))
        if layer.attention_post is None:
            scaled = z if layer.write_scale == 1.0 else z * layer.write_scale
        else:
            scaled = self._through_post_norm(z, patched, ground, work)
        change, w_o = self._against(scaled, positions(_some(ground.values, 0, heads), at), heads)
        work.product(change.numel(), w_o.shape[-1])
        work.mix(len(run), change.shape[2] * change.shape[3] * n_masks, kv.shape[1], self.width)
        write: Tensor = torch.matmul(change.flatten(2, 3), w_o).unflatten(2, change.shape[2:4])
        return write

    def _against(self, values: Tensor, removed: Tensor, heads: list[int]) -> tuple[Tensor, Tensor]:
        """What some heads mix against what stands for them when removed, and what writes out the difference."""
        w_o = _some(self.layer.effective_w_o, 0, heads)
        if self.removed_w_o is None:
            return values - removed, w_o
        both = torch.cat([w_o, _some(self.removed_w_o, 0, heads)], 1)
        return torch.cat([values, -removed.expand_as(values)], -1), both

    def _project_all(self, x: Tensor) -> list[Tensor]:
        normed = self.layer.attention_norm(x)
        return [project(normed, weight, bias) for weight, bias in zip(self._weights, self._biases, strict=True)]

    def _projected(
        self, read: Reads, wanted: list[int], ground: Ground, at: Tensor | None, n_masks: int, work: Work
    ) -> Float[Tensor, "examples positions wanted d_head"]:
        """Raw projections of some receivers: of those that read something from that, of the others as in the ground."""
        assert ground.raw is not None, "attention's ground has its projections"
        work.product(read.values.numel() + read.same.numel(), self.width)
        raw, computed = ground.raw, dict[int, Tensor]()
        for places, inputs in ((read.moving, read.values), (read.steady, read.same)):
            if places:
                weights, biases = zip(*(self._receivers[place] for place in places), strict=True)
                out = torch.matmul(
                    self.layer.attention_norm(inputs).flatten(2, 3), torch.stack(weights).transpose(1, 2)
                )
                out = out if biases[0] is None else out + torch.stack(biases)[:, None]
                out = out.unflatten(2, inputs.shape[2:4]).expand(n_masks, -1, -1, -1, -1)
                computed.update(zip(places, out.unbind(1), strict=True))
        for place in set(wanted) - computed.keys():
            computed[place] = positions(raw[place][None, :, ground.start :], at).expand(n_masks, -1, -1, -1)
        return torch.stack([computed[place] for place in wanted], 3).flatten(0, 1)

    def _through_post_norm(self, z: Tensor, patched: Patched, ground: Ground, work: Work) -> Tensor:
        """Heads' shares through the norm after attention, with the scale of this very run.

        Heads that nobody reads add their ground output to what the norm sees.
        """
        assert ground.z is not None and ground.total is not None, "the ground of such layers keeps its heads"
        before = positions(_some(ground.z, 0, patched.senders), patched.at)
        change = (z - before) * patched.read[..., None]
        w_o = _some(self.layer.attention.w_o, 0, patched.senders)
        work.product(change.numel(), w_o.shape[-1])
        added = torch.einsum("mhnpe,hed->mnpd", change, w_o)
        scale = self.layer.share_scale(positions(ground.total[None], patched.at)[0] + added)
        assert scale is not None, "a norm after attention has a scale"
        return z * scale.unsqueeze(1)


class _MlpTwin(Twin):
    """An MLP: one sender, which writes to the residual stream as it is, and one receiver."""

    _per_token: int | None = None

    def count(self, work: Work, batch: int, pos: int, past: int = 0) -> None:
        if self._per_token is None:  # counted by torch: of a mixture of experts those that a token goes through
            from torch.utils.flop_counter import FlopCounterMode

            token = self.layer.attention.w_q.new_ones(1, 1, self.width)
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                self.layer.mlp_write(token)
            self._per_token = int(counter.get_total_flops())
        work.operations += batch * pos * self._per_token

    def run(self, x: Residual, rotation: Rotation | None, record: Record | None, keep: bool) -> Residual:
        read = x.view_as(x)
        write = self.layer.mlp_write(read)
        if record is not None:
            record.blocks.append(BlockRecord(write[None], x, (read,)) if keep else BlockRecord(write[None]))
        return write

    def write_out(self, values: Tensor, out: Tensor, work: Work) -> None:
        out.copy_(values)

    def sums(self, points: int, batch: int, pos: int, like: Tensor) -> ReceiverSums:
        return ReceiverSums(len(self.block.feeds), batch, pos, like)

    def ground(
        self, x: Residual, values: Tensor, rotation: Rotation | None, work: Work, past: BlockRecord | None
    ) -> tuple[Ground, Residual]:
        return Ground(x, values, rotation), values.sum(0)

    def change(self, patched: Patched, ground: Ground, work: Work) -> Tensor:
        inputs = patched.here.values if patched.here.moving else patched.here.same
        self.count(work, 1, inputs.shape[:-1].numel())
        write = self.layer.mlp_write(inputs[:, 0].flatten(0, 1))
        return write.reshape(inputs.shape) - positions(ground.values, patched.at)


def run_blocks(
    twins: Sequence[Twin],
    x: Residual,
    rotations: Sequence[Rotation | None],
    record: Record | None = None,
    keep: bool = False,
) -> Residual:
    """Runs blocks one after the other, from the residual stream before the first to the one after the last.

    `rotations` has the rotary table of every layer; the record is filled when given, the receivers' side with `keep`.
    """
    stream = Stream(x, twins[0].block.before)
    for twin in twins:
        read = stream.before(twin.block)
        stream.add(twin.block, twin.run(read, rotations[twin.block.layer], record, keep))
    return stream.now


TWINS: dict[str, type[Twin]] = {"attention": _AttentionTwin, "mlp": _MlpTwin}
"""The twins of a transformer's blocks, by kind."""


def _some(x: Tensor, dim: int, places: Sequence[int]) -> Tensor:
    """A tensor at some places of a dimension: a slice where they lie side by side, never an index from the host."""
    if len(places) == places[-1] + 1 - places[0]:
        return x.narrow(dim, places[0], len(places))
    return torch.stack([x.select(dim, place) for place in places], dim)
