"""Copying heads: does what a head moves from a token raise or lower that very token's logit?

Wang et al. 2022, arXiv 2211.00593, section 3.1 (copying score) and appendix; McDougall et al. 2023, arXiv 2310.04625
(copy suppression). Defined in docs/roles.md.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acdc_engine.model.layers import effective_w_o
from acdc_engine.model.view import TransformerView

AMONG = 5
"""A head copies a token if it is among so many with the largest logits of what the head moves from it."""
BLOCK_NUMBERS = 2**24
"""Logits held at once."""


def moved(
    view: TransformerView, layer: int, head: int, v: Float[Tensor, "rows kv d_head"]
) -> Float[Tensor, "rows d_model"]:
    """What a head would write if it looked at one position only, up to the scale of a norm after attention.

    Args:
        view: The model.
        layer: The head's layer.
        head: The head.
        v: Values of all groups at the position, one row per prompt.
    """
    attention = view.layers[layer].attention
    group = head * attention.w_v.shape[0] // attention.w_q.shape[0]
    return v[:, group] @ effective_w_o(view.layers[layer])[head]


def copied(
    view: TransformerView, writes: Float[Tensor, "rows d_model"], tokens: Int[Tensor, "rows"]
) -> tuple[Bool[Tensor, "rows"], Bool[Tensor, "rows"]]:
    """Whether each token is among the few whose logits a write raises most, or lowers most.

    The few are five, or a twentieth of a small vocabulary (at least one). The write goes through the final norm's gain
    and the unembedding; the norm's scale changes no order. Ties count against: a head that writes nothing copies
    nothing.

    Returns:
        Raised, lowered.
    """
    few = max(1, min(AMONG, view.d_vocab // 20))
    wide = writes.to(torch.float64 if writes.dtype == torch.float64 else torch.float32, copy=True)
    view.final_norm.to_standardized(wide)
    weight = view.unembed_weight
    view.work.unembedding(view, len(tokens))
    own = (wide * weight[tokens].to(wide.dtype)).sum(-1, keepdim=True)
    above, below = torch.zeros_like(tokens), torch.zeros_like(tokens)
    step = max(1, BLOCK_NUMBERS // max(1, len(tokens)))
    for start in range(0, len(weight), step):
        logits = wide @ weight[start : start + step].to(wide.dtype).T
        itself = torch.arange(start, start + logits.shape[1], device=tokens.device) == tokens[:, None]
        above += ((logits >= own) & ~itself).sum(1)
        below += ((logits <= own) & ~itself).sum(1)
    return above < few, below < few
