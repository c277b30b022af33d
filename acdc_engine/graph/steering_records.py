"""Dose and response: the result of `acdc steer`."""

from typing import Literal

from pydantic import Field

from acdc_engine.graph.causal_records import Dose
from acdc_engine.graph.files import Result


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
