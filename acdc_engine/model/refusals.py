"""Architectures the residual-stream view cannot express, each with the reason a user is told."""

from typing import Any

from acdc_engine.errors import UnsupportedModelError

_ALIBI = "it adds ALiBi biases to its attention scores; the view knows rotary and learned positions"
_INSIDE = "its rotary tables live inside the attention modules, out of reach of TransformerBridge"
_RECURRENT = "it mixes positions by recurrence instead of attention heads"
_LATENT = "its q, k and v read a compressed latent (multi-head latent attention), not the residual stream"

REASONS: dict[str, str] = {
    "bloom": _ALIBI,
    "mpt": _ALIBI,
    "baichuan": _ALIBI,
    "gptj": _INSIDE,
    "codegen": _INSIDE,
    "gpt_neo": "its local attention windows are buried in the attention modules",
    "opt": "its MLP is not a module of its own (fc1 and fc2 belong to the decoder layer)",
    "gpt_oss": "its attention has sinks (a learned extra column in the softmax)",
    "llama4": "its chunked attention and mixed position embeddings are not covered",
    "deepseek_v2": _LATENT,
    "deepseek_v3": _LATENT,
    "mamba": _RECURRENT,
    "mamba2": _RECURRENT,
    "falcon_mamba": _RECURRENT,
    "rwkv": _RECURRENT,
    "jamba": _RECURRENT,
    "bamba": _RECURRENT,
    "recurrent_gemma": _RECURRENT,
    "qwen3_next": _RECURRENT,
    "gemma3n": "it keeps several residual streams (AltUp)",
}


def refuse(name: str, architecture: str, reason: str) -> UnsupportedModelError:
    """The error for a model that cannot be supported: its name, its architecture, the reason, what to try."""
    return UnsupportedModelError(
        f"Model {name!r} ({architecture}) cannot be used: {reason}. "
        "Supported are decoder-only transformers in the manner of GPT-2, GPT-NeoX, Llama, Mistral, Mixtral, Qwen 2/3, "
        "Gemma 1-3, Phi 1-3, OLMo 1-3, StableLM, Granite, SmolLM, StarCoder 2 and Cohere."
    )


def refuse_config(name: str, config: Any) -> None:
    """Refuses, before any weights are read, what is known not to work.

    Raises:
        UnsupportedModelError: With the reason, for the model types in `REASONS` and encoder-decoder models.
    """
    model_type = str(getattr(config, "model_type", "unknown"))
    if model_type in REASONS:
        raise refuse(name, model_type, REASONS[model_type])
    if getattr(config, "is_encoder_decoder", False):
        raise refuse(name, model_type, "it is an encoder-decoder model; the graph has one residual stream")
    if getattr(config, "alibi", False):
        raise refuse(name, model_type, _ALIBI)
