"""Ablations by name, and one of somebody else's: a function that says what removed edges carry."""

import pytest
import torch

from acdc_engine.model.view import TransformerView
from acdc_engine.patch import ABLATIONS, CircuitEvaluator
from acdc_engine.patch.ablations import Reference, recorded
from acdc_engine.prompts.prompt_set import PromptSet
from tests.tiny_models import random_prompts, relative, view


@pytest.mark.parametrize("name", ["gpt2", "gemma3", "phi"])
def test_an_ablation_is_one_function(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every prompt's removed edges carry what the first corrupt prompt makes of them: the logits are that run's."""
    monkeypatch.setattr(ABLATIONS, "_entries", dict(ABLATIONS._entries))
    v, prompts = view(name), random_prompts(4)

    @ABLATIONS.add("first", "what the sender writes on the first corrupt prompt")
    def first(view: TransformerView, prompts: PromptSet, batch_size: int) -> Reference:
        record = recorded(view, prompts.corrupt[:1])
        return lambda batch: record

    evaluator = CircuitEvaluator(v, prompts, "first", batch_size=3)
    kept = torch.stack([torch.zeros_like(v.graph.exists), v.graph.exists])
    nothing, everything = evaluator.logits(kept)
    assert relative(nothing, v.logits(prompts.corrupt[:1])[:, -1].expand(4, -1)) < 1e-5
    assert relative(everything, v.logits(prompts.clean)[:, -1]) < 1e-4
