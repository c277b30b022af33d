"""Where the modules of a Hugging Face model take in and give out what its nodes write.

What a head writes is its part of the input of the layer's output projection, times that projection's weights; what an
MLP writes is what its module gives out, or the norm behind it. TransformerBridge knows which modules these are.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from acdc_engine.errors import ModelError, UnsupportedModelError
from acdc_engine.graph.blocks import Graph, GraphShape
from acdc_engine.model.bridge import bridged
from acdc_engine.model.refusals import refuse_config, refuse_unhookable


@dataclass(frozen=True)
class HookPoints:
    """The modules of a model at which its nodes can be read and changed.

    Attributes:
        name: What messages call the model.
        model: The Hugging Face model.
        graph: Its senders; of its edges nothing is said.
        projections: Paths of the attention's output projections, by layer; head h is columns `h * d_head` to
            `(h + 1) * d_head` of what goes in.
        mlps: Paths of the modules that give out what MLPs write, by layer.
        widenings: Paths of the MLPs' last linear modules, by layer; empty where that is not one module.
        d_head: Numbers of a head.
        write_scale: Factor on everything that layers write, behind these modules.
        mixed: Whether a norm behind the attention mixes what the heads of a layer write.
    """

    name: str
    model: nn.Module
    graph: Graph
    projections: tuple[str, ...]
    mlps: tuple[str, ...]
    widenings: tuple[str, ...]
    d_head: int
    write_scale: float
    mixed: bool

    @cached_property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.model.config.get_text_config().hidden_size)  # type: ignore[union-attr, operator]

    def module(self, path: str) -> Any:
        """The module of that path."""
        return self.model.get_submodule(path)


def hook_points(model: Any) -> HookPoints:
    """Finds them; the model is left as it is, and nothing is run.

    Raises:
        ModelError: It is no Hugging Face causal language model.
        UnsupportedModelError: It is compiled, quantized, has adapters, or is of an architecture that is not known.
    """
    from transformers import PreTrainedModel

    name = str(getattr(model, "name_or_path", "")).rpartition("/")[2] or type(model).__name__
    if isinstance(model, nn.Module):
        refuse_unhookable(name, model)
    if not isinstance(model, PreTrainedModel):
        raise ModelError(
            "Hooks are laid on a loaded Hugging Face model (a transformers.PreTrainedModel), not on an object of type "
            f"{type(model).__name__}. What load_model gives is no such model: give the one it was made of."
        )
    config = model.config.get_text_config()
    refuse_config(name, config)
    bridge = bridged(model, name)
    blocks = bridge.adapter.component_mapping["blocks"]
    parts, n_layers, n_heads = blocks.submodules, len(bridge.blocks), int(config.num_attention_heads)
    attention, mlp = parts["attn"], parts["mlp"]
    layers = [f"{blocks.name}.{layer}" for layer in range(n_layers)]
    projections = tuple(f"{layer}.{attention.name}.{attention.submodules['o'].name}" for layer in layers)
    last = mlp.submodules["out"].name if "out" in (mlp.submodules or {}) else None
    written = parts["ln2_post"].name if "ln2_post" in parts else mlp.name
    try:
        d_head = _inputs_of(model.get_submodule(projections[0])) // n_heads
        found = HookPoints(
            name,
            model,
            Graph(GraphShape(n_layers, n_heads, n_heads)),
            projections,
            tuple(f"{layer}.{written}" for layer in layers),
            tuple(f"{layer}.{mlp.name}.{last}" for layer in layers) if last and "." not in last else (),
            d_head,
            float(getattr(config, "residual_multiplier", None) or 1.0),
            "ln1_post" in parts,
        )
        for path in (*found.projections, *found.mlps):
            model.get_submodule(path)
    except AttributeError as error:
        raise UnsupportedModelError(
            f"Model {name!r} ({type(model).__name__}) has no part where hooks go: {error}."
        ) from error
    return found


def _inputs_of(projection: Any) -> int:
    """How many numbers a linear module takes, whichever way round it keeps its weights."""
    weight: torch.Tensor = projection.weight
    return int(weight.shape[0] if type(projection).__name__ == "Conv1D" else weight.shape[1])
