"""What removed edges carry: references, the ablations that make them, and the fully ablated model they add up to.

A reference gives every sender's values for a batch of prompts: a record of another run, or of what stands in for one.
An ablation makes one from a model and prompts; packages may add their own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from acdc_engine.errors import MethodError
from acdc_engine.model.layers import read_positions
from acdc_engine.model.twins import BlockRecord, Ground, Record, Stream
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.registers import Register

if TYPE_CHECKING:
    from acdc_engine.patch.places import Tokens

Reference = Callable[[PromptSet], Record]
"""From a batch to the values that removed senders take; a batch dimension of 1 is spread, extra positions are cut.
Where the record has a past, the clean run has the same."""
_Ablation = Callable[..., Reference]
"""From the model, all prompts and the prompts per run to a reference for batches of them."""
ABLATIONS: Register[_Ablation] = Register("ablation", "acdc_engine.ablations", MethodError)
"""Ablations by name; one that was entered with parameters is given them as `parameters`."""


@ABLATIONS.add("patch", "what the sender writes on the corrupt prompt")
def _patch(view: TransformerView, prompts: PromptSet, batch_size: int) -> Reference:
    """Recorded from where clean and corrupt prompts begin to differ: what lies before is the past of both runs."""
    return lambda batch: recorded(view, batch.corrupt, view.shared_run(batch.clean, batch.corrupt, batch.read_at))


@ABLATIONS.add("mean", "its mean over the corrupt prompts, position by position")
def _mean(view: TransformerView, prompts: PromptSet, batch_size: int) -> Reference:
    """Every sender's mean over the corrupt prompts; a position's mean runs over the prompts that have a token there.

    Where it stands in for longer prompts, what lies behind takes the mean over all positions but the first.
    """
    width = prompts.clean.shape[1]
    counts = torch.zeros(width, dtype=torch.float32, device=view.device)
    sums = [total.float() for total in _zeros(view, width).values()]
    for batch in (part.to(view.device) for part in prompts.to("cpu").batches(batch_size, view.fitting)):
        pos = batch.clean.shape[1]
        there = (torch.arange(pos, device=view.device)[None] < batch.lengths[:, None]).float()
        counts[:pos] += there.sum(0)
        found = recorded(view, batch.corrupt).values()
        for total, values in zip(sums, found, strict=True):
            total[..., 0, :pos, :] += torch.einsum("...npd,np->...pd", values.float(), there)
    share = (1 / counts.clamp(min=1))[None, :, None]
    embed, *blocks = [(total * share).to(view.dtype) for total in sums]
    record = Record(embed, [BlockRecord(values) for values in blocks])
    return lambda batch: _as_long(record, batch.clean.shape[1])


def _as_long(record: Record, pos: int) -> Record:
    """A record of means that reaches as far as a prompt of so many tokens."""
    width = record.embed.shape[1]
    if pos <= width:
        return record

    def longer(x: Tensor) -> Tensor:
        behind = x[..., min(1, width - 1) :, :].mean(-2, keepdim=True)
        return torch.cat([x, behind.expand(*x.shape[:-2], pos - width, -1)], -2)

    return Record(longer(record.embed), [BlockRecord(longer(block.values)) for block in record.blocks])


@ABLATIONS.add("zero", "zero")
def _zero(view: TransformerView, prompts: PromptSet, batch_size: int) -> Reference:
    return lambda batch: _zeros(view, batch.clean.shape[1])


@ABLATIONS.add("base", "what the sender writes in the base model of two that are compared, on the same prompt")
def _base(view: TransformerView, prompts: PromptSet, batch_size: int) -> Reference:
    base = base_of(view)
    return lambda batch: recorded(base, batch.clean)


def base_of(model: Any) -> TransformerView:
    """The base model of a view that `against` gives.

    Raises:
        MethodError: It is not such a view.
    """
    base = getattr(model, "base", None)
    if not isinstance(base, TransformerView):
        raise MethodError(
            "Under base ablation removed edges carry what another model writes, and none is given: acdc diff compares "
            "two models, in Python against(tuned, base) gives such a view."
        )
    return base


@torch.no_grad()
def recorded(
    view: TransformerView, tokens: Int[Tensor, "batch pos"], past: Record | None = None, keep_inputs: bool = False
) -> Record:
    """The senders' values of a run on some tokens; from where its `past` ends, where it has one."""
    record = Record(view.embed(tokens), past=past)
    if record.start:
        record.embed = record.embed[:, record.start :].clone()  # a part would hold the whole
    view.run(record.embed, record, keep_inputs)
    return record


def _zeros(view: TransformerView, pos: int) -> Record:
    like = view.unembed_weight
    widths = [(twin.block.feeds.shape[1], 1, pos, twin.width) for twin in view.twins]
    return Record(like.new_zeros(1, pos, view.d_model), [BlockRecord(like.new_zeros(width)) for width in widths])


@dataclass(frozen=True)
class Baseline:
    """The fully ablated model on one batch.

    Attributes:
        embed: What `input` contributes `[batch, pos, d_model]`.
        grounds: Every block, in order.
        final: What the logits read, at the reading positions only `[batch, d_model]`.
        read_at: The reading positions.
        tokens: Which tokens are of which span, where the prompts have spans.

    Positions are counted from where the reference begins.
    """

    embed: Tensor
    grounds: list[Ground]
    final: Float[Tensor, "batch d_model"]
    read_at: Int[Tensor, "batch"]
    tokens: "Tokens | None" = None


@torch.no_grad()
def build_baseline(view: TransformerView, batch: PromptSet, reference: Record) -> Baseline:
    """Adds up the senders' values to what each receiver reads when no edge is kept.

    Args:
        view: The model.
        batch: The prompts; only their shape and reading positions matter.
        reference: The senders' values. Where it has a past, all of them are those of the clean run before, and kept
            edges change nothing there: patched runs begin where it ends.
    """
    (n, pos), start = batch.clean.shape, reference.start
    embed, *values = [x[..., : pos - start, :].expand(*x.shape[:-3], n, -1, -1) for x in reference.values()]
    stream, rotations, grounds = Stream(embed), view.rotations(pos), []
    past: Sequence[BlockRecord | None] = reference.past.blocks if reference.past else [None] * len(values)
    for twin, own, before in zip(view.twins, values, past, strict=True):
        read = stream.before(twin.block)
        ground, write = twin.ground(read, own, rotations[twin.block.layer], view.work, before)
        grounds.append(ground)
        stream.add(twin.block, write)
    read_at = batch.read_at - start
    tokens = None
    if batch.span_at is not None:
        from acdc_engine.patch.places import Tokens

        tokens = Tokens(view.graph.at(batch.spans), batch.span_at[:, start:])
    return Baseline(embed, grounds, read_positions(stream.now, read_at), read_at, tokens)
