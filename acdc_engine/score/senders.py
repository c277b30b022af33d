"""Differences of the senders' writes between two runs, kept as head outputs and expanded block by block."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from acdc_engine.model.forward import Record, effective_w_o
from acdc_engine.model.view import TransformerView


@dataclass
class SenderDifferences:
    """`clean_u - corrupt_u` of every sender u of one batch.

    Attributes:
        embed: Of `input`, `[batch, pos, d_model]`.
        z: Of the heads, per layer, before `w_o`: `[heads, batch, pos, d_head]`.
        mlp: Of the MLPs, per layer `[batch, pos, d_model]`.
    """

    embed: Tensor
    z: list[Tensor]
    mlp: list[Tensor]

    @classmethod
    def between(cls, clean: Record, corrupt: Record) -> "SenderDifferences":
        """Subtracts one recorded run from another."""
        return cls(
            (clean.embed - corrupt.embed).detach(),
            [(a - b).detach().permute(2, 0, 1, 3).contiguous() for a, b in zip(clean.z, corrupt.z, strict=True)],
            [(a - b).detach() for a, b in zip(clean.mlp, corrupt.mlp, strict=True)],
        )

    def expand(
        self, view: TransformerView, examples: slice, positions: slice
    ) -> Float[Tensor, "senders tokens d_model"]:
        """Writes to the residual stream of all senders, in graph order, for a block of tokens."""
        graph = view.graph
        first = self.embed[examples, positions].flatten(0, 1)
        out = first.new_empty(graph.n_senders, *first.shape)
        out[graph.INPUT] = first
        for index, layer in enumerate(view.layers):
            z = self.z[index][:, examples, positions].flatten(1, 2)
            torch.bmm(z, effective_w_o(layer), out=out[graph.heads(index)])
            if layer.mlp is not None:
                out[graph.block("mlp", index).writes.start] = self.mlp[index][examples, positions].flatten(0, 1)
        return out
