"""Figures of a circuit file that stand below the headline: the answers themselves, and each template by itself."""

from __future__ import annotations

from pydantic import Field

from acdc_engine.graph.evidence_records import Interval
from acdc_engine.graph.record import Record


class AnswerFigures(Record):
    """What one run does to the right and the wrong answers. Over prompts.

    The run is the model, the ablated model or the circuit; the answers are always those of the clean prompts.
    """

    right_above_wrong: float | None = Field(default=None, ge=0, le=1)
    """Share of the prompts on which the best right answer has a higher logit than the best wrong one. Null without
    wrong answers."""
    most_likely: float = Field(ge=0, le=1)
    """Share of the prompts on which a right answer is the most likely token of the whole vocabulary (top-1)."""
    median_rank: float = Field(ge=1)
    """Median over prompts of the best right answer's place among all tokens that are not right answers; 1 is the most
    likely."""
    right_logit: float
    """Mean logit of the right answers."""
    wrong_logit: float | None = None
    """Mean logit of the wrong answers. Null without any."""


class TemplateFigures(Record):
    """The figures of one template, or of one group of a pairs file, by itself."""

    name: str
    """Of the template or group."""
    n_prompts: int = Field(ge=1)
    """Its prompt pairs."""
    faithfulness: float | None
    """With the template's own clean and ablated metric. Null where those two are the same."""
    faithfulness_interval: Interval | None = None
    """How far it can be trusted. Null where there are too few prompts."""
    kl_recovered: float
    """1 - KL(model || circuit) / KL(model || ablated) over its prompts."""
    kl_interval: Interval | None = None
    """The same for KL recovered."""
    agreement: float = Field(ge=0, le=1)
    """Share of its prompts that circuit and model judge alike."""
