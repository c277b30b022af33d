"""What comes of using a circuit: the results of `acdc run`, `acdc steer` and `acdc ablate`."""

from typing import Literal

from pydantic import Field

from acdc_engine.display import Shown
from acdc_engine.graph.causal_records import Dose
from acdc_engine.graph.evidence_records import NextToken
from acdc_engine.graph.files import Result
from acdc_engine.graph.records import Record


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


class Steering(Result):
    """What `acdc steer` finds: dose and response."""

    format: Literal["acdc-engine/steering"] = "acdc-engine/steering"
    model: str
    """Its name."""
    task: str | None = None
    """Whose prompts the response was measured on."""
    nodes: tuple[str, ...]
    """The nodes that were changed together."""
    how: Literal["scale", "add"]
    """"scale": what each writes is multiplied (1 is the model); "add": to what each writes is added so many times what
    it writes more on the clean than on the corrupt discovery prompts, where they are read (0 is the model)."""
    metric: str
    """Its name; higher is more of the behaviour."""
    n_prompts: int
    """Held-out prompts."""
    norm: float | None = None
    """Length of the direction, summed over nodes; null for "scale"."""
    doses: tuple[Dose, ...] = Field(min_length=1)
    """From the smallest factor to the largest."""
    remarks: tuple[str, ...] = ()
    """What a reader should know."""


class Folding(Result):
    """A model with some nodes folded away: `acdc_ablated.json` in the folder that `acdc ablate` writes."""

    format: Literal["acdc-engine/ablated"] = "acdc-engine/ablated"
    model: str
    """The model that it was made of."""
    task: str | None = None
    """What the circuit does whose nodes, or whose others, were taken out."""
    how: Literal["zero", "mean"]
    """What the nodes write now: nothing, or their mean over the tokens of the corrupt discovery prompts, each prompt's
    first left out."""
    folded: tuple[str, ...]
    """The nodes that were taken out."""
    left: dict[str, str] = Field(default_factory=dict)
    """The nodes that were to be taken out and are still as they were, with the reason."""
    remarks: tuple[str, ...] = ()
    """What a reader should know."""
