"""Small models: a folder with `model.json` and `model.safetensors`, its residual-stream view, and its words.

Made for compiled models (tracr) and small trained ones: learned positions, LayerNorm or none, attention that may be
causal or not, a ReLU or GELU MLP or none, and answers in the words of the prompts or in words of their own. No Hugging
Face, nothing to convert. Described for users in docs/models.md.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor, nn

from acdc_engine.errors import ModelError, PromptError
from acdc_engine.graph.blocks import GraphShape
from acdc_engine.model.layers import Attention, Layer, Norm
from acdc_engine.model.view import TransformerView
from acdc_engine.shipped import MANIFEST

_WEIGHTS = "model.safetensors"
_SHOWN = 20  # problems that an error lists; the rest are counted
_NORMS = ("ln1", "ln1_bias", "ln2", "ln2_bias", "ln_final", "ln_final_bias")  # a gain left out is one everywhere
_OPTIONAL = ("b_q", "b_k", "b_v", "b_o", "unembed_bias", *_NORMS)

_Count = Annotated[int, Field(ge=1)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class SmallModel(BaseModel):
    """What `model.json` says: sizes, what is computed, and the words. docs/models.md has its keys one by one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1]
    name: str
    description: str
    made_by: str
    n_layers: _Count
    n_heads: _Count
    d_model: _Count
    d_head: _Count
    d_mlp: _Count | None
    d_vocab: _Count
    n_ctx: _Count
    causal: bool
    attention_scale: _Positive
    activation: Literal["relu", "gelu"] | None
    bos: str | None
    vocabulary: tuple[str, ...]
    norm: Literal["layer"] | None = None
    norm_eps: _Positive = 1e-5
    output_vocabulary: Annotated[tuple[str, ...], Field(min_length=2)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "SmallModel":
        if problems := list(self._problems()):
            raise ValueError("\n".join(problems))
        return self

    def _problems(self) -> Iterator[str]:
        if len(self.vocabulary) != self.d_vocab:
            yield f"vocabulary: has {len(self.vocabulary)} words and d_vocab is {self.d_vocab}."
        for key, words in (("vocabulary", self.vocabulary), ("output_vocabulary", self.output_vocabulary or ())):
            if twice := sorted(word for word, times in Counter(words).items() if times > 1):
                yield f"{key}: listed twice: {', '.join(map(repr, twice))}."
            if odd := [word for word in words if word.split() != [word]]:
                yield f"{key}: words must not be empty or hold white space: {', '.join(map(repr, odd))}."
        if self.bos is not None and self.bos not in self.vocabulary:
            yield f"bos: {self.bos!r} is not in the vocabulary."
        if (self.d_mlp is None) != (self.activation is None):
            yield (
                f"activation: d_mlp is {self.d_mlp} and activation {self.activation}; an attention-only model has "
                "neither, any other both."
            )

    @property
    def d_vocab_out(self) -> int:
        """Number of logits."""
        return self.d_vocab if self.output_vocabulary is None else len(self.output_vocabulary)

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of all tensors, those that may be left out (biases, norms) included."""
        wide, heads = (self.n_heads, self.d_head, self.d_model), (self.n_heads, self.d_head)
        layer: dict[str, tuple[int, ...]] = {f"w_{part}": wide for part in "qkvo"}
        layer |= {f"b_{part}": heads for part in "qkv"} | {"b_o": (self.d_model,)}
        if self.d_mlp is not None:
            layer |= {"mlp_in": (self.d_mlp, self.d_model), "mlp_in_bias": (self.d_mlp,)}
            layer |= {"mlp_out": (self.d_model, self.d_mlp), "mlp_out_bias": (self.d_model,)}
        norms = ["ln1", "ln1_bias", "ln2", "ln2_bias"][: 2 if self.d_mlp is None else 4]
        layer |= {name: (self.d_model,) for name in norms if self.norm}
        shapes: dict[str, tuple[int, ...]] = {
            "embed": (self.d_vocab, self.d_model),
            "pos_embed": (self.n_ctx, self.d_model),
            "unembed": (self.d_vocab_out, self.d_model),
            "unembed_bias": (self.d_vocab_out,),
        }
        shapes |= {name: (self.d_model,) for name in ("ln_final", "ln_final_bias") if self.norm}
        numbers = range(self.n_layers)
        return shapes | {f"layers.{index}.{name}": shape for index in numbers for name, shape in layer.items()}

    @classmethod
    def described(cls, values: Mapping[str, Any], where: str) -> "SmallModel":
        """Makes one of what `model.json` holds, found in `where`.

        Raises:
            ModelError: All that is wrong with it.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            found = [(".".join(map(str, item["loc"])), item["msg"]) for item in error.errors()]
            # Our own validator's messages name the keys themselves, several of them.
            lines = [f"{key}: {text}." if key else text.removeprefix("Value error, ") for key, text in found]
            raise _refused(where, "\n".join(lines).split("\n")) from error


def read_small_model(folder: Path) -> tuple[SmallModel, dict[str, Tensor]]:
    """Reads what `model.json` says, and the tensors of `model.safetensors`: on the CPU, in their number format.

    Raises:
        ModelError: A file that is missing or cannot be read, or all that is wrong with the contents.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        values = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        weights = load_file(folder / _WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"The small model in {folder} cannot be read: {error}") from error
    model = SmallModel.described(values, f" in {folder}")
    _check_weights(model, weights, folder)
    return model, weights


def write_small_model(folder: Path, model: SmallModel, weights: Mapping[str, Tensor]) -> None:
    """Writes a small model, after the same checks that reading makes, into a folder that is made if it is not there.

    Raises:
        ModelError: All that is wrong with the tensors.
    """
    from safetensors.torch import save_file

    _check_weights(model, weights, folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: weights[name].contiguous() for name in sorted(weights)}, folder / _WEIGHTS)
    text = json.dumps(model.model_dump(mode="json", exclude_defaults=True), indent=1, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def _check_weights(model: SmallModel, weights: Mapping[str, Tensor], folder: Path) -> None:
    wanted, problems = model.tensors(), []
    for name, shape in wanted.items():
        found = weights.get(name)
        if found is None:
            if name.rsplit(".")[-1] not in _OPTIONAL:
                problems.append(f"{name}: missing, should be {list(shape)}.")
        elif tuple(found.shape) != shape:
            problems.append(f"{name}: has shape {list(found.shape)}, should have {list(shape)}.")
        elif not found.is_floating_point():
            kind = str(found.dtype).removeprefix("torch.")
            problems.append(f"{name}: holds {kind}, should hold floating-point numbers.")
        elif not bool(torch.isfinite(found).all()):
            problems.append(f"{name}: {int((~torch.isfinite(found)).sum())} of its numbers are NaN or infinite.")
    for name in sorted(set(weights) - set(wanted)):
        problems.append(f"{name}: no tensor of this name belongs to the model that {MANIFEST} describes.")
    if problems:
        raise _refused(f" in {folder}", problems)


def _refused(where: str, problems: list[str]) -> ModelError:
    more = [f"... and {len(problems) - _SHOWN} more."] if len(problems) > _SHOWN else []
    lines = "".join(f"\n  {problem}" for problem in problems[:_SHOWN] + more)
    return ModelError(f"The small model{where} cannot be used:{lines}\nMake it again: made_by names the script.")


def small_view(
    model: SmallModel,
    weights: Mapping[str, Tensor],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    tokenizer: Any = None,
) -> TransformerView:
    """The view of a small model. Every head has keys and values of its own: there is nothing to ungroup.

    Tensors are not copied where device and format fit, so that a view can be trained. A tokenizer is used instead of
    the model's own words.
    """
    placed = {name: tensor.to(device, dtype) for name, tensor in weights.items()}

    def norm(name: str) -> Norm:
        gain, bias = placed.get(name), placed.get(f"{name}_bias")
        return Norm("layer", gain, bias, model.norm_eps) if model.norm else Norm("none")

    def layer(prefix: str) -> Layer:
        parts: dict[str, Any] = {
            f"{kind}_{part}": placed.get(f"{prefix}{kind}_{part}") for kind in "wb" for part in "qkvo"
        }
        attention = Attention(**parts, scale=model.attention_scale, causal=model.causal)
        if model.d_mlp is None:
            return Layer(norm(prefix + "ln1"), attention, None, Norm("none"), None, None)
        names = ("mlp_in", "mlp_in_bias", "mlp_out", "mlp_out_bias")
        mlp = (ReluMlp if model.activation == "relu" else GeluMlp)(*(placed[prefix + name] for name in names))
        return Layer(norm(prefix + "ln1"), attention, None, norm(prefix + "ln2"), mlp, None)

    return TransformerView(
        name=model.name,
        architecture="SmallModel",
        shape=GraphShape(model.n_layers, model.n_heads, model.n_heads, mlps=model.d_mlp is not None),
        d_model=model.d_model,
        d_vocab=model.d_vocab_out,
        d_vocab_in=model.d_vocab,
        layers=tuple(layer(f"layers.{index}.") for index in range(model.n_layers)),
        final_norm=norm("ln_final"),
        embed=SmallEmbedding(placed["embed"], placed["pos_embed"]),
        unembed_weight=placed["unembed"],
        unembed_bias=placed.get("unembed_bias"),
        max_positions=model.n_ctx,
        tokenizer=WordTokenizer.of(model) if tokenizer is None else tokenizer,
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

    @staticmethod
    def of(model: SmallModel) -> "WordTokenizer":
        """The words of a small model."""
        return WordTokenizer(model.vocabulary, model.bos, model.output_vocabulary)

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
        if tokens.shape[-1] > len(self.positions):
            raise PromptError(
                f"Prompts do not fit the model: it was made for up to {len(self.positions)} tokens, not "
                f"{tokens.shape[-1]}."
            )
        outside = ((tokens >= len(self.words)) | (tokens < 0)).any(-1)
        if bool(outside.any()):
            raise PromptError(
                f"Prompts do not fit the model: {int(outside.sum())} of {len(tokens)} prompts hold words that are not "
                f"among its {len(self.words)} (the first is number {int(outside.int().argmax())} of its batch)."
            )
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
