"""Models spread over two devices, one of them pretended: all is as on one, and nothing mixes them."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from acdc_engine.model.placed import Away
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.evaluator import Variants
from acdc_engine.score import get_method, score_edges
from tests.patch.test_near import neighbours
from tests.patch.test_other_device import SPREADS, Elsewhere, view_spread
from tests.tiny_models import METRIC, random_mask, random_prompts, relative, view

ARCHITECTURES = ["gpt2", "llama_grouped", "gemma3", "olmo2", "phi", "granite", "mixtral"]
each_spread = pytest.mark.parametrize("there", SPREADS, ids=["layer 1", "all but layer 0"])


@each_spread
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_scores_of_a_spread_model(name: str, there: Sequence[str | int]) -> None:
    prompts = random_prompts(4, ragged=True)
    for method in ("eap", "eap-ig", "gim") if name == "llama_grouped" else ("eap", "eap-ig"):
        wanted = score_edges(view(name), prompts, METRIC, get_method(method), batch_size=3, rms=True)
        with Elsewhere():
            v = view_spread(name, *there)
            assert sum(isinstance(twin, Away) for twin in v.twins) == 2
            found = score_edges(v, prompts, METRIC, get_method(method), batch_size=3, rms=True)
        assert found.both.device.type == "cpu" and relative(found.both, wanted.both) < 1e-5


@each_spread
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_circuits_of_a_spread_model(name: str, there: Sequence[str | int]) -> None:
    prompts = random_prompts(4, ragged=True)
    base = random_mask(view(name).graph, 0.4, seed=1)
    masks = neighbours(view(name).graph, base, 6, seed=2)
    groups = torch.tensor([[True, False, True, False], [False, True, False, True]])
    asked: list[Callable[[CircuitEvaluator], Tensor]] = [
        lambda one: one.values(masks, METRIC),
        lambda one: one.values(Variants.of(base, masks), METRIC),
        lambda one: one.edge_gradients(base, METRIC, groups),
        lambda one: one.clean_logits(),
        lambda one: one.ablated_logits(),
    ]
    for ablation in ("patch", "mean", "zero"):
        here = CircuitEvaluator(view(name), prompts, ablation, batch_size=3)
        wanted = [ask(here) for ask in asked]
        with Elsewhere():
            spread = CircuitEvaluator(view_spread(name, *there), prompts, ablation, batch_size=3)
            found = [ask(spread).cpu() for ask in asked]
        for ours, theirs in zip(found, wanted, strict=True):
            assert relative(ours, theirs) < 1e-4
