"""Writes GGUF files of tiny models as llama.cpp's convert_hf_to_gguf.py does."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import transformers as hf
from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFWriter, get_tensor_name_map
from gguf.quants import quantize
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tests.tiny_models import random_model

_SIZES: dict[str, Any] = {
    "vocab_size": 272,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 64,
}
_LLAMA_3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 10_000.0}
CONFIGS: dict[str, Any] = {
    "llama": lambda: hf.LlamaConfig(**_SIZES),
    "llama tied, heads of another size": lambda: hf.LlamaConfig(**_SIZES, head_dim=32, tie_word_embeddings=True),
    "llama 3": lambda: hf.LlamaConfig(
        **_SIZES, rope_parameters={"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, **_LLAMA_3}
    ),
    "qwen2": lambda: hf.Qwen2Config(**_SIZES, tie_word_embeddings=True),
    "qwen2 yarn": lambda: hf.Qwen2Config(**_SIZES, rope_parameters=_YARN),
    "qwen3": lambda: hf.Qwen3Config(**_SIZES, head_dim=32),
    "gemma3": lambda: hf.Gemma3TextConfig(**_gemma()),
    "gemma3 linear": lambda: hf.Gemma3TextConfig(
        **_gemma(),
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            "full_attention": {"rope_type": "linear", "rope_theta": 1_000_000.0, "factor": 8.0},
        },
    ),
}
"""By the architecture's name in GGUF, first word."""

_ADD: dict[type, Callable[[GGUFWriter, str, Any], None]] = {
    str: GGUFWriter.add_string,
    float: GGUFWriter.add_float32,
    int: GGUFWriter.add_uint32,
}


def _gemma() -> dict[str, Any]:
    sizes = {**_SIZES, "num_hidden_layers": 7}  # the sixth sees all positions
    return {**sizes, "head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 4}


def tiny(kind: str) -> Any:
    return random_model(CONFIGS[kind]())


def write_gguf(
    path: Path,
    model: Any,
    architecture: str,
    *,
    quantization: str = "F32",
    said: Mapping[str, Any] | None = None,
    without: str = "",
    frequencies: np.ndarray | None = None,
    words: str = "gpt2",
    pre: str = "qwen2",
) -> Path:
    """Writes a model's file, with further values in its head and without one of its tensors."""
    config, writer = model.config, GGUFWriter(path, architecture)
    for key, value in {**_head(config, architecture), **(said or {})}.items():
        _ADD[type(value)](writer, key, value)
    _add_words(writer, config.vocab_size, words, pre)
    names = get_tensor_name_map(MODEL_ARCH[architecture.upper()], config.num_hidden_layers)
    for name, parameter in model.named_parameters():
        called, _, suffix = name.rpartition(".")
        given = f"{names.get_name(called)}.{suffix}"
        weight = _as_written(name, parameter.detach().numpy(), config, architecture)
        kind = GGMLQuantizationType[quantization if weight.ndim == 2 else "F32"]
        if given != without:
            writer.add_tensor(given, quantize(np.ascontiguousarray(weight), kind), raw_dtype=kind)
    if frequencies is not None:
        writer.add_tensor("rope_freqs.weight", frequencies.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _head(config: Any, architecture: str) -> dict[str, Any]:
    rope = config.rope_parameters
    d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    head = {
        "context_length": config.max_position_embeddings,
        "block_count": config.num_hidden_layers,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": d_head,
        "attention.value_length": d_head,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "rope.freq_base": float(rope.get("full_attention", rope)["rope_theta"]),
        "vocab_size": config.vocab_size,
    }
    if architecture == "llama":
        head["rope.dimension_count"] = d_head
    if architecture == "gemma3":
        head["attention.sliding_window"] = config.sliding_window
    return {f"{architecture}.{key}": value for key, value in head.items()}


def _add_words(writer: GGUFWriter, size: int, kind: str, pre: str) -> None:
    """A tokenizer of bytes with three merges, and a control token."""
    merges = ["t h", "th e", "Ġ the"]
    words = [*bytes_to_unicode().values(), *(merge.replace(" ", "") for merge in merges), "<|end|>"]
    words += [f"[PAD{i}]" for i in range(size - len(words))]
    writer.add_tokenizer_model(kind)
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(words)
    writer.add_token_types([3 if word == "<|end|>" else 5 if word.startswith("[PAD") else 1 for word in words])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(words.index("<|end|>"))


def _as_written(name: str, weight: np.ndarray, config: Any, architecture: str) -> np.ndarray:
    if architecture == "llama" and ("q_proj" in name or "k_proj" in name):  # halves of a rotation side by side
        heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
        halves = weight.reshape(heads, 2, len(weight) // heads // 2, *weight.shape[1:])
        return halves.swapaxes(1, 2).reshape(weight.shape)
    return weight + 1 if architecture == "gemma3" and "norm" in name else weight
