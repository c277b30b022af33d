"""Turns a GGUF file of a Llama-shaped model into a Hugging Face folder: weights, configuration, tokenizer.

transformers can load such a file itself, but takes twice as long and has to be talked into saving the result.
What is written here is the same bit for bit; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFReader, ReaderTensor

Progress = Callable[[float, str], None]
"""Is told the share of the work that is done, from 0 to 1, and what comes next."""

_MODEL_TENSORS = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
_LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def write_hf_folder(source: Path, folder: Path, progress: Progress) -> None:
    """Writes config.json, model.safetensors (float32) and the tokenizer's files.

    Args:
        source: A GGUF file of the llama architecture with tied embeddings.
        folder: An existing, empty folder.
        progress: Called between the steps.

    Raises:
        KeyError: A field that a Llama model needs is missing, or there is a tensor that it does not have.
        ValueError: Not a GGUF file, or a truncated one.
        OSError: The file cannot be read or the folder not written.
    """
    from gguf import GGUFReader
    from safetensors.numpy import save_file
    from transformers import AutoTokenizer

    # The shares are those of the seconds each step takes on SmolLM2-135M.
    progress(0.0, "reading the GGUF file")
    reader = GGUFReader(source)
    config = _config(reader)
    tensors = {}
    for done, tensor in enumerate(reader.tensors):
        progress(0.35 + 0.15 * done / len(reader.tensors), "unpacking weights")
        tensors[_hf_name(tensor.name)] = _weights(tensor, config)
    progress(0.5, "writing weights")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)
    progress(0.6, "reading the tokenizer")
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(folder)
    progress(1.0, "done")


def _config(reader: GGUFReader) -> Any:
    from transformers import LlamaConfig

    def field(key: str) -> Any:
        return reader.fields[key].contents()

    settings = dict(
        architectures=["LlamaForCausalLM"],
        dtype="float32",
        vocab_size=field("llama.vocab_size"),
        max_position_embeddings=field("llama.context_length"),
        num_hidden_layers=field("llama.block_count"),
        intermediate_size=field("llama.feed_forward_length"),
        hidden_size=field("llama.embedding_length"),
        head_dim=field("llama.rope.dimension_count"),
        num_attention_heads=field("llama.attention.head_count"),
        num_key_value_heads=field("llama.attention.head_count_kv"),
        rms_norm_eps=field("llama.attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": field("llama.rope.freq_base")},
        bos_token_id=field("tokenizer.ggml.bos_token_id"),
        eos_token_id=field("tokenizer.ggml.eos_token_id"),
        unk_token_id=field("tokenizer.ggml.unknown_token_id"),
        pad_token_id=field("tokenizer.ggml.padding_token_id"),
        tie_word_embeddings=True,
    )
    return LlamaConfig(**settings)


def _hf_name(name: str) -> str:
    """`blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`."""
    if not name.startswith("blk."):
        return _MODEL_TENSORS[name]
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{_LAYER_TENSORS[part]}.{kind}"


def _weights(tensor: ReaderTensor, config: Any) -> np.ndarray:
    from gguf import dequantize

    weights = dequantize(tensor.data, tensor.tensor_type)
    if ".attn_q." in tensor.name:
        return _halves(weights, config.num_attention_heads)
    if ".attn_k." in tensor.name:
        return _halves(weights, config.num_key_value_heads)
    return weights


def _halves(weights: np.ndarray, n_heads: int) -> np.ndarray:
    """Reorders a head's rows: GGUF rotates rows 2i and 2i + 1 together, Hugging Face i and i + d_head/2."""
    rows, columns = weights.shape
    pairs = weights.reshape(n_heads, rows // n_heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)
