"""Gradients at the receivers, kept factored: small per-head vectors and rank-one corrections instead of full vectors.

Head h of a layer reads the residual stream x through `q = W_Q[h] norm(x) + b`. With g the gradient at q (an ordinary
gradient; no input is split), r the scale and x_hat the standardized input of the norm, and W the weights behind the
norm's gain (and centring, for LayerNorm),

    gradient at (h, q)'s own input  =  W^T (r g)  -  x_hat * (r s / d_model),      s = (q - const) . g

which is the norm's vector-Jacobian product written out: `x_hat . (W^T g) = (W x_hat) . g = (q - const) . g`. It is
exact.
Both terms are sums over integration points of small things, so a few points cost one expansion to d_model, not one
each. Sums are kept in float32 whatever the weights are: in bfloat16 a thousand points would lose half of the sum.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from acdc_engine.model.forward import Record, attention_reads
from acdc_engine.model.view import Layer, TransformerView


@dataclass(frozen=True)
class AttentionGradients:
    """Gradients at one layer's q, k and v receivers, summed over points.

    Attributes:
        scaled: Sum of `r g`, receivers in graph order (q heads, k groups, v groups), float32 at least
            `[receivers, batch, pos, d_head]`.
        x_hat: Standardized input of the norm at every point `[points, batch, pos, d_model]`.
        s: `r s / d_model` at every point `[points, receivers, batch, pos]`.
    """

    scaled: Tensor
    x_hat: Tensor
    s: Tensor


class ReceiverGradients:
    """Gradients of the summed metric at every receiver's input for one batch, summed over a few integration points.

    All memory is taken at once, before the first run: tensors that outlive a run, allocated between those that do not,
    would leave the heap in pieces (a third more resident memory on SmolLM2).

    Args:
        view: The model.
        batch: Number of examples.
        pos: Number of positions.
        points: Number of runs that are added, at most, before `clear`.
    """

    def __init__(self, view: TransformerView, batch: int, pos: int, points: int) -> None:
        """See the class."""
        layers, like = view.shape.n_layers, view.unembed_weight
        wide = torch.promote_types(like.dtype, torch.float32)
        per_layer = view.shape.n_heads + 2 * view.shape.n_kv_heads
        if all(layer.attention_norm.kind == "none" for layer in view.layers):
            points = 0
        x_hat = like.new_zeros(layers, points, batch, pos, view.d_model)
        s = like.new_zeros(layers, points, per_layer, batch, pos)
        scaled = like.new_zeros(layers, per_layer, batch, pos, view.d_head, dtype=wide)
        self.attention = [AttentionGradients(*parts) for parts in zip(scaled, x_hat, s, strict=True)]
        self.mlp = like.new_zeros(layers if view.shape.mlps else 0, batch, pos, view.d_model, dtype=wide)
        self.logits = like.new_zeros(batch, pos, view.d_model, dtype=wide)
        self.points = 0

    def clear(self) -> None:
        """Begins a new sum."""
        for sums in (*(layer.scaled for layer in self.attention), self.mlp, self.logits):
            sums.zero_()
        self.points = 0

    def add(self, view: TransformerView, record: Record, metric: Float[Tensor, ""]) -> None:
        """Differentiates one run and adds its gradients.

        Args:
            view: The model.
            record: A differentiable run, recorded with its inputs.
            metric: The run's metric, summed over the batch.
        """
        wanted = [*record.q, *record.k, *record.v, *record.mlp_in, record.final]
        view.work.layers(view, *record.embed.shape[:2])
        gradients = list(torch.autograd.grad(metric, wanted, materialize_grads=True))  # type: ignore[arg-type]
        self.logits += gradients.pop()
        n = len(view.layers)
        for index, layer in enumerate(view.layers):
            raw = torch.cat([record.q[index], record.k[index], record.v[index]], 2).detach()
            gradient = torch.cat([gradients[index], gradients[n + index], gradients[2 * n + index]], 2)
            self._add_attention(layer, self.attention[index], record.attention_in[index].detach(), raw, gradient)
        for total, gradient in zip(self.mlp, gradients[3 * n :], strict=True):
            total += gradient
        self.points += 1

    def _add_attention(
        self,
        layer: Layer,
        into: AttentionGradients,
        x: Float[Tensor, "batch pos d_model"],
        raw: Float[Tensor, "batch pos receivers d_head"],
        gradient: Float[Tensor, "batch pos receivers d_head"],
    ) -> None:
        norm = layer.attention_norm
        if norm.kind == "none":
            into.scaled.add_(gradient.permute(2, 0, 1, 3))
            return
        x_hat, r = norm.standardize(x)
        weights, bias = attention_reads(layer)
        for part in (norm.constant(weights), bias):
            raw = raw if part is None else raw - part
        into.x_hat[self.points] = x_hat
        into.s[self.points] = ((raw * gradient).sum(-1) * (r / x.shape[-1])).permute(2, 0, 1)
        into.scaled.add_((gradient * r.unsqueeze(-1)).permute(2, 0, 1, 3))


def expand(
    layer: Layer,
    gradients: AttentionGradients,
    points: int,
    examples: slice,
    positions: slice,
    out: Float[Tensor, "receivers tokens d_model"],
) -> None:
    """Full gradients at the inputs of a layer's q, k and v receivers for a block of tokens.

    Args:
        layer: The layer.
        gradients: Its factored gradients.
        points: How many of its points are filled.
        examples: Which examples of the batch.
        positions: Which positions of them.
        out: Filled with the gradients.
    """
    a, scaled = layer.attention, gradients.scaled[:, examples, positions].flatten(1, 2).to(out.dtype)
    sizes = [a.w_q.shape[0], a.w_k.shape[0], a.w_v.shape[0]]
    for part, into, weights in zip(scaled.split(sizes), out.split(sizes), (a.w_q, a.w_k, a.w_v), strict=True):
        torch.bmm(part, weights, out=into)
    layer.attention_norm.to_standardized(out)
    for x_hat, s in zip(gradients.x_hat[:points], gradients.s[:points], strict=True):
        along = s[:, examples, positions].flatten(1).unsqueeze(-1)
        out.addcmul_(along, x_hat[examples, positions].flatten(0, 1), value=-1)
