"""Norms as the residual-stream view needs them: the output, and the parts of their vector-Jacobian product."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Norm:
    """LayerNorm, RMSNorm or nothing, with its affine part made explicit.

    `y = x_hat * weight + bias` with `x_hat = (x - mean(x)) * r` (LayerNorm) or `x * r` (RMSNorm), and
    `r = 1 / sqrt(mean(square) + eps)` of the centred (LayerNorm) or raw (RMSNorm) vector.

    Attributes:
        kind: Which of the three.
        weight: Effective gain `[d]` (Gemma's `1 + w` is already added up), or None for ones.
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
        if self.kind == "rms":
            return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)
        return x

    def standardize(self, x: Float[Tensor, "*any d"]) -> tuple[Float[Tensor, "*any d"], Float[Tensor, "*any 1"]]:
        """Splits the norm at `x` into the standardized input and the scale.

        Args:
            x: The norm's real input.

        Returns:
            `x_hat` and `r`, both float32 at least; for kind "none" `x_hat` is zero and `r` one: nothing depends on the
            scale of `x`.
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

        Args:
            gradient: Gradient of a scalar with respect to the norm's output; becomes `weight * gradient`, centred for
                LayerNorm, whose `x_hat` has mean zero.
        """
        if self.weight is not None:
            gradient.mul_(self.weight)
        if self.kind == "layer":
            gradient.sub_(gradient.mean(-1, keepdim=True))

    def constant(self, reads: Float[Tensor, "*any d_out d"]) -> Float[Tensor, "*any d_out"] | None:
        """The part of `W @ norm(x)` that does not depend on `x`: `W @ bias`, or None where the norm has no bias."""
        return None if self.bias is None else reads @ self.bias
