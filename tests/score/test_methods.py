"""A scoring method of somebody else's: a function and, where it takes any, a dataclass of parameters."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from acdc_engine.errors import MethodError
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.metrics import Metric, get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.registers import parameter
from acdc_engine.score import METHODS, EdgeScores, get_method, score_edges
from tests.tiny_models import random_prompts, view


@dataclass(frozen=True)
class Seed:
    """Where chance comes from."""

    seed: int = parameter(0, "Of the draw.")


def test_a_method_is_one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS, "_entries", dict(METHODS._entries))

    @METHODS.add("chance", "random numbers", parameters=Seed)
    def chance(
        view: TransformerView, prompts: PromptSet, metric: Metric, parameters: Seed, **options: Any
    ) -> EdgeScores:
        draw = torch.Generator().manual_seed(parameters.seed)
        return EdgeScores(torch.randn(view.graph.exists.shape, generator=draw) * view.graph.exists, None, None)

    v, prompts, metric = view("gpt2"), random_prompts(2), get_metric("logit_diff")
    one, two, three = (score_edges(v, prompts, metric, get_method("chance", seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(one.mean, two.mean) and not torch.equal(one.mean, three.mean)
    with pytest.raises(MethodError, match="'chance' has no parameter 'sede'"):
        get_method("chance", sede=1)
    with pytest.raises(MethodError, match="'chance' has no parameter 'steps'"):
        get_method("chance", 5)
