"""Norms as the residual-stream view needs them: the output, and the parts of their vector-Jacobian product."""

import copy
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_RECOGNISED = 1e-4  # relative distance, in float32, up to which a norm is what it is taken for
_CLEARLY = 10  # how many times farther away every other kind of norm has to be


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

    def __call__(self, x: Float[Tensor, "*any d"]) -> Float[Tensor, "*any d"]:
        """Normalizes the last dimension."""
        if self.kind == "layer":
            return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)
        if self.kind == "rms" and self.weight is not None and self.weight.dtype != x.dtype:
            return F.rms_norm(x.to(self.weight.dtype), x.shape[-1:], self.weight, self.eps).to(x.dtype)
        if self.kind == "rms":
            return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)
        return x

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

    def to_standardized(self, gradient: Float[Tensor, "*any d"]) -> None:
        """Takes a gradient at the norm's output to its standardized input, in place, as far as that is linear.

        It becomes `weight * gradient`, centred for LayerNorm, whose `x_hat` has mean zero.
        """
        if self.weight is not None:
            gradient.mul_(self.weight)
        if self.kind == "layer":
            gradient.sub_(gradient.mean(-1, keepdim=True))

    def constant(self, reads: Float[Tensor, "*any d_out d"]) -> Float[Tensor, "*any d_out"] | None:
        """The part of `W @ norm(x)` that does not depend on `x`: `W @ bias`, or None where the norm has no bias."""
        return None if self.bias is None else reads @ self.bias


def norm_of(module: Any) -> Norm:
    """Reads a norm module, finding out by trial which norm it is: the nearest, if it is clearly the nearest.

    Args:
        module: A module with what LayerNorm and RMSNorm have: a gain, a bias, an eps, or some of them. The norm has its
            weights, except that a gain `1 + w` is added up.

    Raises:
        TypeError: When it is neither LayerNorm nor RMSNorm, or cannot be told from another one.
    """
    weight, bias = (_weights(module, part) for part in ("weight", "bias"))
    eps = next((float(getattr(module, k)) for k in ("eps", "variance_epsilon") if hasattr(module, k)), 1e-5)
    if weight is not None and weight.dim() != 1:
        raise TypeError(f"{type(module).__name__} has weights of shape {tuple(weight.shape)}, not one gain each")
    x = _trial(module, weight)
    with torch.no_grad():
        wanted = copy.deepcopy(module).to(x.dtype)(x)
    gains = [None] if weight is None else [weight, weight.to(x.dtype) + 1]
    candidates = [*(Norm("rms", gain, None, eps) for gain in gains), Norm("layer", weight, bias, eps)]
    near, *others = sorted(((_distance(norm, x, wanted), i) for i, norm in enumerate(candidates)))
    if near[0] > _RECOGNISED or any(distance < _CLEARLY * near[0] for distance, _ in others):
        raise TypeError(f"{type(module).__name__} is neither a LayerNorm nor an RMSNorm")
    return candidates[near[1]]


def _weights(module: nn.Module, part: str) -> Tensor | None:
    weights = getattr(module, part, None)
    return None if weights is None else weights.detach()


def _trial(module: nn.Module, weight: Tensor | None) -> Tensor:
    """Two vectors to tell norms apart by: neither centred, and one so small that eps counts."""
    size = weight.shape[-1] if weight is not None else int(getattr(module, "normalized_shape", (64,))[-1])
    x = torch.randn(2, size, generator=torch.Generator().manual_seed(0)) + 0.5
    x[1] *= 1e-2
    return x if weight is None else x.to(weight.device, torch.promote_types(weight.dtype, torch.float32))


def _distance(norm: Norm, x: Tensor, wanted: Tensor) -> float:
    """Relative root mean square between a norm of widened weights and what is wanted."""
    weight, bias = (None if part is None else part.to(x.dtype) for part in (norm.weight, norm.bias))
    return float((Norm(norm.kind, weight, bias, norm.eps)(x) - wanted).norm() / wanted.norm().clamp(min=1e-6))
