"""Adapters of peft: merged into a copy of their model, for the view computes from weights alone.

A model without peft's classes never gets here, and peft (the extra `peft`) is imported only to read a folder.
"""

import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

from acdc_engine.errors import ModelError

CONFIG = "adapter_config.json"


def is_adapted(model: Any) -> bool:
    """Whether an object is a model of peft, a model with adapters around it."""
    peft = sys.modules.get("peft")
    return peft is not None and isinstance(model, peft.PeftModel)


def merged(model: Any) -> Any:
    """The Hugging Face model with the active adapters of a `PeftModel` in its weights: a copy, the given one stays.

    Raises:
        ModelError: The adapters cannot be merged (soft prompts), or are switched off.
    """
    config = model.active_peft_config
    if config.is_prompt_learning or not hasattr(model.base_model, "merge_and_unload"):
        raise ModelError(
            f"The adapter of this PeftModel is of type {config.peft_type.value}, which adds to the prompt and not to "
            "the weights: it cannot be merged. Give a model whose adapter changes weights (LoRA, IA3, DoRA)."
        )
    if any(getattr(module, "disable_adapters", False) is True for module in model.modules()):
        raise ModelError(
            "The adapters of this PeftModel are switched off, so that it computes what its base model does. Switch "
            "them on (enable_adapter_layers()), or give the base model."
        )
    return deepcopy(model).merge_and_unload()


def check_adapter(folder: str | Path) -> Path:
    """The folder of an adapter, looked at before any model is read.

    Raises:
        ModelError: It holds none, or peft is not installed.
    """
    path = Path(folder).expanduser()
    if not (path / CONFIG).is_file():
        raise ModelError(
            f"There is no adapter in {path}: it holds no {CONFIG}. Give the folder that save_pretrained of a PeftModel "
            "has written."
        )
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise ModelError(
            "An adapter needs peft, which is not installed here: pip install 'acdc-engine[peft]'."
        ) from error
    return path


def with_adapter(hf_model: Any, name: str, path: Path) -> Any:
    """A Hugging Face model with the adapter of a folder merged into it: the model itself is used up.

    Raises:
        ModelError: The adapter cannot be read, or is one of another base model.
    """
    from peft import PeftModel
    from peft.utils import get_peft_model_state_dict, load_peft_weights

    try:
        weights = load_peft_weights(str(path), device="cpu")
        adapted = PeftModel.from_pretrained(hf_model, path)
    except Exception as error:  # of many types: shapes, names of modules, damaged files
        raise _misfit(name, path, str(error).strip().splitlines()[-1].strip()) from error
    there = get_peft_model_state_dict(adapted)
    if lost := sorted(set(weights) ^ set(there)):  # peft leaves such out, with a warning
        raise _misfit(name, path, f"{lost[0]} is in only one of them")
    return merged(adapted)


def _misfit(name: str, path: Path, why: str) -> ModelError:
    return ModelError(
        f"The adapter in {path} does not fit model {name!r}, so it is one of another base model or damaged: "
        f"{why.rstrip('.')}. Give the model it was trained on with --model."
    )
