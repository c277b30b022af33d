"""How much a model has computed: the unit in which costs are told, the same on every machine and under any load.

Counted by formula where the work is done: a counter that watches torch would take longer than small operations do.
"""

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from acdc_engine.model.view import TransformerView


@dataclass
class Work:
    """What has been computed with one view so far.

    Attributes:
        operations: Floating-point operations of matrix products, a multiplication and an addition counted as two, of
            attention among them. Everything else (norms, activations, sums) grows with them and is left out.
    """

    operations: int = 0
    _per_token: dict[int, int] = field(default_factory=dict)

    def product(self, *sizes: int) -> None:
        """Counts a matrix product `[a, b] x [b, c]`, or several of them, given all sizes that are multiplied."""
        self.operations += 2 * prod(sizes)

    def mix(self, view: "TransformerView", heads: int, queries: int, keys: int) -> None:
        """Counts attention of `heads` heads: scores, and weighted values. Queries are those of all examples."""
        self.product(2, heads, queries, keys, view.d_head)

    def mlp(self, view: "TransformerView", layer: int, tokens: int) -> None:
        """Counts one layer's MLP; of a mixture of experts those that a token goes through."""
        if layer not in self._per_token:
            self._per_token[layer] = _mlp_operations(view, layer)
        self.operations += tokens * self._per_token[layer]

    def layers(self, view: "TransformerView", batch: int, pos: int) -> None:
        """Counts all layers of one whole run; another time for its gradients, with frozen weights."""
        for index, layer in enumerate(view.layers):
            a = layer.attention
            self.product(batch * pos, a.w_q.numel() + a.w_k.numel() + a.w_v.numel() + a.w_o.numel())
            self.mix(view, a.w_q.shape[0], batch * pos, pos)
            if layer.mlp is not None:
                self.mlp(view, index, batch * pos)

    def unembedding(self, view: "TransformerView", rows: int, logits: int | None = None) -> None:
        """Counts logits: those of the whole vocabulary, or so many."""
        self.product(rows, view.d_vocab if logits is None else logits, view.d_model)


def plain_forward(view: "TransformerView", batch: int, pos: int) -> int:
    """Operations of a plain forward pass over one batch, logits at all positions: as a model is run anywhere."""
    work = Work(_per_token=view.work._per_token)
    work.layers(view, batch, pos)
    work.unembedding(view, batch * pos)
    return work.operations


@torch.no_grad()
def _mlp_operations(view: "TransformerView", layer: int) -> int:
    """Of one token: counted once, by torch."""
    from torch.utils.flop_counter import FlopCounterMode

    token = torch.ones(1, 1, view.d_model, device=view.device, dtype=view.dtype)
    with FlopCounterMode(display=False) as counter:
        view.layers[layer].mlp_write(token)
    return int(counter.get_total_flops())
