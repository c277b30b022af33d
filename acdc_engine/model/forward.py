"""Running the whole model through its view, and what such a run leaves behind for scoring and patching."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from acdc_engine.model.view import Layer, Rotation, TransformerView


@dataclass
class Record:
    """What one forward pass leaves behind, layer by layer. Lists are empty for what was not asked for.

    Heads are kept as `z` (before `w_o`): n_heads times smaller than their writes. A head's write to the residual
    stream is `z[..., h, :] @ effective_w_o(layer)[h]`; norms after attention and write scales are inside `z`.

    Attributes:
        embed: What `input` writes `[batch, pos, d_model]`.
        z: Scaled head outputs `[batch, pos, heads, d_head]`.
        mlp: MLP writes `[batch, pos, d_model]`.
        attention_in: Residual stream each attention layer reads `[batch, pos, d_model]`; `mlp_in` likewise.
        q: Raw query projections `[batch, pos, heads, d_head]`; `k`, `v` `[batch, pos, kv_heads, d_head]`.
        final: Residual stream the logits read.
    """

    embed: Tensor
    z: list[Tensor] = field(default_factory=list)
    mlp: list[Tensor] = field(default_factory=list)
    attention_in: list[Tensor] = field(default_factory=list)
    mlp_in: list[Tensor] = field(default_factory=list)
    q: list[Tensor] = field(default_factory=list)
    k: list[Tensor] = field(default_factory=list)
    v: list[Tensor] = field(default_factory=list)
    final: Tensor | None = None


def project(
    x: Float[Tensor, "batch pos d_model"],
    weight: Float[Tensor, "heads d_head d_model"],
    bias: Float[Tensor, "heads d_head"] | None,
) -> Float[Tensor, "batch pos heads d_head"]:
    """Projects a shared, normalized input to every head."""
    flat = F.linear(x, weight.flatten(0, 1), None if bias is None else bias.flatten())
    return flat.view(*x.shape[:-1], *weight.shape[:2])


def attention_reads(layer: Layer) -> tuple[Tensor, Tensor | None]:
    """Read weights and biases of a layer's q, k and v receivers in graph order: `[receivers, d_head, d_model]`."""
    a = layer.attention
    weights = torch.cat([a.w_q, a.w_k, a.w_v])
    if a.b_q is None and a.b_k is None and a.b_v is None:
        return weights, None
    pairs = ((a.b_q, a.w_q), (a.b_k, a.w_k), (a.b_v, a.w_v))
    return weights, torch.cat([w.new_zeros(w.shape[:2]) if b is None else b for b, w in pairs])


def effective_w_o(layer: Layer) -> Float[Tensor, "heads d_head d_model"]:
    """`w_o` with the gain of a norm after attention folded in, so that `z @ effective_w_o` is a head's write."""
    post = layer.attention_post
    w_o = layer.attention.w_o
    return w_o if post is None or post.weight is None else (w_o * post.weight).to(w_o.dtype)


def share_scale(layer: Layer, total: Float[Tensor, "*any d_model"]) -> Tensor | None:
    """The scale by which a head's output enters the residual stream in this very run.

    Args:
        layer: The layer.
        total: The attention layer's output before its norm.

    Returns:
        `r(total) * write_scale` for a norm after attention, the write scale alone otherwise, None where it is one.
    """
    if layer.attention_post is not None:
        return layer.attention_post.standardize(total)[1].to(total.dtype) * layer.write_scale
    return None if layer.write_scale == 1.0 else total.new_full((1,), layer.write_scale)


def run_layers(
    view: TransformerView,
    embed: Float[Tensor, "batch pos d_model"],
    record: Record | None = None,
    keep_inputs: bool = False,
) -> Float[Tensor, "batch pos d_model"]:
    """Runs all layers on what `input` writes.

    Args:
        view: The model.
        embed: Output of `view.embed`, or a point between two such outputs (integrated gradients).
        record: Filled with the senders' values (`z`, `mlp`) when given.
        keep_inputs: Fill the receivers' side too (`attention_in`, `mlp_in`, `q`, `k`, `v`).

    Returns:
        The final residual stream, before the final norm. Differentiable; gradients at the recorded `q`, `k`, `v`,
        `mlp_in` and at the result are those at the receivers alone (`mlp_in` is a node of its own in the graph, so
        the skip connection around the MLP is not part of its gradient).
    """
    x = embed
    view.work.layers(view, *embed.shape[:2])
    rotations = view.rotations(embed.shape[1])
    for layer, rotation in zip(view.layers, rotations, strict=True):
        x = run_layer(layer, x, rotation, view.shape.parallel, record, keep_inputs)
    if record is not None:
        record.final = x
    return x


def run_layer(
    layer: Layer,
    x: Float[Tensor, "batch pos d_model"],
    rotation: Rotation | None,
    parallel: bool,
    record: Record | None = None,
    keep_inputs: bool = False,
) -> Float[Tensor, "batch pos d_model"]:
    """Runs one layer on the residual stream before it; returns the one after it. See `run_layers`."""
    after = x + _run_attention(layer, x, rotation, record, keep_inputs)
    if layer.mlp is None:
        return after
    read = x if parallel else after
    mlp_in = read.view_as(read)
    mlp_write = layer.mlp_write(mlp_in)
    if record is not None:
        record.mlp.append(mlp_write)
        if keep_inputs:
            record.mlp_in.append(mlp_in)
    return after + mlp_write


def _run_attention(
    layer: Layer, x: Tensor, rotation: Rotation | None, record: Record | None, keep_inputs: bool
) -> Tensor:
    attention = layer.attention
    normed = layer.attention_norm(x)
    q = project(normed, attention.w_q, attention.b_q)
    k = project(normed, attention.w_k, attention.b_k)
    v = project(normed, attention.w_v, attention.b_v)
    z = attention.mix(q, k, v, rotation)
    total = F.linear(z.flatten(2), attention.w_o.flatten(0, 1).T, attention.b_o)
    if record is not None:
        scale = share_scale(layer, total)
        record.z.append(z if scale is None else z * scale.unsqueeze(-1))
        if keep_inputs:
            for store, value in ((record.attention_in, x), (record.q, q), (record.k, k), (record.v, v)):
                store.append(value)
    if layer.attention_post is not None:
        total = layer.attention_post(total)
    return total if layer.write_scale == 1.0 else total * layer.write_scale


def read_positions(x: Float[Tensor, "batch pos d_model"], read_at: Tensor) -> Float[Tensor, "batch d_model"]:
    """Picks the position whose logits the metric reads, one per example."""
    return x[torch.arange(x.shape[0], device=x.device), read_at.to(x.device)]
