"""What a circuit file says of the model with the circuit's heads knocked out, or turned up and down."""

from __future__ import annotations

from pydantic import Field, model_validator

from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.evidence_records import Interval
from acdc_engine.graph.records import Record


class Dose(Record):
    """The model with what some nodes write changed by so much."""

    factor: float
    """What is multiplied, or how many times the direction is added."""
    metric: float
    """Mean over the prompts."""
    interval: Interval | None = None
    """95 % bootstrap interval of that mean; null with fewer than 10 prompts."""
    most_likely: float | None = None
    """Share of prompts on which a right answer is the most likely token. Null without right answers."""
    kl_neutral: float | None = Field(default=None, ge=0)
    """KL(model || changed model) on neutral text, mean over its tokens, nats. Null without a tokenizer, and where the
    text does not fit the model."""


class RandomHeads(Record):
    """As many other heads, knocked out."""

    kept: float | None = None
    """Share of the task's metric that is kept without them. Null where none is defined."""
    most_likely: float | None = None
    """Share of prompts on which a right answer comes first without them. Null without right answers."""


class CausalTask(Record):
    """One task, by the model and by the model without the circuit's heads."""

    task: str
    """Its name."""
    metric: str
    """Its name; higher is more of the behaviour."""
    n_prompts: int = Field(ge=1)
    """Prompts; the circuit's own task is asked on held-out ones."""
    model: float
    """Mean metric of the model."""
    without: float
    """Mean metric of the model without the circuit's heads."""
    kept: float | None = None
    """Share of the metric that is kept without them: 1 as in the model, 0 that neither answer is preferred, less that
    the wrong one is. Of metrics whose sign does not say which answer wins, 0 is the mean on the corrupt prompts. Null
    where the model does no better than 0."""
    interval: Interval | None = None
    """95 % bootstrap interval of that share; null with fewer than 10 prompts, and where too many resamples have no
    share."""
    most_likely: float | None = None
    """Share of prompts on which a right answer is the model's most likely token. Null without right answers."""
    most_likely_without: float | None = None
    """The same without the circuit's heads."""
    random: tuple[RandomHeads, ...] = ()
    """The same without each draw of random heads."""


class HeadDoses(Record):
    """One head, turned up and down by itself."""

    head: str
    """Its name, such as a5.h3; it is changed at all places of the prompt."""
    metric: tuple[float, ...]
    """Mean metric of the circuit's own task under each of the factors."""


class Causal(Record):
    """The causal check: heads of the whole model knocked out, so that they write nothing; all else is as it is."""

    heads: tuple[str, ...] = Field(min_length=1)
    """The circuit's heads, which are knocked out together. Its MLPs stay."""
    in_layer: int = Field(ge=0)
    """Of so many random heads, those that are of the layer of the circuit's head they stand for; the others are of the
    nearest layers that have heads outside the circuit."""
    own: CausalTask
    """The circuit's own task."""
    others: tuple[CausalTask, ...] = ()
    """Other tasks."""
    unasked: tuple[str, ...] = ()
    """Other tasks that were to be asked by default and do not fit the model."""
    doses: tuple[Dose, ...] = Field(min_length=1)
    """All heads together, turned up and down: the circuit's own task under each of the factors. The first is 0."""
    kl_random: tuple[float, ...] = ()
    """KL(model || model without random heads) on neutral text, of each draw. Empty where `kl_neutral` is null."""
    by_head: tuple[HeadDoses, ...] = ()
    """The strongest heads, each by itself, under the same factors; in the order of the model."""
    seed: int
    """Of the draws and of the other tasks' prompts."""

    @model_validator(mode="after")
    def _doses_fit(self) -> Causal:
        if self.doses[0].factor != 0 or any(len(one.metric) != len(self.doses) for one in self.by_head):
            raise CircuitFileError(
                "causal: the first of the doses has factor 0, and every head a number for each of them."
            )
        return self
