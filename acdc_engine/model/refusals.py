"""What cannot be used, each with the reason a user is told: architectures, what a view would not see, broken numbers.

The view takes weights out of linear layers and computes with them. Whatever else makes a model's output (adapters
beside the weights, hooks, replaced forward methods, packed weights) would be dropped without a word, so it is refused,
in every number format.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from acdc_engine.errors import ScoreError, UnsupportedModelError
from acdc_engine.model.devices import DTYPES
from acdc_engine.model.layers import Residual
from acdc_engine.model.twins import Stream
from acdc_engine.model.view import TransformerView

_SHOWN = 3  # modules that a message names
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


def refuse_unhookable(name: str, model: nn.Module) -> None:
    """Refuses a Hugging Face model whose modules cannot be counted on to call hooks, or to hold plain weights.

    Raises:
        UnsupportedModelError: With what to do.
    """
    compiled = any("_orig_mod" in part._modules or part._compiled_call_impl is not None for part in model.modules())
    packed = getattr(getattr(model, "config", None), "quantization_config", None) is not None
    reason = None
    if compiled:
        reason = "is compiled, and compiled code calls no hooks. Give the model as it was before torch.compile."
    elif packed or any(map(_is_packed, model.modules())):
        reason = "holds packed numbers (a quantized model). Load it unquantized, or dequantize it (model.dequantize())."
    elif any(map(_is_adapter, model.modules())):
        reason = "has adapters that are not merged into its weights. Merge them: peft_model.merge_and_unload()."
    if reason is not None:
        raise UnsupportedModelError(f"Model {name!r} ({type(model).__name__}) {reason}")


def check_finite(view: TransformerView, embed: Residual, values: Iterable[Tensor], run: str) -> None:
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
        "it has adapters (LoRA and the like) that are not merged into its weights ({}). Give the PeftModel around it, "
        "which is merged into a copy; or merge them: load_model(peft_model.merge_and_unload(), tokenizer=...).",
    ),
    (
        lambda module: any(weight.device.type == "meta" for weight in module.parameters(recurse=False)),
        "weights of {} are not in memory (on torch's meta device, or offloaded to disk by device_map). Load the whole "
        "model, on one device or with load_model(NAME, device_map=...); --dtype bfloat16 halves its size.",
    ),
    (
        lambda module: "_hf_hook" in vars(module),
        "accelerate has dispatched it ({}), with hooks that move weights about. Load it on one device, without "
        "device_map; or give its name or folder, as in load_model(NAME, device_map=...).",
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
    stream, rotations = Stream(embed), view.rotations(embed.shape[1])
    for twin in view.twins:
        block = twin.block
        stream.add(block, twin.run(stream.before(block), rotations[block.layer], None, False))
        if not _finite(stream.now):
            return f"the {'MLP' if block.kind == 'mlp' else block.kind} of layer {block.layer}"
    return "the final norm or the unembedding"


def _finite(x: Tensor) -> bool:
    return bool(torch.isfinite(x).all())
