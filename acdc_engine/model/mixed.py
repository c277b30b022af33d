"""What heads mix in a patched run, and from what: for those who look into attention, or change it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from acdc_engine.model.devices import Work
from acdc_engine.model.layers import Attention
from acdc_engine.model.twins import Ground


@dataclass(frozen=True, eq=False)
class Mixed:
    """Heads of one layer that are computed under many masks.

    Attributes:
        attention: The layer's attention.
        ground: The layer when no edge is kept.
        heads: The heads, by number.
        run: Those whose queries are there: all of them where a norm goes over all heads.
        groups: The key/value groups that are there.
        q: Raw queries `[masks, batch, positions, run, d_head]`, at all positions or at those of `at`.
        k: Raw keys `[masks, batch, start + pos, groups, d_head]`; `v` the values.
        at: The positions of each example's queries, counted from the ground's `start`; None for all of them.
        work: Counts what is computed.
    """

    attention: Attention
    ground: Ground
    heads: list[int]
    run: list[int]
    groups: list[int]
    q: Tensor
    k: Tensor
    v: Tensor
    at: Int[Tensor, "batch positions"] | None
    work: Work

    def seen(
        self, head: int, mask: int
    ) -> tuple[Float[Tensor, "batch positions pos"], Float[Tensor, "batch pos d_head"]]:
        """What one head sees under one mask, from the ground's `start` on: nothing differs before.

        Returns:
            How much it looks at each position from those of its queries (float32 at least, not adding up to one where
            it also looks before `start`); and what its values are there, less those of the ground.
        """
        attention, start, raw = self.attention, self.ground.start, self.ground.raw
        assert raw is not None, "attention's ground has its projections"
        n_heads, n_groups = len(attention.w_q), len(attention.w_k)
        group, q, k, place = head * n_groups // n_heads, self.q[mask], self.k[mask], self.run.index(head)
        own = self.groups.index(group)
        if not attention.norm_spans_heads:  # the others change nothing here
            q, k, place = q[:, :, place, None], k[:, :, own, None], 0
        at = self.at
        if at is not None or start:
            at = start + (torch.arange(q.shape[1], device=q.device).expand(len(q), -1) if at is None else at)
        looks = attention.weights(q, k, self.ground.rotation, [place], at)[:, 0, :, start:]
        self.work.mix(1, q.shape[:2].numel(), k.shape[1], q.shape[-1])
        return looks, (self.v[mask, :, :, own] - raw[n_heads + n_groups + group])[:, start:]


Watch = Callable[[Float[Tensor, "masks some batch positions d_head"], Mixed], Tensor]
"""From what heads mix under every mask, before `w_o` and norms after attention, to what they are taken to mix."""
