"""Whether a view computes what its model computes: compared part by part, in float32, on the same inputs.

In half precision rounding alone moves logits by up to some percent, and where a router flips, more. Layer by layer in
float32 the two agree to a few parts in a million, whatever the format of the weights, so that nothing the view leaves
out can pass for rounding. One layer at a time is widened: a model in half precision needs no second copy of itself.
All happens on twins of module trees that share their weights: nothing shows in a user's own model.
"""

import copy
from collections import OrderedDict
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from acdc_engine.model.refusals import check_finite, refuse
from acdc_engine.model.twins import run_blocks
from acdc_engine.model.view import TransformerView

_TOKENS = 12  # length of the random sequence on which view and model are compared
_LONGEST = 512  # sliding windows up to this length are checked beyond their end
_TOLERANCE = 1e-3  # relative root mean square up to which a part of the view is the model's
_HOOKS = (
    *("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
    *("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks"),
)


@torch.no_grad()
def check_same_function(view: TransformerView, hf_model: nn.Module, layers: str) -> None:
    """Compares embedding, every layer's write, and logits on random tokens; `layers` names the list of layers.

    Raises:
        UnsupportedModelError: The first part that differs, or a model that cannot be run.
        ScoreError: Numbers that are not finite, with the layer.
    """
    twin = computing_twin(hf_model)
    tokens = _tokens(view)
    comparison = _Comparison(view, tokens)
    stack = list(twin.get_submodule(layers).children())
    inside = {id(module) for layer in stack for module in layer.modules()}
    for module in twin.modules():
        if id(module) not in inside:
            _widen(module, recurse=False)
    for layer in stack:
        layer.register_forward_pre_hook(lambda module, args: _widen(module) and None)
        layer.register_forward_hook(comparison.take, with_kwargs=True)
    try:
        logits: Tensor = twin(tokens, use_cache=False).logits
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        first = str(error).strip().splitlines()[0]
        raise refuse(view.name, view.architecture, f"it cannot be run on {tokens.shape[1]} tokens ({first})") from error
    if not torch.isfinite(logits).all():
        check_finite(view, view.embed(tokens), [view.logits(tokens)], "load-time")
    comparison.finish(logits)


def computing_twin(hf_model: nn.Module) -> nn.Module:
    """A frozen twin for evaluation, with attention and experts computed by plain torch, in any number format."""
    twin = _frozen_twin(hf_model).eval()
    for module in twin.modules():
        config = vars(module).get("config")
        if config is None:
            continue
        config._attn_implementation = "eager"
        if next(hf_model.parameters()).dtype == torch.float64:  # the grouped kernels of experts have no float64
            config._experts_implementation = "eager"
    return twin


class _Comparison:
    """Goes through a model's layers beside it, and stops at the first that the view does not reproduce."""

    def __init__(self, view: TransformerView, tokens: Tensor) -> None:
        self._view, self._tokens = view, tokens
        self._rotations = replace(view, rotary=_widened(view.rotary)).rotations(tokens.shape[1])
        self._done = 0
        self._last: Tensor | None = None

    def take(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        x = args[0] if args else kwargs["hidden_states"]
        theirs = output[0] if isinstance(output, tuple) else output
        if self._last is None:
            self._compare("token embeddings", _widened(self._view.embed)(self._tokens), x)
        layer = _widened(self._view.layers[self._done])
        twins = [type(twin)(layer, twin.block) for twin in self._view.twins if twin.block.layer == self._done]
        ours = run_blocks(twins, x, self._rotations)
        self._compare(f"layer {self._done}", ours - x, theirs - x)
        self._last, self._done = theirs, self._done + 1
        module.to("meta")  # the twin's weights are not needed again

    def finish(self, logits: Tensor) -> None:
        assert self._last is not None and self._done == len(self._view.layers), "every layer runs once"
        view = self._view
        parts = {name: _widened(getattr(view, name)) for name in ("final_norm", "unembed_weight", "unembed_bias")}
        self._compare("final norm and unembedding", replace(view, **parts).unembed(self._last), logits)

    def _compare(self, part: str, ours: Tensor, theirs: Tensor) -> None:
        distance = relative_distance(ours, theirs)
        if torch.isfinite(theirs).all() and not distance <= _TOLERANCE:
            raise refuse(
                self._view.name,
                self._view.architecture,
                f"the residual-stream view does not reproduce its {part} (relative difference {distance:.3g} on "
                f"{self._tokens.shape[1]} random tokens, in float32): it computes something the view does not know",
            )


def relative_distance(ours: Tensor, theirs: Tensor) -> float:
    """Root mean square of the difference, relative to that of `theirs`."""
    return float((ours.float() - theirs.float()).norm() / theirs.float().norm().clamp(min=1e-6))


def _tokens(view: TransformerView) -> Tensor:
    """Random tokens, more of them than a short sliding window is long."""
    windows = [layer.attention.window or 0 for layer in view.layers]
    wanted = max([_TOKENS, *(window + 4 for window in windows if window <= _LONGEST)])
    length = min(wanted, view.max_positions or wanted)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, view.d_vocab_in, (1, length), generator=generator).to(view.device)


def _frozen_twin(module: nn.Module) -> nn.Module:
    """A tree of new module objects around the same weights, which need no gradient there; without hooks.

    TransformerBridge rewires the modules it is given and attribution needs frozen weights (a backward pass through
    activations alone costs one forward pass instead of two). Tied weights stay tied; configurations are copies.
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


def _widen(module: nn.Module, recurse: bool = True) -> nn.Module:
    """Turns a module's weights into float32, in place; float64 stays."""
    module._apply(_wide, recurse=recurse)
    return module


def _widened(value: Any) -> Any:
    """A copy of tensors and modules, and of whatever dataclass holds them, in float32; float64 stays."""
    if isinstance(value, Tensor):
        return _wide(value)
    if isinstance(value, nn.Module):
        return _widen(_frozen_twin(value))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{part.name: _widened(getattr(value, part.name)) for part in fields(value) if part.init})
    return value


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.is_floating_point() and x.dtype != torch.float64 else x
