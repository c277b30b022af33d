"""Alternatives in a run: the two circuits of a doubled model, the file, the report, Ctrl-C, the time, bad input."""

from pathlib import Path
from typing import Any

import pytest

from acdc_engine.errors import MethodError
from acdc_engine.experiment import Experiment
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import CIRCUIT, SO_FAR
from acdc_engine.pages import Report
from acdc_engine.run import alternatives as module
from acdc_engine.run.alternatives import Alternation
from acdc_engine.run.discover import discover
from acdc_engine.run.progress import Reporter
from acdc_engine.run.settings import Settings
from acdc_engine.run.steps import Deadline
from acdc_engine.search import Found
from acdc_engine.show.alternatives import alternatives, beside
from tests.micro_models import doubled
from tests.tiny_task import tiny_view, write_card

ASKED: dict[str, Any] = {"force": True, "alternatives": 1}
QUICK: dict[str, Any] = {"n": 6, "n_held_out": 12, "n_random": 0, "n_validation": 0, "faithfulness": 0.7, **ASKED}
HEADS = {"a0.h0": ["input->a0.h0<v>", "a0.h0->logits"], "a0.h1": ["input->a0.h1<v>", "a0.h1->logits"]}


def twice(**settings: Any) -> Circuit:
    """The circuit of a model in which two heads do the same, with its alternatives."""
    model, prompts = doubled(12)
    lab = Experiment(model, prompts, prompts, metric="prob_diff")
    scores = lab.score("eap-ig")
    first = lab.minimal(lab.search(scores))
    others = Alternation(lab, first, scores, Settings(**settings), Reporter())
    others.search()
    return lab.circuit(first, n_random=0).model_copy(update={"alternatives": others.record(False)})


def names(edges: Any) -> list[str]:
    return [f"{edge.sender}->{edge.receiver}" for edge in edges]


def test_both_circuits_of_a_doubled_model_and_that_there_is_no_third(tmp_path: Path) -> None:
    circuit = twice(alternatives=2, overlap=0.0)
    found = circuit.alternatives
    assert found is not None and len(found.found) == 1 and found.searches == 2 and found.evaluations > 4
    (other,) = found.found
    assert sorted([names(circuit.edges), names(other.edges)]) == [HEADS["a0.h0"], HEADS["a0.h1"]]
    assert (other.overlaps, other.n_edges) == ((0.0,), 2)
    assert (other.discovery, other.held_out) == pytest.approx((1, 1), abs=1e-3)
    union, shared = found.union, found.intersection
    assert union is not None and shared is not None and (union.n_edges, shared.n_edges) == (4, 0)
    assert (union.held_out, shared.held_out) == pytest.approx((1, 0), abs=1e-6)
    circuit.save(tmp_path / "c.json")
    assert Circuit.load(tmp_path / "c.json") == circuit
    section = alternatives(circuit)
    assert section is not None and section.table is not None
    assert section.texts[0].startswith("1 of 2 found that meets the target, with at most 0% of the edges in common")
    assert [row[0].text for row in section.table.rows] == [
        *("this circuit", "alternative 1", "all together", "what all share"),
    ]
    drawn = dict(beside(circuit))
    assert list(drawn) == ["This circuit", "Alternative 1"]
    assert names(drawn["Alternative 1"].edges) == names(other.edges)


def test_a_run_has_them_in_its_file_and_report(tmp_path: Path) -> None:
    circuit = discover(write_card(tmp_path), tiny_view(), out=tmp_path / "run", **{**QUICK, "faithfulness": 0.6})
    found = circuit.alternatives
    assert found is not None and (found.asked, found.overlap, found.stopped) == (1, 0.3, False)
    assert Circuit.load(tmp_path / "run") == circuit and len(found.found) == 1
    for one in found.found:
        assert max(one.overlaps) <= 0.3 and 0.6 <= one.discovery <= 1.4
    page = Report(tmp_path / "run").html
    assert "Other circuits for the same target" in page and page.count('id="alternative-') == len(found.found) + 1
    assert circuit.cost is not None and any(stage.name == "Alternative 1" for stage in circuit.cost.stages)


def test_an_interruption_keeps_the_circuit_with_its_evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the same command goes on to what an undisturbed run finds."""
    card, where = write_card(tmp_path), tmp_path / "run"

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, "alternative", interrupted)
        with pytest.raises(KeyboardInterrupt):
            discover(card, tiny_view(), out=where, **QUICK)
    left = Circuit.load(where / SO_FAR)
    assert left.evaluation is not None and left.sizes and left.alternatives is None
    whole, again = discover(card, tiny_view(), **QUICK), discover(card, tiny_view(), out=where, **QUICK)
    assert not (where / SO_FAR).exists() and (where / CIRCUIT).exists()
    assert again.alternatives is not None and whole.alternatives is not None
    assert again.alternatives.found == whole.alternatives.found and again.edges == left.edges


def test_time_that_is_over_ends_them_and_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Deadline, "keep", lambda self, seconds: setattr(self, "_kept", 0 if seconds else 1e9))
    circuit = discover(write_card(tmp_path), tiny_view(), minutes=60.0, **QUICK)
    found = circuit.alternatives
    assert found is not None and found.stopped and (found.found, found.searches) == ((), 0)
    section = alternatives(circuit)
    assert section is not None and section.texts[0].endswith("The time was over before the searches were.")
    assert circuit.search is not None and circuit.search.unfinished is None and circuit.certificate is not None


def test_what_a_stopped_search_had_come_to_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time is over after the second search's first circuit in the target."""

    class Over(Exception):
        pass

    def search(given: Any, choice: Any, earlier: Any, *_: Any) -> Any:
        given.report("made", Found(~earlier[0] & given.graph.exists, 1.0), True)
        raise Over

    model, prompts = doubled(12)
    lab = Experiment(model, prompts, prompts, metric="prob_diff")
    scores = lab.score("eap-ig")
    others = Alternation(lab, lab.minimal(lab.search(scores)), scores, Settings(alternatives=1), Reporter())
    monkeypatch.setattr(module, "alternative", search)
    with pytest.raises(Over):
        others.search()
    found = others.record(stopped=True)
    assert found.stopped and len(found.found) == found.searches == 1 and found.found[0].overlaps == (0.0,)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alternatives": -1}, r"alternatives must be at least 0, not -1\."),
        ({"overlap": 1.0}, r"overlap must be at least 0 and less than 1, not 1\.0"),
        (
            {"alternatives": 1, "strategy": "top-k", "size": 40},
            "'top-k' aims at no target here, and --alternatives asks",
        ),
        ({"alternatives": 1, "strategy": "acdc", "threshold": 0.1}, "'acdc' aims at no target here"),
    ],
)
def test_bad_input_is_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MethodError, match=message):
        Settings(**settings)
