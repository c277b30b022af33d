"""Searches around an inner circuit: none of them runs a circuit that lacks one of its edges; all others are tried."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from acdc_engine.errors import MethodError
from acdc_engine.experiment import Experiment
from acdc_engine.graph.connectivity import clean, is_clean
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.evaluator import Variants
from acdc_engine.patch.judge import Target
from acdc_engine.search.balance import balanced
from acdc_engine.search.minimal import minimal, singles, with_kept
from acdc_engine.search.order import best_first, first_edges, of_size
from acdc_engine.search.strategies import Choice, Found, Search, SearchParameters
from tests.search.test_minimal import one_by_one
from tests.tiny_models import random_prompts, view

SEARCHES: dict[str, dict[str, Any]] = {
    "iterative": {"target": 0.8},
    "iterative, kl": {"objective": "kl", "target": 0.8},
    "iterative, each template": {"target": 0.7, "each_template": True},
    "top-k": {"strategy": "top-k", "target": 0.8},
    "greedy, a size": {"strategy": "greedy", "size": 25},
    "threshold": {"strategy": "threshold", "threshold": 0.02},
    "acdc": {"strategy": "acdc", "threshold": 0.05},
    "acdc, candidates, kl": {"strategy": "acdc", "threshold": 0.01, "candidates": 40, "objective": "kl"},
}


def lab_of(objective: str = "faithfulness", each_template: bool = False) -> Experiment:
    prompts = random_prompts(16 if each_template else 6)
    if each_template:
        prompts = replace(prompts, templates=("a", "b") * 8)
    lab = Experiment(view("llama_grouped"), prompts, objective=objective)
    assert lab.each_template == each_template
    return lab


def around(lab: Experiment, size: int = 12) -> tuple[Experiment, Tensor]:
    """The experiment around a circuit of edges that work against the metric, which every search would drop."""
    scores = lab.score("eap-ig")
    mask = of_size(lab.graph, best_first(lab.graph, scores.both, "signed").flip(0), size)
    return lab.around(lab.bare(lab.selection(mask))), mask


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Every circuit that is run from now on, and those that others are computed from."""
    seen, values, gradients = list[Tensor](), CircuitEvaluator.values, CircuitEvaluator.edge_gradients

    def noted(self: CircuitEvaluator, circuits: Any, *more: Any) -> Tensor:
        seen.extend([*circuits.masks(), circuits.base] if isinstance(circuits, Variants) else circuits)
        return values(self, circuits, *more)

    def looked(self: CircuitEvaluator, mask: Tensor, *more: Any) -> Tensor:
        seen.append(mask)
        return gradients(self, mask, *more)

    monkeypatch.setattr(CircuitEvaluator, "values", noted)
    monkeypatch.setattr(CircuitEvaluator, "edge_gradients", looked)
    return seen


@pytest.mark.parametrize("name", SEARCHES)
def test_no_circuit_is_run_that_lacks_one_of_them(name: str, asked: list[Tensor]) -> None:
    how = dict(SEARCHES[name])
    lab = lab_of(how.pop("objective", "faithfulness"), how.pop("each_template", False))
    lab, kept = around(lab)
    scores = lab.score("eap-ig")
    free = lab_of(lab.aim, lab.each_template).search(scores, **how)
    asked.clear()
    found = lab.search(scores, **how)
    if found.target is not None and how.get("strategy") is None:
        assert not free.mask[kept].all(), "the search would drop some of them: the test shows something"
        left = minimal(lab.objective, found, found.target, kept=kept)
        assert found.target.met(left.found.faithfulness) and not bool((kept & ~left.found.mask).any())
    assert asked and not any(bool((kept & ~mask).any()) for mask in asked)
    assert is_clean(lab.graph, found.mask) and found.size >= int(kept.sum())
    assert found.size <= 25 or "size" not in name


@pytest.mark.parametrize("objective", ["faithfulness", "kl"])
def test_what_is_left_is_one_minimal_around_them(objective: str) -> None:
    """Against each edge run alone; what the table says of the edges that stay is that they were run, too."""
    lab, kept = around(lab_of(objective))
    found = lab.minimal(lab.search(lab.score("eap-ig"), 0.8))
    assert found.tested is not None and found.target is not None
    alone = one_by_one(lab.objective, found.mask)
    assert list(alone.values()) == pytest.approx(
        [lab.objective.faithfulness_of(row) for row in found.tested.without], abs=1e-4
    )
    assert not any(found.target.met(f) for edge, f in alone.items() if not kept[edge])
    assert any(found.target.met(f) for edge, f in alone.items() if kept[edge]), "some would have gone"
    assert found.tested.needed.all()
    circuit = lab.bare(found)
    _, certificate = lab.edge_figures(lab.with_effects(found))
    assert certificate is not None and (certificate.minimal, certificate.inner_edges) == (True, int(kept.sum()))
    assert circuit.inner is not None and {*circuit.inner.edges} < {edge.name for edge in circuit.edges}


def test_where_nothing_else_is_needed_they_are_all_that_is_left() -> None:
    lab = lab_of()
    scores = lab.score("eap-ig")
    small = lab.minimal(lab.search(scores, 0.8))
    inside = lab.around(lab.bare(small))
    again = inside.minimal(inside.search(scores, 0.8))
    assert again.mask.equal(small.mask) and again.tested is not None and again.tested.needed.all()
    alone = minimal(inside.objective, small, Target(0.8), kept=small.mask)
    assert alone.found.mask.equal(small.mask) and len(alone.without) == 0


def test_their_rows_alone_are_run_for_the_table() -> None:
    lab, kept = around(lab_of())
    found = lab.search(lab.score("eap-ig"), 0.8)
    assert found.target is not None
    left = minimal(lab.objective, found, found.target, kept=kept)
    before = lab.exact_evaluations
    table = with_kept(lab.objective, left, kept)
    assert lab.exact_evaluations - before == int(kept.sum()), "no other edge again"
    every = singles(lab.objective, left.found, found.target, kept=kept)
    torch.testing.assert_close(table.without, every.without, rtol=1e-4, atol=1e-5)
    assert table.needed.equal(every.needed) and table.whole.equal(left.whole)


def test_edges_that_stay_count_as_needed() -> None:
    lab = lab_of()
    whole = Found(lab.graph.exists, 1.0)
    kept = of_size(lab.graph, best_first(lab.graph, lab.score().both, "absolute"), 10)
    table = singles(lab.judge, whole, Target(0.5), kept=kept)
    free = singles(lab.judge, whole, Target(0.5)).needed
    assert not free.all() and table.needed.equal(free | kept[lab.graph.exists])


def test_prefixes_are_those_of_the_order_and_what_stays() -> None:
    lab, kept = around(lab_of())
    graph, order = lab.graph, best_first(lab.graph, lab.score().both, "absolute")
    for count in (0, 1, 7, 40):
        plain = torch.zeros_like(kept)
        plain.view(-1)[order[:count]] = True
        assert first_edges(graph, order, count, kept).equal(clean(graph, plain | kept))
    sizes = {int(first_edges(graph, order, count, kept).sum()) for count in range(len(order) + 1)}
    assert int(of_size(graph, order, 30, kept).sum()) == max(size for size in sizes if size <= 30)
    n = int(kept.sum())
    message = (
        rf"The inner circuit has {n} edges by itself, so one around it has more, not {n}: ask for a larger --size\."
    )
    with pytest.raises(MethodError, match=message):
        of_size(graph, order, n, kept)


def test_a_strategy_that_promises_nothing_is_refused_before_it_runs(asked: list[Tensor]) -> None:
    lab, _ = around(lab_of())
    scores = lab.score()
    asked.clear()
    stranger = Choice("iterative", SearchParameters())
    with pytest.raises(MethodError, match=r"does not promise that; top-k, greedy, threshold, acdc, iterative do\."):
        lab.search(scores, 0.8, stranger)
    assert not asked


def test_a_circuit_with_loose_edges_is_none_to_go_around() -> None:
    lab = lab_of()
    loose = lab.bare(lab.selection(["input->m0", "m0->logits"]))
    inner = loose.model_copy(update={"edges": loose.edges[:1]})
    with pytest.raises(MethodError, match=r"1 edges of the inner circuit lie on no path.*Clean it first: cleaned\(\)"):
        lab.around(inner)


def test_moves_for_balance_leave_them(asked: list[Tensor]) -> None:
    lab = lab_of(each_template=True)
    scores = lab.score("eap-ig").both
    search = Search(lab.objective, scores, Target(0.9))
    start = search.run(first_edges(lab.graph, best_first(lab.graph, scores, "absolute"), 40), "start")
    asked.clear()
    balanced(search, start)
    assert any(bool((start.mask & ~mask).any()) for mask in asked), "it would move some of them away"
    asked.clear()
    balanced(replace(search, judge=lab_of(each_template=True).objective, kept=start.mask), start)
    assert asked and not any(bool((start.mask & ~mask).any()) for mask in asked)
