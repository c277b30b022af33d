"""Faithfulness of circuits, and the target a search has to meet."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine.errors import BehaviourError, MethodError
from acdc_engine.graph.blocks import Graph
from acdc_engine.patch.evaluator import Circuits, Evaluator, Groups
from acdc_engine.prompts.metrics import Metric
from acdc_engine.prompts.prompt_set import PromptSet

ENOUGH = 8
"""Prompts of a template from which on it is judged by itself."""
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

    @property
    def inner_half(self) -> "Target":
        """The band half as wide: [.95, 1.05] for [.9, 1.1]."""
        return Target((1.0 + self.faithfulness) / 2)

    def met(self, faithfulness: float) -> bool:
        """Whether a faithfulness lies in the band (with room for rounding at its ends)."""
        return self.faithfulness - 1e-6 <= faithfulness <= self.upper + 1e-6

    def distance(self, faithfulness: float) -> float:
        """How far a faithfulness lies from the band; 0 inside."""
        return max(self.faithfulness - faithfulness, faithfulness - self.upper, 0.0)

    def __str__(self) -> str:
        """The band, as text."""
        return f"[{self.faithfulness:g}, {self.upper:g}]"


def judges_each(prompts: PromptSet, asked: bool | None) -> bool:
    """Whether a target is to hold in each template by itself; None asks for it where all have enough prompts.

    Raises:
        MethodError: It is asked for, and a template has too few.
    """
    counts = Counter(prompts.templates)
    name, fewest = min(counts.items(), key=lambda item: item[1], default=("", 0))
    if asked and len(counts) > 1 and fewest < ENOUGH:
        raise MethodError(
            f"A target in each template takes {ENOUGH} discovery prompts of each, and {name!r} has {fewest}. Ask for "
            "more (--n), or aim at the mean over all prompts (--no-each-template)."
        )
    return len(counts) > 1 and fewest >= ENOUGH if asked is None else asked


class Judge:
    """Faithfulness of circuits on the prompts of one evaluator.

        f(C) = (m(C) - m(ablated)) / (m(clean) - m(ablated))

    with m the mean metric; m(ablated) is that of the fully ablated model, the corrupt run under patch ablation
    (Wang et al. 2022; Mueller et al. 2025, arXiv 2504.13151, eq. 1). 1 is the model, 0 the ablated model; values above
    1 overshoot. A mean over all prompts can be met by errors that cancel: with `each_template`, m is the mean over the
    prompts of one template (or of one group of a pairs file), and f(C) that of the template where it lies farthest
    from 1.

    Args:
        evaluator: Runs the circuits.
        metric: Higher for more of the behaviour.
        each_template: Judge every template by itself; prompts without templates are one.
        corrections: What is added to f of each of the `groups`: how much higher that of a circuit nearby is on other
            prompts. Empty for nothing.

    Attributes:
        graph: The model's graph.
        prompts: The prompts, on the device that logits are on.
        clean: The metric of every prompt on the clean run; `ablated` likewise under full ablation.
        range: Difference of their means.
        groups: The prompts that are judged together, group by group: all of them, or those of each template.

    Raises:
        BehaviourError: Clean and ablated metric are equal, so that faithfulness is undefined; of all prompts, or of a
            template that is judged by itself.
        MethodError: Not one correction for each of the `groups`.
    """

    def __init__(
        self, evaluator: Evaluator, metric: Metric, each_template: bool = False, corrections: Sequence[float] = ()
    ) -> None:
        self.evaluator, self.metric = evaluator, metric
        self.graph: Graph = evaluator.graph
        self.prompts: PromptSet = evaluator.prompts
        prompts, clean_logits = evaluator.prompts, evaluator.clean_logits()
        self.clean: Tensor = metric(clean_logits, prompts, clean_logits).float().cpu()
        self.ablated: Tensor = metric(evaluator.ablated_logits(), prompts, clean_logits).float().cpu()
        self.range = float(self.clean.double().mean()) - float(self.ablated.double().mean())
        self._rounding = _rounding(metric, prompts, clean_logits)
        names = sorted(set(prompts.templates)) if each_template and prompts.templates else []
        everyone = torch.ones(1, len(self.clean), dtype=torch.bool)
        self._span_of("", everyone[0])
        self.groups: Groups = everyone
        if len(names) > 1:
            self.groups = torch.tensor([[name == one for one in prompts.templates] for name in names])
        self._spans = [self._span_of(name, rows) for name, rows in zip(names or [""], self.groups, strict=True)]
        self.corrections = tuple(corrections) or (0.0,) * len(self.groups)
        if len(self.corrections) != len(self.groups):
            raise MethodError(
                f"There must be one correction of the faithfulness for each template that is judged by itself, "
                f"{len(self.groups)} here, not {len(self.corrections)}."
            )

    def _span_of(self, template: str, rows: Bool[Tensor, "prompts"]) -> float:
        """m(clean) - m(ablated) of some prompts, which must be more than rounding."""
        span = self.span(rows)
        if span is None:
            from acdc_engine.graph.style import texts_of

            values = texts_of(float(self.clean[rows].mean()), float(self.ablated[rows].mean()))
            where = f"In template {template!r} the" if template else "The"
            raise BehaviourError(
                f"{where} corrupt metric equals the clean one ({self.metric.name} {values[0]} clean, {values[1]} "
                "corrupt, which is rounding): the corruption changes nothing the metric sees, so faithfulness is "
                "undefined. Check the task's corrupt prompts and its answers"
                f"{', or aim at the mean over all templates (--no-each-template)' if template else ''}."
            )
        return span

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
        return [farthest(one) for one in self.by_group(circuits)]

    def by_group(self, circuits: Circuits) -> list[tuple[float, ...]]:
        """Faithfulness of every circuit in each of the `groups`."""
        return [self.by_group_of(row) for row in self.values(circuits)]

    def faithfulness_of(self, values: Float[Tensor, "prompts"]) -> float:
        """Faithfulness from the metric of every prompt."""
        return farthest(self.by_group_of(values))

    def by_group_of(self, values: Float[Tensor, "prompts"]) -> tuple[float, ...]:
        """Faithfulness in each of the `groups` from the metric of every prompt."""
        if len(self.groups) == 1:
            found = [(float(values.double().mean()) - float(self.ablated.double().mean())) / self.range]
        else:
            changes = (values - self.ablated).double()
            found = [float(changes[rows].mean()) / span for rows, span in zip(self.groups, self._spans, strict=True)]
        return tuple(f + correction for f, correction in zip(found, self.corrections, strict=True))

    def standard_errors(self, values: Float[Tensor, "prompts"]) -> tuple[float, ...]:
        """How far f of each of the `groups` strays with its prompts: the standard error of a ratio of two means."""
        errors = list[float]()
        for rows, span in zip(self.groups, self._spans, strict=True):
            changes, whole = (values - self.ablated)[rows].double(), (self.clean - self.ablated)[rows].double()
            left = changes - changes.mean() / span * whole
            errors.append(float(left.std(correction=min(1, len(left) - 1))) / len(left) ** 0.5 / abs(span))
        return tuple(errors)

    def contributions(
        self, mask: Bool[Tensor, "senders receivers"]
    ) -> Float[Tensor, "means_and_rms senders receivers"]:
        """First-order estimate of the faithfulness every kept edge of a circuit contributes, taken at the circuit.

        Returns:
            Mean over each of the `groups`, and last the root mean square over all prompts (see
            `Evaluator.edge_gradients`).
        """
        groups = None if len(self.groups) == 1 else self.groups
        found = self.evaluator.edge_gradients(mask, self.metric, groups)
        spans = [self.range] if groups is None else self._spans
        return found / torch.tensor([*spans, abs(self.range)])[:, None, None]


def farthest(by_group: Sequence[float]) -> float:
    """The faithfulness of some groups that lies farthest from 1."""
    return max(by_group, key=lambda one: abs(one - 1.0))


def _rounding(metric: Metric, prompts: PromptSet, logits: Float[Tensor, "prompts d_vocab"]) -> Float[Tensor, "prompts"]:
    """How much each prompt's metric changes when every logit does by about `_ROUNDING` of itself.

    Relative to the logits and asked of the metric itself, so that it fits logits and metrics of any size.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(logits.shape[1], generator=generator).to(logits.device)
    logits = logits.float()  # the format the metric works in, whose own rounding counts too
    moved = metric(logits * (1 + _ROUNDING * noise), prompts, logits) - metric(logits, prompts, logits)
    return moved.abs().cpu()
