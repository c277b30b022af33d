"""`acdc gallery`: what it prints, writes and refuses."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from acdc_engine import cli
from acdc_engine.errors import GalleryError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import find_circuit
from acdc_engine.graph.result_records import Comparison
from acdc_engine.show import index
from acdc_engine.show.page import render
from tests.show.index.runs import bare, lean, named, save, some_runs

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.out, "width", 200)


@pytest.fixture(autouse=True)
def short_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports take most of a gallery's time."""
    monkeypatch.setattr(index, "report_html", lambda circuit, **known: render("html/base.html.j2"))


def invoke(*arguments: object) -> Any:
    return RUNNER.invoke(cli.app, ["gallery", *map(str, arguments)], catch_exceptions=False)


def test_a_site_of_three_runs(tmp_path: Path) -> None:
    ran = invoke(some_runs(tmp_path / "runs"), "--out", tmp_path / "site", "--title", "Mine")
    assert ran.exit_code == 0
    assert f"Written to {tmp_path / 'site' / 'index.html'}: 3 circuits." in ran.output
    assert "Not shown" not in ran.output
    assert "<title>Mine</title>" in (tmp_path / "site" / "index.html").read_text()


def test_pages_set_circuits_against_the_known_ones_that_come_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Circuit.load(find_circuit("gpt2/ioi")).model
    for name, task in {"first": "ioi", "second": "ioi", "other": "made-up"}.items():
        save(tmp_path / "runs" / name, named(lean(20), task).model_copy(update={"model": model}))
    (tmp_path / "runs" / "second" / "scores.safetensors").write_bytes(b"damaged")
    save(tmp_path / "runs" / "hand-written", bare({"input->logits": 1.0}))
    reports: list[tuple[str | None, int | None]] = []

    def report(circuit: Circuit, *, comparison: Comparison | None, known: Circuit | None, links: object) -> str:
        reports.append((comparison.known if comparison else None, len(known.edges) if known else None))
        return render("html/base.html.j2")

    monkeypatch.setattr(index, "report_html", report)
    ran = invoke(tmp_path / "runs", "--out", tmp_path / "site")
    assert ran.exit_code == 0 and "4 circuits." in ran.output
    # By name: first, hand-written, other, second.
    assert reports == [("gpt2/ioi", 963), (None, None), (None, None), (None, None)]
    overlays = {
        name: "gpt2/ioi" in (tmp_path / "site" / "runs" / name / "viewer.html").read_text()
        for name in ("first", "hand-written", "other", "second")
    }
    assert overlays == {"first": True, "hand-written": False, "other": False, "second": False}
    assert "Note: second: its pages go without the known circuit. Cannot read the scores" in ran.output


def test_the_default_folder_is_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "runs" / "a", bare({"input->logits": 1.0}))
    assert "Written to site/index.html: 1 circuit." in invoke("runs").output
    with pytest.raises(GalleryError, match="site holds a gallery"):
        invoke("runs")
    assert invoke("runs", "--overwrite").exit_code == 0


def test_what_is_not_shown_is_said(tmp_path: Path) -> None:
    runs = some_runs(tmp_path / "runs")
    (runs / "a" / "circuit.json").write_text("{}")
    (runs / "\x1b[31mred").mkdir()
    (runs / "\x1b[31mred" / "trace.jsonl").touch()
    (runs / "other.json").write_text("{}")
    ran = invoke(runs, "--out", tmp_path / "site")
    assert ran.exit_code == 0
    assert "Not shown: a: a/circuit.json is not a circuit file" in ran.output
    assert "Not shown: \\x1b[31mred: Unfinished run: it has trace.jsonl and no circuit.json." in ran.output
    assert "2 circuits." in ran.output
