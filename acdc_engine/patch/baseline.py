"""What every node writes and reads when nothing is kept: the ground the intervention adds kept edges to."""

from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from acdc_engine.errors import MethodError, nearest
from acdc_engine.model.devices import fitting_prompts
from acdc_engine.model.forward import Record, effective_w_o, project, read_positions, run_layers
from acdc_engine.model.view import Layer, Rotation, TransformerView
from acdc_engine.prompts.prompt_set import PromptSet

AblationName = Literal["patch", "mean", "zero"]
ABLATIONS: tuple[AblationName, ...] = get_args(AblationName)


@dataclass(frozen=True)
class SenderValues:
    """Values that removed senders take.

    Attributes:
        embed: Of `input`, `[batch, pos, d_model]`.
        z: Of the heads per layer, before `w_o`, norms after attention included: `[heads, batch, pos, d_head]`.
        mlp: Of the MLPs per layer `[batch, pos, d_model]`.
    """

    embed: Tensor
    z: list[Tensor]
    mlp: list[Tensor]


@dataclass(frozen=True)
class Baseline:
    """The fully ablated model on one batch.

    Attributes:
        values: What the senders contribute.
        attention_in: Sum of the earlier senders' values at each attention layer `[batch, pos, d_model]`.
        mlp_in: The same at each MLP.
        final: The same at the logits, at the reading positions only `[batch, d_model]`.
        raw: Raw q, k, v projections of `attention_in`, receivers in graph order `[receivers, batch, pos, d_head]`.
        z: Unscaled head outputs computed from `raw` `[heads, batch, pos, d_head]`; only for norms after attention.
        totals: Their sum through `w_o` `[batch, pos, d_model]`; only for norms after attention.
    """

    values: SenderValues
    attention_in: list[Tensor]
    mlp_in: list[Tensor]
    final: Tensor
    raw: list[Tensor]
    z: list[Tensor | None]
    totals: list[Tensor | None]


def check_ablation(name: str) -> AblationName:
    """Returns the name if there is such an ablation.

    Raises:
        MethodError: For an unknown name.
    """
    for known in ABLATIONS:
        if name == known:
            return known
    raise MethodError(f"Unknown ablation {name!r}.{nearest(name, ABLATIONS)}")


@torch.no_grad()
def corrupt_values(view: TransformerView, batch: PromptSet) -> SenderValues:
    """The senders' values on the corrupt prompts of a batch."""
    record = Record(view.embed(batch.corrupt))
    run_layers(view, record.embed, record)
    return SenderValues(record.embed, [z.permute(2, 0, 1, 3).contiguous() for z in record.z], record.mlp)


@torch.no_grad()
def mean_values(view: TransformerView, prompts: PromptSet, batch_size: int) -> SenderValues:
    """Every sender's mean over the corrupt prompts, position by position (batch dimension 1).

    A position's mean runs over the prompts that have a token there.

    Args:
        view: The model.
        prompts: The prompts to average over.
        batch_size: Prompts per run.
    """
    sums: SenderValues | None = None
    counts = torch.zeros(prompts.clean.shape[1], dtype=torch.float32, device=view.device)
    width = prompts.clean.shape[1]
    for batch in prompts.to(view.device).batches(batch_size, partial(fitting_prompts, view)):
        found = corrupt_values(view, batch)
        pos = batch.clean.shape[1]
        there = (torch.arange(pos, device=view.device)[None] < batch.lengths[:, None]).float()
        counts[:pos] += there.sum(0)
        if sums is None:
            sums = SenderValues(
                there.new_zeros(1, width, view.d_model),
                [there.new_zeros(z.shape[0], 1, width, view.d_head) for z in found.z],
                [there.new_zeros(1, width, view.d_model) for _ in found.mlp],
            )
        sums.embed[0, :pos] += torch.einsum("npd,np->pd", found.embed.float(), there)
        for total, z in zip(sums.z, found.z, strict=True):
            total[:, 0, :pos] += torch.einsum("hnpe,np->hpe", z.float(), there)
        for total, mlp in zip(sums.mlp, found.mlp, strict=True):
            total[0, :pos] += torch.einsum("npd,np->pd", mlp.float(), there)
    assert sums is not None, "prompt sets are not empty"
    share = (1 / counts.clamp(min=1))[None, :, None]

    def mean(total: Tensor) -> Tensor:
        return (total * share).to(view.dtype)

    return SenderValues(mean(sums.embed), [mean(z) for z in sums.z], [mean(m) for m in sums.mlp])


@torch.no_grad()
def zero_values(view: TransformerView, pos: int) -> SenderValues:
    """Zeros for every sender (batch dimension 1)."""
    zero = torch.zeros(1, pos, view.d_model, device=view.device, dtype=view.dtype)
    heads = torch.zeros(view.shape.n_heads, 1, pos, view.d_head, device=view.device, dtype=view.dtype)
    return SenderValues(zero, [heads] * view.shape.n_layers, [zero] * view.shape.n_layers)


@torch.no_grad()
def build_baseline(view: TransformerView, batch: PromptSet, values: SenderValues) -> Baseline:
    """Adds up the senders' values to what each receiver reads when no edge is kept.

    Args:
        view: The model.
        batch: The prompts; only their shape and reading positions matter.
        values: The senders' values; batch dimension 1 is spread over the batch, extra positions are cut.
    """
    n, pos = batch.clean.shape
    values = SenderValues(
        values.embed[:, :pos].expand(n, -1, -1),
        [z[:, :, :pos].expand(-1, n, -1, -1) for z in values.z],
        [m[:, :pos].expand(n, -1, -1) for m in values.mlp],
    )
    x = values.embed
    view.work.product(n * pos, sum(map(_attention_weights, view.layers)))
    attention_in, mlp_in, raws, zs, totals = [], [], [], [], []
    for index, (layer, rotation) in enumerate(zip(view.layers, view.rotations(pos), strict=True)):
        attention_in.append(x)
        raw = _project_all(view, index, x)
        raws.append(raw)
        z, total = _attention_total(view, index, raw, rotation) if layer.attention_post is not None else (None, None)
        zs.append(z)
        totals.append(total)
        write = torch.einsum("hnpe,hed->npd", values.z[index], effective_w_o(layer))
        if layer.attention.b_o is not None:
            write = write + layer.attention.b_o * layer.write_scale
        after = x + write
        if layer.mlp is None:
            x = after
            continue
        mlp_in.append(x if view.shape.parallel else after)
        x = after + values.mlp[index]
    final = read_positions(x, batch.read_at)
    return Baseline(values, attention_in, mlp_in, final, raws, zs, totals)


def _attention_weights(layer: Layer) -> int:
    a = layer.attention
    return a.w_q.numel() + a.w_k.numel() + a.w_v.numel() + a.w_o.numel()


def _project_all(view: TransformerView, index: int, x: Tensor) -> Float[Tensor, "receivers batch pos d_head"]:
    layer = view.layers[index]
    a, normed = layer.attention, layer.attention_norm(x)
    parts = ((a.w_q, a.b_q), (a.w_k, a.b_k), (a.w_v, a.b_v))
    return torch.cat([project(normed, w, b) for w, b in parts], 2).permute(2, 0, 1, 3).contiguous()


def _attention_total(
    view: TransformerView, index: int, raw: Tensor, rotation: Rotation | None
) -> tuple[Tensor, Tensor]:
    attention = view.layers[index].attention
    q, k, v = raw.permute(1, 2, 0, 3).split([view.shape.n_heads, view.shape.n_kv_heads, view.shape.n_kv_heads], 2)
    z = attention.mix(q, k, v, rotation).permute(2, 0, 1, 3)
    return z, torch.einsum("hnpe,hed->npd", z, attention.w_o)
