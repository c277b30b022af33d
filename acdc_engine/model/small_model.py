"""From a small model's folder to its residual-stream view: no Hugging Face, no bridge, nothing to convert."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acdc_engine.errors import PromptError
from acdc_engine.graph.names import GraphShape
from acdc_engine.model.norms import Norm
from acdc_engine.model.small_file import SmallModel, read_small_model
from acdc_engine.model.view import Attention, Layer, TransformerView
from acdc_engine.model.word_tokenizer import WordTokenizer

NO_NORM = Norm("none")


def load_small_model(
    folder: Path, *, device: torch.device, dtype: torch.dtype, tokenizer: Any = None
) -> TransformerView:
    """Loads a small model.

    Args:
        folder: Holds `model.json` and `model.safetensors`; see `acdc_engine.model.small_file`.
        device: Where the weights go.
        dtype: Their number format.
        tokenizer: Used instead of the model's own words.

    Returns:
        Its view. Every query head has keys and values of its own, so there is nothing to ungroup.

    Raises:
        ModelError: Files that are missing or cannot be read, or all that is wrong with them.
    """
    model, weights = read_small_model(folder)
    return small_view(model, weights, device=device, dtype=dtype, tokenizer=tokenizer)


def small_view(
    model: SmallModel,
    weights: dict[str, Tensor],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    tokenizer: Any = None,
) -> TransformerView:
    """The view of a small model in memory.

    Args:
        model: What `model.json` says.
        weights: Its tensors, without problems (`weight_problems`). They are not copied where device and format fit,
            so that a view can be trained.
        device: Where the weights go.
        dtype: Their number format.
        tokenizer: Used instead of the model's own words.
    """
    placed = {name: tensor.to(device, dtype) for name, tensor in weights.items()}
    return TransformerView(
        name=model.name,
        architecture="SmallModel",
        shape=GraphShape(model.n_layers, model.n_heads, model.n_heads, mlps=model.d_mlp is not None),
        d_model=model.d_model,
        d_head=model.d_head,
        d_vocab=model.d_vocab_out,
        d_vocab_in=model.d_vocab,
        layers=tuple(_layer(model, placed, f"layers.{index}.") for index in range(model.n_layers)),
        final_norm=_norm(model, placed, "ln_final"),
        embed=SmallEmbedding(placed["embed"], placed["pos_embed"]),
        unembed_weight=placed["unembed"],
        unembed_bias=placed.get("unembed_bias"),
        max_positions=model.n_ctx,
        tokenizer=words_of(model) if tokenizer is None else tokenizer,
        same_words=model.output_vocabulary is None,
    )


def words_of(model: SmallModel) -> WordTokenizer:
    """The words of a small model."""
    return WordTokenizer(model.vocabulary, model.bos, model.output_vocabulary)


@dataclass(frozen=True)
class SmallEmbedding:
    """What `input` writes: embeddings of the words plus those of their positions.

    Attributes:
        words: `[d_vocab, d_model]`.
        positions: `[n_ctx, d_model]`.
    """

    words: Tensor
    positions: Tensor

    def __call__(self, tokens: Tensor) -> Tensor:
        """From token ids `[batch, pos]` to `[batch, pos, d_model]`.

        Raises:
            PromptError: More positions than the model has, or words it does not know.
        """
        problems = []
        if tokens.shape[-1] > len(self.positions):
            problems.append(f"it was made for up to {len(self.positions)} tokens, not {tokens.shape[-1]}")
        outside = (tokens >= len(self.words)) | (tokens < 0)
        if bool(outside.any()):
            rows = sorted(set(outside.nonzero()[:, 0].tolist()))
            problems.append(
                f"{len(rows)} of {len(tokens)} prompts hold words that are not among its {len(self.words)} "
                f"(the first is number {rows[0]} of its batch)"
            )
        if problems:
            raise PromptError(f"Prompts do not fit the model: {'; '.join(problems)}.")
        return F.embedding(tokens, self.words) + self.positions[: tokens.shape[-1]]


class SmallMlp(nn.Module):
    """Two linear maps with a nonlinearity between them; a class for each, which the weights' hash tells apart.

    Args:
        w_in: `[d_mlp, d_model]`.
        b_in: `[d_mlp]`.
        w_out: `[d_model, d_mlp]`.
        b_out: `[d_model]`.
    """

    w_in: Tensor
    b_in: Tensor
    w_out: Tensor
    b_out: Tensor

    def __init__(self, w_in: Tensor, b_in: Tensor, w_out: Tensor, b_out: Tensor) -> None:
        """See the class."""
        super().__init__()
        for name, tensor in (("w_in", w_in), ("b_in", b_in), ("w_out", w_out), ("b_out", b_out)):
            self.register_buffer(name, tensor)

    def activate(self, x: Tensor) -> Tensor:
        """The nonlinearity."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """From `[..., d_model]` to `[..., d_model]`."""
        return F.linear(self.activate(F.linear(x, self.w_in, self.b_in)), self.w_out, self.b_out)


class ReluMlp(SmallMlp):
    """max(x, 0)."""

    def activate(self, x: Tensor) -> Tensor:
        """The nonlinearity."""
        return F.relu(x)


class GeluMlp(SmallMlp):
    """x times the normal distribution's cumulative function at x; the exact one."""

    def activate(self, x: Tensor) -> Tensor:
        """The nonlinearity."""
        return F.gelu(x)


def _layer(model: SmallModel, weights: dict[str, Tensor], prefix: str) -> Layer:
    attention = Attention(
        w_q=weights[prefix + "w_q"],
        w_k=weights[prefix + "w_k"],
        w_v=weights[prefix + "w_v"],
        w_o=weights[prefix + "w_o"],
        b_q=weights.get(prefix + "b_q"),
        b_k=weights.get(prefix + "b_k"),
        b_v=weights.get(prefix + "b_v"),
        b_o=weights.get(prefix + "b_o"),
        scale=model.attention_scale,
        causal=model.causal,
    )
    mlp = None
    if model.d_mlp is not None:
        kind = ReluMlp if model.activation == "relu" else GeluMlp
        mlp = kind(*(weights[prefix + name] for name in ("mlp_in", "mlp_in_bias", "mlp_out", "mlp_out_bias")))
    return Layer(
        attention_norm=_norm(model, weights, prefix + "ln1"),
        attention=attention,
        attention_post=None,
        mlp_norm=NO_NORM if mlp is None else _norm(model, weights, prefix + "ln2"),
        mlp=mlp,
        mlp_post=None,
    )


def _norm(model: SmallModel, weights: dict[str, Tensor], name: str) -> Norm:
    return Norm("layer", weights.get(name), weights.get(f"{name}_bias"), model.norm_eps) if model.norm else NO_NORM
