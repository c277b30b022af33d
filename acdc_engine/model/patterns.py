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
    """Yields the attention patterns of some heads, layer by layer, so that one layer's are held at a time.

    Args:
        view: The model.
        record: Of a run with `keep_inputs`.
        heads: Those asked for.

    Yields:
        The layer, and the patterns of its heads in the order given: rows (queries) add up to one. Rows of padding mean
        nothing.
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
    """Where one head looks from one position when its query reads another residual stream there.

    Args:
        view: The model.
        place: Layer and head.
        residual: What the head's query reads at that position.
        q: The layer's raw queries at that position in the run itself: a norm over all heads sees the others'.
        k: The layer's raw keys.
        rotation: Rotary table of the layer.
        at: The position.
    """
    layer, head = view.layers[place[0]], place[1]
    attention = layer.attention
    bias = None if attention.b_q is None else attention.b_q[head : head + 1]
    own = project(layer.attention_norm(residual[:, None]), attention.w_q[head : head + 1], bias)
    changed = torch.cat([q[:, :, :head], own, q[:, :, head + 1 :]], 2)
    return attention.weights(changed, k, rotation, [head], at)[:, 0, 0]
