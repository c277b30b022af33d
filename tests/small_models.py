"""Small models of random numbers in the format of `graphs/<model>/`: causal and not, with an MLP and without."""

import torch
from torch import Tensor

from acdc_engine.model.small_model import SmallModel, small_view
from acdc_engine.model.view import TransformerView
from tests.tiny_models import VOCAB

KINDS = {
    "causal-relu": (True, "relu"),
    "causal-gelu": (True, "gelu"),
    "causal-attention": (True, None),
    "open-relu": (False, "relu"),
    "open-attention": (False, None),
}
"""Causal or not, and the MLP's activation."""


def small_model(kind: str = "causal-relu", seed: int = 0) -> tuple[SmallModel, dict[str, Tensor]]:
    """Two layers of two heads; every optional bias is there."""
    causal, activation = KINDS[kind]
    settings = {
        "format": 1,
        "name": kind,
        "description": "Random numbers.",
        "made_by": "tests/small_models.py",
        "n_layers": 2,
        "n_heads": 2,
        "d_model": 10,
        "d_head": 4,
        "d_mlp": activation and 7,
        "d_vocab": VOCAB,
        "n_ctx": 9,
        "causal": causal,
        "attention_scale": 0.7,
        "activation": activation,
        "bos": "w0",
        "vocabulary": [f"w{i}" for i in range(VOCAB)],
    }
    model = SmallModel.model_validate(settings)
    generator = torch.Generator().manual_seed(seed)
    return model, {name: torch.randn(shape, generator=generator) * 0.5 for name, shape in model.tensors().items()}


def random_small_view(kind: str = "causal-relu", dtype: torch.dtype = torch.float32) -> TransformerView:
    """The view of `small_model(kind)`."""
    return small_view(*small_model(kind), dtype=dtype)
