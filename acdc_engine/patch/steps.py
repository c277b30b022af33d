"""What one step of a patched run computes: from its receivers' inputs to the change of its senders' writes."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acdc_engine.model.forward import attention_reads, effective_w_o, share_scale
from acdc_engine.model.view import Layer, Rotation, TransformerView
from acdc_engine.patch.bank import Reads
from acdc_engine.patch.baseline import Baseline
from acdc_engine.patch.plan import Step


def attention_delta(
    view: TransformerView,
    step: Step,
    queries: Reads,
    keys_values: Reads,
    baseline: Baseline,
    rotation: Rotation | None,
    read: Bool[Tensor, "masks heads"],
    at: Int[Tensor, "batch"] | None,
) -> Float[Tensor, "masks heads batch queries d_model"]:
    """Change of the writes of a layer's running heads against the baseline.

    Args:
        view: The model.
        step: Which heads run and which q, k, v receivers read the inputs; the others keep their baseline projection.
        queries: What each q among `step.rows` reads, at all positions or at those of `at`.
        keys_values: The same for k and v, at all positions.
        baseline: The ablated model on this batch.
        rotation: Rotary table of the layer.
        read: Whether anyone reads the head under that mask; a norm after attention counts the others at their baseline
            (a head may run for another mask's sake and see patched keys of a group it shares).
        at: The only position of each example at which the heads' writes are needed; None for all.
    """
    layer, graph = view.layers[step.layer], view.graph
    n_heads, n_kv = view.shape.n_heads, view.shape.n_kv_heads
    heads = [s - graph.heads(step.layer).start for s in step.senders]
    run = list(range(n_heads)) if layer.attention.norm_spans_heads else heads
    groups = sorted({graph.group_of(h) for h in run})
    base_q, base_kv = baseline.raw[step.layer].split([n_heads, 2 * n_kv])
    weights, bias = attention_reads(layer)
    q_bias, kv_bias = (None, None) if bias is None else (bias[:n_heads], bias[n_heads:])
    first_q, first_k = graph.part(step.layer, "q").start, graph.part(step.layer, "k").start
    for read_by in (queries, keys_values):
        view.work.product(read_by.values.numel() + read_by.same.numel(), view.d_head)
    q = _projected(layer, queries, first_q, run, weights[:n_heads], q_bias, _at(base_q, at), len(read))
    both = [*groups, *(n_kv + g for g in groups)]
    kv = _projected(layer, keys_values, first_k, both, weights[n_heads:], kv_bias, base_kv, len(read))
    k, v = kv.split(len(groups), 2)
    n_masks, n = len(read), baseline.final.shape[0]
    where = None if at is None else at.repeat(n_masks)
    z = layer.attention.mix(q, k, v, rotation, [groups.index(graph.group_of(h)) for h in run], where)
    z = z.unflatten(0, (n_masks, n)).permute(0, 3, 1, 2, 4)
    z = z if run == heads else z[:, heads]
    if layer.attention_post is None:
        scaled = z if layer.write_scale == 1.0 else z * layer.write_scale
    else:
        scaled = _through_post_norm(view, step, heads, z, baseline, read, at)
    change = scaled - _at(baseline.values.z[step.layer][heads], at)
    view.work.product(change.numel(), view.d_model)
    view.work.mix(view, len(run), n_masks * n * change.shape[3], baseline.values.embed.shape[1])
    write = torch.matmul(change.flatten(2, 3), effective_w_o(layer)[heads])
    return write.view(n_masks, len(heads), n, -1, view.d_model)


def _at(values: Float[Tensor, "some batch pos dim"], at: Int[Tensor, "batch"] | None) -> Tensor:
    """The values at one position of each example; all of them for None."""
    if at is None:
        return values
    return values[:, torch.arange(len(at), device=values.device), at][:, :, None]


def _projected(
    layer: Layer,
    read: Reads,
    first: int,
    wanted: list[int],
    weights: Float[Tensor, "receivers d_head d_model"],
    bias: Float[Tensor, "receivers d_head"] | None,
    base: Float[Tensor, "receivers batch pos d_head"],
    n_masks: int,
) -> Float[Tensor, "examples pos wanted d_head"]:
    """Raw projections of some receivers: of those that read something from that, of the others from the baseline.

    Args:
        layer: The layer.
        read: What its receivers read.
        first: Index of the first receiver of `weights`.
        wanted: Which of them, counted from there.
        weights: Projections of the receivers; `bias` likewise.
        bias: Or None.
        base: What they are when nothing is kept.
        n_masks: Number of masks.
    """
    parts = {place: base[place].expand(n_masks, -1, -1, -1) for place in wanted}
    for rows, inputs in ((read.moving, read.values), (read.steady, read.same)):
        if rows:
            places = [row - first for row in rows]
            out = torch.matmul(layer.attention_norm(inputs).flatten(2, 3), weights[places].transpose(1, 2))
            out = out if bias is None else out + bias[places][:, None]
            out = out.unflatten(2, inputs.shape[2:4]).expand(n_masks, -1, -1, -1, -1)
            parts.update(zip(places, out.unbind(1), strict=True))
    return torch.stack([parts[place] for place in wanted], 3).flatten(0, 1)


def _through_post_norm(
    view: TransformerView,
    step: Step,
    heads: list[int],
    z: Tensor,
    baseline: Baseline,
    read: Tensor,
    at: Tensor | None,
) -> Float[Tensor, "masks heads batch queries d_head"]:
    """Heads' shares through the norm after attention, with the scale of this very run.

    Heads that nobody reads add their baseline output to what the norm sees.
    """
    layer = view.layers[step.layer]
    base_z, base_total = baseline.z[step.layer], baseline.totals[step.layer]
    assert base_z is not None and base_total is not None, "baselines of such layers keep their heads"
    change = (z - _at(base_z[heads], at)) * read[:, :, None, None, None]
    view.work.product(change.numel(), view.d_model)
    total = _at(base_total[None], at)[0] + torch.einsum("mhnpe,hed->mnpd", change, layer.attention.w_o[heads])
    scale = share_scale(layer, total)
    assert scale is not None, "a norm after attention has a scale"
    return z * scale.unsqueeze(1)


def mlp_delta(
    view: TransformerView,
    step: Step,
    inputs: Float[Tensor, "masks 1 batch positions d_model"],
    baseline: Baseline,
    at: Int[Tensor, "batch"] | None,
) -> Float[Tensor, "masks 1 batch positions d_model"]:
    """Change of an MLP's write against the baseline, at all positions or at those of `at`."""
    view.work.mlp(view, step.layer, inputs.shape[:-1].numel())
    write = view.layers[step.layer].mlp_write(inputs[:, 0].flatten(0, 1))
    return write.reshape(inputs.shape) - _at(baseline.values.mlp[step.layer][None], at)[0]
