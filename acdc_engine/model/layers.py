"""The layers of a transformer: norms, weights of heads and MLPs, and what happens between their reads and writes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines `[pos, rotary dimensions]` of the rotary position embedding."""
Residual = Float[Tensor, "batch pos d_model"]
"""A residual stream, or what is added to it."""


@dataclass(frozen=True)
class Norm:
    """LayerNorm, RMSNorm or nothing, with its affine part made explicit.

    `y = x_hat * weight + bias` with `x_hat = (x - mean(x)) * r` (LayerNorm) or `x * r` (RMSNorm), and
    `r = 1 / sqrt(mean(square) + eps)` of the centred (LayerNorm) or raw (RMSNorm) vector.

    Attributes:
        kind: Which of the three.
        weight: Effective gain `[d]`, or None for ones. Gemma's `1 + w` is added up, in float32 whatever the model's
            format: in half precision the one would be lost beside a large gain.
        bias: `[d]` or None.
        eps: Added to the variance.
    """

    kind: Literal["layer", "rms", "none"]
    weight: Float[Tensor, "d"] | None = None
    bias: Float[Tensor, "d"] | None = None
    eps: float = 0.0

    @property
    def bends(self) -> bool:
        """Whether gradients go through the scale `r`, which depends on the input."""
        return self.kind != "none"

    def __call__(self, x: Float[Tensor, "*any d"]) -> Float[Tensor, "*any d"]:
        """Normalizes the last dimension."""
        if self.kind == "none":
            return x
        if self.kind == "layer":
            return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)
        wide = x if self.weight is None else x.to(self.weight.dtype)
        return F.rms_norm(wide, x.shape[-1:], self.weight, self.eps).to(x.dtype)

    def standardize(self, x: Float[Tensor, "*any d"]) -> tuple[Float[Tensor, "*any d"], Float[Tensor, "*any 1"]]:
        """Splits the norm at its real input into `x_hat` and `r`, both float32 at least.

        For kind "none" `x_hat` is zero and `r` one: nothing depends on the scale of `x`.
        """
        if self.kind == "none":
            return torch.zeros_like(x), x.new_ones(*x.shape[:-1], 1)
        wide = x if x.dtype == torch.float64 else x.float()
        if self.kind == "layer":
            wide = wide - wide.mean(-1, keepdim=True)
        r = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return wide * r, r

    def to_standardized(self, gradient: Float[Tensor, "*any d"]) -> Float[Tensor, "*any d"]:
        """Takes a gradient at the norm's output to its standardized input, in place, as far as that is linear.

        It becomes `weight * gradient`, centred for LayerNorm, whose `x_hat` has mean zero. Of weights that follow the
        norm it makes those that follow the standardized input.
        """
        if self.weight is not None:
            gradient.mul_(self.weight)
        if self.kind == "layer":
            gradient.sub_(gradient.mean(-1, keepdim=True))
        return gradient

    def constant(self, reads: Float[Tensor, "*any d_out d"]) -> Float[Tensor, "*any d_out"] | None:
        """The part of `W @ norm(x)` that does not depend on `x`: `W @ bias`, or None where the norm has no bias."""
        return None if self.bias is None else reads @ self.bias


@dataclass(frozen=True)
class Attention:
    """One attention layer: per-head weights and what happens between projection and output.

    Attributes:
        w_q: Query weights `[heads, d_head, d_model]`.
        w_k: Key weights `[kv_heads, d_head, d_model]`; `w_v` likewise.
        b_q: Biases `[heads, d_head]` or None; `b_k`, `b_v` `[kv_heads, d_head]`.
        w_o: Output weights `[heads, d_head, d_model]`.
        b_o: Output bias `[d_model]` or None; it belongs to no head and is the same in every run.
        scale: Factor on the attention scores.
        q_norm: Norm of the projected queries (Qwen 3, Gemma 3, OLMo 2) or None; `k_norm` likewise.
        norm_spans_heads: The query/key norm runs over all heads together (OLMo 2) instead of head by head.
        rotate: `rotate_half` of the architecture, or None without rotary positions.
        rope_kind: Which of the model's rotary tables this layer uses (Gemma 3 has two).
        window: Sliding window in tokens, or None; of causal attention only.
        softcap: Soft cap on the scores (Gemma 2), or None.
        causal: Whether queries look at their own and earlier positions only. False lets them look everywhere; such
            models take prompts of one length only (see `TransformerView.check_lengths`).
    """

    w_q: Float[Tensor, "heads d_head d_model"]
    w_k: Float[Tensor, "kv d_head d_model"]
    w_v: Float[Tensor, "kv d_head d_model"]
    w_o: Float[Tensor, "heads d_head d_model"]
    b_q: Float[Tensor, "heads d_head"] | None
    b_k: Float[Tensor, "kv d_head"] | None
    b_v: Float[Tensor, "kv d_head"] | None
    b_o: Float[Tensor, "d_model"] | None
    scale: float
    q_norm: Norm | None = None
    k_norm: Norm | None = None
    norm_spans_heads: bool = False
    rotate: Callable[[Tensor], Tensor] | None = None
    rope_kind: str | None = None
    window: int | None = None
    softcap: float | None = None
    # Later than the first circuit files: it counts in hashes only where it is not the default, so that theirs hold.
    causal: bool = field(default=True, metadata={"hashed_unless": True})

    def mix(
        self,
        q: Float[Tensor, "batch queries some_heads d_head"],
        k: Float[Tensor, "batch pos some_kv d_head"],
        v: Float[Tensor, "batch pos some_kv d_head"],
        rotation: Rotation | None,
        groups: Sequence[int] | None = None,
        at: Int[Tensor, "batch queries"] | None = None,
    ) -> Float[Tensor, "batch queries some_heads d_head"]:
        """Attention from projected queries, keys and values to the heads' outputs before `w_o`.

        Args:
            q: Raw projections (before query norm and rotation) of all heads, or of some of them; at all positions, or
                at those of `at`.
            k: Raw keys of all groups, or of some.
            v: Values of the same groups.
            rotation: Rotary table of this layer, cut to `pos`.
            groups: For each given head the index into `k`/`v` of its group; None when all heads are given.
            at: The positions of each example's queries; None for queries at all positions.

        Returns:
            `z`: attention-weighted values, per head.
        """
        q, k = self._placed(q, k, rotation, at)
        if groups is None:
            shared = q.shape[2] // k.shape[2]
            k, v = (part if shared == 1 else part.repeat_interleave(shared, 2) for part in (k, v))
        elif list(groups) != list(range(k.shape[2])):  # views: an index would have to be moved to the device
            k, v = _heads(k, groups), _heads(v, groups)
        return self._attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), at).transpose(1, 2)

    def fused(self, pos: int) -> bool:
        """Whether no weights are written out for prompts of so many tokens: the plain, causal kind."""
        return self.softcap is None and self.causal and (self.window is None or self.window >= pos)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, at: Tensor | None) -> Tensor:
        """Weighted values, of placed queries and keys, all `[batch, heads, positions, d_head]`."""
        if self.softcap is not None:
            return self._softmax(q, k, at).to(v.dtype) @ v
        simple = at is None and self.fused(k.shape[2])
        mask = ~self._blocked(k, at) if self.causal and not simple else None
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=simple, scale=self.scale)

    def weights(
        self,
        q: Float[Tensor, "batch queries heads d_head"],
        k: Float[Tensor, "batch pos kv d_head"],
        rotation: Rotation | None,
        heads: Sequence[int],
        at: Int[Tensor, "batch queries"] | None = None,
    ) -> Float[Tensor, "batch some_heads queries pos"]:
        """How much of each position some heads mix: what `mix` multiplies the values with.

        Args:
            q: Raw projections of all heads, at all positions or at those of `at`; a norm over all heads needs them.
            k: Raw keys of all groups.
            rotation: Rotary table of this layer, cut to `pos`.
            heads: The heads asked for.
            at: The positions of each example's queries; None for queries at all positions.

        Returns:
            Rows that add up to one, float32 at least; zero where a query may not look.
        """
        some, groups = list(heads), [head * k.shape[2] // q.shape[2] for head in heads]
        if not self.norm_spans_heads:  # the others change nothing here, and may be many
            q, k = _heads(q, some), _heads(k, groups)
        q, k = self._placed(q, k, rotation, at)
        if self.norm_spans_heads:
            q, k = _heads(q, some), _heads(k, groups)
        return self._softmax(q.transpose(1, 2), k.transpose(1, 2), at)

    def _softmax(self, q: Tensor, k: Tensor, at: Tensor | None) -> Tensor:
        """Attention weights, float32 at least, of placed queries and keys `[batch, heads, positions, d_head]`."""
        return torch.softmax(self._scores(q, k, at), -1)

    def _scores(self, q: Tensor, k: Tensor, at: Tensor | None) -> Tensor:
        """Attention scores, float32 at least; minus infinity where a query may not look."""
        scores = (q @ k.transpose(-1, -2)) * self.scale
        if self.softcap is not None:
            scores = torch.tanh(scores / self.softcap) * self.softcap
        wide = torch.promote_types(scores.dtype, torch.float32)
        return scores.to(wide).masked_fill(self._blocked(k, at), -torch.inf)

    def _placed(self, q: Tensor, k: Tensor, rotation: Rotation | None, at: Tensor | None) -> tuple[Tensor, Tensor]:
        """Queries and keys after their norms and rotation."""
        turned = rotation if rotation is None or at is None else (rotation[0][at], rotation[1][at])
        return self._place(q, self.q_norm, turned), self._place(k, self.k_norm, rotation)

    def _place(self, x: Tensor, norm: Norm | None, rotation: Rotation | None) -> Tensor:
        """Query/key norm and rotation of `[batch, pos, heads, d_head]`; tables `[pos, rotary]`, or one per example."""
        if norm is not None:
            x = norm(x.flatten(-2)).view_as(x) if self.norm_spans_heads else norm(x)
        if self.rotate is None or rotation is None:
            return x
        cos, sin = rotation[0].unsqueeze(-2), rotation[1].unsqueeze(-2)
        turned, kept = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]
        # Some architectures keep their tables in float32 whatever the weights are.
        turned = (turned * cos + self.rotate(turned) * sin).to(x.dtype)
        return torch.cat((turned, kept), -1) if kept.shape[-1] else turned

    def _blocked(self, k: Tensor, at: Tensor | None) -> Tensor:
        """Bool `[pos, pos]`, or `[batch, 1, queries, pos]`: positions of keys that a query may not look at."""
        offset = torch.arange(k.shape[2], device=k.device)
        distance = (offset if at is None else at[:, None])[..., None] - offset
        if not self.causal:
            return torch.zeros_like(distance, dtype=torch.bool)
        blocked = distance < 0
        return blocked if self.window is None else blocked | (distance >= self.window)


@dataclass(frozen=True)
class Layer:
    """One block: what its attention and MLP read, compute and write.

    Attributes:
        attention_norm: Norm on the way into q, k and v.
        attention: The attention layer.
        attention_post: Norm on the attention's write (Gemma 2/3, OLMo 2), or None.
        mlp_norm: Norm on the way into the MLP.
        mlp: The MLP (dense, gated or mixture of experts), or None in attention-only models.
        mlp_post: Norm on the MLP's write, or None.
        write_scale: Factor on everything the layer writes (Granite's residual multiplier).
    """

    attention_norm: Norm
    attention: Attention
    attention_post: Norm | None
    mlp_norm: Norm
    mlp: nn.Module | None
    mlp_post: Norm | None
    write_scale: float = 1.0

    @property
    def device(self) -> torch.device:
        """Where its weights are; all of them in one place."""
        return self.attention.w_q.device

    def mlp_write(self, x: Residual) -> Residual:
        """What the MLP writes when its branch reads the residual stream `x`."""
        assert self.mlp is not None, "mlp_write of an attention-only layer"
        out = self.mlp(self.mlp_norm(x))
        out = out[0] if isinstance(out, tuple) else out
        out = out if self.mlp_post is None else self.mlp_post(out)
        return out * self.write_scale if self.write_scale != 1.0 else out

    @property
    def effective_w_o(self) -> Float[Tensor, "heads d_head d_model"]:
        """`w_o` with the gain of a norm after attention folded in, so that `z @ effective_w_o` is a head's write."""
        post, w_o = self.attention_post, self.attention.w_o
        return w_o if post is None or post.weight is None else (w_o * post.weight).to(w_o.dtype)

    def share_scale(self, total: Float[Tensor, "*any d_model"]) -> Tensor | None:
        """The scale by which a head's output enters the residual stream in a run whose heads write `total`.

        That is `r(total) * write_scale` for a norm after attention, the write scale alone otherwise, None where it is
        one.
        """
        if self.attention_post is not None:
            return self.attention_post.standardize(total)[1].to(total.dtype) * self.write_scale
        return None if self.write_scale == 1.0 else total.new_full((1,), self.write_scale)

    def pattern_row(
        self,
        head: int,
        residual: Float[Tensor, "batch d_model"],
        q: Float[Tensor, "batch 1 heads d_head"],
        k: Float[Tensor, "batch pos kv d_head"],
        rotation: Rotation | None,
        at: Int[Tensor, "batch"],
    ) -> Float[Tensor, "batch pos"]:
        """Where a head looks from the position `at` when its query reads another residual stream there.

        `q` are the layer's raw queries at that position in the run itself, since a norm over all heads sees the
        others', and `k` the layer's raw keys.
        """
        attention, this = self.attention, slice(head, head + 1)
        bias = None if attention.b_q is None else attention.b_q[this]
        own = project(self.attention_norm(residual[:, None]), attention.w_q[this], bias)
        changed = torch.cat([q[:, :, :head], own, q[:, :, head + 1 :]], 2)
        return attention.weights(changed, k, rotation, [head], at[:, None])[:, 0, 0]


def project(
    x: Residual,
    weight: Float[Tensor, "heads d_head d_model"],
    bias: Float[Tensor, "heads d_head"] | None,
) -> Float[Tensor, "batch pos heads d_head"]:
    """Projects a shared, normalized input to every head."""
    flat = F.linear(x, weight.flatten(0, 1), None if bias is None else bias.flatten())
    return flat.view(*x.shape[:-1], *weight.shape[:2])


def _heads(x: Float[Tensor, "batch pos heads d_head"], places: Sequence[int]) -> Float[Tensor, "batch pos some d_head"]:
    return torch.stack([x[:, :, place] for place in places], 2)


def read_positions(x: Residual, read_at: Tensor) -> Float[Tensor, "batch d_model"]:
    """Picks the position whose logits the metric reads, one per example."""
    return x[torch.arange(x.shape[0], device=x.device), read_at.to(x.device)]


def positions(
    values: Float[Tensor, "some batch pos dim"], at: Int[Tensor, "batch positions"] | None
) -> Float[Tensor, "some batch positions dim"]:
    """The values at some positions of each example; all of them for None."""
    return values if at is None else values[:, torch.arange(len(at), device=values.device)[:, None], at]
