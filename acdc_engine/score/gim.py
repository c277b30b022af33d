"""GIM: one gradient of a model whose norms are frozen and whose products are shared out between their factors."""

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from acdc_engine.errors import MethodError
from acdc_engine.model.layers import Attention, Layer, Norm
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.metrics import Metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.registers import parameter
from acdc_engine.score.edge_scores import EdgeScores, attribution_patching
from acdc_engine.score.methods import METHODS, Clean

_GATES = {"gate_proj", "gate_up_proj"}
"""What transformers calls the weights of gates in MLPs and experts, by themselves or in one piece with the others."""
T = TypeVar("T", bound=Norm | Attention)


@dataclass(frozen=True)
class Gim(Clean):
    """What `gim` takes."""

    temperature: float = parameter(2.0, "Of the softmax whose slope gradients go through; 1 is the model's own.")

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise MethodError(f"The temperature of gim must be above 0 and finite, not {self.temperature}.")


@METHODS.add(
    "gim",
    "one gradient with frozen norms, a softer softmax and shared products (Edin et al. 2025, arXiv 2505.17630)",
    parameters=Gim,
)
def gim(view: TransformerView, prompts: PromptSet, metric: Metric, parameters: Gim, **options: Any) -> EdgeScores:
    """Scores every edge as EAP does, with the gradients that GIM puts in place of the model's.

    Values are the model's own; only derivatives are others (Edin et al. 2025, arXiv 2505.17630, and their code, with
    its defaults):

    - norms: the scale `r` counts as a constant, in norms of queries and keys and after attention and MLP too;
    - softmax: its Jacobian `diag(p) - p p^T` is taken at `p = softmax(scores / temperature)`;
    - products of two things that depend on the input (query and key, weights and values, an MLP's gate and what it
      lets through) give each factor half of its derivative, so that they are not counted twice.

    Options are those of `in_batches`, which says what is raised.
    """
    shared = linearised(view, parameters.temperature)
    found = attribution_patching(shared, prompts, metric, parameters.points, "gim", **options)
    return replace(found, settings={**found.settings, "temperature": parameters.temperature})


def linearised(view: TransformerView, temperature: float) -> TransformerView:
    """A view that computes the same and is differentiated as `gim` says; weights are shared."""
    layers = tuple(_layer(layer, temperature) for layer in view.layers)
    return replace(view, layers=layers, final_norm=_as(_FrozenNorm, view.final_norm), own_graph=view.graph)


@dataclass(frozen=True)
class _FrozenNorm(Norm):
    """A norm whose scale does not move with its input."""

    @property
    def bends(self) -> bool:
        return False

    def __call__(self, x: Tensor) -> Tensor:
        if self.kind == "none":
            return x
        _, r = self.standardize(x.detach())
        wide = x.to(r.dtype)
        out = (wide - wide.mean(-1, keepdim=True) if self.kind == "layer" else wide) * r
        out = out if self.weight is None else out * self.weight
        return (out if self.bias is None else out + self.bias).to(x.dtype)


@dataclass(frozen=True)
class _SharedAttention(Attention):
    """Attention whose softmax has the slope of a softer one, and whose products are shared out.

    Attributes:
        temperature: Of the softer softmax.
    """

    temperature: float = 1.0

    def fused(self, pos: int) -> bool:
        return False

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, at: Tensor | None) -> Tensor:
        scores = _halved(self._scores(q, k, at))
        soft = torch.softmax(scores / self.temperature, -1)
        # The slope of softmax(scores / T) is the Jacobian over T.
        weights = torch.softmax(scores.detach(), -1) + self.temperature * (soft - soft.detach())
        return _halved(weights).to(v.dtype) @ _halved(v)


class _SharedMlp(nn.Module):
    """A gated MLP: as both factors of its product get half, all of its gradient is halved."""

    def __init__(self, mlp: nn.Module) -> None:
        super().__init__()
        self.mlp = mlp

    def forward(self, x: Tensor) -> Any:
        return self.mlp(_halved(x))


def _layer(layer: Layer, temperature: float) -> Layer:
    own, mlp = layer.attention, layer.mlp
    q_norm, k_norm = (None if norm is None else _as(_FrozenNorm, norm) for norm in (own.q_norm, own.k_norm))
    attention = replace(_as(_SharedAttention, own), temperature=temperature, q_norm=q_norm, k_norm=k_norm)
    return replace(
        layer,
        attention=attention,
        attention_norm=_as(_FrozenNorm, layer.attention_norm),
        attention_post=None if layer.attention_post is None else _as(_FrozenNorm, layer.attention_post),
        mlp_norm=_as(_FrozenNorm, layer.mlp_norm),
        mlp=_SharedMlp(mlp) if mlp is not None and _gated(mlp) else mlp,
        mlp_post=None if layer.mlp_post is None else _as(_FrozenNorm, layer.mlp_post),
    )


def _as(kind: type[T], part: Norm | Attention) -> T:
    """The same part of another kind."""
    return kind(**{one.name: getattr(part, one.name) for one in fields(part)})


def _gated(mlp: nn.Module) -> bool:
    return any(not _GATES.isdisjoint(name.split(".")) for name, _ in mlp.named_parameters())


def _halved(x: Tensor) -> Tensor:
    """The same values, with half of the gradient."""
    return 0.5 * x + 0.5 * x.detach()
