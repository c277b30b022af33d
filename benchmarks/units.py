"""What costs are expressed in: one plain forward pass, without gradients, of the same batches in the same process."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from acdc_engine.model import TransformerView
from benchmarks.timing import Work

PLAIN = "plain forward"
HUGGING_FACE = "Hugging Face's eager forward"


def forward_units(view: TransformerView, hf_model: Any, batches: Sequence[Tensor]) -> dict[str, Work]:
    """The engine's own forward pass, and Hugging Face's as the witness that the unit was not made slow.

    Args:
        view: The model.
        hf_model: The same model as Hugging Face runs it, with eager attention.
        batches: Token ids; both compute the logits at every position.

    Returns:
        Work by name.
    """

    def plain() -> None:
        for tokens in batches:
            view.logits(tokens)

    @torch.no_grad()
    def hugging_face() -> None:
        for tokens in batches:
            hf_model(tokens, use_cache=False)

    return {PLAIN: plain, HUGGING_FACE: hugging_face}
