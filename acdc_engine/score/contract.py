"""Gradients at the receivers, and their products with what the senders write: the contraction that scores edges.

Nothing is written out for all tokens at once. Senders and gradients are kept factored (`model/gradients.py`) and
expanded for one block of tokens; the receivers of some layers share one product with all senders that any of them
reads.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.spans import stretches
from acdc_engine.model.devices import Room
from acdc_engine.model.twins import Record, Twin
from acdc_engine.model.view import TransformerView

_COLUMNS = {"cpu": 64, "cuda": 256}
"""Receivers of one product, by kind of device: layers with fewer share one, or the senders would be read from memory
for each of them."""
_ALIGNED = 8
"""A GPU's products have a multiple of so many columns: others run at a third of the speed."""
_KEEPS_FLOAT32 = "dtype" in torch.ops.aten.mm.overloads()
"""Whether torch has products of half precision whose results are float32: on a GPU, from 2.8 on."""


class ReceiverGradients:
    """Gradients of the summed metric at every receiver's input for one batch, summed over a few integration points.

    All memory is taken at once, before the first run: tensors that outlive a run, allocated between those that do not,
    would leave the heap in pieces (a third more resident memory on SmolLM2).
    """

    def __init__(self, view: TransformerView, batch: int, pos: int, points: int) -> None:
        like = view.unembed_weight
        self.blocks = [twin.sums(points, batch, pos, like) for twin in view.twins]
        wide = torch.promote_types(like.dtype, torch.float32)
        self.logits = like.new_zeros(batch, pos, view.d_model, dtype=wide)
        self.points = 0

    def clear(self) -> None:
        """Begins a new sum."""
        for block in self.blocks:
            block.clear()
        self.logits.zero_()
        self.points = 0

    def add(self, view: TransformerView, record: Record, metric: Float[Tensor, ""]) -> None:
        """Differentiates a run that was recorded with its inputs, and adds its gradients."""
        assert record.final is not None, "the run is over"
        wanted = [*(one for block in record.blocks for one in block.inputs), record.final]
        batch, pos, _ = record.embed.shape
        for twin in view.twins:
            twin.count(view.work, batch, pos, record.start)
        gradients = list(torch.autograd.grad(metric, wanted, materialize_grads=True))
        self.logits += gradients.pop()
        for block, into in zip(record.blocks, self.blocks, strict=True):
            assert block.x is not None, "inputs were kept"
            own, gradients = gradients[: len(block.inputs)], gradients[len(block.inputs) :]
            into.add(block.x.detach(), [one.detach() for one in block.inputs], own)
        self.points += 1


@dataclass(frozen=True)
class Places:
    """The spans of a batch's tokens.

    Attributes:
        graph: The graph with these spans.
        at: The span of every token, -1 where it is of none, `[examples, positions]`.
    """

    graph: Graph
    at: Sequence[Sequence[int]]

    def stretches(self, examples: slice, positions: slice) -> Iterator[tuple[int, slice, int]]:
        """Example, positions and span of side by side tokens of one span, counted from the block's first."""
        for example, row in enumerate(self.at[examples]):
            yield from ((example, tokens, span) for tokens, span in stretches(row[positions]))


@torch.no_grad()
def contract(
    view: TransformerView,
    senders: Record,
    receivers: ReceiverGradients,
    out: Float[Tensor, "rows senders receivers"],
    places: Places | None = None,
) -> None:
    """Adds `difference . gradient`, summed over tokens, one block of tokens at a time.

    Args:
        view: The model.
        senders: Differences.
        receivers: Gradients, summed over points.
        out: A row for each example, or one for all; with spans in the layout of their graph.
        places: The span of every token, where they are told apart.
    """
    n, pos, d_model = senders.embed.shape
    room = max(1, view.room.block // (view.graph.n_senders * d_model * senders.embed.element_size()))
    step = max(1, room // pos)
    for begin in range(0, n, step):
        examples = slice(begin, min(begin + step, n))
        rows = out[examples] if len(out) == n else out
        for first in range(0, pos, room):
            _contract_tokens(view, senders, receivers, examples, slice(first, min(first + room, pos)), rows, places)


def _contract_tokens(
    view: TransformerView,
    senders: Record,
    receivers: ReceiverGradients,
    examples: slice,
    positions: slice,
    out: Float[Tensor, "rows senders receivers"],
    places: Places | None,
) -> None:
    """Adds the products of some tokens to the scores.

    All receivers of some layers share one product with every sender that any of them reads, those of the last ones with
    the logits. What it fills in for pairs without an edge (a layer's own heads into its q, k and v) is taken out in the
    end.
    """
    shape, graph = senders.embed[examples, positions].shape, view.graph
    tokens = shape[:2].numel()
    differences = _written(view, senders, examples, positions).unflatten(1, shape[:2])
    groups = list(_sharing(view.twins, _columns(view.device)))
    for group in groups:
        is_last = group is groups[-1]
        start, stop = group[0].block.reads.start, graph.logits if is_last else group[-1].block.reads.stop
        before = graph.n_senders if is_last else max(twin.block.before for twin in group)
        gradients = _room_for(differences, stop - start + is_last)
        for twin in group:
            into = gradients[twin.block.reads.start - start : twin.block.reads.stop - start].flatten(1, 2)
            receivers.blocks[view.twins.index(twin)].expand(examples, positions, into, view.work)
        if is_last:
            gradients[stop - start] = receivers.logits[examples, positions]
        view.work.product(tokens, before, len(gradients), view.d_model)
        if places is None:
            _add_product(differences[:before], gradients, out[:, :before, start : stop + is_last])
        else:
            stretches = places.stretches(examples, positions)
            _add_by_place(differences[:before], gradients, out, (start, stop, is_last), places.graph, stretches)


def _columns(device: torch.device) -> int:
    return _COLUMNS["cpu" if device.type == "cpu" else "cuda"]


def _room_for(differences: Float[Tensor, "senders examples pos d_model"], n: int) -> Tensor:
    """Room for the gradients of so many receivers; on a GPU for some more, which are zero."""
    aligned = n if differences.device.type == "cpu" else -(-n // _ALIGNED) * _ALIGNED
    room = differences.new_empty(aligned, *differences.shape[1:])
    room[n:].zero_()
    return room


def _written(
    view: TransformerView, senders: Record, examples: slice, positions: slice
) -> Float[Tensor, "senders tokens d_model"]:
    """What all senders write to the residual stream, in graph order, for a block of tokens."""
    first = senders.embed[examples, positions].flatten(0, 1)
    out = first.new_empty(view.graph.n_senders, *first.shape)
    out[view.graph.INPUT] = first
    for twin, block in zip(view.twins, senders.blocks, strict=True):
        twin.write_out(block.values[:, examples, positions].flatten(1, 2), out[twin.block.writes], view.work)
    return out


def _sharing(twins: Sequence[Twin], columns: int) -> Iterator[list[Twin]]:
    """Blocks whose receivers share a product: those of a layer, and of as many layers as have few."""
    group: list[Twin] = []
    for _, layer in groupby(twins, key=lambda twin: twin.block.layer):
        more = list(layer)
        if group and sum(len(twin.block.feeds) for twin in (*group, *more)) > columns:
            yield group
            group = []
        group += more
    yield group


def _add_product(
    senders: Float[Tensor, "senders examples pos d_model"],
    receivers: Float[Tensor, "aligned examples pos d_model"],
    out: Float[Tensor, "rows senders receivers"],
) -> None:
    """Adds dot products over tokens and width: of every example by itself where `out` has a row for each.

    Receivers beyond those of `out` are there for the alignment alone.
    """
    if len(out) == 1:
        out[0] += _product(senders.flatten(1), receivers.flatten(1))[:, : out.shape[2]]
        return
    for row, example in enumerate(out):
        example += _product(senders[:, row].flatten(1), receivers[:, row].flatten(1))[:, : out.shape[2]]


def _add_by_place(
    senders: Float[Tensor, "senders examples pos d_model"],
    gradients: Float[Tensor, "aligned examples pos d_model"],
    out: Float[Tensor, "rows all_senders all_receivers"],
    which: tuple[int, int, bool],
    graph: Graph,
    stretches: Iterable[tuple[int, slice, int]],
) -> None:
    """The same, of every stretch of tokens to the receivers at its span: no more products of numbers, and no copies.

    `which` are the first of these receivers, the one behind the last, and whether the logits come with them.
    """
    start, stop, is_last = which
    for example, tokens, span in stretches:
        found = _product(senders[:, example, tokens].flatten(1), gradients[:, example, tokens].flatten(1))
        row = out[example if len(out) > 1 else 0, : len(senders)]
        row[:, start * graph.n_spans + span : stop * graph.n_spans : graph.n_spans] += found[:, : stop - start]
        if is_last and span == graph.end:
            row[:, graph.logits] += found[:, stop - start]


def _product(senders: Float[Tensor, "senders n"], receivers: Float[Tensor, "receivers n"]) -> Tensor:
    """Dot products, float32; of half precision rounded to it only where torch does nothing else."""
    if senders.device.type == "cuda" and senders.element_size() == 2 and _KEEPS_FLOAT32:
        return torch.mm(senders, receivers.T, out_dtype=torch.float32)
    return (senders @ receivers.T).float()


def contraction_bytes(view: TransformerView, tokens: int, room: Room, device: torch.device) -> int:
    """Bytes that the products of senders and gradients take on a device, for a batch of so many tokens.

    What they are made from is included.
    """
    graph, size = view.graph, view.unembed_weight.element_size()
    written = min(room.block, tokens * graph.n_senders * view.d_model * size)
    kept = sum(sum(twin.block.feeds.shape) * twin.width * max(size, 4) for twin in view.twins)
    return tokens * kept + written + written * min(graph.n_receivers, 2 * _columns(device)) // graph.n_senders
