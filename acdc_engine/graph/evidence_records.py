"""What a circuit file says of how sure its figures are, and of what was seen: tests, sizes, prompts, examples."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from acdc_engine.display import Shown
from acdc_engine.graph.records import Objective, Record


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
    """Joint necessity: what remains of the behaviour in the whole model without the circuit's edges together."""

    _left_out: ClassVar[tuple[str, ...]] = ("discovery",)

    faithfulness: float
    """Faithfulness of all other edges on the held-out prompts. 0: nothing of the behaviour is left outside."""
    kl_recovered: float
    """KL recovered by them there."""
    discovery: float | None = None
    """Their faithfulness on the discovery prompts. Left out of the file where it was not measured."""


class Indispensable(Record):
    """Edges of the circuit taken out of the whole model one by one, every other edge of the model kept."""

    objective: Objective
    """What is measured: the faithfulness, or the share of the KL divergence recovered; on the discovery prompts."""
    low: float
    """An edge is indispensable if the model is below this without it: the lower end of the target's band."""
    without: dict[str, float]
    """The model's objective without each edge that was tried, such as a5.h5->a7.h3<k>, in the order tried: largest
    |score| first, until several in a row were not indispensable. Where each template has to meet the target, the
    lowest."""

    @property
    def edges(self) -> tuple[str, ...]:
        """The indispensable ones of those that were tried."""
        return tuple(name for name, value in self.without.items() if value < self.low - 1e-6)


LARGEST = 5_000
"""Edges of the largest circuit that a run makes 1-minimal: each of them takes a run of its own."""


class Certificate(Record):
    """What was shown exactly on the discovery prompts: the circuit is 1-minimal, no single edge can go."""

    _left_out: ClassVar[tuple[str, ...]] = ("each_template", "inner_edges")

    objective: Objective
    """What the target is about."""
    low: float
    """Lower end of the band to stay in."""
    high: float
    """Upper end."""
    each_template: bool = False
    """Whether every template must lie in the band by itself; then values, `without` of edges too, are those of the
    template farthest from 1. Left out of the file where they are of all prompts together."""
    value: float
    """The objective of the circuit."""
    minimal: bool
    """Whether the circuit lies in the band and without any single edge (see `without` there) it does not; with
    `inner_edges`, without any single one of the others."""
    inner_edges: int = Field(default=0, ge=0)
    """Edges of the inner circuit, which the search tried to drop none of: some may be superfluous. Left out of the file
    where there is no inner circuit."""


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

    _left_out: ClassVar[tuple[str, ...]] = ("prompts_recovered",)

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
    prompts_recovered: float | None = None
    """1 - sum of (circuit - clean)^2 / sum of (ablated - clean)^2 of the metric over its prompts. Left out of the file
    where it is not known."""
    agreement: float = Field(ge=0, le=1)
    """Share of its prompts that circuit and model judge alike."""


class Figures(Record):
    """How well the circuit does the task, on one set of prompts. Means over prompts."""

    _left_out: ClassVar[tuple[str, ...]] = (
        "prompts_recovered",
        "answers_clean",
        "answers_corrupt",
        "answers_circuit",
        "templates",
    )

    n_prompts: int = Field(ge=1)
    """Prompt pairs."""
    metric_clean: float
    """Metric of the whole model on the clean prompts."""
    metric_corrupt: float
    """Metric of the fully ablated model: the corrupt prompts, under patch ablation."""
    metric_circuit: float
    """Metric when every receiver reads ablated values over all edges outside the circuit."""
    faithfulness: float
    """(circuit - corrupt) / (clean - corrupt), of the metrics above. 1 is perfect, more overshoots."""
    kl_recovered: float
    """1 - KL(model || circuit) / KL(model || corrupt). 1 is perfect and the most there is."""
    prompts_recovered: float | None = None
    """1 - sum of (circuit - clean)^2 / sum of (ablated - clean)^2 of the metric over the prompts: errors do not cancel.
    Left out of the file where it is not known."""
    agreement: float = Field(ge=0, le=1)
    """Share of the prompts that circuit and model judge alike: same sign of the metric, or, for metrics of one sign
    (kl, nll), the same most likely token."""
    normalised_error: float = Field(ge=0)
    """Mean over prompts of |circuit - clean|, divided by |clean - corrupt| of the means."""
    accuracy_clean: float | None = Field(default=None, ge=0, le=1)
    """Share of the clean prompts on which the whole model puts the best right answer above the best wrong one; without
    wrong answers, on which a right answer is its most likely token. Null without right answers."""
    faithfulness_interval: Interval | None = None
    """How far the faithfulness can be trusted. Null where there are too few prompts."""
    kl_interval: Interval | None = None
    """The same for KL recovered."""
    answers_clean: AnswerFigures | None = None
    """The answers under the whole model. Null, and left out of the file, without right answers."""
    answers_corrupt: AnswerFigures | None = None
    """The same under the fully ablated model."""
    answers_circuit: AnswerFigures | None = None
    """The same under the circuit."""
    templates: tuple[TemplateFigures, ...] = ()
    """The figures of each template, or group of a pairs file. Left out of the file where there is only one."""


class Evaluation(Shown, Record):
    """Figures on the prompts the search saw and on those it did not."""

    _left_out: ClassVar[tuple[str, ...]] = ("indispensable",)

    discovery: Figures
    """Prompts that the search saw: flattering."""
    held_out: Figures
    """Prompts that the search did not see."""
    random_circuits: RandomCircuits | None = None
    """Random circuits of the same size on the held-out prompts."""
    completeness: Completeness | None = None
    """Joint necessity: the model without the circuit."""
    indispensable: Indispensable | None = None
    """Single edges of the circuit taken out of the whole model. Left out of the file where that was not tried."""
    tests: tuple[HypothesisTest, ...] = ()
    """Hypothesis tests on the held-out prompts."""


class PromptRecord(Record):
    """A clean and a corrupt prompt, as token ids."""

    _left_out: ClassVar[tuple[str, ...]] = ("template", "spans")

    split: Literal["discovery", "held_out", "validation"]
    """Whether the search saw it, or it judges the result, or it said when the search may end."""
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
    spans: tuple[int, ...] = ()
    """For each token which of the circuit's spans it is of, counted from 0. Left out of the file without spans."""


class SizePoint(Record):
    """A circuit of another size, judged on the held-out prompts.

    Smaller ones are made of the circuit's own edges, those with the largest |effect| first (|score| where effects are
    not known); larger ones of all of them and the edges with the largest scores besides. Both are cleaned.
    """

    kind: Literal["part", "circuit", "more"]
    """A part of the circuit, the circuit itself, or the circuit with more edges."""
    requested: int = Field(ge=1)
    """Edges before cleaning."""
    edges: int = Field(ge=0)
    """Edges after cleaning. 0: no path joins input and logits, and the circuit is the ablated model."""
    faithfulness: float
    """1 is the model, 0 the ablated model, more than 1 overshoots."""
    faithfulness_interval: Interval | None = None
    """How far it can be trusted. Null where there are too few prompts, and for the empty circuit."""
    kl_recovered: float
    """1 - KL(model || circuit) / KL(model || ablated)."""
    random: tuple[float, ...] = ()
    """Faithfulness of random clean circuits with as many edges."""


Rows = tuple[tuple[float, ...], ...]
"""Attention by query position; causal heads have as many numbers in a row as the query may look at."""


class NextToken(Record):
    """A next token that the model, or the circuit, thinks likely."""

    _left_out: ClassVar[tuple[str, ...]] = ("token",)

    token: int | None = None
    """Its id. Left out of a circuit's file."""
    text: str
    """The token."""
    probability: float = Field(ge=0, le=1)
    """Its probability."""


class HeadPattern(Record):
    """Where one head looks on an example, on the clean and on the corrupt prompt."""

    head: str
    """Such as a5.h3."""
    clean: Rows
    """Attention on the clean prompt, rounded to three decimals."""
    corrupt: Rows
    """The same on the corrupt prompt."""


class Example(Record):
    """One pair of prompts, token by token."""

    _left_out: ClassVar[tuple[str, ...]] = ("spans", "next_circuit")

    clean: tuple[str, ...] = Field(min_length=1)
    """Tokens of the clean prompt as texts, BOS included where there is one."""
    corrupt: tuple[str, ...] = Field(min_length=1)
    """Tokens of the corrupt prompt."""
    read_at: int = Field(ge=0)
    """Position whose logits the metric reads."""
    spans: tuple[int, ...] = ()
    """For each token which of the circuit's spans it is of, counted from 0. Left out of the file without spans."""
    answers: tuple[str, ...] = ()
    """Right next tokens."""
    wrong_answers: tuple[str, ...] = ()
    """Wrong next tokens."""
    next_clean: tuple[NextToken, ...] = ()
    """What the model thinks most likely after the clean prompt."""
    next_corrupt: tuple[NextToken, ...] = ()
    """The same after the corrupt prompt."""
    next_circuit: tuple[NextToken, ...] = ()
    """What the circuit thinks most likely after the clean prompt. Left out of the file where it is not known."""
    patterns: tuple[HeadPattern, ...] = ()
    """Of the circuit's heads. Empty where there are too many, or where the prompt is too long."""

    @model_validator(mode="after")
    def _fits(self) -> Example:
        """Positions, and as many rows of attention as tokens."""
        if self.read_at >= len(self.clean):
            raise ValueError(f"read_at is {self.read_at}, but the prompt has {len(self.clean)} tokens")
        for pattern in self.patterns:
            for name, rows, tokens in (
                ("clean", pattern.clean, self.clean),
                ("corrupt", pattern.corrupt, self.corrupt),
            ):
                if len(rows) != len(tokens) or any(len(row) > len(tokens) for row in rows):
                    raise ValueError(
                        f"the {name} attention of {pattern.head} does not fit the {len(tokens)} tokens of the prompt"
                    )
        return self
