"""A Hugging Face model whose weights do without some nodes: what `intervene` does for a while, for good.

A head is taken out by zeros in the output projection's weights, an MLP by zeros in its last layer's. Means go into
biases, where the architecture has them.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from acdc_engine.act.edits import KnockOut, edited_nodes
from acdc_engine.act.intervene import site, values_on
from acdc_engine.errors import PromptError, UnsupportedModelError
from acdc_engine.graph.nodes import layer_of
from acdc_engine.model.hook_points import HookPoints, hook_points

_MIXED = "a norm behind the attention mixes what the layer's heads write"
_NO_BIAS = "{} has no bias that a mean could go into"


@torch.no_grad()
def fold(
    model: Any, nodes: Sequence[str], how: Literal["zero", "mean"] = "zero", prompts: Sequence[Sequence[int]] = ()
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Takes nodes out of a model, in place (`copy.deepcopy` keeps the other).

    Args:
        model: A loaded causal language model of transformers.
        nodes: Names of heads and MLPs.
        how: They write nothing ("zero"), or their mean over the tokens of `prompts`, the first of each left out.
        prompts: Rows of token ids, for "mean".

    Returns:
        The nodes that were taken out; and those that could not be, with the reason: they are as they were.

    Raises:
        ModelError: It is no such model, or is compiled, quantized or adapted.
        GraphError: A node that does not exist.
        PromptError: There are no tokens that a mean could be taken over.
        UnsupportedModelError: None of them could be taken out: the model is as it was.
    """
    points = hook_points(model)
    names = [edit.node for edit in edited_nodes(points.graph, [KnockOut(node=name) for name in nodes])]
    left = {name: why for name in names if (why := _why_not(points, name, how))}
    wanted = [name for name in names if name not in left]
    means = _means(points, wanted, prompts) if how == "mean" and wanted else {}
    for name in wanted:
        if name.startswith("a"):
            _fold_head(points, name, means.get(name))
        elif not _fold_mlp(points, name, means.get(name)):
            left[name] = "its module writes something even where the weights of its last layer are zero"
    if folded := tuple(name for name in names if name not in left):
        return folded, left
    reasons = "; ".join(dict.fromkeys(left.values()))
    raise UnsupportedModelError(f"No node could be taken out of {points.name!r} ({type(model).__name__}): {reasons}.")


def _why_not(points: HookPoints, node: str, how: str) -> str:
    """Why a node cannot be folded; empty where it can, as far as that is known beforehand."""
    path, _ = site(points, node)
    if node.startswith("a") and points.mixed:
        return _MIXED
    if how == "zero":
        return ""
    if node.startswith("m"):
        layer = layer_of(node)
        if not points.widenings:
            return "its experts have no bias in common"
        if not points.widenings[layer].startswith(path):
            return "a norm stands behind it"
        path = points.widenings[layer]
    return _NO_BIAS.format(path.rpartition(".")[2]) if points.module(path).bias is None else ""


def _means(
    points: HookPoints, nodes: Sequence[str], prompts: Sequence[Sequence[int]]
) -> dict[str, Float[Tensor, "width"]]:
    """What nodes have at their modules, mean over all tokens but each prompt's first."""
    if not any(len(row) > 1 for row in prompts):
        raise PromptError("Means are over the tokens of prompts, the first of each left out, and there are none.")
    found = {name: list[Tensor]() for name in nodes}
    for row in prompts:
        for name, values in values_on(points, row, nodes).items():
            found[name].append(values[1:].float())
    return {name: torch.cat(parts).mean(0) for name, parts in found.items()}


def _fold_head(points: HookPoints, node: str, mean: Tensor | None) -> None:
    path, part = site(points, node)
    projection = points.module(path)
    weight = projection.weight if type(projection).__name__ == "Conv1D" else projection.weight.T  # [in, out], shared
    if mean is not None:
        projection.bias += (mean @ weight[part].float()).to(weight)
    weight[part] = 0


def _fold_mlp(points: HookPoints, node: str, mean: Tensor | None) -> bool:
    """Whether the MLP then writes nothing, or its mean; otherwise it is as it was."""
    layer, path = layer_of(node), site(points, node)[0]
    last = _last_weights(points, layer)
    if not last:
        return False
    before = [weight.clone() for weight in last]
    for weight in last:
        weight.zero_()
    probe = torch.randn(1, 3, points.d_model, generator=torch.Generator().manual_seed(0)).to(last[0])
    module = points.module(points.widenings[layer].rpartition(".")[0] if points.widenings else path)
    written = module(probe)
    if bool((written[0] if isinstance(written, tuple) else written).any()):
        for weight, old in zip(last, before, strict=True):
            weight.copy_(old)
        return False
    if mean is not None:
        bias = points.module(points.widenings[layer]).bias
        bias.copy_(mean.to(bias))
    return True


def _last_weights(points: HookPoints, layer: int) -> list[nn.Parameter]:
    """Weights of an MLP's last layer, biases among them; of experts those of all."""
    if points.widenings:
        return list(points.module(points.widenings[layer]).parameters())
    return [weight for name, weight in points.module(points.mlps[layer]).named_parameters() if "down_proj" in name]
