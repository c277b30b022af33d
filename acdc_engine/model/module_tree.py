"""Copies of module trees that share their weights: nothing the engine does shows in a user's own model."""

import copy
from collections import OrderedDict
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def frozen_twin(module: nn.Module) -> nn.Module:
    """Copies a module tree around the same weight storage, with gradients switched off in the copy.

    TransformerBridge rewires the modules it is given and attribution needs frozen weights (a backward pass through
    activations alone costs one forward pass instead of two). Both happen to the copy only.

    Args:
        module: Any module. It is left as it is.

    Returns:
        A tree of new module objects whose parameters share storage with the original's and need no gradient. Tied
        weights stay tied. Configurations are copies, and there are no hooks.
    """
    modules: dict[int, nn.Module] = {}
    parameters: dict[int, nn.Parameter] = {}
    configurations: dict[int, Any] = {}

    def parameter(original: nn.Parameter | None) -> nn.Parameter | None:
        if original is None:
            return None
        key = id(original)
        if key not in parameters:
            parameters[key] = nn.Parameter(original.detach(), requires_grad=False)
        return parameters[key]

    def twin(original: nn.Module) -> nn.Module:
        key = id(original)
        if key not in modules:
            new = modules[key] = copy.copy(original)
            new.__dict__.update({name: OrderedDict() for name in _HOOKS})
            if "config" in original.__dict__:
                new.__dict__["config"] = copy.deepcopy(original.__dict__["config"], configurations)
            new.__dict__["_parameters"] = {k: parameter(p) for k, p in original._parameters.items()}
            new.__dict__["_buffers"] = dict(original._buffers)
            new.__dict__["_modules"] = {
                k: None if child is None else twin(child) for k, child in original._modules.items()
            }
        return modules[key]

    return twin(module)


def widen(module: nn.Module, recurse: bool = True) -> nn.Module:
    """Turns a module's weights into float32, in place; float64 stays."""
    module._apply(_wide, recurse=recurse)
    return module


def widened(value: Any) -> Any:
    """A copy of tensors and modules, and of whatever dataclass holds them, in float32; float64 stays.

    Args:
        value: Part of a view. It is left as it is.
    """
    if isinstance(value, Tensor):
        return _wide(value)
    if isinstance(value, nn.Module):
        return widen(frozen_twin(value))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{part.name: widened(getattr(value, part.name)) for part in fields(value) if part.init})
    return value


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.is_floating_point() and x.dtype != torch.float64 else x


def raw(component: Any) -> Any:
    """The Hugging Face module inside a bridge component, or the component itself where there is none."""
    inner = getattr(component, "original_component", None)
    return component if inner is None else raw(inner)


def unwrapped(component: nn.Module) -> nn.Module:
    """A module tree without bridge components: the same computation without their hook calls.

    Args:
        component: A bridge component or a module that contains some.

    Returns:
        A tree of copies in which every bridge component is replaced by the module it wraps; weights are shared.
    """
    original = raw(component)
    new = copy.copy(original)
    new.__dict__["_modules"] = {
        name: None if child is None else unwrapped(child) for name, child in original._modules.items()
    }
    return new  # type: ignore[no-any-return]
