"""An ablation."""

from dataclasses import dataclass

from acdc_engine.model.view import TransformerView
from acdc_engine.patch.ablations import ABLATIONS, Reference, recorded
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.registers import parameter


@dataclass(frozen=True)
class Which:
    """Which prompt."""

    place: int = parameter(0, "Its place, from 0.")


@ABLATIONS.add("one-prompt", "what the sender writes on one corrupt prompt for all", parameters=Which)
def one_prompt(view: TransformerView, prompts: PromptSet, batch_size: int, parameters: Which) -> Reference:
    record = recorded(view, prompts.select([parameters.place]).to(view.device).corrupt)
    return lambda batch: record
