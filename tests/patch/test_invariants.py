"""What must hold for the exact intervention on every architecture."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from acdc_engine.graph.connectivity import clean
from acdc_engine.patch import CircuitEvaluator
from tests.micro_models import mask_of
from tests.tiny_models import (
    CONFIGS,
    CORE,
    METRIC,
    golden,
    golden_prompts,
    golden_view,
    random_mask,
    random_prompts,
    relative,
    view,
)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox"])
def test_golden_circuits(name: str) -> None:
    values = golden(name)
    evaluator = CircuitEvaluator(golden_view(name), golden_prompts(name), batch_size=5)
    assert relative(evaluator.values(values["circuit_masks"].bool(), METRIC), values["circuit_metric"]) < 1e-4
    assert relative(METRIC(evaluator.clean_logits(), golden_prompts(name)), values["metric_clean"]) < 1e-4
    assert relative(METRIC(evaluator.ablated_logits(), golden_prompts(name)), values["metric_corrupt"]) < 1e-4


def test_golden_effect_of_every_single_edge() -> None:
    v, values = golden_view("gpt2"), golden("gpt2")
    edges = v.graph.exists.nonzero()
    masks = v.graph.exists.repeat(len(edges), 1, 1)
    masks[torch.arange(len(edges)), edges[:, 0], edges[:, 1]] = False
    evaluator = CircuitEvaluator(v, golden_prompts("gpt2"))
    effects = evaluator.values(masks, METRIC).mean(1) - values["metric_clean"].mean()
    wanted = values["exact_edge_effect"][edges[:, 0], edges[:, 1]]
    assert float((effects - wanted).abs().max()) < 1e-4 * float(wanted.abs().max()) + 1e-5


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("ablation", ["patch", "mean", "zero"])
def test_all_edges_are_clean_and_no_edges_are_ablated(name: str, ablation: str) -> None:
    v, prompts = view(name), random_prompts(ragged=True)
    evaluator = CircuitEvaluator(v, prompts, ablation, batch_size=3)
    full = v.graph.exists
    logits = evaluator.logits(torch.stack([full, torch.zeros_like(full)]))
    at = torch.arange(len(prompts))
    assert relative(logits[0], v.logits(prompts.clean)[at, prompts.read_at]) < 1e-4
    assert relative(logits[1], evaluator.ablated_logits()) < 1e-5
    if ablation == "patch":
        assert relative(logits[1], v.logits(prompts.corrupt)[at, prompts.read_at]) < 1e-4


# Where heads are coupled the evaluator cleans masks by definition (docs/architecture.md): nothing to test there.
@pytest.mark.parametrize("name", [name for name in CONFIGS if not view(name).coupled])
@settings(max_examples=8, deadline=None)
@given(share=st.floats(0.1, 0.9), seed=st.integers(0, 10_000))
def test_cleaning_never_changes_the_output(name: str, share: float, seed: int) -> None:
    mask = random_mask(view(name).graph, share, seed)
    evaluator = CircuitEvaluator(view(name), random_prompts(3))
    both = evaluator.logits(torch.stack([mask, clean(view(name).graph, mask)]))
    assert relative(both[1], both[0]) < 1e-5


@pytest.mark.parametrize("name", CORE)
def test_batches_and_padding_do_not_matter(name: str) -> None:
    mask, prompts = random_mask(view(name).graph, 0.5, 3), random_prompts(7, ragged=True)
    whole = CircuitEvaluator(view(name), prompts, batch_size=7).logits(mask[None])[0]
    for i in range(len(prompts)):
        alone = CircuitEvaluator(view(name), prompts.select([i])).logits(mask[None])[0, 0]
        assert relative(alone, whole[i]) < 1e-4


def test_a_node_without_kept_outgoing_edges_is_never_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    v = view("llama")
    mask = mask_of(v, "input->m0 m0->logits input->a1.h2<q> m0->m1")
    seen: list[int] = []

    def watched(index: int, forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def watch(x: Tensor) -> Tensor:
            seen.append(index)
            return forward(x)

        return watch

    for index, layer in enumerate(v.layers):
        assert layer.mlp is not None
        monkeypatch.setattr(layer.mlp, "forward", watched(index, layer.mlp.forward))
    evaluator = CircuitEvaluator(v, random_prompts())
    seen.clear()
    evaluator.logits(mask[None])
    assert seen == [0], "m1 and a1.h2 are read by nobody"
