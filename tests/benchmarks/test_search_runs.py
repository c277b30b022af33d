"""The benchmark of the searches runs on a tiny model, writes what it says, and its two sweeps agree."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from acdc_engine.errors import SearchError
from acdc_engine.patch.judge import Judge, Target
from acdc_engine.prompts.find import find_task
from acdc_engine.run.progress import Reporter
from acdc_engine.search import RANKS, find_circuit
from benchmarks import inside, pass_costs, search
from benchmarks.fresh_python import run_python
from benchmarks.one_shot import METHODS
from benchmarks.section import COLUMNS, Figure, figures_table, fits, rows_table
from benchmarks.sweeps import one_by_one
from benchmarks.trial import Row, Settings, Took
from tests.tiny_task import tiny_view, write_card


def row(edges: int = 10, faithfulness: float = 1.0, kl: float = 0.9, agreement: float = 1.0) -> Row:
    return Row("r", edges, 0.95, faithfulness, 0.8, 1.1, kl, agreement, 0.25, Took(1.25, 6.04, 1234))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that one smoke run of all parts leaves; in a process of its own: no shapes are checked there."""
    folder = tmp_path_factory.mktemp("results")
    said = run_python(["-m", "benchmarks.search", "--tiny", "--out", str(folder)])
    assert "speculative ACDC against one by one" in said
    return folder


def test_all_parts_are_written(written: Path) -> None:
    (as_json,) = written.glob("search-random-*.json")
    record = json.loads(as_json.read_text())
    assert record["settings"]["parts"] == list(search.PARTS)
    assert record["settings"]["run_again"] == (
        "`python -m benchmarks.search --tiny --seed 0 --parts sizes,search,kl,minimality,acdc,stability`"
    )
    assert len(record["sizes"]["smallest"]) == len(METHODS) * len(RANKS)
    assert all(found["took"]["forwards"] > 0 for found in record["sizes"]["smallest"])
    whats = [found["what"] for found in record["search"]["rows"]]
    assert whats[:2] == ["iterative", inside.DEFAULT]
    before, after = (found["edges"] for found in record["search"]["rows"][:2])
    assert 0 < after <= before
    assert all(found["searched"] >= 0.9 - 1e-5 for found in record["kl"]["one_shot"] + record["kl"]["ours"])
    assert [figure["what"].partition(" ")[0] for figure in record["figures"]] == (
        ["edges", "held-out", "edges", "edges", *["minimality"] * 3, *["speculative"] * 3, "stability"]
    )


def test_the_sweeps_end_in_the_same_circuit(written: Path) -> None:
    (as_json,) = written.glob("search-random-*.json")
    sweeps = json.loads(as_json.read_text())["acdc"]["sweeps"]
    assert [(sweep["metric"], sweep["different"]) for sweep in sweeps] == [("logit_diff", 0)] * 2 + [("kl", 0)]
    for sweep in sweeps:
        assert sweep["edges"] < sweep["start"] == sweep["tally"]["tested"] + sweep["tally"]["untested"]


def test_both_ways_to_try_every_edge_give_the_same_values(written: Path) -> None:
    (as_json,) = written.glob("search-random-*.json")
    found = json.loads(as_json.read_text())["minimality"]
    apart = [float(check.partition("differ by ")[2].partition(" ")[0]) for check in found["checks"]]
    assert len(apart) == 1
    assert max(apart) < 1e-3
    for cost in found["costs"]:
        assert cost["sampled"] == (32 if cost["what"] == pass_costs.FROM_INPUT else cost["edges"])


def test_the_table_shows_every_figure_beside_the_size(written: Path) -> None:
    (as_markdown,) = written.glob("search-random-*.md")
    text = as_markdown.read_text()
    headings = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "Figures to reach",
        "One-shot top-k: smallest that meets [0.9, 1.1]",
        "One-shot top-k: given sizes",
        "Scoring all edges",
        "Searching inside the circuit, target [0.9, 1.1]",
        "What searching inside the circuit buys",
        "KL recovered",
        "What searching for KL inside the circuit buys",
        "Minimality pass",
        "Circuits after the pass",
        "ACDC: speculative against one by one",
        "Circuits of the sweeps",
        "Stability: 50 resamples of 6 prompts",
    ]
    assert text.count("| " + " | ".join(COLUMNS) + " |") == 6
    widths = {len(line.split(" | ")) for line in text.splitlines() if line.startswith("| iterative")}
    assert widths == {len(COLUMNS)}


def test_a_task_is_split_and_judged_by_its_own_metric(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    card = find_task(str(write_card(tmp_path)))
    monkeypatch.setattr(search, "load_model", lambda name, device: tiny_view())
    monkeypatch.setattr(search, "find_task", lambda name: card)
    trial = search.prepare(Settings("tiny", n=3, n_held_out=5, batch_size=2), False, Reporter())
    assert (len(trial.discovery), len(trial.held_out)) == (3, 5)
    assert trial.judge.metric.name == trial.unseen.metric.name == card.metric
    assert not {pair.clean for pair in trial.discovery.pairs} & {pair.clean for pair in trial.held_out.pairs}


def test_what_is_done_is_there_when_a_later_part_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stopped(*_: object) -> None:
        raise SearchError("no circuit")

    monkeypatch.setitem(search.PARTS, "acdc", stopped)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)  # other tests keep theirs
    arguments = ["--tiny", "--parts", "acdc, stability,search", "--out", str(tmp_path)]
    monkeypatch.setitem(search.PARTS, "search", search.PARTS["stability"])
    result = CliRunner().invoke(search.app, arguments)
    assert result.exit_code == 1
    assert "Error: no circuit" in result.output
    (as_json,) = tmp_path.glob("search-random-*.json")
    assert json.loads(as_json.read_text())["settings"]["parts"] == ["search"]


@pytest.mark.parametrize(("parts", "says"), [("sizes,size", "size is no part"), (" ,", "nothing is no part")])
def test_refuses_unknown_parts(parts: str, says: str) -> None:
    result = CliRunner().invoke(search.app, ["--parts", parts])
    assert result.exit_code == 2
    assert says in result.output


def test_a_search_that_fails_is_reported_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = search.prepare(search.SMALL, True, Reporter())
    searched = find_circuit

    def fails(graph: object, scores: object, judge: object, target: object, choice: object, report: object) -> object:
        if getattr(choice, "strategy", "") == "iterative":
            raise SearchError("diverged")
        return searched(graph, scores, judge, target, choice, report)  # type: ignore[arg-type]

    monkeypatch.setattr(inside, "find_circuit", fails)
    section = inside.search_part(trial, {})
    assert section.record["failed"] == ["iterative: diverged"]
    assert [found.what for found in section.rows] == [inside.LEARNED, f"{inside.LEARNED}, {inside.PASS}"]
    assert section.figures == ()
    assert section.tables[0].note == "iterative: diverged"


def test_one_by_one_drops_what_nobody_reads_without_a_run() -> None:
    trial = search.prepare(search.SMALL, True, Reporter())
    before, seen = trial.judge.evaluator.exact_evaluations, list[int]()
    left = one_by_one(trial.judge, trial.graph.exists, 1e9, lambda: seen.append(1))
    assert not left.any()
    assert len(seen) == trial.graph.n_edges
    # Every edge into the logits costs less than a billion; then nobody reads any node.
    into_logits = int(trial.graph.exists[:, trial.graph.logits].sum())
    assert trial.judge.evaluator.exact_evaluations - before == 1 + into_logits


def test_a_circuit_that_no_band_holds_gets_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = search.prepare(search.SMALL, True, Reporter())

    def above(judge: Judge, masks: Tensor, near: Tensor | None = None) -> list[float]:
        return [2.5] * len(masks)

    order = trial.graph.exists.nonzero()
    monkeypatch.setattr(Judge, "faithfulness", above)
    name, found, target = pass_costs._start_of_pass(trial, "rms", order)
    assert (name, found.faithfulness, target) == ("EAP-IG, rms, f 2.50, own band", 2.5, None)
    monkeypatch.setattr(Judge, "faithfulness", lambda judge, masks, near=None: [1.4] * len(masks))
    name, found, own = pass_costs._start_of_pass(trial, "rms", order)
    assert found.size >= search.SMALL.tested
    assert own is not None
    assert own.faithfulness == pytest.approx(0.6)
    assert name == "EAP-IG, rms, f 1.40, own band [0.6, 1.4]"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (row(), "prompts"),
        (row(kl=0.49), "mean only"),
        (row(agreement=0.79), "mean only"),
        (row(faithfulness=1.11), "no"),
    ],
)
def test_a_circuit_that_fits_the_mean_only_is_told_apart(found: Row, said: str) -> None:
    assert fits(found, Target(0.9)) == said


def test_tables() -> None:
    (cells,) = rows_table("t", [row()], Target(0.9)).rows
    assert cells == (
        "r", "10", "1.000", "0.80 to 1.10", "0.900", "100%", "0.250", "prompts", "0.950", "1.25", "6.0", "1,234",
    )  # fmt: skip
    assert figures_table([Figure("a", "<= 1", "2", False)]).rows == (("a", "<= 1", "2", "no"),)


def test_default_figures_take_both_size_and_held_out_faithfulness() -> None:
    met = [f.met for f in inside._default_figures(row(edges=100), Target(0.9))]
    too_large = [f.met for f in inside._default_figures(row(edges=101), Target(0.9))]
    beside = [f.met for f in inside._default_figures(row(faithfulness=1.11), Target(0.9))]
    assert (met, too_large, beside) == ([True, True], [False, True], [False, True])


def test_kl_figures_name_what_others_do_and_the_smallest() -> None:
    others, smallest = inside._kl_figures(row(edges=10), [row(edges=200), row(edges=90)], Target(0.9))
    assert (others.met, smallest.met) == (True, False)
    assert others.measured == "10 of 200: 0.050; KL recovered 0.900, agreement 100%"
    assert not inside._kl_figures(row(edges=10, kl=0.89), [row(edges=200)], Target(0.9))[0].met
