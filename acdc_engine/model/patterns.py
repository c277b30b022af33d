"""Where heads look: attention patterns, from what a run of the view left behind."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from acdc_engine.model.layers import Rotation, project
from acdc_engine.model.twins import Record
from acdc_engine.model.view import TransformerView

Heads = Mapping[int, Sequence[int]]
"""Layers, and which heads of each."""


def attention_patterns(
    view: TransformerView, record: Record, heads: Heads
) -> Iterator[tuple[int, Float[Tensor, "batch some_heads queries pos"]]]:
    """Yields layers, and the patterns of their heads in the order given, so that one layer's are held at a time.

    The record is of a run with `keep_inputs`. Rows (queries) add up to one; those of padding mean nothing.
    """
    rotations = view.rotations(record.embed.shape[1])
    for layer, some in heads.items():
        q, k, _ = record.of(view.graph, "attention", layer).inputs
        yield layer, view.layers[layer].attention.weights(q, k, rotations[layer], some)


def pattern_row(
    view: TransformerView,
    place: tuple[int, int],
    residual: Float[Tensor, "batch d_model"],
    q: Float[Tensor, "batch 1 heads d_head"],
    k: Float[Tensor, "batch pos kv d_head"],
    rotation: Rotation | None,
    at: Int[Tensor, "batch"],
) -> Float[Tensor, "batch pos"]:
    """Where one head looks from the position `at` when its query reads another residual stream there.

    `place` is its layer and number. `q` are the layer's raw queries at that position in the run itself, since a norm
    over all heads sees the others', and `k` the layer's raw keys.
    """
    layer, head = view.layers[place[0]], place[1]
    attention = layer.attention
    bias = None if attention.b_q is None else attention.b_q[head : head + 1]
    own = project(layer.attention_norm(residual[:, None]), attention.w_q[head : head + 1], bias)
    changed = torch.cat([q[:, :, :head], own, q[:, :, head + 1 :]], 2)
    return attention.weights(changed, k, rotation, [head], at)[:, 0, 0]
