"""Whether gradients can be taken here at all."""

import torch
from torch import Tensor

from acdc_engine.errors import ScoreError
from acdc_engine.model.view import TransformerView


def check_gradients(view: TransformerView, *others: Tensor) -> None:
    """Refuses what `torch.inference_mode()` rules out; `torch.no_grad()` around the caller does not matter.

    Args:
        view: The model.
        others: Tensors that were computed before and that gradients go through.

    Raises:
        ScoreError: Inference mode is on, or the weights or those tensors were made under it.
    """
    if torch.is_inference_mode_enabled():
        raise ScoreError(
            "Gradients cannot be taken under torch.inference_mode(). Call this outside of it; torch.no_grad() may stay."
        )
    made = "weights of the model were loaded" if view.unembed_weight.is_inference() else "evaluator was made"
    if view.unembed_weight.is_inference() or any(tensor.is_inference() for tensor in others):
        raise ScoreError(
            f"The {made} under torch.inference_mode(), so no gradients can be taken with it. Do that again outside of "
            "it, or under torch.no_grad()."
        )
