"""Random models with the shapes of well-known ones: costs depend on shapes, not on what the weights know."""

from typing import Any

import torch
import transformers as hf

from acdc_engine.model import TransformerView, load_model
from acdc_engine.prompts.prompt_set import PromptSet

_TINY: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

TINY = {
    "tiny GPT-2": hf.GPT2Config(
        n_embd=32, n_layer=2, n_head=4, vocab_size=97, n_positions=64, bos_token_id=1, eos_token_id=2
    ),
    "tiny GPT-NeoX": hf.GPTNeoXConfig(**_TINY),
    "tiny Llama, grouped keys": hf.LlamaConfig(**_TINY, num_key_value_heads=2),
    "tiny Gemma 3": hf.Gemma3TextConfig(**_TINY, num_key_value_heads=2, head_dim=8, sliding_window=8),
}
"""One of each kind the engine treats differently: learned positions, parallel blocks, grouped keys, norms after
attention."""

GPT2_SMALL = hf.GPT2Config()

FULL_SIZE = {
    "GPT-2 small": GPT2_SMALL,
    "Pythia-1.4B": hf.GPTNeoXConfig(
        vocab_size=50304,
        hidden_size=2048,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
    ),
    "Llama-3-8B": hf.LlamaConfig(
        vocab_size=128256,
        hidden_size=4096,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        intermediate_size=14336,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
    ),
}


def random_model(config: Any, device: str, dtype: torch.dtype, seed: int = 0) -> Any:
    """A Hugging Face model with eager attention and random weights, made directly on the device."""
    torch.manual_seed(seed)
    with torch.device(device):
        model = hf.AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="eager")
    return model.eval()


def random_view(config: Any, name: str, device: str, dtype: torch.dtype) -> tuple[TransformerView, Any]:
    """The view of a random model, and the model."""
    model = random_model(config, device, dtype)
    model.name_or_path = name
    return load_model(model), model


def random_prompts(vocab: int, n: int, pos: int, seed: int = 0) -> PromptSet:
    """Prompts of random tokens; clean and corrupt differ everywhere but in the first token, so no edge is idle."""
    generator = torch.Generator().manual_seed(seed)
    clean, corrupt = torch.randint(1, vocab, (2, n, pos), generator=generator)
    corrupt[:, 0] = clean[:, 0]
    answers = torch.stack([torch.randperm(vocab, generator=generator)[:2] for _ in range(n)])
    return PromptSet.from_tokens(
        clean.tolist(), corrupt.tolist(), answers=answers[:, :1].tolist(), wrong_answers=answers[:, 1:].tolist()
    )
