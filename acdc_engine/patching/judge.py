"""Faithfulness of circuits, and the target a search has to meet."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine.errors import BehaviourError, MethodError
from acdc_engine.patching.evaluator import CircuitEvaluator
from acdc_engine.prompts.metrics import Metric


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
        clean: The metric of every prompt on the clean run; `ablated` likewise under full ablation.
        range: Difference of their means.

    Raises:
        BehaviourError: Clean and ablated metric are equal, so that faithfulness is undefined.
    """

    def __init__(self, evaluator: CircuitEvaluator, metric: Metric) -> None:
        """See the class."""
        self.evaluator, self.metric = evaluator, metric
        prompts, clean_logits = evaluator.prompts.to(evaluator.view.device), evaluator.clean_logits()
        self.clean: Tensor = metric(clean_logits, prompts, clean_logits).float().cpu()
        self.ablated: Tensor = metric(evaluator.ablated_logits(), prompts, clean_logits).float().cpu()
        self.range = float(self.clean.double().mean()) - float(self.ablated.double().mean())
        if not abs(self.range) > 1e-6 * max(1.0, float(self.clean.abs().mean())):
            raise BehaviourError(
                f"The corrupt metric equals the clean one ({metric.name} {float(self.clean.mean()):.4g} on both): the "
                "corruption changes nothing the metric sees, so faithfulness is undefined. Check the task's corrupt "
                "prompts and its answers."
            )

    @property
    def ranks(self) -> tuple[Literal["absolute", "signed", "rms"], ...]:
        """What estimates of this metric are worth ranking by.

        Where the clean run is the metric's maximum (KL), every change lowers it in the end, so neither sign nor mean of
        a first-order estimate says how much an edge is needed.
        """
        return ("rms",) if self.metric.zero_gradient_at_clean else ("signed", "absolute")

    def values(
        self, masks: Bool[Tensor, "masks senders receivers"], near: Bool[Tensor, "senders receivers"] | None = None
    ) -> Float[Tensor, "masks prompts"]:
        """The metric of every prompt under every circuit, on the CPU.

        Args:
            masks: The circuits.
            near: A circuit that all of them differ from in few edges: what they share with it is computed once and
                kept for the next call with the same one. Changes the cost, not the values.
        """
        return self.evaluator.values(masks, self.metric, near).float().cpu()

    def faithfulness(
        self, masks: Bool[Tensor, "masks senders receivers"], near: Bool[Tensor, "senders receivers"] | None = None
    ) -> list[float]:
        """Faithfulness of every circuit; `near` as in `values`."""
        return [self.faithfulness_of(row) for row in self.values(masks, near)]

    def faithfulness_of(self, values: Float[Tensor, "prompts"]) -> float:
        """Faithfulness from the metric of every prompt."""
        return (float(values.double().mean()) - float(self.ablated.double().mean())) / self.range

    def contributions(self, mask: Bool[Tensor, "senders receivers"]) -> Float[Tensor, "2 senders receivers"]:
        """First-order estimate of the faithfulness every kept edge of a circuit contributes, taken at the circuit.

        Returns:
            Mean over prompts, and root mean square over prompts (see `CircuitEvaluator.edge_gradients`).
        """
        mean, rms = self.evaluator.edge_gradients(mask, self.metric)
        return torch.stack([mean / self.range, rms / abs(self.range)])
