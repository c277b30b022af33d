"""`acdc verify` and `acdc evaluate` on the command line: what is printed, and the exit status."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from acdc_engine import cli
from acdc_engine.cli.command import Exit
from acdc_engine.graph.circuit import Circuit
from tests.run.circuit_files import NAME, by_hand, circuit, saved, with_edge
from tests.tiny_task import tiny_view, write_card

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny model, whatever is asked for; a terminal of 80 columns."""
    monkeypatch.setattr("acdc_engine.run.reopen.load_model", lambda *a, **k: tiny_view(NAME))
    monkeypatch.setattr(cli.out, "width", 80)


def acdc(*arguments: str) -> Any:
    found = RUNNER.invoke(cli.app, list(arguments))
    tables = re.split("Note:|Written to|All claims", found.stdout)[0]
    assert max(map(len, tables.splitlines()), default=0) <= 80
    return found


def flat(text: str) -> str:
    return " ".join(text.split())


def test_a_true_file(tmp_path: Path) -> None:
    found = acdc("verify", str(saved(tmp_path)))
    assert found.exit_code == 0, found.output
    n = len(circuit().edges)
    text = flat(found.stdout)
    assert re.search(rf"Everything holds: \d+ claims, {3 * n} of them about single edges; largest deviation", text)
    assert f"each edge: effect {n} edges {n} as claimed holds" in text
    assert "certificate: no edge can go yes yes holds" in text and "WRONG" not in text
    assert "Note: not recomputed: scores, ranks of right answers (acdc evaluate computes them anew)." in text


def test_a_lie_is_named_and_ends_with_status_3(tmp_path: Path) -> None:
    edge = circuit().edges[0]
    found = acdc("verify", str(by_hand(tmp_path, edges=with_edge(0, effect=9.0))))
    assert found.exit_code == Exit.NO
    text, n = flat(found.stdout), len(circuit().edges)
    assert f"each edge: effect {n} edges {n - 1} as claimed WRONG" in text
    assert re.search(r"1 of \d+ claims do not hold", text)
    assert f"effect, {edge.sender}->{edge.receiver}: the file says 9, found {edge.effect:.4g}"[:40] in text
    assert "Note: the file does not claim a checksum: the file was written or edited by hand." in text


def test_many_lies_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acdc_engine.show.results._MOST_CLAIMS", 2)
    edges = tuple(edge.model_copy(update={"effect": 9.0}) for edge in circuit().edges)
    path = str(by_hand(tmp_path, edges=edges))
    found = acdc("verify", path)
    assert found.exit_code == Exit.NO and f"... and {len(edges) - 2} more: --json" in flat(found.stdout)
    as_json = RUNNER.invoke(cli.app, ["verify", path, "--json"])
    claims = json.loads(as_json.stdout)["claims"]
    assert as_json.exit_code == Exit.NO and [claim["claimed"] for claim in claims].count("9") == len(edges)


def test_evaluate_prints_figures_and_writes_a_circuit(tmp_path: Path) -> None:
    target = tmp_path / "judged.json"
    found = acdc("evaluate", str(saved(tmp_path)), "--random", "3", "--out", str(target))
    assert found.exit_code == 0, found.output
    text = flat(found.stdout)
    words = ("How well it does the task", "random circuits 3 with", "completeness all", "certificate no edge can go")
    assert all(word in text for word in words)
    for name in ("equivalence", "independence", "minimality"):
        assert re.search(rf"{name} (not rejected|REJECTED) \(p ", text)
    written = Circuit.load(target)
    assert written.evaluation is not None and len(written.evaluation.tests) == 3
    assert f"acdc show {target}" in found.stdout.replace("\n", "")


def test_evaluate_on_another_task_without_tests(tmp_path: Path) -> None:
    card = str(write_card(tmp_path))
    arguments = ["--task", card, "--n", "6", "--n-held-out", "10", "--random", "0", "--no-tests"]
    found = acdc("evaluate", str(saved(tmp_path)), *arguments)
    assert found.exit_code == 0, found.output
    text = flat(found.stdout)
    assert "Task tiny: 6 discovery and 10 held-out prompts" in text and "equivalence" not in text
    assert "random circuits" not in text and "To keep this, with the figures of every edge, add: --out FILE" in text
    assert "Note: judged on new prompts of the task tiny" in flat(found.stderr)


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    path = saved(tmp_path)
    found = acdc("evaluate", str(path), "--out", str(path))
    assert found.exit_code == 1 and "exists already" in str(found.exception) and "--overwrite" in str(found.exception)
    again = acdc("evaluate", str(path), "--out", str(path), "--overwrite", "--random", "0", "--no-tests")
    assert again.exit_code == 0, again.output


@pytest.mark.parametrize(("command", "step"), [("verify", "verify.figures_of"), ("evaluate", "evaluate.Selection")])
def test_ctrl_c(command: str, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"acdc_engine.run.{step}", interrupted)
    found = acdc(command, str(saved(tmp_path)))
    assert found.exit_code == 130 and "Interrupted. Nothing was written." in found.stderr
