"""Other circuits for the same target: two that share nothing and no third, what is allowed back, what is refused."""

import pytest
import torch

from acdc_engine.errors import MethodError
from acdc_engine.experiment import Experiment
from acdc_engine.patch.judge import Target
from acdc_engine.search import Choice, Search
from acdc_engine.search.alternatives import _allowed, _Within, alternative, check_overlap, overlap_of
from tests.micro_models import doubled, mask_of
from tests.tiny_models import random_mask, random_prompts, random_scores, view

ONE, OTHER = "input->a0.h0<v> a0.h0->logits", "input->a0.h1<v> a0.h1->logits"


def twice() -> tuple[Experiment, Search]:
    model, prompts = doubled()
    lab = Experiment(model, prompts, metric="prob_diff")
    return lab, Search(lab.objective, lab.score("eap-ig").both, Target(0.9))


@pytest.mark.parametrize(("first", "second"), [(ONE, OTHER), (OTHER, ONE)])
@pytest.mark.parametrize("strategy", ["iterative", "top-k"])
def test_two_circuits_without_a_common_edge_and_no_third(first: str, second: str, strategy: str) -> None:
    lab, search = twice()
    there = mask_of(lab.view, first)
    found = alternative(search, Choice.of(strategy), [there], 0.0)
    assert found.found is not None and found.searches == 1
    expected = mask_of(lab.view, second)
    if strategy == "iterative":
        assert torch.equal(found.found.mask, expected)
    assert bool((found.found.mask & expected == expected).all()) and overlap_of(found.found.mask, there) == 0
    none = alternative(search, Choice.of(strategy), [there, expected], 0.0)
    assert none.found is None and none.searches == 1
    assert none.closest is None or none.closest.faithfulness == pytest.approx(0, abs=1e-6)


def test_what_is_allowed_back_is_the_strongest_and_counts_for_each_that_has_it() -> None:
    graph = view("llama_grouped").graph
    one, other = (
        mask_of(graph, "input->m0 m0->m1 m1->logits m0->logits"),
        mask_of(graph, "input->m0 input->m1 m1->logits"),
    )
    strength = torch.zeros(graph.exists.shape)
    for value, edge in enumerate(("m0->logits", "input->m1", "m0->m1", "m1->logits", "input->m0")):
        strength[graph.parse_edge(edge)] = value

    def back(share: float) -> set[str]:
        allowed = _allowed(graph, strength, [one, other], share)
        assert bool((allowed | one | other == graph.exists).all())
        return {graph.edge_name(*edge) for edge in (allowed & (one | other)).nonzero().tolist()}

    assert back(0.2) == set(), "a fifth of 4 and of 3 edges is less than one"
    assert back(0.3) == {"m0->m1"}, "stronger ones are in both, and of 3 edges three tenths are less than one"
    assert back(0.34) == {"input->m0"}, "in both, whose room is gone with it"
    assert back(0.5) == {"input->m0", "m0->m1"}
    assert back(0.7) == {"input->m0", "m1->logits"}


@pytest.mark.parametrize("objective", ["faithfulness", "kl"])
def test_on_random_models_it_stays_within_the_overlap_and_meets_the_target(objective: str) -> None:
    """Every circuit that is run keeps to the allowed edges; what is found is 1-minimal."""
    lab = Experiment(view("llama_grouped"), random_prompts(6), objective=objective)
    scores, target = lab.score("eap-ig"), 0.5
    first = lab.minimal(lab.search(scores, target=target))
    ran: list[torch.Tensor] = []
    search = Search(lab.objective, scores.both, Target(target), lambda what, found, met: ran.append(found.mask))
    choice = Choice.of("iterative", objective=objective)
    found = alternative(search, choice, [first.mask], 0.5)
    room = int(0.5 * first.size)
    assert ran and max(int((mask & first.mask).sum()) for mask in ran) <= room
    if objective == "kl":  # there is none in this model
        assert found.found is None and found.searches == 4 and found.closest is not None
        return
    assert found.found is not None
    assert search.met(found.found) and overlap_of(found.found.mask, first.mask) <= 0.5
    assert lab.objective.faithfulness(found.found.mask[None])[0] == pytest.approx(found.found.faithfulness, abs=1e-5)
    without = lab.test_edges(lab.selection(found.found.mask)).tested
    assert without is not None
    assert not any(search.target.met(lab.objective.faithfulness_of(row)) for row in without.without)


def test_a_judge_within_a_graph_promises_nothing_outside() -> None:
    lab = Experiment(view("llama_grouped"), random_prompts(6))
    graph, allowed = lab.view.graph, random_mask(lab.view.graph, 0.5, 0)
    inside, start = _Within(lab.judge, allowed), random_mask(lab.view.graph, 0.3, 1) & allowed
    assert torch.equal(inside.graph.exists, allowed) and inside.graph.n_edges == int(allowed.sum())
    assert graph.n_edges == int(graph.exists.sum()) > inside.graph.n_edges, "the model's own stays as it was"
    whole = lab.judge.contributions(start)
    assert torch.equal(inside.contributions(start), whole * allowed) and bool((whole * ~allowed).any())
    assert inside.faithfulness(start[None]) == lab.judge.faithfulness(start[None])


def test_nothing_comes_up_to_an_impossible_target_and_no_long_search_begins() -> None:
    lab = Experiment(view("llama_grouped"), random_prompts(6))
    graph = lab.view.graph
    search = Search(lab.objective, random_scores(graph, 0), Target(0.9))
    found = alternative(search, Choice.of("iterative"), [graph.exists], 0.0)
    assert found.found is None and (found.searches, found.closest) == (1, None)
    assert lab.evaluator.exact_evaluations == 0


def test_overlap_is_a_share_of_the_smaller_circuit() -> None:
    graph = view("llama_grouped").graph
    one, other = mask_of(graph, "input->m0 m0->logits"), mask_of(graph, "input->m0 m0->m1 m1->logits")
    assert overlap_of(one, other) == overlap_of(other, one) == 0.5


@pytest.mark.parametrize("overlap", [-0.1, 1.0, float("nan")])
def test_an_overlap_that_is_none(overlap: float) -> None:
    with pytest.raises(MethodError, match=r"overlap must be at least 0 and less than 1, not (-0\.1|1\.0|nan)"):
        check_overlap(overlap)
