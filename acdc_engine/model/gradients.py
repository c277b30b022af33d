"""Gradients at a block's receivers, summed over points and kept factored: small vectors and rank-one corrections.

Head h of a layer reads the residual stream x through `q = W_Q[h] norm(x) + b`. With g the gradient at q (an ordinary
gradient; no input is split), r the scale and x_hat the standardized input of the norm, and W the weights behind the
norm's gain (and centring, for LayerNorm),

    gradient at (h, q)'s own input  =  W^T (r g)  -  x_hat * (r s / d_model),      s = (q - const) . g

which is the norm's vector-Jacobian product written out: `x_hat . (W^T g) = (W x_hat) . g = (q - const) . g`. It is
exact.
Both terms are sums over integration points of small things, so a few points cost one expansion to d_model, not one
each. Where the scale is held fixed (`Norm.bends`) there is no second term. Sums are kept in float32 whatever the
weights are: in bfloat16 a thousand points would lose half of the sum.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from acdc_engine.model.devices import Work
from acdc_engine.model.layers import Norm


class ReceiverSums:
    """Gradients at the receivers of one block for one batch, summed over points. All room is taken when it is made.

    These are receivers whose input is recorded as it is: `BlockRecord.inputs` has one for each.

    Attributes:
        points: Points added since the sum began.
        total: Sum of the gradients, float32 at least `[receivers, batch, pos, width]`.
    """

    points = 0

    def __init__(self, receivers: int, batch: int, pos: int, like: Tensor, width: int | None = None) -> None:
        """Room for residual streams as wide as `like`, or for vectors of another width."""
        wide = torch.promote_types(like.dtype, torch.float32)
        self.total = like.new_zeros(receivers, batch, pos, width or like.shape[-1], dtype=wide)

    def add(self, x: Tensor, inputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Adds a point: what the block read, its `BlockRecord.inputs` and the gradients there."""
        for total, gradient in zip(self.total, gradients, strict=True):
            total += gradient
        self.points += 1

    def clear(self) -> None:
        """Begins a new sum."""
        self.total.zero_()
        self.points = 0

    def expand(
        self, examples: slice, positions: slice, out: Float[Tensor, "receivers tokens d_model"], work: Work
    ) -> None:
        """Fills in the full gradients at the receivers' inputs for a block of tokens, and counts that."""
        out.copy_(self.total[:, examples, positions].flatten(1, 2))


class AttentionSums(ReceiverSums):
    """Of q, k and v: `total` is the sum of `r g`, receivers in graph order (q heads, k groups, v groups).

    Attributes:
        x_hat: Standardized input of the norm at every point `[points, batch, pos, d_model]`.
        s: `r s / d_model` at every point `[points, receivers, batch, pos]`.
    """

    def __init__(
        self,
        norm: Norm,
        weights: Sequence[Float[Tensor, "receivers d_head d_model"]],
        biases: Sequence[Float[Tensor, "receivers d_head"] | None],
        points: int,
        batch: int,
        pos: int,
        like: Tensor,
    ) -> None:
        """Room for at most so many points, of a norm and the weights and biases behind it."""
        self._norm, self._weights, self._biases = norm, weights, biases
        self._sizes = [len(weight) for weight in weights]
        super().__init__(sum(self._sizes), batch, pos, like, weights[0].shape[1])
        kept = points if norm.bends else 0
        self.x_hat = like.new_zeros(kept, batch, pos, like.shape[-1])
        self.s = like.new_zeros(kept, sum(self._sizes), batch, pos)

    def add(self, x: Tensor, inputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Adds a point, its gradients scaled by the norm's `r`."""
        x_hat, r = self._norm.standardize(x)
        for gradient, total in zip(gradients, self.total.split(self._sizes), strict=True):
            total.add_((gradient * r.unsqueeze(-1)).permute(2, 0, 1, 3))
        if self._norm.bends:
            self.x_hat[self.points] = x_hat
            along = self.s[self.points].split(self._sizes)
            for raw, gradient, s, weight, bias in zip(
                inputs, gradients, along, self._weights, self._biases, strict=True
            ):
                for part in (self._norm.constant(weight), bias):
                    raw = raw if part is None else raw - part
                s.copy_(((raw * gradient).sum(-1) * (r / x.shape[-1])).permute(2, 0, 1))
        self.points += 1

    def expand(self, examples: slice, positions: slice, out: Tensor, work: Work) -> None:
        """Fills in `W^T (r g)` less the rank-one corrections."""
        scaled = self.total[:, examples, positions].flatten(1, 2).to(out.dtype)
        work.product(*scaled.shape, out.shape[-1])
        few = scaled.shape[1] <= scaled.shape[2]  # tokens: then the products are smaller than the weights
        for part, into, weight in zip(scaled.split(self._sizes), out.split(self._sizes), self._weights, strict=True):
            torch.bmm(part, weight if few else self._norm.to_standardized(weight.clone()), out=into)
        if few:
            self._norm.to_standardized(out)
        if kept := min(self.points, len(self.x_hat)):
            # Token by token `[receivers, points] x [points, d_model]`: one pass over `out` for all points.
            along = self.s[:kept, :, examples, positions].flatten(2).permute(2, 0, 1).contiguous()
            x_hat = self.x_hat[:kept, examples, positions].flatten(1, 2).transpose(0, 1)
            out.transpose(0, 1).baddbmm_(along.transpose(1, 2), x_hat, alpha=-1)
