"""What was taken out of a model that is kept: `acdc_ablated.json` in the folder that `acdc ablate` writes."""

from typing import Literal

from pydantic import Field

from acdc_engine.graph.files import Result


class Folding(Result):
    """A model with some nodes folded away."""

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
