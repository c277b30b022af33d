"""Targets that hold in every template: by hand, against judges of one template each, and whole searches."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from acdc_engine import discover, verify
from acdc_engine.errors import BehaviourError
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.connectivity import clean, is_clean
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.judge import Judge, Target
from acdc_engine.patch.memory import RememberingEvaluator
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.score import get_method, score_edges
from acdc_engine.search import Search, minimal
from acdc_engine.search.balance import balanced, best_moves
from acdc_engine.search.iterative import iterative
from acdc_engine.search.order import best_first, first_edges
from acdc_engine.search.strategies import Found, SearchParameters
from tests.tiny_models import METRIC, random_prompts, relative, view
from tests.tiny_task import CARD, SECOND, tiny_view


def named(prompts: PromptSet, names: str) -> PromptSet:
    return replace(prompts, templates=tuple(names[i % len(names)] for i in range(len(prompts))))


def test_moves_by_hand() -> None:
    """The first group lies .4 above, the second .2 below; each move adds to both."""
    moves = torch.tensor([[-0.5, -0.4, 0.1, 0.0], [-0.3, 0.1, 0.0, 0.1]])
    # Squares left after one move: .26, .09, .29, .17; after the second: .32, -, .11, .0
    assert best_moves(moves, [0.4, -0.2], 4) == [1, 3], "after them nothing brings it nearer"
    assert best_moves(moves, [0.4, -0.2], 1) == [1]
    assert best_moves(moves, [0.4, -0.2], 4, all_of_them=True) == [1, 3, 2, 0]
    assert best_moves(moves, [0.0, 0.0], 3) == []


@pytest.mark.parametrize("name", ["gpt2", "llama_grouped", "gemma3", "mixtral"])
def test_groups_are_judged_as_by_judges_of_their_own(name: str) -> None:
    prompts = named(random_prompts(9, ragged=True), "abc")
    judge = Judge(RememberingEvaluator(CircuitEvaluator(view(name), prompts, batch_size=4)), METRIC, True)
    generator = torch.Generator().manual_seed(1)
    exists = judge.graph.exists
    mask = clean(judge.graph, (torch.rand(exists.shape, generator=generator) < 0.8) & exists)
    (found,), inside = judge.by_group(mask[None]), judge.contributions(mask)
    assert len(found) == 3 and inside.shape[0] == 4
    for place in range(3):
        own = Judge(CircuitEvaluator(view(name), prompts.select(list(range(place, 9, 3)))), METRIC)
        assert found[place] == pytest.approx(own.faithfulness(mask[None])[0], abs=2e-5)
        assert relative(inside[place], own.contributions(mask)[0]) < 2e-5
    assert judge.faithfulness(mask[None]) == [max(found, key=lambda f: abs(f - 1))]
    plain = Judge(judge.evaluator, METRIC)
    assert relative(plain.contributions(mask)[1] * abs(plain.range), inside[-1] * abs(judge.range)) < 1e-6


@pytest.mark.parametrize("name", ["gpt2", "llama_grouped", "phi", "olmo2"])
def test_each_template_meets_the_target_and_no_edge_can_go(name: str) -> None:
    prompts = named(random_prompts(8), "ab")
    scores = score_edges(view(name), prompts, METRIC, get_method("eap-ig"), rms=True).both
    judge = Judge(RememberingEvaluator(CircuitEvaluator(view(name), prompts)), METRIC, True)
    target = Target(0.8)
    found = iterative(Search(judge, scores, target), SearchParameters())
    assert is_clean(judge.graph, found.mask) and found.size < judge.graph.n_edges
    tested = minimal(judge, found, target)
    alone = [Judge(CircuitEvaluator(view(name), prompts.select(list(range(k, 8, 2)))), METRIC) for k in range(2)]
    assert all(target.met(one.faithfulness(tested.found.mask[None])[0]) for one in alone)
    for sender, receiver in tested.found.mask.nonzero().tolist():
        rest = tested.found.mask.clone()
        rest[sender, receiver] = False
        rest = clean(judge.graph, rest)
        values = [one.faithfulness(rest[None])[0] if rest.any() else 0.0 for one in alone]
        assert not all(target.met(value) for value in values)


def test_a_template_on_which_the_corruption_changes_nothing_is_named() -> None:
    prompts = named(random_prompts(4), "ab")
    prompts.corrupt[1::2] = prompts.clean[1::2]
    Judge(CircuitEvaluator(view("gpt2"), prompts), METRIC)
    with pytest.raises(BehaviourError, match="In template 'b' the corrupt metric equals the clean one"):
        Judge(CircuitEvaluator(view("gpt2"), prompts), METRIC, True)


def test_a_run_that_asks_for_each_template(tmp_path: Path) -> None:
    """The circuit says so, its command asks for it again, and verify recomputes the certificate."""
    card = tmp_path / "two.toml"
    card.write_text(CARD + SECOND)
    how = {"n": 16, "n_held_out": 8, "n_validation": 0, "faithfulness": 0.8, "force": True, "n_random": 2}
    circuit = discover(card, tiny_view(), each_template=True, out=tmp_path / "run", **how)  # type: ignore[arg-type]
    assert circuit.search is not None and circuit.search.each_template and circuit.certificate is not None
    assert circuit.certificate.each_template and circuit.certificate.minimal
    assert circuit.command is not None and "each_template=True" in circuit.command
    assert circuit.evaluation is not None
    values = [template.faithfulness for template in circuit.evaluation.discovery.templates]
    assert len(values) == 2 and all(value is not None and 0.8 <= value <= 1.2 for value in values)
    assert circuit.certificate.value == pytest.approx(max(values, key=lambda f: abs((f or 0.0) - 1)), abs=1e-5)
    found = verify(tmp_path / "run", model=tiny_view())
    assert all(claim.holds for claim in found.claims)


@pytest.mark.parametrize("hopeless", [0, 1, 2, 3])
def test_a_circuit_is_brought_into_the_target_alone_or_with_the_first_edges(
    hopeless: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its own moves lead nowhere, twice and then four times as many of the best edges join it."""
    prompts = named(random_prompts(16), "ab")
    scores = score_edges(view("gpt2"), prompts, METRIC, get_method("eap-ig")).both
    judge = Judge(CircuitEvaluator(view("gpt2"), prompts), METRIC, each_template=True)
    told, tried = list[str](), list[float]()
    search = Search(judge, scores, Target(0.9), report=lambda what, found, met: told.append(what))
    path = torch.zeros_like(judge.graph.exists)
    path[judge.graph.parse_edge("input->logits")] = True

    def moves(search: Search, found: Found, budget: float = 0.15) -> Found | None:
        tried.append(budget)
        return None if len(tried) <= hopeless else Found(found.mask, 1.0, (1.0, 1.0))

    monkeypatch.setattr("acdc_engine.search.iterative.balanced", moves)
    found = iterative(replace(search, start=Found(path, 0.5)), SearchParameters())
    assert told[0] == "the circuit so far" and told.count("with the first edges") == min(hopeless, 2)
    assert tried == [0.04, 0.15, 0.15][: hopeless + 1]
    order = best_first(judge.graph, scores, "signed")
    firsts = [
        path,
        *(clean(judge.graph, path | first_edges(judge.graph, order, n)) for n in (2, 4)),
        judge.graph.exists,
    ]
    assert torch.equal(found.mask, firsts[hopeless]), "the whole graph says that nothing was found"


class Promising(Judge):
    """A judge of whom every edge promises something, and none keeps it."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.looks = graph, 0

    def by_group(self, circuits: object) -> list[tuple[float, ...]]:
        assert isinstance(circuits, torch.Tensor)
        return [(0.5, 0.6)] * len(circuits)

    def contributions(self, mask: torch.Tensor) -> torch.Tensor:
        self.looks += 1
        return 0.01 * torch.ones(3, *mask.shape)


@pytest.mark.parametrize(("budget", "looks"), [(0.04, 12), (0.15, 8)])
def test_moves_that_bring_nothing_end_after_some_looks(budget: float, looks: int) -> None:
    """Four with small moves, eight with larger ones."""
    judge = Promising(view("gpt2").graph)
    path = torch.zeros_like(judge.graph.exists)
    path[judge.graph.parse_edge("input->logits")] = True
    search = Search(judge, torch.zeros(2, *path.shape), Target(0.9))
    assert balanced(search, Found(path, 0.5, (0.5, 0.6)), budget) is None
    assert judge.looks == looks
