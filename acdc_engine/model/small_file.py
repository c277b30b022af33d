"""The file format of small models: `model.json` and `model.safetensors` in one folder, checked as a whole.

Made for compiled models (tracr) and small trained ones: learned positions, LayerNorm or none, attention that may be
causal or not, a ReLU or GELU MLP or none, and answers in the words of the prompts or in words of their own. Described
for users in docs/models.md.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from acdc_engine.errors import ModelError
from acdc_engine.shipped import graphs_folder

MANIFEST = "model.json"
_WEIGHTS = "model.safetensors"
_SHOWN = 20  # problems that an error lists; the rest are counted
_NORMS = ("ln1", "ln1_bias", "ln2", "ln2_bias", "ln_final", "ln_final_bias")  # a gain left out is one everywhere
_OPTIONAL = ("b_q", "b_k", "b_v", "b_o", "unembed_bias", *_NORMS)

_Count = Annotated[int, Field(ge=1)]


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
    attention_scale: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    activation: Literal["relu", "gelu"] | None
    bos: str | None
    vocabulary: tuple[str, ...]
    norm: Literal["layer"] | None = None
    norm_eps: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-5
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
            if odd := [word for word in words if not word or any(character.isspace() for character in word)]:
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


def read_small_model(folder: Path) -> tuple[SmallModel, dict[str, Tensor]]:
    """Reads what `model.json` says, and the tensors of `model.safetensors`: on the CPU, in their number format.

    Raises:
        ModelError: A file that is missing or cannot be read, or all that is wrong with the contents.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / MANIFEST
    try:
        model = SmallModel.model_validate(json.loads(path.read_text(encoding="utf-8")))
        weights = load_file(folder / _WEIGHTS)
    except ValidationError as error:
        raise _refused(folder, [f"{MANIFEST}: {line}" for line in explain(error)]) from error
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"The small model in {folder} cannot be read: {error}") from error
    if problems := list(_weight_problems(model, weights)):
        raise _refused(folder, problems)
    return model, weights


def write_small_model(folder: Path, model: SmallModel, weights: Mapping[str, Tensor]) -> None:
    """Writes a small model, after the same checks that reading makes, into a folder that is made if it is not there.

    Raises:
        ModelError: All that is wrong with the tensors.
    """
    from safetensors.torch import save_file

    if problems := list(_weight_problems(model, weights)):
        raise _refused(folder, problems)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: weights[name].contiguous() for name in sorted(weights)}, folder / _WEIGHTS)
    text = json.dumps(model.model_dump(mode="json", exclude_defaults=True), indent=1, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def _weight_problems(model: SmallModel, weights: Mapping[str, Tensor]) -> Iterator[str]:
    """Yields what is wrong with tensors: missing, unknown, of another shape, not numbers, not finite; a line each."""
    wanted = model.tensors()
    for name, shape in wanted.items():
        found, optional = weights.get(name), name.rsplit(".")[-1] in _OPTIONAL
        if found is None:
            if not optional:
                yield f"{name}: missing, should be {list(shape)}."
        elif tuple(found.shape) != shape:
            yield f"{name}: has shape {list(found.shape)}, should have {list(shape)}."
        elif not found.is_floating_point():
            yield f"{name}: holds {str(found.dtype).removeprefix('torch.')}, should hold floating-point numbers."
        elif not bool(torch.isfinite(found).all()):
            yield f"{name}: {int((~torch.isfinite(found)).sum())} of its numbers are NaN or infinite."
    for name in sorted(set(weights) - set(wanted)):
        yield f"{name}: no tensor of this name belongs to the model that {MANIFEST} describes."


def small_models() -> list[str]:
    """Names of the small models that are shipped."""
    return sorted(path.parent.name for path in graphs_folder().glob(f"*/{MANIFEST}"))


def explain(error: ValidationError) -> Iterator[str]:
    """What is wrong with a description, one line each."""
    for item in error.errors():
        where = ".".join(map(str, item["loc"]))
        if item["type"] == "value_error":  # our own validator's: names the keys itself
            yield from str(item["ctx"]["error"]).split("\n")
        elif item["type"] in ("missing", "extra_forbidden"):
            yield f"{where}: {'missing' if item['type'] == 'missing' else 'unknown key'}."
        else:
            yield f"{where}: {item['msg']} (found {item['input']!r})." if where else f"{item['msg']}."


def _refused(folder: Path, problems: list[str]) -> ModelError:
    shown = problems[:_SHOWN] + ([f"... and {len(problems) - _SHOWN} more."] if len(problems) > _SHOWN else [])
    lines = [f"The small model in {folder} cannot be used:", *(f"  {line}" for line in shown)]
    return ModelError("\n".join([*lines, "Make it again with the script that model.json names (made_by)."]))
