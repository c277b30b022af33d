"""Behaviours that take thousands of edges: as many as meet the target on validation prompts, and no more is claimed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from acdc_engine import discover, verify
from acdc_engine.graph.circuit import Circuit
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.judge import Judge, Target
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.score import get_method, score_edges
from acdc_engine.search import Choice, Found, Search, find_circuit
from acdc_engine.search.order import best_first, first_edges, smallest_of_order
from acdc_engine.show.remarks import remarks
from acdc_engine.show.words import evidence_of
from tests.tiny_models import METRIC, random_prompts, view
from tests.tiny_task import CARD, SECOND, tiny_view

FEW = 3
Largest = Callable[[int], None]


@pytest.fixture
def largest(monkeypatch: pytest.MonkeyPatch) -> Largest:
    """Sets from how many edges on a behaviour counts as spread."""

    def set_to(count: int) -> None:
        for module in ("search.iterative", "search.balance", "run.discover", "show.words", "show.remarks"):
            monkeypatch.setattr(f"acdc_engine.{module}.LARGEST", count)

    return set_to


def named(prompts: PromptSet, names: str) -> PromptSet:
    return replace(prompts, templates=tuple(names[i % len(names)] for i in range(len(prompts))))


def judge_of(name: str, prompts: PromptSet) -> Judge:
    return Judge(CircuitEvaluator(view(name), prompts), METRIC, each_template=bool(prompts.templates))


@pytest.mark.parametrize(("name", "templates"), [("llama_grouped", ""), ("gpt2", "ab")])
def test_the_first_edges_that_meet_the_target_on_validation_prompts(
    name: str, templates: str, largest: Largest
) -> None:
    prompts, others = random_prompts(8, seed=1), random_prompts(16, seed=2)
    if templates:
        prompts, others = named(prompts, templates), named(others, templates)
    scores = score_edges(view(name), prompts, METRIC, get_method("eap-ig"), rms=True).both
    seen, notes = list[str](), list[str]()

    def report(what: str, found: Found, met: bool) -> None:
        seen.append(what)

    judge, validation = judge_of(name, prompts), judge_of(name, others)
    search = Search(judge, scores, Target(0.8), report, notes.append, validation=validation)
    largest(FEW)
    found = find_circuit(search, Choice.of())
    order = best_first(search.graph, scores, "absolute")
    sizes = [int(first_edges(search.graph, order, i).sum()) for i in range(len(order) + 1)]
    assert found.mask.equal(first_edges(search.graph, order, len(sizes) - 1 - sizes[::-1].index(found.size)))
    assert search.target.met(validation.faithfulness(found.mask[None])[0])
    assert found.by_group == pytest.approx(judge.by_group(found.mask[None])[0], abs=1e-5)
    there = smallest_of_order(replace(search, judge=validation), order, first=1)
    assert found.size <= there.size * 1.1, "as few as a search from the shortest prefix on finds, or nearly"
    assert not [what for what in seen if what.startswith(("round", "balanced", "added"))], "nothing is pruned"
    (note,) = notes
    assert "of the strongest edges to meet [0.8, 1.2] on the discovery prompts: the behaviour is spread" in note

    seen.clear()
    find_circuit(replace(search, validation=None), Choice.of())
    assert "round 1" in seen, "without validation prompts there is nothing else to go by"


def test_a_run_says_that_its_edges_were_not_tested(tmp_path: Path, largest: Largest) -> None:
    (tmp_path / "two.toml").write_text(CARD + SECOND)
    how: dict[str, Any] = {"n": 40, "n_held_out": 10, "n_validation": 12, "faithfulness": 0.8, "force": True, "seed": 5}
    largest(FEW)
    circuit = discover(tmp_path / "two.toml", tiny_view(), out=tmp_path / "run", n_random=0, **how)
    search = circuit.search
    assert search is not None and search.unfinished is None and len(circuit.edges) > FEW
    (tried,) = search.validated
    assert Target(0.9).met(tried.value), "that is what decides, so nothing has to be corrected"
    assert tried.n_discovery == 32 and tried.edges == len(circuit.edges)
    assert circuit.certificate is None and all(edge.effect is None for edge in circuit.edges)
    assert evidence_of(circuit)["single edges"] == "not tested, there are too many: no effects, no certificate"
    assert [text for text in remarks(circuit) if text.startswith("the behaviour is spread over the graph: the circuit")]
    assert Circuit.load(tmp_path / "run/circuit.json") == circuit
    assert verify(tmp_path / "run", model=tiny_view()).holds


def test_without_validation_prompts_the_circuit_is_not_tested_either(tmp_path: Path, largest: Largest) -> None:
    (tmp_path / "two.toml").write_text(CARD + SECOND)
    largest(0)
    circuit = discover(
        tmp_path / "two.toml", tiny_view(), n=16, n_held_out=5, n_validation=0, faithfulness=0.8, force=True, n_random=0
    )
    assert circuit.certificate is None and evidence_of(circuit)["single edges"].startswith(
        "not tested, there are too many"
    )
    assert not [text for text in remarks(circuit) if "spread" in text], "it was pruned"


class Never(Judge):
    """A judge to whom only the whole graph will do."""

    def by_group(self, circuits: Any) -> list[tuple[float, ...]]:
        return [(1.0 if mask.equal(self.graph.exists) else 0.5,) for mask in circuits]


@pytest.mark.parametrize(("name", "seed", "templates"), [("gpt2", 1, ""), ("gpt2", 4, "ab"), ("phi", 1, "ab")])
def test_where_only_the_whole_graph_meets_it_on_validation_prompts_edges_are_pruned(
    name: str, seed: int, templates: str, largest: Largest
) -> None:
    """With templates the first edges lie outside the band here, before they are balanced."""
    prompts = random_prompts(8, seed=seed)
    prompts = named(prompts, templates) if templates else prompts
    scores = score_edges(view(name), prompts, METRIC, get_method("eap-ig"), rms=True).both
    search = Search(judge_of(name, prompts), scores, Target(0.8))
    largest(FEW)
    never = Never(CircuitEvaluator(view(name), prompts), METRIC)
    found = find_circuit(replace(search, validation=never), Choice.of())
    assert search.target.met(found.faithfulness) and found.mask.equal(find_circuit(search, Choice.of()).mask)
