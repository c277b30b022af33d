"""Operations counted by formula, against torch's own counter."""

from collections.abc import Callable

import pytest
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from acdc_engine.model.view import TransformerView
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.evaluator import Variants
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.score import get_method, score_edges
from tests.tiny_models import CONFIGS, random_mask, random_prompts, view

METRIC = get_metric("logit_diff")
NAMES = ["gpt2", "llama_grouped", "gemma2", "phi", "olmo2", "mixtral"]


def counted(v: TransformerView, do: Callable[[], object]) -> tuple[int, int]:
    """What both count; attention in plain matrix products, since torch's counter does not know every kernel."""
    v.plain_operations(1, 1)
    before = v.work.operations
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        do()
    return v.work.operations - before, counter.get_total_flops()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_plain_forward_pass(name: str) -> None:
    v, tokens = view(name), random_prompts(5, 8).clean
    ours, theirs = counted(v, lambda: v.logits(tokens))
    assert ours == theirs == v.plain_operations(*tokens.shape)


@pytest.mark.parametrize("name", NAMES)
def test_scoring(name: str) -> None:
    v, prompts = view(name), random_prompts(4, 8)
    ours, theirs = counted(v, lambda: score_edges(v, prompts, METRIC, get_method("eap-ig"), rms=True))
    assert ours == pytest.approx(theirs, rel=0.1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_patched_runs_and_their_gradients(name: str, share: float) -> None:
    v, prompts = view(name), random_prompts(4, 8)
    mask = random_mask(v.graph, share, 3)
    evaluator = CircuitEvaluator(v, prompts)
    for ask in (
        lambda: evaluator.values(mask[None], METRIC),
        lambda: evaluator.values(random_mask(v.graph, share, 5)[None], get_metric("kl")),
        lambda: evaluator.edge_gradients(mask, METRIC),
        lambda: CircuitEvaluator(v, prompts),
    ):
        ours, theirs = counted(v, ask)
        assert ours == pytest.approx(theirs, rel=0.1)


def test_less_is_computed_near_a_known_circuit() -> None:
    v, prompts = view("gpt2"), random_prompts(4, 8)
    evaluator, whole = CircuitEvaluator(v, prompts), v.graph.exists
    masks = whole.repeat(3, 1, 1)
    masks[0, -1, v.graph.logits] = masks[1, -2, v.graph.logits] = False
    variants = Variants.of(whole, masks)
    evaluator.values(variants, METRIC)
    counts = []
    for asked in (variants, masks):
        before = v.work.operations
        evaluator.values(asked, METRIC)
        counts.append(v.work.operations - before)
    assert counts[0] < counts[1] / 3
