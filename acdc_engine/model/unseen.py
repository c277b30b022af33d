"""What a loaded model can carry that its residual-stream view would not see, and so is refused in every format.

The view takes weights out of linear layers and computes with them. Whatever else makes a model's output (adapters
beside the weights, hooks, replaced forward methods, packed weights) would be dropped without a word.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from acdc_engine.errors import UnsupportedModelError
from acdc_engine.model.devices import DTYPES

MERGE = "merged = peft_model.merge_and_unload()"
"""How peft makes a plain model of one with adapters."""
SHOWN = 3
"""How many modules a message names."""


def refuse_unseen(name: str, model: nn.Module) -> None:
    """Refuses a Hugging Face model that computes something beside its weights.

    Args:
        name: What messages call it.
        model: The model as the user has it, before anything is changed in a copy.

    Raises:
        UnsupportedModelError: With the modules at fault and what to do.
    """
    for modules, reason in _findings(dict(model.named_modules())):
        if modules:
            more = f" and {len(modules) - SHOWN} more" if len(modules) > SHOWN else ""
            shown = ", ".join(module or "the model itself" for module in modules[:SHOWN]) + more
            raise UnsupportedModelError(
                f"Model {name!r} ({type(model).__name__}) cannot be used as it is: {reason.format(shown)}"
            )


def _findings(modules: dict[str, nn.Module]) -> Iterator[tuple[list[str], str]]:
    """Kinds of trouble: the modules that have it, and a sentence with a place for their names."""

    def having(trouble: Any) -> list[str]:
        return [path for path, module in modules.items() if trouble(module)]

    yield (
        having(_is_adapter),
        f"it has adapters (LoRA and the like) that are not merged into its weights ({{}}). Merge them and pass the "
        f"plain model: {MERGE}; load_model(merged, tokenizer=...).",
    )
    yield (
        having(_has_meta_weights),
        "weights of {} are not in memory (on torch's meta device, or offloaded to disk by device_map). Load the whole "
        "model on one device, without device_map; --dtype bfloat16 halves its size.",
    )
    yield (
        having(_is_dispatched),
        "accelerate has dispatched it ({}), with hooks that move weights about. Load it on one device, without "
        "device_map.",
    )
    yield (
        having(_has_hooks),
        "forward hooks are registered on {}, and the engine computes from weights alone: it would not run them. Remove "
        "them (handle.remove()); what they change would have to be in the weights to count.",
    )
    yield (
        having(lambda module: "forward" in vars(module)),
        "the forward method of {} was replaced on the object, and the engine computes from weights alone. Load the "
        "model afresh; what the method changes would have to be in the weights to count.",
    )
    yield (
        having(_is_packed),
        "{} hold packed numbers (a quantized model). Load it unquantized, or dequantize it (model.dequantize()).",
    )
    yield (
        having(_is_unknown_linear),
        "{} are linear layers or embeddings of a class of their own, which may compute more than their weights say. "
        "Use torch.nn.Linear and torch.nn.Embedding, with whatever the class adds merged into the weights.",
    )


def _is_adapter(module: nn.Module) -> bool:
    """A module of peft, or one with the parts by which adapters are known whoever made them."""
    parts = [*module._modules, *module._parameters]
    return type(module).__module__.startswith("peft.") or any(
        part == "base_layer" or part.startswith("lora_") for part in parts
    )


def _has_meta_weights(module: nn.Module) -> bool:
    return any(parameter is not None and parameter.device.type == "meta" for parameter in module._parameters.values())


def _is_dispatched(module: nn.Module) -> bool:
    return "_hf_hook" in vars(module)


def _has_hooks(module: nn.Module) -> bool:
    """Hooks of anyone but transformers, which leaves its own where hidden states were once asked for."""
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    return any(not str(getattr(hook, "__module__", "")).startswith("transformers.") for hook in hooks)


def _is_packed(module: nn.Module) -> bool:
    """Weights that are not plain tensors of a format the engine computes in."""
    plain = (nn.Parameter, torch.Tensor)
    return any(
        parameter is not None and (type(parameter) not in plain or parameter.dtype not in DTYPES.values())
        for parameter in module._parameters.values()
    )


def _is_unknown_linear(module: nn.Module) -> bool:
    """A subclass that neither torch nor an architecture of transformers defines."""
    home = type(module).__module__
    known = home in ("torch.nn.modules.linear", "torch.nn.modules.sparse") or home.startswith("transformers.models.")
    return isinstance(module, nn.Linear | nn.Embedding) and not known
