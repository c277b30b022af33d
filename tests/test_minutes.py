"""`--minutes`: every search ends in time, with a circuit and its evidence, and goes on later as if nothing had been."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.files import CIRCUIT, TRACE
from acdc_engine.patch.trace import read_trace
from acdc_engine.run.discover import discover
from acdc_engine.run.steps import Deadline, OutOfTime
from acdc_engine.show.remarks import remarks
from acdc_engine.show.words import evidence_of, facts
from tests.run.test_progress import Hand
from tests.test_resume import same_but_for_times, scores_in, trace_but_for_times
from tests.tiny_task import tiny_view, write_card

QUICK: dict[str, Any] = {"n": 6, "n_held_out": 5, "n_random": 2, "faithfulness": 0.7, "force": True, "n_validation": 0}
SEARCHES: dict[str, dict[str, Any]] = {
    "iterative": {},
    "validated": {"n": 40, "n_validation": 8},
    "iterative, kl": {"objective": "kl"},
    "top-k": {"strategy": "top-k"},
    "greedy": {"strategy": "greedy"},
    "a size": {"strategy": "top-k", "size": 30},
    "a size, kl": {"strategy": "top-k", "size": 30, "objective": "kl"},
    "a threshold": {"strategy": "threshold", "threshold": 0.01},
    "acdc": {"strategy": "acdc", "threshold": 0.01},
}


@pytest.fixture(autouse=True)
def short_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acdc_engine.show.report.report_html", lambda circuit, **_: "a report")


@pytest.fixture
def card(tmp_path: Path) -> Path:
    return write_card(tmp_path)


class Counted(Deadline):
    """Its time is a number of runs of the model during the search, a second each."""

    def __init__(self, minutes: float | None) -> None:
        self.runs, self.begun = 0, False
        super().__init__(minutes, lambda: float(self.runs))

    def keep(self, seconds: float) -> None:
        """The evidence takes no time that this clock knows of."""

    def check(self) -> None:
        super().check()
        self.begun |= self.armed
        self.runs += self.armed or not self.begun


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Counted]:
    """The deadlines of all runs."""
    made: list[Counted] = []

    def make(minutes: float | None) -> Counted:
        made.append(Counted(minutes))
        return made[-1]

    monkeypatch.setattr("acdc_engine.run.discover.Deadline", make)
    return made


def stopped_at(runs: int) -> float:
    return (runs - 0.5) / 60  # no matter how it is rounded


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_that_is_stopped_delivers_and_goes_on_to_the_same_end(
    name: str, card: Path, tmp_path: Path, counted: list[Counted]
) -> None:
    asked = {**QUICK, **SEARCHES[name]}
    discover(card, tiny_view(), out=tmp_path / "whole", **asked)
    needed = counted[-1].runs
    for runs in (needed // 3, needed - 1):
        folder = tmp_path / str(runs)
        circuit = discover(card, tiny_view(), out=folder, minutes=stopped_at(runs), **asked)
        assert counted[-1].runs <= max(runs, first_circuit(folder))
        assert circuit.search is not None and circuit.search.unfinished is not None
        assert circuit.search.unfinished.minutes == stopped_at(runs)
        assert circuit.evaluation is not None and circuit.evaluation.random_circuits is not None
        assert circuit.sizes and circuit.examples
        # Under KL the effects in the metric are measured last: by then it has been proved that every edge is needed.
        # Where a search has gone on, what was proved before stays.
        assert circuit.certificate is None or name == "validated" or (name == "iterative, kl" and runs == needed - 1)
        graph = Graph(circuit.graph().shape)
        assert clean(graph, circuit.mask()).equal(circuit.mask())
        assert Circuit.load(folder / CIRCUIT) == circuit
        discover(card, tiny_view(), out=folder, **asked)
        assert same_but_for_times(folder / CIRCUIT) == same_but_for_times(tmp_path / "whole" / CIRCUIT)
        assert trace_but_for_times(folder / TRACE) == trace_but_for_times(tmp_path / "whole" / TRACE)
        assert scores_in(folder).equal(scores_in(tmp_path / "whole"))


def first_circuit(folder: Path) -> int:
    """Runs of the model at which there was something to deliver at the latest: this one is never cut short."""
    recorded = read_trace(folder / TRACE)
    assert recorded is not None
    return 8 * len(recorded.answers)


def test_several_short_runs_come_to_the_same_end(card: Path, tmp_path: Path, counted: list[Counted]) -> None:
    discover(card, tiny_view(), out=tmp_path / "whole", **QUICK)
    whole = counted[-1].runs
    for _ in range(1000):
        circuit = discover(card, tiny_view(), out=tmp_path / "run", minutes=stopped_at(whole // 4), **QUICK)
        if circuit.search is not None and circuit.search.unfinished is None:
            break
    assert len(counted) > 3
    there, here = (json.loads((tmp_path / name / CIRCUIT).read_text()) for name in ("whole", "run"))
    assert (there["edges"], there["certificate"]) == (here["edges"], here["certificate"])


def test_the_smallest_in_the_band_is_delivered_or_else_the_nearest(
    card: Path, tmp_path: Path, counted: list[Counted]
) -> None:
    """By the trace, which has every circuit that was run."""
    for runs in (2, 6, 12, 25, 40):
        folder = tmp_path / str(runs)
        circuit = discover(card, tiny_view(), out=folder, minutes=stopped_at(runs), **QUICK)
        assert circuit.evaluation is not None
        steps = [line for line in map(json.loads, (folder / TRACE).read_text().splitlines()) if line["kind"] == "step"]
        tried = [step for step in steps if 0 < step["edges"] < circuit_edges(circuit)]
        met = [step["edges"] for step in tried if step["meets_target"]]
        found = circuit.evaluation.discovery.faithfulness
        if met:
            assert len(circuit.edges) == min(met)
        else:
            assert found == pytest.approx(nearest([step["faithfulness"] for step in tried]), abs=1e-5)


def circuit_edges(circuit: Circuit) -> int:
    return circuit.graph().n_edges


def nearest(values: list[float]) -> float:
    return min(values, key=lambda f: max(0.7 - f, f - 1.3, 0.0))


def test_what_is_said_of_a_circuit_outside_the_target(card: Path, counted: list[Counted]) -> None:
    circuit = discover(card, tiny_view(), minutes=stopped_at(1), **{**QUICK, "faithfulness": 1.0})
    assert facts(circuit)["Search"] == "iterative; stopped after 0.00833333 minutes, unfinished"
    assert evidence_of(circuit)["single edges"] == "not all tested when the time was over: no effects, no certificate"
    first = remarks(circuit)[0]
    assert "the search had not ended, and nothing in the target [1, 1] had been found. This is the circuit" in first
    assert first.endswith("The same command goes on from there, for as long again.")


def test_what_is_said_where_only_the_tests_of_edges_were_cut(card: Path, counted: list[Counted]) -> None:
    asked = {**QUICK, **SEARCHES["a size"]}
    circuit = discover(card, tiny_view(), minutes=stopped_at(2), **asked)
    assert circuit.search is not None and circuit.search.unfinished is not None
    assert circuit.search.unfinished.stage == "edge tests" and len(circuit.edges) <= 30
    assert "the tests of single edges: their effects are not known." in remarks(circuit)[0]


def test_without_edge_tests_nothing_is_known_of_single_edges(card: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        pytest.fail("edges were tested")

    for function in ("minimal", "singles"):
        monkeypatch.setattr(f"acdc_engine.experiment.{function}", never)
    for more in ({}, SEARCHES["a size"]):
        circuit = discover(card, tiny_view(), edge_tests=False, **{**QUICK, **more})
        assert circuit.certificate is None and all(edge.effect is None for edge in circuit.edges)
        assert circuit.evaluation is not None and circuit.search is not None and circuit.search.unfinished is None
        assert evidence_of(circuit)["single edges"] == "not tested (--no-edge-tests): no effects, no certificate"
        assert circuit.command is not None and "edge_tests=False" in circuit.command


def test_interrupted_before_anything_is_in_the_band_the_nearest_circuit_is_left(
    card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: list[Counted]
) -> None:
    check: Callable[[Counted], None] = Counted.check

    def impatient(self: Counted) -> None:
        if self.armed:
            raise KeyboardInterrupt
        check(self)

    monkeypatch.setattr(Counted, "check", impatient)
    with pytest.raises(KeyboardInterrupt):
        discover(card, tiny_view(), out=tmp_path / "run", **{**QUICK, "faithfulness": 1.0})
    left = Circuit.load(tmp_path / "run" / "circuit-so-far.json")
    assert left.search is not None and left.search.unfinished is not None
    assert (left.search.unfinished.stage, left.search.unfinished.minutes) == ("search", None)
    assert facts(left)["Search"] == "iterative; interrupted, unfinished"


def test_a_search_ends_when_its_time_is_over_and_there_is_something_to_deliver() -> None:
    clock = Hand()
    deadline = Deadline(2.0, clock)
    deadline.keep(20.0)
    clock.now += 99
    deadline.armed = True
    deadline.check()
    assert deadline.left() == "at most 0:01 left"
    clock.now += 1
    with pytest.raises(OutOfTime):
        deadline.check()
    deadline.armed = False
    deadline.check()
    without = Deadline(None, clock)
    without.armed = True
    clock.now += 1e9
    without.check()
    assert without.left() == ""


def test_the_evidence_gets_half_of_the_time_at_most() -> None:
    clock = Hand()
    deadline = Deadline(1.0, clock)
    deadline.armed = True
    deadline.keep(1e6)
    clock.now += 29
    deadline.check()
    clock.now += 1
    with pytest.raises(OutOfTime):
        deadline.check()
