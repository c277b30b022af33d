"""What one step of a patched run computes: from its receivers' inputs to the change of its senders' writes."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine.models.forward import attention_reads, effective_w_o, share_scale
from acdc_engine.models.view import Rotation, TransformerView
from acdc_engine.patching.baseline import Baseline
from acdc_engine.patching.plan import Step


def attention_delta(
    view: TransformerView,
    step: Step,
    inputs: Float[Tensor, "masks rows batch pos d_model"],
    baseline: Baseline,
    rotation: Rotation | None,
    read: Bool[Tensor, "masks heads"],
) -> Float[Tensor, "masks heads batch pos d_model"]:
    """Change of the writes of a layer's running heads against the baseline.

    Args:
        view: The model.
        step: Which heads run and which q, k, v receivers read `inputs`; the others keep their baseline projection.
        inputs: The residual stream as each of `step.rows` reads it.
        baseline: The ablated model on this batch.
        rotation: Rotary table of the layer.
        read: Whether anyone reads the head under that mask; a norm after attention counts the others at their baseline
            (a head may run for another mask's sake and see patched keys of a group it shares).
    """
    layer, graph = view.layers[step.layer], view.graph
    n_masks, _, n, pos, _ = inputs.shape
    raw = _projections(view, step, inputs, baseline)
    n_heads, n_kv = view.shape.n_heads, view.shape.n_kv_heads
    heads = [s - graph.heads(step.layer).start for s in step.senders]
    run = list(range(n_heads)) if layer.attention.norm_spans_heads else heads
    groups = sorted({graph.group_of(h) for h in run})

    def pick(indices: list[int]) -> Tensor:
        chosen = raw if indices == list(range(raw.shape[1])) else raw[:, indices]
        return chosen.permute(0, 2, 3, 1, 4).flatten(0, 1)

    q, k, v = pick(run), pick([n_heads + g for g in groups]), pick([n_heads + n_kv + g for g in groups])
    z = layer.attention.mix(q, k, v, rotation, [groups.index(graph.group_of(h)) for h in run])
    z = z.unflatten(0, (n_masks, n)).permute(0, 3, 1, 2, 4)
    z = z if run == heads else z[:, heads]
    if layer.attention_post is None:
        scaled = z if layer.write_scale == 1.0 else z * layer.write_scale
    else:
        scaled = _through_post_norm(view, step, heads, z, baseline, read)
    change = scaled - baseline.values.z[step.layer][heads]
    weights = effective_w_o(layer)[heads]
    return torch.matmul(change.flatten(2, 3), weights).view(n_masks, len(heads), n, pos, -1)


def _projections(
    view: TransformerView, step: Step, inputs: Tensor, baseline: Baseline
) -> Float[Tensor, "masks receivers batch pos d_head"]:
    """Raw q, k, v of the layer: of `step.rows` from their inputs, of the others from the baseline."""
    layer = view.layers[step.layer]
    n_masks, _, n, pos, _ = inputs.shape
    rows = [r - view.graph.attention(step.layer).start for r in step.rows]
    weights, bias = attention_reads(layer)
    base = baseline.raw[step.layer]
    read = torch.matmul(layer.attention_norm(inputs).flatten(2, 3), weights[rows].transpose(1, 2))
    if bias is not None:
        read = read + bias[rows][:, None]
    read = read.view(n_masks, len(rows), n, pos, -1)
    if len(rows) == base.shape[0]:
        return read
    index = torch.as_tensor(rows, device=read.device)
    return base.expand(n_masks, *base.shape).index_copy(1, index, read)


def _through_post_norm(
    view: TransformerView, step: Step, heads: list[int], z: Tensor, baseline: Baseline, read: Tensor
) -> Float[Tensor, "masks heads batch pos d_head"]:
    """Heads' shares through the norm after attention, with the scale of this very run.

    Heads that nobody reads add their baseline output to what the norm sees.
    """
    layer = view.layers[step.layer]
    base_z, base_total = baseline.z[step.layer], baseline.totals[step.layer]
    assert base_z is not None and base_total is not None, "baselines of such layers keep their heads"
    change = (z - base_z[heads]) * read[:, :, None, None, None]
    total = base_total + torch.einsum("mhnpe,hed->mnpd", change, layer.attention.w_o[heads])
    scale = share_scale(layer, total)
    assert scale is not None, "a norm after attention has a scale"
    return z * scale.unsqueeze(1)


def mlp_delta(
    view: TransformerView, step: Step, inputs: Float[Tensor, "masks 1 batch pos d_model"], baseline: Baseline
) -> Float[Tensor, "masks 1 batch pos d_model"]:
    """Change of an MLP's write against the baseline."""
    write = view.layers[step.layer].mlp_write(inputs[:, 0].flatten(0, 1))
    return write.reshape(inputs.shape) - baseline.values.mlp[step.layer]
