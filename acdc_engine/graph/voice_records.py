"""What a circuit says to a prompt, beside its model: the result of `acdc run`."""

from typing import Literal

from pydantic import Field

from acdc_engine.display import Shown
from acdc_engine.graph.records import Record


class NextToken(Record):
    """A token that may come next."""

    token: int
    """Its id."""
    text: str
    """Its text."""
    probability: float = Field(ge=0, le=1)
    """Softmax of the logits behind the prompt."""


class Voice(Record):
    """What the model, or a part of it, says to a prompt."""

    name: Literal["model", "circuit", "without"]
    """The model; with nothing but the circuit's edges; with all but these."""
    next: tuple[NextToken, ...]
    """The most likely next tokens, the first first."""
    new: tuple[int, ...] = ()
    """The tokens that it went on with, each the most likely one. Empty where it was not asked to."""
    text: str = ""
    """Their text."""
    seconds: float | None = Field(default=None, ge=0)
    """How long that took."""


class Voices(Shown, Record):
    """What `acdc run` finds: model, circuit, and model without it, side by side."""

    format: Literal["acdc-engine/run"] = "acdc-engine/run"
    model: str
    """Its name."""
    edges: int
    """Of the circuit."""
    ablation: str
    """What removed edges carry."""
    prompt: str
    """What all of them were given."""
    corrupt: str | None = None
    """What removed edges carry their values of; null for means and zero."""
    voices: tuple[Voice, ...]
    """The three."""
    remarks: tuple[str, ...] = ()
    """What a reader should know."""
