"""What a circuit file says about how sure its figures are: intervals, baselines, tests, the certificate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field, model_serializer

from acdc_engine.graph.record import Record, without_empty


class Interval(Record):
    """A bootstrap confidence interval over prompts."""

    level: float = Field(gt=0, lt=1)
    """Confidence level, such as 0.95."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""
    method: Literal["BCa", "percentile"]
    """Bias-corrected and accelerated, or plain percentiles where that is not defined."""
    resamples: int = Field(ge=1)
    """Bootstrap resamples."""


class RandomCircuits(Record):
    """Random clean circuits with as many edges as the circuit, judged on the held-out prompts."""

    faithfulness: tuple[float, ...] = Field(min_length=1)
    """Of each of them, in the order drawn."""
    p_value: float = Field(gt=0, le=1)
    """Share of circuits, the one found included, whose faithfulness is at least as near to 1."""
    seed: int
    """Of the draw."""


class HypothesisTest(Record):
    """One of the tests of Shi et al. 2024 (arXiv 2410.13032) on the held-out prompts."""

    name: Literal["equivalence", "independence", "minimality"]
    """Which test."""
    null: str
    """The hypothesis that a small p-value speaks against."""
    statistic: float
    """The test's statistic."""
    p_value: float = Field(ge=0, le=1)
    """On its own."""
    p_adjusted: float = Field(ge=0, le=1)
    """Corrected for all tests made on this circuit."""
    rejected: bool
    """Whether the null hypothesis falls at the level of `alpha`, after correction."""
    alpha: float = Field(gt=0, lt=1)
    """Level of the test."""
    details: str
    """What it means for this circuit, with the numbers."""


class Completeness(Record):
    """What remains of the behaviour when the circuit itself is ablated and everything else kept; held-out prompts."""

    faithfulness: float
    """Faithfulness of the complement. 0: nothing of the behaviour is left outside the circuit."""
    kl_recovered: float
    """KL recovered by the complement."""


class Certificate(Record):
    """What was shown exactly on the discovery prompts: no single edge can go."""

    objective: Literal["faithfulness", "kl"]
    """What the target is about: the faithfulness, or the share of the KL divergence recovered."""
    low: float
    """Lower end of the band to stay in."""
    high: float
    """Upper end."""
    value: float
    """The objective of the circuit."""
    minimal: bool
    """Whether the circuit lies in the band and without any single edge (see `without` there) it does not."""


class PromptRecord(Record):
    """A clean and a corrupt prompt, as token ids."""

    split: Literal["discovery", "held_out"]
    """Whether the search saw it."""
    clean: tuple[int, ...] = Field(min_length=1)
    """The prompt that shows the behaviour."""
    corrupt: tuple[int, ...] = Field(min_length=1)
    """The prompt that does not."""
    read_at: int = Field(ge=0)
    """Position whose logits the metric reads."""
    answers: tuple[int, ...] = ()
    """Right next tokens."""
    wrong_answers: tuple[int, ...] = ()
    """Wrong next tokens."""
    template: str | None = None
    """Name of the template, or group of a pairs file, that it is of. Left out of the file where it is not known."""

    @model_serializer(mode="wrap")
    def _without_unknown_template(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Older files know none."""
        return without_empty(handler(self), "template")
