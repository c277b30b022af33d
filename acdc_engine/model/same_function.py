"""Whether a view computes what its model computes: compared part by part, in float32, on the same inputs.

In half precision rounding alone moves logits by up to some percent, and where a router flips, more. Layer by layer in
float32 the two agree to a few parts in a million, whatever the format of the weights, so that nothing the view leaves
out can pass for rounding. One layer at a time is widened: a model in half precision needs no second copy of itself.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from acdc_engine.model.finite import check_finite
from acdc_engine.model.forward import run_layer
from acdc_engine.model.module_tree import frozen_twin, widen, widened
from acdc_engine.model.refusals import refuse
from acdc_engine.model.view import TransformerView

CHECK_TOKENS = 12
"""Length of the random sequence on which view and model are compared."""
LONGEST_CHECK = 512
"""Sliding windows up to this length are checked beyond their end."""
TOLERANCE = 1e-3
"""Relative root mean square up to which a part of the view is the model's."""


@torch.no_grad()
def check_same_function(view: TransformerView, hf_model: nn.Module, layers: str) -> None:
    """Compares embedding, every layer's write, and logits on random tokens.

    Args:
        view: The view.
        hf_model: Its model. It is left as it is.
        layers: Name of the module list that holds the model's layers.

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
            widen(module, recurse=False)
    for layer in stack:
        layer.register_forward_pre_hook(lambda module, args: widen(module) and None)
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
    twin = frozen_twin(hf_model).eval()
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
        self._rotations = replace(view, rotary=widened(view.rotary)).rotations(tokens.shape[1])
        self._done = 0
        self._last: Tensor | None = None

    def take(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Forward hook of a layer."""
        x = args[0] if args else kwargs["hidden_states"]
        theirs = output[0] if isinstance(output, tuple) else output
        if self._last is None:
            self._compare("token embeddings", widened(self._view.embed)(self._tokens), x)
        layer = widened(self._view.layers[self._done])
        ours = run_layer(layer, x, self._rotations[self._done], self._view.shape.parallel)
        self._compare(f"layer {self._done}", ours - x, theirs - x)
        self._last, self._done = theirs, self._done + 1
        module.to("meta")  # the twin's weights are not needed again

    def finish(self, logits: Tensor) -> None:
        """After the last layer."""
        assert self._last is not None and self._done == len(self._view.layers), "every layer runs once"
        view = self._view
        parts = {name: widened(getattr(view, name)) for name in ("final_norm", "unembed_weight", "unembed_bias")}
        self._compare("final norm and unembedding", replace(view, **parts).unembed(self._last), logits)

    def _compare(self, part: str, ours: Tensor, theirs: Tensor) -> None:
        distance = relative_distance(ours, theirs)
        if torch.isfinite(theirs).all() and not distance <= TOLERANCE:
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
    wanted = max([CHECK_TOKENS, *(window + 4 for window in windows if window <= LONGEST_CHECK)])
    length = min(wanted, view.max_positions or wanted)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, view.d_vocab_in, (1, length), generator=generator).to(view.device)
