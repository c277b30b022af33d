"""Tiny random models of many architectures; norms and biases are random too, so nothing is tested on ones and zeros."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from safetensors.torch import load_file

from acdc_engine.graph.blocks import Graph
from acdc_engine.model.bridge import view_of
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet

GOLDEN = Path(__file__).parent / "golden"
VOCAB = 61
METRIC = get_metric("logit_diff")
_BASE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
}
GROUPED = {**_BASE, "num_key_value_heads": 2}
_KINDS = ["sliding_attention", "full_attention"]

CONFIGS: dict[str, Any] = {
    "gpt2": lambda: hf.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=VOCAB, n_positions=32),
    "gpt_neox": lambda: hf.GPTNeoXConfig(**_BASE),
    "gpt_neox_sequential": lambda: hf.GPTNeoXConfig(**_BASE, use_parallel_residual=False),
    "llama": lambda: hf.LlamaConfig(**_BASE, attention_bias=True),
    "llama_grouped": lambda: hf.LlamaConfig(**GROUPED),
    "mistral": lambda: hf.MistralConfig(**GROUPED, sliding_window=3),
    "mixtral": lambda: hf.MixtralConfig(**GROUPED, num_local_experts=4, sliding_window=None),
    "qwen2": lambda: hf.Qwen2Config(**GROUPED),
    "qwen3": lambda: hf.Qwen3Config(**GROUPED, head_dim=8),
    "gemma": lambda: hf.GemmaConfig(**GROUPED, head_dim=8),
    "gemma2": lambda: hf.Gemma2Config(**GROUPED, head_dim=8, sliding_window=3, layer_types=_KINDS),
    "gemma3": lambda: hf.Gemma3TextConfig(**GROUPED, head_dim=8, sliding_window=3, layer_types=_KINDS),
    "olmo": lambda: hf.OlmoConfig(**_BASE),
    "olmo2": lambda: hf.Olmo2Config(**GROUPED),
    "olmo3": lambda: hf.Olmo3Config(**GROUPED, sliding_window=3, layer_types=_KINDS),
    "phi": lambda: hf.PhiConfig(**_BASE),
    "phi3": lambda: hf.Phi3Config(**GROUPED, sliding_window=None),
    "stablelm": lambda: hf.StableLmConfig(**GROUPED),
    "granite": lambda: hf.GraniteConfig(
        **GROUPED, embedding_multiplier=2.0, residual_multiplier=0.5, attention_multiplier=0.3, logits_scaling=3.0
    ),
    "smollm3": lambda: hf.SmolLM3Config(**GROUPED, no_rope_layers=[1, 0]),
    "cohere": lambda: hf.CohereConfig(**GROUPED),
    "qwen2_moe": lambda: hf.Qwen2MoeConfig(
        **GROUPED, num_experts=4, moe_intermediate_size=16, shared_expert_intermediate_size=16
    ),
    "starcoder2": lambda: hf.Starcoder2Config(**GROUPED, sliding_window=None),
    "olmoe": lambda: hf.OlmoeConfig(**GROUPED, num_experts=4, num_experts_per_tok=2),
}
CORE = ("gpt2", "gpt_neox", "llama", "llama_grouped", "qwen3", "gemma3", "phi", "mixtral", "olmo2", "granite")


def hf_model(name: str, seed: int = 0) -> Any:
    """A random Hugging Face model; every weight is redrawn, norms around one, with enough size to matter."""
    return random_model(CONFIGS[name](), seed)


def random_model(config: hf.PretrainedConfig, seed: int = 0) -> Any:
    """The same of any configuration."""
    config._experts_implementation = "eager"  # the grouped kernels have no float64
    torch.manual_seed(seed)
    model = hf.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            is_gain = parameter.dim() == 1 and key.endswith("weight")
            parameter.normal_(1.0 if is_gain else 0.0, 0.25)
    return model


@cache
def view(name: str, ungroup_kv: bool = False) -> TransformerView:
    """The view of `hf_model(name)`."""
    return view_of(hf_model(name), name, ungroup_kv=ungroup_kv)


@cache
def golden_view(name: str) -> TransformerView:
    """The view of a golden model ("gpt2", "llama" or "gpt_neox")."""
    settings = json.loads((GOLDEN / f"tiny_{name}.config.json").read_text())
    config = hf.AutoConfig.for_model(settings.pop("model_type"), **settings)
    model = hf.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    weights = load_file(GOLDEN / f"tiny_{name}.weights.safetensors")
    # transformers 5 calls GPT-NeoX's unembedding lm_head; the files were written by version 4.
    weights = {"lm_head.weight" if key == "embed_out.weight" else key: value for key, value in weights.items()}
    missing = model.load_state_dict(weights, strict=False).missing_keys
    assert missing in ([], ["lm_head.weight"]), missing
    return view_of(model, f"tiny_{name}")


@cache
def golden(name: str) -> dict[str, torch.Tensor]:
    """The golden values of a model."""
    return load_file(GOLDEN / f"tiny_{name}.golden.safetensors")


def golden_prompts(name: str) -> PromptSet:
    """The golden prompts of a model."""
    values = golden(name)
    clean, corrupt, answers = (values[name].tolist() for name in ("clean", "corrupt", "answers"))
    return PromptSet.from_tokens(clean, corrupt, [[right] for right, _ in answers], [[wrong] for _, wrong in answers])


def random_prompts(n: int = 5, pos: int = 7, seed: int = 0, ragged: bool = False) -> PromptSet:
    """Prompts of random tokens that differ in two places, with one right and one wrong answer each."""
    generator = torch.Generator().manual_seed(seed)
    clean = torch.randint(1, VOCAB, (n, pos), generator=generator)
    corrupt = clean.clone()
    corrupt[:, 1] = torch.randint(1, VOCAB, (n,), generator=generator)
    corrupt[:, 2] = (clean[:, 2] + 7) % VOCAB
    answers = torch.stack([torch.randperm(VOCAB, generator=generator)[:2] for _ in range(n)])
    lengths = [pos - (i % 3 if ragged else 0) for i in range(n)]
    first, second = ([row[:m] for row, m in zip(ids.tolist(), lengths, strict=True)] for ids in (clean, corrupt))
    return PromptSet.from_tokens(first, second, answers[:, :1].tolist(), answers[:, 1:].tolist())


def random_mask(graph: Graph, share: float, seed: int) -> torch.Tensor:
    """Every edge of a graph with this probability."""
    return (torch.rand(graph.exists.shape, generator=torch.Generator().manual_seed(seed)) < share) & graph.exists


def random_scores(graph: Graph, seed: int) -> torch.Tensor:
    """Mean and root mean square of scores, as numbers of chance."""
    return torch.rand(2, *graph.exists.shape, generator=torch.Generator().manual_seed(seed))


def relative_distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Root mean square of the difference, relative to that of the reference."""
    return float((ours.float() - theirs.float()).norm() / theirs.float().norm())


@torch.no_grad()
def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest difference, relative to the largest reference value."""
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-12))
