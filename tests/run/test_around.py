"""A run around a circuit that was found before: what the file says of both, refusals, resume, and what shows them."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from acdc_engine.errors import CircuitFileError, MethodError, RunFolderError
from acdc_engine.experiment import Experiment
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import CIRCUIT, TRACE
from acdc_engine.graph.records import Unfinished
from acdc_engine.graph.style import faint_edges
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.find import find_task
from acdc_engine.run.discover import discover
from acdc_engine.run.evaluate import evaluate
from acdc_engine.run.folder import asked_facts
from acdc_engine.run.progress import LineReporter
from acdc_engine.run.settings import Settings
from acdc_engine.run.verify import verify
from acdc_engine.show.figures import edges as edges_section
from acdc_engine.show.figures import figures, summary
from acdc_engine.show.report import report_html
from acdc_engine.show.viewer import view_data
from acdc_engine.show.words import evidence_of, facts
from tests.test_minutes import Counted, counted, stopped_at  # noqa: F401 a fixture
from tests.test_resume import same_but_for_times, trace_but_for_times
from tests.tiny_task import CARD, SECOND, tiny_view, write_two

QUICK: dict[str, Any] = {"n": 16, "n_held_out": 12, "n_validation": 0, "n_random": 0, "force": True}
WIDE: dict[str, Any] = {**QUICK, "objective": "kl", "faithfulness": 0.8}


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_two(tmp_path_factory.mktemp("card"))


@pytest.fixture(scope="module")
def small(card: Path) -> Path:
    """The folder of the run whose circuit is the inner one."""
    discover(card, tiny_view(), out=card.parent / "small", faithfulness=0.6, **QUICK)
    return card.parent / "small"


@pytest.fixture(scope="module")
def large(card: Path, small: Path) -> Path:
    discover(card, tiny_view(), out=card.parent / "large", around=str(small), **WIDE)
    return card.parent / "large"


@pytest.fixture(scope="module")
def circuit(large: Path) -> Circuit:
    return Circuit.load(large)


def names(circuit: Circuit) -> set[str]:
    return {edge.name for edge in circuit.edges}


def changed(folder: Path, out: Path, **fields: Any) -> str:
    """A circuit with other fields, and no checksum, as a file of its own."""
    content = json.loads((folder / CIRCUIT).read_text())
    for name, value in fields.items():
        old = content.get(name)
        content[name] = old | value if isinstance(old, dict) and isinstance(value, dict) else value
    del content["checksum"]
    out.write_text(json.dumps(content))
    return str(out)


def test_one_file_tells_both(card: Path, small: Path, circuit: Circuit) -> None:
    inner, alone = circuit.inner, Circuit.load(small)
    assert inner is not None and set(inner.edges) == names(alone) < names(circuit)
    assert (inner.source, inner.objective, inner.target_faithfulness) == (str(small), "faithfulness", 0.6)
    assert inner.checksum == json.loads((small / CIRCUIT).read_text())["checksum"]
    # The same held-out prompts: the figures are those of the run that found it, and of a plain evaluation.
    assert alone.evaluation is not None and inner.figures == alone.evaluation.held_out
    view = tiny_view()
    discovery, held_out = build_splits(find_task(card), view.tokenizer, 16, 12, 0)
    lab = Experiment(view, discovery, held_out)
    assert inner.figures.faithfulness == pytest.approx(lab.faithfulness(alone, held_out=True), abs=1e-5)
    assert inner.figures.templates and inner.figures.answers_circuit is not None
    certificate = circuit.certificate
    assert certificate is not None and (certificate.minimal, certificate.inner_edges) == (True, len(inner.edges))
    assert circuit.command is not None and f"around={json.dumps(str(small))}" in circuit.command
    assert circuit.subset(20).inner is None


def test_the_certificate_says_what_was_not_tried(circuit: Circuit) -> None:
    told = evidence_of(circuit)["certificate"]
    assert circuit.inner is not None
    n = len(circuit.inner.edges)
    assert told.startswith("1-minimal around the inner circuit: KL recovered ")
    assert told.endswith(f"without any one edge beyond its {n} it does not; these were not tried for removal")
    assert "beyond the inner circuit's, which were not tried, does not" in report_html(circuit).replace("&#39;", "'")


def test_what_a_file_claims_of_the_inner_circuit_is_recomputed(large: Path, circuit: Circuit, tmp_path: Path) -> None:
    found = verify(large / CIRCUIT, model=tiny_view())
    whats = {claim.what for claim in found.claims}
    assert found.holds and {"inner circuit: KL recovered", "certificate: edges of the inner circuit"} <= whats
    assert {"inner circuit, ABBA: faithfulness", "inner circuit, BABA: faithfulness"} <= whats
    needed = {claim.edge for claim in found.claims if claim.what == "needed for target"}
    assert circuit.inner is not None and needed == names(circuit) - set(circuit.inner.edges)
    inner = json.loads((large / CIRCUIT).read_text())["inner"]
    better = {**inner, "figures": inner["figures"] | {"kl_recovered": 0.9}}
    failing = verify(changed(large, tmp_path / "a.json", inner=better), model=tiny_view()).failing
    assert [claim.what for claim in failing] == ["inner circuit: KL recovered"]
    with pytest.raises(MethodError, match="edges of the inner circuit lie on no path"):
        verify(changed(large, tmp_path / "b.json", inner={**inner, "edges": inner["edges"][:1]}), model=tiny_view())
    hidden = verify(changed(large, tmp_path / "c.json", certificate={"inner_edges": 0}), model=tiny_view()).failing
    assert "certificate: edges of the inner circuit" in {claim.what for claim in hidden}
    absent = next(name for name in ("a1.h3->logits", "a1.h1->logits", "a0.h3->m1") if name not in names(circuit))
    stranger = {**inner, "edges": [*inner["edges"], absent]}
    with pytest.raises(CircuitFileError, match=f"inner.edges: {absent} is no edge of the circuit"):
        Circuit.load(changed(large, tmp_path / "d.json", inner=stranger))


def test_judged_again_both_are(card: Path, circuit: Circuit) -> None:
    here = evaluate(circuit, model=tiny_view(), n_random=0, tests=False)
    assert here.certificate is not None and circuit.certificate is not None and here.inner == circuit.inner
    assert here.certificate.minimal and here.certificate.inner_edges == circuit.certificate.inner_edges
    there = evaluate(circuit, model=tiny_view(), task=card, seed=5, n_random=0, tests=False)
    assert there.inner is not None and there.inner.figures is not None and circuit.inner is not None
    assert there.inner.edges == circuit.inner.edges and there.inner.figures != circuit.inner.figures
    assert there.evaluation is not None
    assert there.inner.figures.metric_clean == there.evaluation.held_out.metric_clean


def test_terminal_report_and_viewer_show_both(circuit: Circuit) -> None:
    inner, judged = circuit.inner, circuit.evaluation
    assert inner is not None and inner.figures is not None and judged is not None
    section = next(one for one in figures(circuit) if one.title.startswith("The inner circuit and the one"))
    assert section in summary(circuit) and section.table is not None
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in section.table.rows}
    assert rows["edges"] == [str(len(inner.edges)), str(len(circuit.edges))]
    for name, attribute in (("faithfulness", "faithfulness"), ("KL recovered", "kl_recovered")):
        assert rows[name] == [f"{getattr(one, attribute):.3f}" for one in (inner.figures, judged.held_out)]
    of_abba = [next(t for t in one.templates if t.name == "ABBA") for one in (inner.figures, judged.held_out)]
    assert rows["faithfulness on ABBA"] == [f"{one.faithfulness:.3f}" for one in of_abba]
    assert rows["KL recovered on ABBA"] == [f"{one.kl_recovered:.3f}" for one in of_abba]
    assert "right answer most likely (top-1)" in rows
    around = f"the {len(inner.edges)} edges of {inner.source}, searched for faithfulness 0.6"
    assert facts(circuit)["Around"].startswith(around)
    table = edges_section(circuit, None).table
    assert table is not None
    place = [column.name for column in table.columns].index("inner")
    marked = {row[0].text.replace(" ", "") for row in table.rows if row[place].text == "yes"}
    assert marked == set(inner.edges)
    data = view_data(circuit)
    assert {edge.name for edge in data.edges if edge.faint} == faint_edges(circuit) == names(circuit) - {*inner.edges}
    assert data.faint == "outside the inner circuit" and "Inner circuit" in dict(data.about)
    page = report_html(circuit)
    assert "The inner circuit and the one around it" in page and "outside the inner circuit" in page


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"around": "x", "repeats": 4}, "--around and --repeats do not go together: --repeats asks which edges the"),
        ({"around": "x", "alternatives": 1}, "--around and --alternatives do not go together: --alternatives asks for"),
    ],
)
def test_what_does_not_go_with_it(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(MethodError, match=message):
        Settings.of(asked)


def test_circuits_of_something_else_are_refused_before_any_run(
    card: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(around: str, **more: Any) -> str:
        with pytest.raises((MethodError, CircuitFileError)) as caught:
            discover(more.pop("card", card), more.pop("model", tiny_view()), around=around, **{**WIDE, **more})
        return str(caught.value)

    monkeypatch.setattr("acdc_engine.patch.CircuitEvaluator.values", None)
    ends = "; a circuit goes around one of the same task, model, ablation and places."
    other = tmp_path / "other.toml"
    other.write_text((CARD + SECOND).replace('name = "tiny"', 'name = "another"'))
    told = f"--around {small}: it is a circuit of the task tiny, and this run is about the task another{ends}"
    assert refuse(str(small), card=other) == told
    other.write_text(CARD)
    told = f"--around {small}: it is a circuit of an earlier or other card of that name, and this run is about the task"
    assert refuse(str(small), card=other).startswith(told)
    told = f"it is a circuit of ablation patch, and this run is about ablation zero{ends}"
    assert refuse(str(small), ablation="zero").endswith(told)
    told = f"it is a circuit of whole nodes, and this run is about places in the prompt (--where){ends}"
    assert refuse(str(small), where="spans").endswith(told)
    told = refuse(str(small), model=tiny_view("llama"))
    assert told.startswith(f"--around {small}: it is a circuit of llama_grouped (weights ") and told.endswith(ends)
    told = "it is a circuit of prompts that begin otherwise (--bos, --no-bos), and this run is about others; a circuit"
    assert told in refuse(str(small), prepend_bos=True)
    told = "of the 12 held-out prompts of this run, which flatters it; take its --seed 0 and numbers of prompts."
    assert refuse(str(small), seed=3).endswith(told)
    size = len(Circuit.load(small).edges)
    told = (
        f"The inner circuit has {size} edges by itself, so one around it has more, not {size}: ask for a larger --size."
    )
    assert refuse(str(small), strategy="top-k", size=size) == told
    written = tmp_path / "by-hand.json"
    Circuit.from_edges(Circuit.load(small), ["input->m0", "m0->logits"]).save(written)
    assert "the file does not say of which task it is a circuit; acdc evaluate" in refuse(str(written))
    assert "No circuit file nowhere" in refuse("nowhere")


def test_a_circuit_that_does_it_already_has_nothing_to_look_for(card: Path, small: Path) -> None:
    with pytest.raises(MethodError) as caught:
        discover(card, tiny_view(), around=str(small), **{**QUICK, "faithfulness": 0.5})
    assert "that meets the target [0.5, 1.5] already, and nothing around it would be smaller" in str(caught.value)


def test_stopped_it_goes_on_around_the_same_circuit_and_no_other(
    card: Path,
    small: Path,
    large: Path,
    tmp_path: Path,
    counted: list[Counted],  # noqa: F811
) -> None:
    asked = {**WIDE, "around": str(small)}
    discover(card, tiny_view(), **asked)
    inner = names(Circuit.load(small))
    moved, other = tmp_path / "moved.json", tmp_path / "other.json"
    moved.write_bytes((small / CIRCUIT).read_bytes())
    Circuit.load(small).model_copy(update={"command": "another"}).save(other)
    for part in (3, 1.2):
        folder = tmp_path / str(part)
        stopped = discover(card, tiny_view(), out=folder, minutes=stopped_at(int(counted[0].runs / part)), **asked)
        assert stopped.search is not None and stopped.search.unfinished is not None and inner <= names(stopped)
        with pytest.raises(RunFolderError, match=r"of another command .*around: \w{8} there and \w{8} here"):
            discover(card, tiny_view(), out=folder, **{**asked, "around": str(other)})
        with pytest.raises(RunFolderError, match=r"of another command .*around: \w{8} there and None here"):
            discover(card, tiny_view(), out=folder, **WIDE)
        discover(card, tiny_view(), out=folder, **asked)
        assert same_but_for_times(folder / CIRCUIT) == same_but_for_times(large / CIRCUIT)
        assert trace_but_for_times(folder / TRACE) == trace_but_for_times(large / TRACE)
    same = asked_facts(find_task(card), Settings.of(asked), "m")
    assert same == asked_facts(find_task(card), Settings.of({**asked, "around": str(moved)}), "m")


def test_around_a_circuit_whose_search_was_stopped_there_is_a_note(card: Path, small: Path, tmp_path: Path) -> None:
    found = Circuit.load(small)
    assert found.search is not None
    stopped = found.search.model_copy(update={"unfinished": Unfinished(stage="edge tests", minutes=3)})
    found.model_copy(update={"search": stopped}).save(tmp_path / "stopped.json")
    said = StringIO()
    for inner in (small, tmp_path / "stopped.json"):
        discover(card, tiny_view(), **{**WIDE, "around": str(inner)}, progress=LineReporter(Console(file=said)))
        assert ("The search for the inner circuit was stopped after 3 minutes" in said.getvalue()) == (inner != small)


def test_with_places_around_a_circuit_of_the_same_places(card: Path, tmp_path: Path) -> None:
    how = {**QUICK, "n": 8, "where": "spans"}
    small = discover(card, tiny_view(), out=tmp_path / "small", faithfulness=0.6, **how)
    asked = {**how, "objective": "kl", "faithfulness": 0.8, "around": str(tmp_path / "small")}
    large = discover(card, tiny_view(), out=tmp_path / "large", **asked)
    assert large.inner is not None and set(large.inner.edges) == names(small) < names(large)
    assert verify(tmp_path / "large" / CIRCUIT, model=tiny_view()).holds
    data = view_data(large)
    assert data.places is not None and {e.name for e in data.places.edges if e.faint} == faint_edges(large)
    message = r"it is a circuit of places in the prompt, and this run is about whole nodes \(--where\)"
    with pytest.raises(MethodError, match=message):
        discover(card, tiny_view(), **{**asked, "where": "none"})
    with pytest.raises(MethodError, match=r"it is a circuit of the places .*end, and this run is about the places"):
        discover(card, tiny_view(), **{**asked, "where": "tokens"})
