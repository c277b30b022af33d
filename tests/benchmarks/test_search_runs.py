"""The benchmark of the searches runs on a tiny model, writes what it says, and its two sweeps agree."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from acdc_engine.errors import SearchError
from acdc_engine.patch.judge import Target
from acdc_engine.run.progress import Reporter
from acdc_engine.search import RANKS
from benchmarks import inside, search
from benchmarks.fresh_python import run_python
from benchmarks.report import Figure, figures_table
from benchmarks.sweeps import one_by_one
from benchmarks.trial import COLUMNS, Row, Took, fits, rows_table


def row(edges: int = 10, faithfulness: float = 1.0, kl: float = 0.9, agreement: float = 1.0) -> Row:
    return Row("r", edges, 0.95, faithfulness, 0.8, 1.1, kl, agreement, 0.25, Took(1.25, 6.04, 1234))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that one smoke run of all parts leaves; in a process of its own: no shapes are checked there."""
    folder = tmp_path_factory.mktemp("results")
    said = run_python(["-m", "benchmarks.search", "--tiny", "--out", str(folder)])
    assert "speculative ACDC against one by one" in said
    return folder


def test_all_parts_are_written_and_agree(written: Path) -> None:
    (as_json,) = written.glob("search-random-*.json")
    record = json.loads(as_json.read_text())
    assert record["settings"]["parts"] == list(search.PARTS)
    assert len(record["sizes"]["smallest"]) == len(inside.METHODS) * len(RANKS)
    before, after = (found["edges"] for found in record["search"]["rows"][:2])
    assert 0 < after <= before
    assert all(found["searched"] >= 0.9 - 1e-5 for found in record["kl"]["one_shot"] + record["kl"]["ours"])
    sweeps = record["acdc"]["sweeps"]
    assert [(sweep["metric"], sweep["different"]) for sweep in sweeps] == [("logit_diff", 0)] * 2 + [("kl", 0)]
    assert all(sweep["start"] == sweep["tally"]["tested"] + sweep["tally"]["untested"] for sweep in sweeps)
    (check,) = record["minimality"]["checks"]  # both ways to try every edge
    assert float(check.partition("differ by ")[2].partition(" ")[0]) < 1e-3
    (as_markdown,) = written.glob("search-random-*.md")
    text = as_markdown.read_text()
    assert text.count("| " + " | ".join(COLUMNS) + " |") == 6
    assert {len(line.split(" | ")) for line in text.splitlines() if line.startswith("| iterative")} == {len(COLUMNS)}


def test_what_is_done_is_there_when_a_later_part_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stopped(*_: object) -> None:
        raise SearchError("no circuit")

    monkeypatch.setitem(search.PARTS, "acdc", stopped)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)  # other tests keep theirs
    monkeypatch.setitem(search.PARTS, "search", search.PARTS["stability"])
    result = CliRunner().invoke(search.app, ["--tiny", "--parts", "acdc, stability,search", "--out", str(tmp_path)])
    assert result.exit_code == 1 and "Error: no circuit" in result.output
    (as_json,) = tmp_path.glob("search-random-*.json")
    assert json.loads(as_json.read_text())["settings"]["parts"] == ["search"]


def test_one_by_one_drops_what_nobody_reads_without_a_run() -> None:
    trial = search.prepare(search.SMALL, True, Reporter())
    before, seen = trial.judge.evaluator.exact_evaluations, list[int]()
    left = one_by_one(trial.judge, trial.graph.exists, 1e9, lambda: seen.append(1))
    assert not left.any()
    assert len(seen) == trial.graph.n_edges
    # Every edge into the logits costs less than a billion; then nobody reads any node.
    into_logits = int(trial.graph.exists[:, trial.graph.logits].sum())
    assert trial.judge.evaluator.exact_evaluations - before == 1 + into_logits


def test_tables_and_a_circuit_that_fits_the_mean_only() -> None:
    found = [row(), row(kl=0.49), row(agreement=0.79), row(faithfulness=1.11)]
    assert [fits(one, Target(0.9)) for one in found] == ["prompts", "mean only", "mean only", "no"]
    (cells,) = rows_table("t", [row()], Target(0.9)).rows
    assert cells == (
        "r", "10", "1.000", "0.80 to 1.10", "0.900", "100%", "0.250", "prompts", "0.950", "1.25", "6.0", "1,234",
    )  # fmt: skip
    assert figures_table([Figure("a", "<= 1", "2", False)]).rows == (("a", "<= 1", "2", "no"),)


def test_kl_figures_name_what_others_do_and_the_smallest() -> None:
    others, smallest = inside._kl_figures(row(edges=10), [row(edges=200), row(edges=90)], Target(0.9))
    assert (others.met, smallest.met) == (True, False)
    assert others.measured == "10 of 200: 0.050; KL recovered 0.900, agreement 100%"
    assert not inside._kl_figures(row(edges=10, kl=0.89), [row(edges=200)], Target(0.9))[0].met
