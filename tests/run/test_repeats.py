"""The search repeated on halves: against searching each half by itself, refusals, and what a stop leaves."""

from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from acdc_engine.errors import MethodError, SearchError
from acdc_engine.evidence.repeats import core_of, halves
from acdc_engine.experiment import Experiment
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import CIRCUIT, SO_FAR
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.find import find_task
from acdc_engine.run.discover import discover
from acdc_engine.run.repeats import repeated, with_repeats
from acdc_engine.run.settings import Settings
from acdc_engine.show.remarks import remarks
from acdc_engine.show.repeats import repeats_section
from acdc_engine.show.words import facts
from tests.test_minutes import Counted, counted, short_reports, stopped_at  # noqa: F401 fixtures
from tests.test_resume import same_but_for_times, trace_but_for_times
from tests.tiny_task import tiny_view, write_two

QUICK: dict[str, Any] = {
    **{"n": 16, "n_held_out": 10, "faithfulness": 0.5, "n_random": 0, "force": True},
    **{"repeats": 3, "strategy": "top-k"},
}


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_two(tmp_path_factory.mktemp("card"))


@pytest.fixture(scope="module")
def whole(card: Path) -> Path:
    """The folder of an uninterrupted run."""
    discover(card, tiny_view(), out=card.parent / "whole", **QUICK)
    return card.parent / "whole"


def lab_of(card: Path, **more: Any) -> Experiment:
    view = tiny_view()
    discovery, held_out = build_splits(find_task(card), view.tokenizer, 16, 10, 0)
    return Experiment(view, discovery, held_out, **more)


@pytest.mark.parametrize("more", [{}, {"objective": "kl"}, {"each_template": True}, {"ablation": "mean"}])
def test_repeats_are_the_search_of_each_half_by_itself(card: Path, more: dict[str, Any]) -> None:
    """The minimality pass included, where the strategy ends in one."""
    lab, strategy = lab_of(card, **more), "top-k" if more else "iterative"
    found = lab.search(lab.score("eap-ig"), 0.5, strategy)
    found = found if more else lab.minimal(found)
    again = list(repeated(lab, found, 2))
    for one, rows in zip(again, islice(halves(lab.prompts, 0), 2), strict=True):
        half = Experiment(lab.view, lab.prompts.select(rows), lab.held_out, **{**more, "each_template": None})
        half.each_template = lab.each_template  # half of the prompts are fewer than it takes
        alone = half.search(half.score("eap-ig"), 0.5, strategy)
        alone = alone if more else half.minimal(alone)
        assert one is not None and one.mask.equal(alone.mask)
        assert one.faithfulness == pytest.approx(alone.faithfulness, abs=1e-5)
    assert len(lab.prompts) == 16 and lab.exact_evaluations > lab.evaluator.exact_evaluations


def test_a_run_says_how_far_its_circuit_depends_on_the_prompts(card: Path, whole: Path) -> None:
    circuit, lab = Circuit.load(whole), lab_of(card)
    again = list(repeated(lab, lab.search(lab.score("eap-ig"), 0.5, "top-k"), 3))
    masks = [one.mask for one in again if one is not None]
    assert circuit.repeats is not None and circuit.repeats.sizes == tuple(int(mask.sum()) for mask in masks)
    expected = with_repeats(lab, circuit.model_copy(update={"repeats": None}), again, 3)
    assert (expected.repeats, expected.edges, expected.nodes) == (circuit.repeats, circuit.edges, circuit.nodes)
    core, record = core_of(lab.view.graph, masks), circuit.repeats.core
    assert record is not None and len(record.edges) == int(core.sum())
    if core.any():
        assert record.figures is not None and record.figures.templates
        assert record.figures.faithfulness == pytest.approx(lab.faithfulness(core, held_out=True), abs=1e-5)
    section = repeats_section(circuit)
    assert section is not None and section.pairs["searches"].startswith("3, on 8 prompts each: ")
    assert circuit.cost is not None and "Repeating the search" in {stage.name for stage in circuit.cost.stages}
    assert circuit.subset(1).repeats is None


def test_searches_without_a_circuit_are_counted(card: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = lab_of(card)
    found = lab.search(lab.score("eap-ig"), 0.5, "top-k")

    def none(*_: Any, **__: Any) -> None:
        raise SearchError("no circuit")

    monkeypatch.setattr(Experiment, "search", none)
    circuit = with_repeats(lab, lab.bare(found), list(repeated(lab, found, 2)), 2)
    assert circuit.repeats is not None and (circuit.repeats.failed, circuit.repeats.sizes) == (2, ())
    section = repeats_section(circuit)
    assert section is not None and section.pairs == {
        "searches": "2, on 8 prompts each; 2 found no circuit in the target"
    }


def test_what_cannot_be_repeated_is_refused_before_anything_is_run(card: Path) -> None:
    for given, message in (
        ({"repeats": 1}, "One repeat has nothing to be compared with: --repeats must be 0, or 2 and more."),
        ({"repeats": -1}, "repeats must be at least 0, not -1."),
        ({"repeats": 5, "strategy": "top-k", "size": 9}, "Strategy 'top-k' aims at no target here, and --repeats"),
        ({"repeats": 5, "n": 12}, "needs at least 16 of them, not 12"),
    ):
        with pytest.raises(MethodError, match=message.replace(".", r"\.")):
            Settings.of(given)
    lab = lab_of(card)
    for found in (lab.selection(["input->m0", "m0->logits"]), lab.search(lab.score(), 1.0, "top-k", size=30)):
        with pytest.raises(MethodError, match="Only a search with a target can be repeated"):
            next(repeated(lab, found, 2))
    with pytest.raises(MethodError, match="these are means over all of them"):
        next(repeated(lab, lab.search(lab.score(per_example=False), 0.5, "top-k"), 2))


def test_stopped_while_it_repeats_it_goes_on_to_the_same_end(
    card: Path,
    whole: Path,
    tmp_path: Path,
    counted: list[Counted],  # noqa: F811
) -> None:
    discover(card, tiny_view(), **QUICK)
    circuit = discover(card, tiny_view(), out=tmp_path / "run", minutes=stopped_at(counted[-1].runs - 1), **QUICK)
    assert circuit.search is not None and circuit.search.unfinished is not None and circuit.repeats is not None
    assert circuit.search.unfinished.stage == "repeats" and circuit.repeats.made == 2
    assert circuit.certificate is not None and circuit.repeats.core is not None
    assert "the circuit is there, and 2 of 3 repeats of its search. The same command goes on" in remarks(circuit)[0]
    assert facts(circuit)["Search"].startswith("top-k (rank absolute); its repeats stopped after ")
    discover(card, tiny_view(), out=tmp_path / "run", **QUICK)
    assert same_but_for_times(tmp_path / "run" / CIRCUIT) == same_but_for_times(whole / CIRCUIT)
    assert trace_but_for_times(tmp_path / "run" / "trace.jsonl") == trace_but_for_times(whole / "trace.jsonl")


def test_ctrl_c_leaves_the_circuit_and_the_repeats_so_far(
    card: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impatient(lab: Experiment, found: Any, count: int, report: Any) -> Any:
        yield from islice(repeated(lab, found, count, report), 2)
        raise KeyboardInterrupt

    monkeypatch.setattr("acdc_engine.run.repeats.repeated", impatient)
    with pytest.raises(KeyboardInterrupt):
        discover(card, tiny_view(), out=tmp_path / "run", **QUICK)
    left = Circuit.load(tmp_path / "run" / SO_FAR)
    assert left.repeats is not None and left.repeats.made == 2 and left.evaluation is not None
    monkeypatch.undo()
    asked, values = list[Any](), CircuitEvaluator.values

    def noted(self: CircuitEvaluator, *given: Any) -> Any:
        asked.append(self.prompts)
        return values(self, *given)

    monkeypatch.setattr(CircuitEvaluator, "values", noted)
    discover(card, tiny_view(), out=tmp_path / "run", **QUICK)
    assert same_but_for_times(tmp_path / "run" / CIRCUIT) == same_but_for_times(whole / CIRCUIT)
    assert {len(prompts) for prompts in asked} == {8} and len({prompts.fingerprint() for prompts in asked}) == 1
