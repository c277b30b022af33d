"""The exact intervention on models worked out on paper (tests/micro_models.py has the clean and corrupt runs)."""

from typing import Any

import pytest
import torch

from acdc_engine.patch import CircuitEvaluator
from acdc_engine.prompts.prompt_set import PromptSet
from tests.micro_models import LN3, copying_head, edge_values, head_feeds_query, mask_of, shared_values
from tests.tiny_models import METRIC

PATH = "input->a0.h0<v> a0.h0->a1.h0<q> a1.h0->logits"
BY_HAND: dict[tuple[Any, str], dict[str, float]] = {
    (copying_head, "patch"): {
        "": -10,
        "input->a0.h0<q> input->a0.h0<k> input->a0.h0<v> input->logits a0.h0->logits": -2,
        # Clean pattern (3/4, 1/4) over corrupt values (0, 8), (0, 4): (0, 7); the logits read (0, 11).
        "input->a0.h0<k> a0.h0->logits": -11,
        # Corrupt pattern (1/2, 1/2) over clean values (4, 0), (0, 4): (2, 2); the logits read (2, 6).
        "input->a0.h0<v> a0.h0->logits": -4,
        "input->a0.h0<k> input->a0.h0<v> a0.h0->logits": -2,
        # Position 1 holds the same token in both prompts, so the query and the direct path carry nothing.
        "input->a0.h0<q> a0.h0->logits": -10,
        "input->logits": -10,
        "input->a0.h0<k> input->a0.h0<v>": -10,
        "a0.h0->logits": -10,
    },
    (copying_head, "zero"): {
        "": 0,
        "input->a0.h0<q> input->a0.h0<k> input->a0.h0<v> input->logits a0.h0->logits": -2,
        "input->logits": -4,
        # Zero keys: pattern (1/2, 1/2) over clean values: (2, 2), and nothing else reaches the logits.
        "input->a0.h0<v> a0.h0->logits": 0,
        "input->a0.h0<v> a0.h0->logits input->logits": -4,
        # The pattern alone, over values of zero.
        "input->a0.h0<k> a0.h0->logits": 0,
        "input->a0.h0<k> input->a0.h0<v> a0.h0->logits": 2,
    },
    (head_feeds_query, "patch"): {
        PATH: 7,
        "input->a0.h0<v> a0.h0->a1.h0<k> a0.h0->a1.h0<v> a0.h0->logits a1.h0->logits input->a1.h0<q>": 6,
        "a0.h0->a1.h0<q> a1.h0->logits": 6,
        "input->a0.h0<v> a0.h0->a1.h0<q>": 6,
        "input->a0.h0<q> input->a0.h0<k> a0.h0->a1.h0<q> a1.h0->logits": 6,
    },
    (shared_values, "patch"): {
        "": 18,
        # The shared value receiver feeds both heads; what counts is who is read: (3, 15) + (1, 0), + (0, 3).
        "input->a0.kv0<v> a0.h0->logits": 19,
        "input->a0.kv0<v> a0.h1->logits": 21,
        "input->a0.kv0<v> a0.h0->logits a0.h1->logits": 22,
        # m0 reads (1, 5) + (0, 3) = (1, 8) and writes (2, 16) instead of (2, 10).
        "input->a0.kv0<v> a0.h1->m0 m0->logits": 24,
        "input->a0.kv0<v> a0.h0->m0 a0.h1->m0 m0->logits a0.h0->logits a0.h1->logits": 30,
        "a0.h0->m0 a0.h1->m0 m0->logits a0.h0->logits a0.h1->logits": 18,
        "input->a0.kv0<k> input->a0.h0<q> a0.h0->logits input->m0 m0->logits input->logits": 18,
    },
    (shared_values, "zero"): {
        "": 0,
        # m0 doubles (0, 2), and nothing but m0 reaches the logits.
        "input->m0 m0->logits": 4,
        # Both heads see 2: m0 reads (2, 6) and writes (4, 12).
        "input->a0.kv0<v> a0.h0->m0 a0.h1->m0 m0->logits": 16,
    },
}
"""The metric with some edges kept, by model and ablation."""


@pytest.mark.parametrize(("model", "ablation"), BY_HAND)
def test_circuits_by_hand(model: Any, ablation: str) -> None:
    """Each alone, and all at once: heads that run for another mask's sake must not change this one's."""
    view, prompts = model()
    table = BY_HAND[model, ablation]
    evaluator, masks = CircuitEvaluator(view, prompts, ablation), [mask_of(view, edges) for edges in table]
    for mask, edges in zip(masks, table, strict=True):
        assert float(evaluator.values(mask[None], METRIC)) == pytest.approx(table[edges], abs=1e-5), edges
    at_once = evaluator.values(torch.stack(masks), METRIC)[:, 0].tolist()
    assert at_once == pytest.approx(list(table.values()), abs=1e-5)


@pytest.mark.parametrize(
    ("edges", "wanted"),
    [
        # Corrupt (2, 1) and (1, 1): input means (0, 6), (0, 4); the head at position 1 writes (0, 6), (0, 4): (0, 5).
        ("", -9),
        ("input->a0.h0<q> input->a0.h0<k> input->a0.h0<v> input->logits a0.h0->logits", -2),
        # Pattern of the mean, (1/2, 1/2), over clean values: (2, 2) instead of (0, 5): (0, 9) + (2, -3) = (2, 6).
        ("input->a0.h0<v> a0.h0->logits", -4),
        # Clean pattern over mean values (0, 6), (0, 4): (0, 5.5): (0, 9) + (0, 0.5).
        ("input->a0.h0<k> a0.h0->logits", -9.5),
    ],
)
def test_copying_head_with_removed_edges_at_their_mean(edges: str, wanted: float) -> None:
    view, _ = copying_head()
    prompts = PromptSet.from_tokens([[0, 1], [0, 1]], [[2, 1], [1, 1]], [[0], [0]], [[1], [1]])
    for batch_size in (1, 2):
        values = CircuitEvaluator(view, prompts, "mean", batch_size).values(mask_of(view, edges)[None], METRIC)[0]
        assert values.tolist() == pytest.approx([wanted, wanted], abs=1e-5)


def test_every_edge_but_one_of_the_path_kept() -> None:
    view, prompts = head_feeds_query()
    masks = view.graph.exists.repeat(len(PATH.split()), 1, 1)
    for mask, edge in zip(masks, PATH.split(), strict=True):
        mask[view.graph.parse_edge(edge)] = False
    assert CircuitEvaluator(view, prompts).values(masks, METRIC)[:, 0].tolist() == pytest.approx([6, 6, 6], abs=1e-5)


def test_ungrouped_values_can_be_kept_for_one_head() -> None:
    """Only a0.h1 sees the clean 2: it writes (0, 6), m0 reads (1, 8): (1, 0) + (0, 6) + (0, 2) + (2, 16) adds to 27."""
    edges = "input->a0.h1<v> a0.h0->logits a0.h1->logits a0.h0->m0 a0.h1->m0 m0->logits"
    view, prompts = shared_values(ungrouped=True)
    value = CircuitEvaluator(view, prompts).values(mask_of(view, edges)[None], METRIC)
    assert float(value) == pytest.approx(27, abs=1e-5)


def test_gradients_inside_a_circuit() -> None:
    """The model is linear under fixed patterns, so each gradient is what the edge carries: a0.h1 changes by (0, 3), m0
    by (0, 6). Missing edges between running nodes have gradients too; those of a0.h0, which nobody reads, have none.
    """
    view, prompts = shared_values()
    mask = mask_of(view, "input->a0.kv0<v> a0.h1->m0 m0->logits")
    found = edge_values(view, CircuitEvaluator(view, prompts).edge_gradients(mask, METRIC)[0])
    wanted = {"input->a0.kv0<v>": 6, "a0.h1->m0": 6, "m0->logits": 6, "a0.h1->logits": 3}
    assert found == pytest.approx(wanted, abs=1e-5)


def test_gradients_inside_the_query_circuit() -> None:
    """At the clean pattern w = 3/4 a change of the score moves the metric by (6 - 2) w (1 - w) = 3/4."""
    view, prompts = head_feeds_query()
    found = edge_values(view, CircuitEvaluator(view, prompts).edge_gradients(mask_of(view, PATH), METRIC)[0])
    wanted = {"input->a0.h0<v>": 0.75 * LN3, "a0.h0->a1.h0<q>": 0.75 * LN3, "a1.h0->logits": 1}
    assert found == pytest.approx(wanted, abs=1e-5)
