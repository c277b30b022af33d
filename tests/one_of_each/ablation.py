"""An ablation."""

from acdc_engine.model.view import TransformerView
from acdc_engine.patch.ablations import ABLATIONS, Reference, recorded
from acdc_engine.prompts.prompt_set import PromptSet


@ABLATIONS.add("first", "what the sender writes on the first corrupt prompt of all")
def first(view: TransformerView, prompts: PromptSet, batch_size: int) -> Reference:
    record = recorded(view, prompts.select([0]).to(view.device).corrupt)
    return lambda batch: record
