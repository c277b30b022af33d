"""From a small model's folder to its residual-stream view and its words: no Hugging Face, nothing to convert."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acdc_engine.errors import PromptError
from acdc_engine.graph.blocks import GraphShape
from acdc_engine.model.layers import Attention, Layer, Norm
from acdc_engine.model.small_file import SmallModel
from acdc_engine.model.view import TransformerView

_NO_NORM = Norm("none")


def small_view(
    model: SmallModel,
    weights: dict[str, Tensor],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    tokenizer: Any = None,
) -> TransformerView:
    """The view of a small model. Every head has keys and values of its own: there is nothing to ungroup.

    Tensors are not copied where device and format fit, so that a view can be trained. A tokenizer is used instead of
    the model's own words.
    """
    words = WordTokenizer(model.vocabulary, model.bos, model.output_vocabulary)
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
        tokenizer=words if tokenizer is None else tokenizer,
        same_words=model.output_vocabulary is None,
    )


class WordTokenizer:
    """One token per word; with the part of a Hugging Face tokenizer's interface that the engine uses.

    The token of `" b"` after a text is that of the word `b`: spaces only separate. A word that the vocabulary lacks
    becomes two tokens of the id `unknown`, so that it never passes for a single token; the model refuses that id.

    Args:
        vocabulary: The words, in the order of their ids.
        bos: The word that begins a sequence, or None.
        answers: The words of the logits, in their order, where they are not those of the prompts.

    Attributes:
        answers: The tokenizer of answers: a tokenizer of their own words, or this one.
    """

    def __init__(self, vocabulary: Sequence[str], bos: str | None, answers: Sequence[str] | None = None) -> None:
        self.answers = self if answers is None else WordTokenizer(answers, None)
        self.vocabulary = tuple(vocabulary)
        self.unknown = len(self.vocabulary)
        self._ids = {word: index for index, word in enumerate(self.vocabulary)}
        self.bos_token_id: int | None = None if bos is None else self._ids[bos]

    def __call__(self, text: str, *, add_special_tokens: bool = False) -> dict[str, list[int]]:
        """Returns `{"input_ids": ...}`, the beginning-of-sequence word first where it is asked for and there is one."""
        front = [self.bos_token_id] if add_special_tokens and self.bos_token_id is not None else []
        ids = [self._ids.get(word) for word in text.split()]
        return {"input_ids": front + [i for found in ids for i in ([self.unknown] * 2 if found is None else [found])]}

    def decode(self, token_ids: Sequence[int]) -> str:
        """Returns the words, one space between them; a remark in the place of `unknown`."""
        return " ".join("<not in the vocabulary>" if i == self.unknown else self.vocabulary[i] for i in token_ids)

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        """Returns the word of each id; an IndexError for one that no word has."""
        return [self.vocabulary[i] for i in ids]


@dataclass(frozen=True)
class SmallEmbedding:
    """What `input` writes: embeddings of the words `[d_vocab, d_model]` plus those of their positions."""

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


class _Mlp(nn.Module):
    """Two linear maps with a nonlinearity between them; a class for each, which the weights' hash tells apart."""

    w_in: Tensor
    b_in: Tensor
    w_out: Tensor
    b_out: Tensor
    activate: Callable[[Tensor], Tensor]

    def __init__(self, *tensors: Tensor) -> None:
        super().__init__()
        for name, tensor in zip(("w_in", "b_in", "w_out", "b_out"), tensors, strict=True):
            self.register_buffer(name, tensor)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.activate(F.linear(x, self.w_in, self.b_in)), self.w_out, self.b_out)


class ReluMlp(_Mlp):
    """max(x, 0)."""

    activate = staticmethod(F.relu)


class GeluMlp(_Mlp):
    """x times the normal distribution's cumulative function at x; the exact one."""

    activate = staticmethod(F.gelu)


def _layer(model: SmallModel, weights: dict[str, Tensor], prefix: str) -> Layer:
    parts: dict[str, Any] = {
        f"{kind}_{part}": weights.get(f"{prefix}{kind}_{part}") for kind in "wb" for part in "qkvo"
    }
    attention = Attention(**parts, scale=model.attention_scale, causal=model.causal)
    mlp = None
    if model.d_mlp is not None:
        kind = ReluMlp if model.activation == "relu" else GeluMlp
        mlp = kind(*(weights[prefix + name] for name in ("mlp_in", "mlp_in_bias", "mlp_out", "mlp_out_bias")))
    return Layer(
        attention_norm=_norm(model, weights, prefix + "ln1"),
        attention=attention,
        attention_post=None,
        mlp_norm=_NO_NORM if mlp is None else _norm(model, weights, prefix + "ln2"),
        mlp=mlp,
        mlp_post=None,
    )


def _norm(model: SmallModel, weights: dict[str, Tensor], name: str) -> Norm:
    return Norm("layer", weights.get(name), weights.get(f"{name}_bias"), model.norm_eps) if model.norm else _NO_NORM
