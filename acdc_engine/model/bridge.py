"""From a Hugging Face model to its residual-stream view, by way of transformer-lens's TransformerBridge.

The bridge knows, for every architecture it adapts, which module is the query projection, the norm before the MLP, and
so on, and splits fused projections. The view takes those modules' weights and computes with them itself. Whether it
computes the same function is checked on the spot.
"""

import copy
import inspect
import sys
import warnings
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from acdc_engine.graph.blocks import GraphShape
from acdc_engine.model.layers import Attention, Layer, Norm, Rotation
from acdc_engine.model.refusals import check_finite, refuse, refuse_config, refuse_unseen
from acdc_engine.model.twins import run_blocks
from acdc_engine.model.view import TransformerView

_RECOGNISED = 1e-4  # relative distance, in float32, up to which a norm is what it is taken for
_CLEARLY = 10  # how many times farther away every other kind of norm has to be
_TOKENS = 12  # length of the random sequence on which view and model are compared
_LONGEST = 512  # sliding windows up to this length are checked beyond their end
_TOLERANCE = 1e-3  # relative root mean square up to which a part of the view is the model's
_HOOKS = (
    *("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
    *("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks"),
)


def view_of(
    hf_model: Any, name: str, tokenizer: Any = None, revision: str | None = None, ungroup_kv: bool = False
) -> TransformerView:
    """Builds and checks the view of a loaded Hugging Face causal language model.

    Args:
        hf_model: The model, on its device and in its number format. It is left as it is; the view shares its weights.
        name: What messages and files call it.
        tokenizer: Its tokenizer, or None when only token ids are used.
        revision: Revision of the weights, where known.
        ungroup_kv: Give every query head keys and values of its own (MIB's convention) where the model shares them.

    Raises:
        UnsupportedModelError: What the view cannot express, by name and reason.
    """
    config = hf_model.config.get_text_config()
    refuse_config(name, config)
    refuse_unseen(name, hf_model)
    architecture, bridge = type(hf_model).__name__, bridged(hf_model, name)
    try:
        built = _build(bridge, config, name, architecture, ungroup_kv)
    except (AttributeError, KeyError, TypeError) as error:
        raise refuse(name, architecture, f"a part the view needs is missing or unusual ({error})") from error
    view = replace(built, tokenizer=tokenizer, revision=revision)
    _check_same_function(view, hf_model, bridge.adapter.component_mapping["blocks"].name)
    return view


def bridged(hf_model: Any, name: str) -> Any:
    """The TransformerBridge of a frozen twin of a model, which is left as it is.

    Raises:
        UnsupportedModelError: There is no adapter for it.
    """
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    architecture, twin = type(hf_model).__name__, _computing_twin(hf_model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return build_bridge_from_module(twin, architecture, hf_config=twin.config, tokenizer=None)
    except Exception as error:
        raise refuse(name, architecture, f"transformer-lens's TransformerBridge does not adapt it ({error})") from error


def _build(bridge: Any, config: Any, name: str, architecture: str, ungroup_kv: bool) -> TransformerView:
    parallel = type(bridge.blocks[0]).__name__ == "ParallelBlockBridge"
    n_heads = int(config.num_attention_heads)
    rotary = _rotary(bridge, config)
    kinds = getattr(config, "layer_types", None) or [None] * len(bridge.blocks)
    layers = tuple(
        _layer(block, _attention(block.attn, config, kind, rotary, ungroup_kv), config, parallel)
        for block, kind in zip(bridge.blocks, kinds, strict=True)
    )
    n_kv = layers[0].attention.w_k.shape[0]
    if any(layer.attention.w_k.shape[0] != n_kv or layer.attention.w_q.shape[0] != n_heads for layer in layers):
        raise refuse(name, architecture, "its layers differ in their number of heads")
    head = _raw(bridge.unembed)
    native_kv = _weight(bridge.blocks[0].attn.k).shape[0] // layers[0].attention.w_q.shape[1]
    return TransformerView(
        name=name,
        architecture=architecture,
        shape=GraphShape(len(layers), n_heads, n_kv, parallel),
        d_model=head.weight.shape[1],
        d_vocab=head.weight.shape[0],
        d_vocab_in=_raw(bridge.embed).weight.shape[0],
        layers=layers,
        final_norm=_norm_of(_raw(bridge.ln_final)),
        embed=Embedding(
            _raw(bridge.embed),
            _raw(bridge.pos_embed) if hasattr(bridge, "pos_embed") else None,
            _factor(config, "embedding_multiplier"),
        ),
        unembed_weight=head.weight.detach(),
        unembed_bias=_bias(head),
        logit_scale=_factor(config, "logit_scale") / _factor(config, "logits_scaling"),  # Cohere, Granite
        logit_softcap=getattr(config, "final_logit_softcapping", None),
        rotary=rotary,
        max_positions=getattr(config, "max_position_embeddings", None),
        kv_copies=n_kv // native_kv,
    )


def _factor(config: Any, name: str) -> float:
    return float(getattr(config, name, None) or 1.0)


@dataclass(frozen=True)
class Embedding:
    """What `input` writes: token embeddings, scaled, plus learned positions where the model has them."""

    tokens: nn.Module
    positions: nn.Module | None
    factor: float

    @torch.no_grad()
    def __call__(self, tokens: Tensor) -> Tensor:
        """From token ids `[batch, pos]` to `[batch, pos, d_model]`."""
        out: Tensor = self.tokens(tokens)
        out = out * self.factor if self.factor != 1.0 else out
        if self.positions is None:
            return out
        places: Tensor = self.positions(torch.arange(tokens.shape[-1], device=tokens.device))
        return out + places


@dataclass(frozen=True)
class _RotaryTables:
    """Rotary tables by number of positions.

    Attributes:
        module: The model's own module that makes them.
        probe: Any tensor `[1, 1]`; tables are of its device and number format.
        kinds: Kinds of layer with tables of their own (Gemma 3), or `(None,)`.
    """

    module: nn.Module
    probe: Tensor
    kinds: tuple[str | None, ...]
    _made: dict[int, dict[str | None, Rotation]] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, pos: int) -> dict[str | None, Rotation]:
        """Cosines and sines `[pos, rotary dimensions]` by kind of layer."""
        if pos not in self._made:
            self._made[pos] = {kind: self._table(pos, kind) for kind in self.kinds}
        return self._made[pos]

    @torch.no_grad()
    def _table(self, pos: int, kind: str | None) -> Rotation:
        ids = torch.arange(pos, device=self.probe.device)[None]
        asked = () if kind is None else (kind,)
        # Tables that grow with the longest sequence so far forget it at a single token.
        self.module(self.probe, ids[:, :1], *asked)
        cos, sin = self.module(self.probe, ids, *asked)
        return cos[0], sin[0]


def _rotary(bridge: Any, config: Any) -> _RotaryTables | None:
    if not hasattr(bridge, "rotary_emb") or (module := _raw(bridge.rotary_emb)) is None:
        return None
    by_kind = "layer_type" in inspect.signature(module.forward).parameters
    kinds = tuple(sorted(set(config.layer_types))) if by_kind else (None,)
    return _RotaryTables(copy.deepcopy(module), _raw(bridge.embed).weight[:1, :1], kinds)


def _layer(block: Any, attention: Attention, config: Any, parallel: bool) -> Layer:
    norm = _norm(block, "ln1") or Norm("none")
    # Phi, Falcon and Cohere norm once and hand the result to attention and MLP alike; OLMo 2 norms writes only.
    mlp_norm = _norm(block, "ln2") or (norm if parallel else Norm("none"))
    post = _norm(block, "ln1_post")
    if post is not None and (post.kind != "rms" or attention.b_o is not None):
        raise TypeError("a norm after attention that is not an RMSNorm of the heads alone cannot be shared among them")
    return Layer(
        attention_norm=norm,
        attention=attention,
        attention_post=post,
        mlp_norm=mlp_norm,
        mlp=_unwrapped(block.mlp),
        mlp_post=_norm(block, "ln2_post"),
        write_scale=_factor(config, "residual_multiplier"),
    )


def _attention(
    bridged: Any, config: Any, kind: str | None, rotary: "_RotaryTables | None", ungroup_kv: bool
) -> Attention:
    module, n_heads = _raw(bridged), int(config.num_attention_heads)
    d_head = _weight(bridged.q).shape[0] // n_heads

    def split(component: Any) -> tuple[Tensor, Tensor | None]:
        weight, bias = _weight(component), _bias(_raw(component))
        weight = weight.view(-1, d_head, weight.shape[1])
        bias = None if bias is None else bias.view(-1, d_head)
        repeat = n_heads // weight.shape[0] if ungroup_kv else 1
        if repeat > 1:
            weight = weight.repeat_interleave(repeat, 0)
            bias = None if bias is None else bias.repeat_interleave(repeat, 0)
        return weight, bias

    (w_q, b_q), (w_k, b_k), (w_v, b_v) = map(split, (bridged.q, bridged.k, bridged.v))
    q_norm, k_norm = _norm(bridged, "q_norm"), _norm(bridged, "k_norm")
    spans = q_norm is not None and q_norm.weight is not None and q_norm.weight.shape[0] != d_head
    if spans and ungroup_kv and _weight(bridged.k).shape[0] != n_heads * d_head:
        raise TypeError("ungrouped keys and values under a key norm over all groups would not be the same model")
    uses_rope = bool(getattr(module, "use_rope", True))
    return Attention(
        w_q=w_q,
        w_k=w_k,
        w_v=w_v,
        w_o=_weight(bridged.o).T.view(n_heads, d_head, -1),
        b_q=b_q,
        b_k=b_k,
        b_v=b_v,
        b_o=_bias(_raw(bridged.o)),
        scale=float(getattr(module, "scaling", None) or d_head**-0.5),
        q_norm=q_norm,
        k_norm=k_norm,
        norm_spans_heads=spans,
        rotate=getattr(sys.modules[type(module).__module__], "rotate_half", None) if uses_rope else None,
        rope_kind=kind if rotary is not None and kind in rotary.kinds else None,
        window=_window(config, kind),
        softcap=getattr(module, "attn_logit_softcapping", None),
    )


def _window(config: Any, kind: str | None) -> int | None:
    if kind is not None:
        return int(config.sliding_window) if kind == "sliding_attention" else None
    window = getattr(config, "sliding_window", None)
    return int(window) if window and getattr(config, "use_sliding_window", True) else None


def _norm(component: Any, part: str) -> Norm | None:
    norm = getattr(component, part, None)
    return None if norm is None else _norm_of(_raw(norm))


def _norm_of(module: Any) -> Norm:
    """Reads a norm module, finding out by trial which norm it is: the nearest, if it is clearly the nearest.

    Args:
        module: A module with what LayerNorm and RMSNorm have: a gain, a bias, an eps, or some of them. The norm has its
            weights, except that a gain `1 + w` is added up.

    Raises:
        TypeError: When it is neither LayerNorm nor RMSNorm, or cannot be told from another one.
    """
    found = (getattr(module, part, None) for part in ("weight", "bias"))
    weight, bias = (None if part is None else part.detach() for part in found)
    eps = next((float(getattr(module, k)) for k in ("eps", "variance_epsilon") if hasattr(module, k)), 1e-5)
    if weight is not None and weight.dim() != 1:
        raise TypeError(f"{type(module).__name__} has weights of shape {tuple(weight.shape)}, not one gain each")
    size = len(weight) if weight is not None else int(getattr(module, "normalized_shape", (64,))[-1])
    # Two vectors to tell norms apart by: neither centred, and one so small that eps counts.
    x = torch.randn(2, size, generator=torch.Generator().manual_seed(0)) + 0.5
    x[1] *= 1e-2
    if weight is not None:
        x = x.to(weight.device, torch.promote_types(weight.dtype, torch.float32))
    with torch.no_grad():
        wanted = copy.deepcopy(module).to(x.dtype)(x)

    def distance(norm: Norm) -> float:
        gain, shift = (None if part is None else part.to(x.dtype) for part in (norm.weight, norm.bias))
        return float((Norm(norm.kind, gain, shift, norm.eps)(x) - wanted).norm() / wanted.norm().clamp(min=1e-6))

    gains = [None] if weight is None else [weight, weight.to(x.dtype) + 1]
    candidates = [*(Norm("rms", gain, None, eps) for gain in gains), Norm("layer", weight, bias, eps)]
    near, *others = sorted(candidates, key=distance)
    if distance(near) > _RECOGNISED or any(distance(norm) < _CLEARLY * distance(near) for norm in others):
        raise TypeError(f"{type(module).__name__} is neither a LayerNorm nor an RMSNorm")
    return near


def _weight(component: Any) -> Tensor:
    """Weight `[out, in]`, whichever way round the module keeps it."""
    module = _raw(component)
    weight: Tensor = module.weight.detach()
    return weight.T if type(module).__name__ == "Conv1D" else weight


def _bias(module: Any) -> Tensor | None:
    bias = getattr(module, "bias", None)
    # The bridge adds zero biases where the model has none.
    return None if bias is None or not bool(bias.any()) else bias.detach()


def _raw(component: Any) -> Any:
    """The Hugging Face module inside a bridge component, or the component itself where there is none."""
    inner = getattr(component, "original_component", None)
    return component if inner is None else _raw(inner)


def _unwrapped(component: nn.Module) -> nn.Module:
    """A copy of a module tree with what bridge components wrap in their place; weights are shared."""
    original = _raw(component)
    new = copy.copy(original)
    new.__dict__["_modules"] = {
        name: None if child is None else _unwrapped(child) for name, child in original._modules.items()
    }
    return new  # type: ignore[no-any-return]


@torch.no_grad()
def _check_same_function(view: TransformerView, hf_model: nn.Module, layers: str) -> None:
    """Compares embedding, every layer's write, and logits on random tokens; `layers` names the list of layers.

    In half precision rounding alone moves logits by up to some percent, and where a router flips, more. Layer by layer
    in float32 the two agree to a few parts in a million, whatever the format of the weights, so that nothing the view
    leaves out can pass for rounding. One layer at a time is widened, on the view's device wherever its weights are: a
    model in half precision needs no second copy of itself. All happens on twins of module trees that share their
    weights: nothing shows in a user's own model.

    Raises:
        UnsupportedModelError: The first part that differs, or a model that cannot be run.
        ScoreError: Numbers that are not finite, with the layer.
    """
    twin, tokens = _computing_twin(hf_model), _tokens(view)
    rotations = replace(view, rotary=_widened(view.rotary)).rotations(tokens.shape[1])
    stack = list(twin.get_submodule(layers).children())
    last: list[Tensor] = []  # what the layer before wrote
    ran: list[int] = []
    widen = partial(_wide, device=view.device)

    def compare(part: str, ours: Tensor, theirs: Tensor) -> None:
        distance = float((ours.float() - theirs.float()).norm() / theirs.float().norm().clamp(min=1e-6))
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
        layer = _widened(view.layers[index], view.device)
        twins = [view.kinds[twin.block.kind](layer, twin.block) for twin in view.twins if twin.block.layer == index]
        compare(f"layer {index}", run_blocks(twins, x, rotations) - x, theirs - x)
        last[:] = [theirs]
        ran.append(index)
        module.to("meta")  # the twin's weights are not needed again

    inside = {id(module) for layer in stack for module in layer.modules()}
    for module in twin.modules():
        if id(module) not in inside:
            module._apply(_wide, recurse=False)
    for layer in stack:
        layer.register_forward_pre_hook(lambda module, args: module._apply(widen) and None)
        layer.register_forward_hook(take, with_kwargs=True)
    try:
        logits: Tensor = twin(tokens, use_cache=False).logits
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        first = str(error).strip().splitlines()[0]
        raise refuse(view.name, view.architecture, f"it cannot be run on {tokens.shape[1]} tokens ({first})") from error
    if ran != list(range(len(view.layers))):
        raise refuse(view.name, view.architecture, f"it does not run its {len(view.layers)} layers, each once in order")
    if not torch.isfinite(logits).all():
        check_finite(view, view.embed(tokens), [view.logits(tokens)], "load-time")
    parts = {name: _widened(getattr(view, name)) for name in ("final_norm", "unembed_weight", "unembed_bias")}
    compare("final norm and unembedding", replace(view, **parts).unembed(*last), logits)


def _computing_twin(hf_model: nn.Module) -> Any:
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


def _widened(value: Any, device: torch.device | None = None) -> Any:
    """A copy of tensors and modules, and of whatever dataclass holds them, in float32 (float64 stays), on a device."""
    if isinstance(value, Tensor):
        return _wide(value, device)
    if isinstance(value, nn.Module):
        return _frozen_twin(value)._apply(partial(_wide, device=device))
    if is_dataclass(value) and not isinstance(value, type):
        parts = {part.name: _widened(getattr(value, part.name), device) for part in fields(value) if part.init}
        return replace(value, **parts)
    return value


def _wide(x: Tensor, device: torch.device | None = None) -> Tensor:
    x = x if device is None else x.to(device)
    return x.float() if x.is_floating_point() and x.dtype != torch.float64 else x
