"""Faithfulness of circuits, and the target a search has to meet."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine.errors import BehaviourError, MethodError
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.style import texts_of
from acdc_engine.patch.evaluator import Circuits, Evaluator
from acdc_engine.prompts.metrics import Metric
from acdc_engine.prompts.prompt_set import PromptSet

_ROUNDING = 1e-6
"""Share of itself by which rounding may change a logit from one run to another."""


@dataclass(frozen=True)
class Target:
    """The band in which a circuit counts as faithful: `[faithfulness, 2 - faithfulness]`.

    Two-sided, because a circuit that overshoots the model is not faithful to it either.

    Attributes:
        faithfulness: Lower end of the band, in (0, 1].
    """

    faithfulness: float = 0.9

    def __post_init__(self) -> None:
        """Checks the range.

        Raises:
            MethodError: The target lies outside (0, 1].
        """
        if not 0.0 < self.faithfulness <= 1.0:
            raise MethodError(
                f"The target faithfulness must lie in (0, 1], not {self.faithfulness}: 1 is the whole model, and a "
                "circuit meets a target t if its faithfulness lies in [t, 2 - t]."
            )

    @property
    def upper(self) -> float:
        """Upper end of the band."""
        return 2.0 - self.faithfulness

    def met(self, faithfulness: float) -> bool:
        """Whether a faithfulness lies in the band (with room for rounding at its ends)."""
        return self.faithfulness - 1e-6 <= faithfulness <= self.upper + 1e-6

    def distance(self, faithfulness: float) -> float:
        """How far a faithfulness lies from the band; 0 inside."""
        return max(self.faithfulness - faithfulness, faithfulness - self.upper, 0.0)

    def __str__(self) -> str:
        """The band, as text."""
        return f"[{self.faithfulness:g}, {self.upper:g}]"


class Judge:
    """Faithfulness of circuits on the prompts of one evaluator.

        f(C) = (m(C) - m(ablated)) / (m(clean) - m(ablated))

    with m the mean metric; m(ablated) is that of the fully ablated model, the corrupt run under patch ablation
    (Wang et al. 2022; Mueller et al. 2025, arXiv 2504.13151, eq. 1). 1 is the model, 0 the ablated model; values above
    1 overshoot.

    Args:
        evaluator: Runs the circuits.
        metric: Higher for more of the behaviour.

    Attributes:
        graph: The model's graph.
        prompts: The prompts, on the device that logits are on.
        clean: The metric of every prompt on the clean run; `ablated` likewise under full ablation.
        range: Difference of their means.

    Raises:
        BehaviourError: Clean and ablated metric are equal, so that faithfulness is undefined.
    """

    def __init__(self, evaluator: Evaluator, metric: Metric) -> None:
        """See the class."""
        self.evaluator, self.metric = evaluator, metric
        self.graph: Graph = evaluator.graph
        self.prompts: PromptSet = evaluator.prompts
        prompts, clean_logits = evaluator.prompts, evaluator.clean_logits()
        self.clean: Tensor = metric(clean_logits, prompts, clean_logits).float().cpu()
        self.ablated: Tensor = metric(evaluator.ablated_logits(), prompts, clean_logits).float().cpu()
        self.range = float(self.clean.double().mean()) - float(self.ablated.double().mean())
        self._rounding = _rounding(metric, prompts, clean_logits)
        if self.span(torch.ones(len(self.clean), dtype=torch.bool)) is None:
            values = texts_of(float(self.clean.mean()), float(self.ablated.mean()))
            raise BehaviourError(
                f"The corrupt metric equals the clean one ({metric.name} {values[0]} clean, {values[1]} corrupt, which "
                "is rounding): the corruption changes nothing the metric sees, so faithfulness is undefined. Check the "
                "task's corrupt prompts and its answers."
            )

    def span(self, rows: Bool[Tensor, "prompts"]) -> float | None:
        """m(clean) - m(ablated) of some of the prompts; None where rounding of the logits could make as much of it."""
        found = float((self.clean - self.ablated)[rows].double().mean())
        return found if abs(found) > float(self._rounding[rows].double().mean()) else None

    @property
    def ranks(self) -> tuple[Literal["absolute", "signed", "rms"], ...]:
        """What estimates of this metric are worth ranking by; the last asks how much an edge does, for or against.

        Where the clean run is the metric's maximum (KL), every change lowers it in the end, so neither sign nor mean of
        a first-order estimate says how much an edge is needed.
        """
        return ("rms",) if self.metric.zero_gradient_at_clean else ("signed", "absolute")

    def values(self, circuits: Circuits) -> Float[Tensor, "circuits prompts"]:
        """The metric of every prompt under every circuit, on the CPU."""
        return self.evaluator.values(circuits, self.metric).float().cpu()

    def faithfulness(self, circuits: Circuits) -> list[float]:
        """Faithfulness of every circuit."""
        return [self.faithfulness_of(row) for row in self.values(circuits)]

    def faithfulness_of(self, values: Float[Tensor, "prompts"]) -> float:
        """Faithfulness from the metric of every prompt."""
        return (float(values.double().mean()) - float(self.ablated.double().mean())) / self.range

    def contributions(self, mask: Bool[Tensor, "senders receivers"]) -> Float[Tensor, "2 senders receivers"]:
        """First-order estimate of the faithfulness every kept edge of a circuit contributes, taken at the circuit.

        Returns:
            Mean over prompts, and root mean square over prompts (see `Evaluator.edge_gradients`).
        """
        mean, rms = self.evaluator.edge_gradients(mask, self.metric)
        return torch.stack([mean / self.range, rms / abs(self.range)])


def _rounding(metric: Metric, prompts: PromptSet, logits: Float[Tensor, "prompts d_vocab"]) -> Float[Tensor, "prompts"]:
    """How much each prompt's metric changes when every logit does by about `_ROUNDING` of itself.

    Relative to the logits and asked of the metric itself, so that it fits logits and metrics of any size.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(logits.shape[1], generator=generator).to(logits.device)
    logits = logits.float()  # the format the metric works in, whose own rounding counts too
    moved = metric(logits * (1 + _ROUNDING * noise), prompts, logits) - metric(logits, prompts, logits)
    return moved.abs().cpu()
