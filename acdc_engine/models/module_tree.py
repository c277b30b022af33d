"""Copies of module trees that share their weights: nothing the engine does shows in a user's own model."""

import copy
from typing import Any

from torch import nn


def frozen_twin(module: nn.Module) -> nn.Module:
    """Copies a module tree around the same weight storage, with gradients switched off in the copy.

    TransformerBridge rewires the modules it is given and attribution needs frozen weights (a backward pass through
    activations alone costs one forward pass instead of two). Both happen to the copy only.

    Args:
        module: Any module. It is left as it is.

    Returns:
        A tree of new module objects whose parameters share storage with the original's and need no gradient. Tied
        weights stay tied.
    """
    modules: dict[int, nn.Module] = {}
    parameters: dict[int, nn.Parameter] = {}

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
            new.__dict__["_parameters"] = {k: parameter(p) for k, p in original._parameters.items()}
            new.__dict__["_buffers"] = dict(original._buffers)
            new.__dict__["_modules"] = {
                k: None if child is None else twin(child) for k, child in original._modules.items()
            }
        return modules[key]

    return twin(module)


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
