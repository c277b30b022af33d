"""Restarting near a mask that was run, and computing only what is read: the same values as running everything."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.connectivity import Candidate, clean
from acdc_engine.model.view import TransformerView
from acdc_engine.patch import CircuitEvaluator, circuit_evaluator
from acdc_engine.patch.ablations import ABLATIONS
from acdc_engine.patch.evaluator import Variants
from acdc_engine.patch.plan import make_plan
from acdc_engine.patch.sums import Bank, Masks
from acdc_engine.prompts.prompt_set import PromptSet
from tests.micro_models import mask_of
from tests.patch.slow_twin import slow_logits
from tests.tiny_models import CONFIGS, CORE, METRIC, VOCAB, random_mask, random_prompts, relative, view


def neighbours(graph: Graph, mask: Tensor, count: int, seed: int) -> Tensor:
    """Masks that differ from the given one in one to four random edges, removed or added, in random layers."""
    generator = torch.Generator().manual_seed(seed)
    edges = graph.exists.nonzero()
    out = mask.repeat(count, 1, 1)
    for i in range(count):
        for u, v in edges[torch.randperm(len(edges), generator=generator)[: 1 + i % 4]].tolist():
            out[i, u, v] = ~out[i, u, v]
    return out


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("share", [1.0, 0.3, 0.08])
def test_near_equals_far(name: str, share: float) -> None:
    v, prompts = view(name), random_prompts(4, ragged=True)
    base = random_mask(v.graph, share, seed=1)
    masks = neighbours(v.graph, base, 9, seed=2)
    ours = CircuitEvaluator(v, prompts, batch_size=3)
    far = CircuitEvaluator(v, prompts, batch_size=3).logits(masks)
    assert relative(ours.logits(Variants.of(base, masks)), far) < 2e-5
    assert relative(ours.logits(Variants.of(masks[3], masks[:2])), far[:2]) < 2e-5, (
        "another mask is run when another one is near"
    )


@pytest.mark.parametrize("name", CORE)
@pytest.mark.parametrize("ablation", [name for name in ABLATIONS.names if name != "base"])  # of one model
def test_near_equals_the_slow_twin(name: str, ablation: str) -> None:
    v, prompts = view(name), random_prompts(3)
    base = clean(v.graph, random_mask(v.graph, 0.4, seed=3))
    masks = clean(v.graph, neighbours(v.graph, base, 4, seed=4))
    ours = CircuitEvaluator(v, prompts, ablation).logits(Variants.of(base, masks))
    for mask, logits in zip(masks, ours, strict=True):
        assert relative(logits, slow_logits(v, prompts, mask, ablation)) < 2e-5


def test_reading_before_the_end_of_the_prompt() -> None:
    """What only a reading position needs is computed there; masks that leave early positions out must not notice."""
    v, prompts = view("llama_grouped"), random_prompts(4, ragged=True)
    early = dataclasses.replace(prompts, read_at=torch.tensor([2, 3, 4, 3]))
    masks = torch.stack([random_mask(v.graph, share, seed=5) for share in (1.0, 0.5, 0.15)])
    together = CircuitEvaluator(v, early).logits(masks)
    for i in range(4):
        alone = early.select([i])
        cut = dataclasses.replace(
            alone, clean=alone.clean[:, :5], corrupt=alone.corrupt[:, :5], lengths=alone.read_at + 1
        )
        assert relative(CircuitEvaluator(v, cut).logits(masks)[:, 0], together[:, i]) < 2e-5


@pytest.mark.parametrize("name", [*CORE, "mistral", "gemma2"])
def test_runs_begin_where_the_corruption_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients are those of all positions, for less; windows and coupled heads included."""
    v, prompts = view(name), random_prompts(5, 9, ragged=True)
    corrupt = prompts.clean.clone()
    corrupt[:, 4] = (corrupt[:, 4] + 7) % VOCAB
    late = dataclasses.replace(prompts, corrupt=corrupt)
    assert first_change(v, late) == 4
    masks = torch.stack([random_mask(v.graph, share, seed=9) for share in (1.0, 0.5, 0.15)])

    def found() -> tuple[list[Tensor], int]:
        before, run = v.work.operations, CircuitEvaluator(v, late, batch_size=3)
        values = [run.logits(masks), run.logits(Variants.of(masks[1], masks)), run.edge_gradients(masks[1], METRIC)]
        return values, v.work.operations - before

    ours, cost = found()
    monkeypatch.setattr(TransformerView, "first_change", lambda *_: 0)
    whole, cost_of_all = found()
    assert all(relative(one, other) < 2e-5 for one, other in zip(ours, whole, strict=True))
    assert cost < 0.85 * cost_of_all


def first_change(v: TransformerView, prompts: PromptSet) -> int:
    return v.first_change(prompts.clean, prompts.corrupt, prompts.read_at)


def test_where_anything_may_change() -> None:
    v, prompts = view("gpt2"), random_prompts(3, 7)
    assert first_change(v, prompts) == 1
    assert first_change(v, dataclasses.replace(prompts, read_at=torch.tensor([5, 0, 3]))) == 0, (
        "no later than it is read"
    )
    assert first_change(v, dataclasses.replace(prompts, corrupt=prompts.clean)) == 0, "nothing changes"


def test_groups_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    v, prompts = dataclasses.replace(view("gpt2")), random_prompts(4)
    base = random_mask(v.graph, 0.5, seed=6)
    masks = neighbours(v.graph, base, 10, seed=7)
    whole = CircuitEvaluator(v, prompts).logits(Variants.of(base, masks))
    monkeypatch.setitem(vars(v), "room", dataclasses.replace(v.room, circuits=1))
    assert relative(CircuitEvaluator(v, prompts).logits(Variants.of(base, masks)), whole) < 2e-5
    monkeypatch.undo()
    monkeypatch.setattr(circuit_evaluator, "_MOST_MASKS", 3)
    assert relative(CircuitEvaluator(v, prompts).logits(Variants.of(base, masks)), whole) < 2e-5


def test_exact_evaluations_count_masks_and_not_the_run_near_them() -> None:
    v, prompts = view("gpt2"), random_prompts(2)
    run = CircuitEvaluator(v, prompts)
    base = random_mask(v.graph, 0.5, seed=6)
    run.values(Variants.of(base, neighbours(v.graph, base, 5, seed=7)), METRIC)
    assert run.exact_evaluations == 5


def plan_of(mask: Tensor, base: Tensor | None = None, known: Bank | None = None) -> list[tuple[str, bool]]:
    v = view("gpt2")
    near = mask if base is None else base
    masks = Masks.near(near.numpy(), [Candidate(np.flatnonzero(mask != near))])
    plan = make_plan(v.graph, v.twins, masks, known=known)
    return [(v.graph.senders[s], step.everywhere) for step in plan.steps for s in step.senders.tolist()]


def test_only_keys_and_values_need_other_positions() -> None:
    graph = view("gpt2").graph
    mask = mask_of(graph, "input->m0 m0->a1.h0<q> a1.h0->logits input->a1.h0<v>")
    assert plan_of(mask) == [("m0", False), ("a1.h0", False)]
    mask = mask_of(graph, "input->a0.h1<q> a0.h1->m0 m0->a1.h0<k> a1.h0->m1 m1->logits")
    assert plan_of(mask) == [("a0.h1", True), ("m0", True), ("a1.h0", False), ("m1", False)]


def test_only_what_a_changed_edge_leads_to_runs_again() -> None:
    graph = view("gpt2").graph
    mask = mask_of(graph, "input->a0.h0<v> input->a0.h1<v> a0.h0->m1 a0.h1->a1.h0<v> a1.h0->m1 m1->logits")
    senders, none = np.arange(graph.n_senders), np.empty(0, np.int64)
    known = Bank(senders, senders, torch.empty(0), torch.empty(0))
    without = mask.clone()
    without[graph.parse_edge("a0.h1->a1.h0<v>")] = False
    without[graph.parse_edge("input->a0.h1<v>")] = False
    changed = without | mask_of(graph, "input->a1.h0<v>")
    assert plan_of(changed, mask, known) == [("a1.h0", False), ("m1", False)]
    assert plan_of(mask, mask, known) == []
    last = mask.clone()
    last[graph.parse_edge("a0.h0->m1")] = False
    assert plan_of(last, mask, known) == [("m1", False)]
    cut = without & ~mask_of(graph, "input->a0.h0<v>")
    assert plan_of(clean(graph, cut), mask, known) == [], "nothing is left"
    fed = mask & ~mask_of(graph, "input->a0.h0<v>")
    assert plan_of(fed, mask, known) == [("m1", False)], "m1 still reads a0.h0, which is back at its baseline"
    nowhere = Bank(none, senders, torch.empty(0), torch.empty(0))
    assert plan_of(last, mask, nowhere) == [("a0.h1", True), ("a1.h0", False), ("m1", False)]
