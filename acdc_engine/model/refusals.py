"""What cannot be used, each with the reason a user is told: architectures, what a view would not see, broken numbers.

The view takes weights out of linear layers and computes with them. Whatever else makes a model's output (adapters
beside the weights, hooks, replaced forward methods, packed weights) would be dropped without a word, so it is refused,
in every number format.

Then view and model are compared part by part, in float32, on the same inputs. In half precision rounding alone moves
logits by up to some percent, and where a router flips, more. Layer by layer in float32 the two agree to a few parts in
a million, whatever the format of the weights, so that nothing the view leaves out can pass for rounding. One layer at
a time is widened: a model in half precision needs no second copy of itself. All happens on twins of module trees that
share their weights: nothing shows in a user's own model.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from acdc_engine.errors import ScoreError, UnsupportedModelError
from acdc_engine.model.devices import DTYPES, Work
from acdc_engine.model.twins import Record, run_blocks
from acdc_engine.model.view import TransformerView

_SHOWN = 3  # modules that a message names
_TOKENS = 12  # length of the random sequence on which view and model are compared
_LONGEST = 512  # sliding windows up to this length are checked beyond their end
_TOLERANCE = 1e-3  # relative root mean square up to which a part of the view is the model's
_HOOKS = (
    *("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
    *("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks"),
)
_ALIBI = "it adds ALiBi biases to its attention scores; the view knows rotary and learned positions"
_REASONS = {
    _ALIBI: ("bloom", "mpt", "baichuan"),
    "its rotary tables live inside the attention modules, out of reach of TransformerBridge": ("gptj", "codegen"),
    "its local attention windows are buried in the attention modules": ("gpt_neo",),
    "its MLP is not a module of its own (fc1 and fc2 belong to the decoder layer)": ("opt",),
    "its attention has sinks (a learned extra column in the softmax)": ("gpt_oss",),
    "its chunked attention and mixed position embeddings are not covered": ("llama4",),
    "its q, k and v read a compressed latent (multi-head latent attention), not the residual stream": (
        *("deepseek_v2", "deepseek_v3"),
    ),
    "it mixes positions by recurrence instead of attention heads": (
        *("mamba", "mamba2", "falcon_mamba", "rwkv", "jamba", "bamba", "recurrent_gemma", "qwen3_next"),
    ),
    "it keeps several residual streams (AltUp)": ("gemma3n",),
}
"""Why the view cannot express a model, and the model types of transformers that it is true of."""


def refuse(name: str, architecture: str, reason: str) -> UnsupportedModelError:
    """The error for a model that cannot be supported: its name, its architecture, the reason, what to try."""
    return UnsupportedModelError(
        f"Model {name!r} ({architecture}) cannot be used: {reason}. "
        "Supported are decoder-only transformers in the manner of GPT-2, GPT-NeoX, Llama, Mistral, Mixtral, Qwen 2/3, "
        "Gemma 1-3, Phi 1-3, OLMo 1-3, StableLM, Granite, SmolLM, StarCoder 2 and Cohere."
    )


def refuse_config(name: str, config: Any) -> None:
    """Refuses, before any weights are read, what is known not to work.

    Raises:
        UnsupportedModelError: With the reason.
    """
    model_type = str(getattr(config, "model_type", "unknown"))
    for reason, types in _REASONS.items():
        if model_type in types:
            raise refuse(name, model_type, reason)
    if getattr(config, "is_encoder_decoder", False):
        raise refuse(name, model_type, "it is an encoder-decoder model; the graph has one residual stream")
    if getattr(config, "alibi", False):
        raise refuse(name, model_type, _ALIBI)


def refuse_unseen(name: str, model: nn.Module) -> None:
    """Refuses a Hugging Face model that computes something beside its weights.

    Raises:
        UnsupportedModelError: With the modules at fault and what to do.
    """
    for trouble, reason in _TROUBLES:
        if modules := [path or "the model itself" for path, module in model.named_modules() if trouble(module)]:
            more = f" and {len(modules) - _SHOWN} more" if len(modules) > _SHOWN else ""
            raise UnsupportedModelError(
                f"Model {name!r} ({type(model).__name__}) cannot be used as it is: "
                f"{reason.format(', '.join(modules[:_SHOWN]) + more)}"
            )


def check_finite(
    view: TransformerView, embed: Float[Tensor, "batch pos d_model"], values: Iterable[Tensor], run: str
) -> None:
    """Refuses what a run ("clean", "corrupt") left if it is not finite; `embed` is run again to find the layer.

    Raises:
        ScoreError: With the first layer at fault and what to try.
    """
    if all(map(_finite, values)):
        return
    raise ScoreError(
        f"NaN or infinity in the {run} run, first in {_first(view, embed)} ({embed.dtype}). No score can be trusted. "
        "Try --dtype float32 (float16 overflows easily), and check that the weights themselves are finite."
    )


def check_gradients(view: TransformerView, *others: Tensor) -> None:
    """Raises a ScoreError in inference mode, or where weights or others that gradients go through were made in it."""
    made = "weights of the model were loaded" if view.unembed_weight.is_inference() else "evaluator was made"
    if torch.is_inference_mode_enabled():
        made = "gradients were asked for"
    elif not any(tensor.is_inference() for tensor in (view.unembed_weight, *others)):
        return
    raise ScoreError(
        f"The {made} under torch.inference_mode(), so none can be taken. Do that outside of it; torch.no_grad() may "
        "stay."
    )


def _is_adapter(module: nn.Module) -> bool:
    """A module of peft, or one with the parts by which adapters are known whoever made them."""
    parts = [*module._modules, *module._parameters]
    known = any(part == "base_layer" or part.startswith("lora_") for part in parts)
    return known or type(module).__module__.startswith("peft.")


def _has_hooks(module: nn.Module) -> bool:
    """Hooks of anyone but transformers, which leaves its own where hidden states were once asked for."""
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    return any(not str(getattr(hook, "__module__", "")).startswith("transformers.") for hook in hooks)


def _is_packed(module: nn.Module) -> bool:
    """Its weights are no plain tensors of a format the engine computes in."""
    weights = list(module.parameters(recurse=False))
    return any(type(w) not in (nn.Parameter, Tensor) or w.dtype not in DTYPES.values() for w in weights)


def _is_unknown_linear(module: nn.Module) -> bool:
    """A subclass that neither torch nor an architecture of transformers defines."""
    known = type(module).__module__.startswith(("torch.nn.modules.", "transformers.models."))
    return isinstance(module, nn.Linear | nn.Embedding) and not known


_TROUBLES: tuple[tuple[Callable[[nn.Module], bool], str], ...] = (
    (
        _is_adapter,
        "it has adapters (LoRA and the like) that are not merged into its weights ({}). Merge them and pass the plain "
        "model: merged = peft_model.merge_and_unload(); load_model(merged, tokenizer=...).",
    ),
    (
        lambda module: any(weight.device.type == "meta" for weight in module.parameters(recurse=False)),
        "weights of {} are not in memory (on torch's meta device, or offloaded to disk by device_map). Load the whole "
        "model on one device, without device_map; --dtype bfloat16 halves its size.",
    ),
    (
        lambda module: "_hf_hook" in vars(module),
        "accelerate has dispatched it ({}), with hooks that move weights about. Load it on one device, without "
        "device_map.",
    ),
    (
        _has_hooks,
        "forward hooks are registered on {}, and the engine computes from weights alone: it would not run them. Remove "
        "them (handle.remove()); what they change would have to be in the weights to count.",
    ),
    (
        lambda module: "forward" in vars(module),
        "the forward method of {} was replaced on the object, and the engine computes from weights alone. Load the "
        "model afresh; what the method changes would have to be in the weights to count.",
    ),
    (
        _is_packed,
        "{} hold packed numbers (a quantized model). Load it unquantized, or dequantize it (model.dequantize()).",
    ),
    (
        _is_unknown_linear,
        "{} are linear layers or embeddings of a class of their own, which may compute more than their weights say. "
        "Use torch.nn.Linear and torch.nn.Embedding, with whatever the class adds merged into the weights.",
    ),
)
"""What a loaded model can carry that its view would not see, and a sentence with a place for the modules' names."""


@torch.no_grad()
def _first(view: TransformerView, embed: Tensor) -> str:
    if not _finite(embed):
        return "the embedding"
    record = Record(embed)
    view.run(embed, record)
    for twin, block in zip(view.twins, record.blocks, strict=True):
        values = block.values.flatten(1, 2)
        written = values.new_empty(*values.shape[:2], view.d_model)
        twin.write_out(values, written, Work())
        if not _finite(written):
            return f"the {'MLP' if twin.block.kind == 'mlp' else twin.block.kind} of layer {twin.block.layer}"
    return "the final norm or the unembedding"


def _finite(x: Tensor) -> bool:
    return bool(torch.isfinite(x).all())


@torch.no_grad()
def check_same_function(view: TransformerView, hf_model: nn.Module, layers: str) -> None:
    """Compares embedding, every layer's write, and logits on random tokens; `layers` names the list of layers.

    Raises:
        UnsupportedModelError: The first part that differs, or a model that cannot be run.
        ScoreError: Numbers that are not finite, with the layer.
    """
    twin, tokens = computing_twin(hf_model), _tokens(view)
    rotations = replace(view, rotary=_widened(view.rotary)).rotations(tokens.shape[1])
    stack = list(twin.get_submodule(layers).children())
    last: list[Tensor] = []  # what the layer before wrote

    def compare(part: str, ours: Tensor, theirs: Tensor) -> None:
        distance = relative_distance(ours, theirs)
        if torch.isfinite(theirs).all() and not distance <= _TOLERANCE:
            raise refuse(
                view.name,
                view.architecture,
                f"the residual-stream view does not reproduce its {part} (relative difference {distance:.3g} on "
                f"{tokens.shape[1]} random tokens, in float32): it computes something the view does not know",
            )

    def take(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        x, theirs = args[0] if args else kwargs["hidden_states"], output[0] if isinstance(output, tuple) else output
        index = stack.index(module)
        if index == 0:
            compare("token embeddings", _widened(view.embed)(tokens), x)
        layer = _widened(view.layers[index])
        twins = [type(twin)(layer, twin.block) for twin in view.twins if twin.block.layer == index]
        compare(f"layer {index}", run_blocks(twins, x, rotations) - x, theirs - x)
        last[:] = [theirs]
        module.to("meta")  # the twin's weights are not needed again

    inside = {id(module) for layer in stack for module in layer.modules()}
    for module in twin.modules():
        if id(module) not in inside:
            module._apply(_wide, recurse=False)
    for layer in stack:
        layer.register_forward_pre_hook(lambda module, args: module._apply(_wide) and None)
        layer.register_forward_hook(take, with_kwargs=True)
    try:
        logits: Tensor = twin(tokens, use_cache=False).logits
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        first = str(error).strip().splitlines()[0]
        raise refuse(view.name, view.architecture, f"it cannot be run on {tokens.shape[1]} tokens ({first})") from error
    if not torch.isfinite(logits).all():
        check_finite(view, view.embed(tokens), [view.logits(tokens)], "load-time")
    parts = {name: _widened(getattr(view, name)) for name in ("final_norm", "unembed_weight", "unembed_bias")}
    compare("final norm and unembedding", replace(view, **parts).unembed(*last), logits)


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
    same: dict[int, Any] = {id(buffer): buffer for buffer in module.buffers()}
    same |= {id(weight): nn.Parameter(weight.detach(), requires_grad=False) for weight in module.parameters()}
    twin = copy.deepcopy(module, same)
    for part in twin.modules():
        for name in _HOOKS:
            getattr(part, name).clear()
    return twin


def _widened(value: Any) -> Any:
    """A copy of tensors and modules, and of whatever dataclass holds them, in float32; float64 stays."""
    if isinstance(value, Tensor):
        return _wide(value)
    if isinstance(value, nn.Module):
        return _frozen_twin(value)._apply(_wide)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{part.name: _widened(getattr(value, part.name)) for part in fields(value) if part.init})
    return value


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.is_floating_point() and x.dtype != torch.float64 else x
