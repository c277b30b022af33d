"""A model's view from its configuration alone: shapes without weights, for what a run would take."""

from typing import Any

import torch
from torch import Tensor, nn

from acdc_engine.graph.blocks import GraphShape
from acdc_engine.model.layers import Attention, Layer, Norm, Rotation
from acdc_engine.model.refusals import refuse_config
from acdc_engine.model.view import TransformerView

_PARALLEL = ("phi", "cohere", "cohere2")
"""Model types whose attention and MLP read the same residual stream, where the configuration does not say it."""


def sketch_of(config: Any, name: str, dtype: torch.dtype, ungroup_kv: bool = False) -> tuple[TransformerView, int]:
    """A view of zeros that take no room, which runs and gives nothing of value; and the bytes that weights would take.

    Sizes are those of the weights that transformers would make. What the configuration does not tell (which norms, what
    attention computes exactly) is that of a Llama: it matters little for them.

    Raises:
        UnsupportedModelError: A configuration that the engine refuses.
    """
    from transformers import AutoModelForCausalLM

    text = config.get_text_config()
    refuse_config(name, text)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(text, dtype=dtype)
    weights = sum({id(one): one.nbytes for one in model.parameters()}.values())
    width, heads = int(text.hidden_size), int(text.num_attention_heads)
    groups = heads if ungroup_kv else int(getattr(text, "num_key_value_heads", None) or heads)
    d_head = int(getattr(text, "head_dim", None) or width // heads)
    learned = any(isinstance(one, nn.Embedding) for one in model.modules() if one is not model.get_input_embeddings())
    stack = max((one for one in model.modules() if isinstance(one, nn.ModuleList)), key=len)
    layers = tuple(_layer(block, text, (heads, groups, d_head, width), dtype, learned) for block in stack)

    def rotary(pos: int) -> dict[str | None, Rotation]:
        return {None: (torch.zeros(pos, d_head, dtype=dtype), torch.zeros(pos, d_head, dtype=dtype))}

    view = TransformerView(
        name=name,
        architecture=type(model).__name__,
        shape=GraphShape(
            len(layers), heads, groups, bool(getattr(text, "use_parallel_residual", text.model_type in _PARALLEL))
        ),
        d_model=width,
        d_vocab=int(text.vocab_size),
        d_vocab_in=int(text.vocab_size),
        layers=layers,
        final_norm=Norm("none"),
        embed=lambda tokens: _nothing(dtype, *tokens.shape, width),
        unembed_weight=_nothing(dtype, int(text.vocab_size), width),
        unembed_bias=None,
        rotary=None if learned else rotary,
        max_positions=getattr(text, "max_position_embeddings", None),
    )
    return view, weights


def _nothing(dtype: torch.dtype, *shape: int) -> Tensor:
    """Zeros of any shape in the room of one."""
    return torch.zeros((), dtype=dtype).expand(shape)


def _layer(block: nn.Module, config: Any, sizes: tuple[int, int, int, int], dtype: torch.dtype, learned: bool) -> Layer:
    heads, groups, d_head, width = sizes
    attention = Attention(
        w_q=_nothing(dtype, heads, d_head, width),
        w_k=_nothing(dtype, groups, d_head, width),
        w_v=_nothing(dtype, groups, d_head, width),
        w_o=_nothing(dtype, heads, d_head, width),
        b_q=None,
        b_k=None,
        b_v=None,
        b_o=None,
        scale=1.0,
        rotate=None if learned else _rotate_half,
        window=getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None,
        softcap=getattr(config, "attn_logit_softcapping", None),
    )
    parts = [part for name, part in block.named_children() if "att" not in name.lower()]
    mlp = max(parts, key=lambda part: sum(one.numel() for one in part.parameters()))
    for part in mlp.modules():
        for name, one in part._parameters.items():
            if one is not None:
                part._parameters[name] = nn.Parameter(_nothing(dtype, *one.shape), requires_grad=False)
    norm = Norm("rms", _nothing(dtype, width))
    return Layer(norm, attention, None, norm, mlp.eval(), None)


def _rotate_half(x: Tensor) -> Tensor:
    one, other = x.chunk(2, -1)
    return torch.cat((-other, one), -1)
