"""The benchmark of circuits by tasks: what it runs, writes and says."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from acdc_engine.errors import SearchError
from acdc_engine.graph.transfer_records import Transfer
from acdc_engine.run.progress import Reporter
from acdc_engine.show.words import two
from benchmarks import transfer
from tests.run.circuit_files import NAME, circuit, saved
from tests.tiny_task import tiny_view, write_card


def test_circuits_are_made_once_and_failures_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = list[str]()

    def discover(name: str, *_: Any, out: Path, **__: Any) -> None:
        made.append(name)
        if name == "hard":
            raise SearchError("No circuit\nreaches it.")
        out.mkdir()
        saved(out)

    monkeypatch.setattr(transfer, "discover", discover)
    for _ in range(2):
        folders, failed = transfer.circuits_of(["easy", "hard"], tiny_view(NAME), tmp_path, Reporter())
    assert made == ["easy", "hard", "hard"]
    assert folders == [tmp_path / "easy"] and failed == {"hard": "No circuit reaches it."}


def test_results_and_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, page, tiny = tmp_path / "runs", tmp_path / "docs" / "transfer.md", write_card(tmp_path)
    for folder in (runs, runs / "tiny", page.parent):
        folder.mkdir()
    task = circuit().task
    assert task is not None
    saved(runs / "tiny", task=task.model_copy(update={"name": "tiny"}))
    monkeypatch.setattr(transfer, "load_model", lambda *_, **__: tiny_view(NAME))
    monkeypatch.setattr(transfer, "list_tasks", lambda: [])
    monkeypatch.setattr(transfer, "shown_tasks", lambda *_: [str(tiny)])
    monkeypatch.setattr(transfer, "circuits_of", lambda *_, **__: ([runs / "tiny"], {"hard": "too hard"}))
    asked = ["--n", "10", "--out", str(tmp_path / "results"), "--page", str(page), "--runs", str(runs)]
    said = CliRunner().invoke(transfer.app, [*asked, "--ablations", "patch,zero", "--threads", "1"])
    assert said.exit_code == 0, said.output
    (as_json,), (as_markdown,) = ((tmp_path / "results").glob(f"transfer-*.{end}") for end in ("json", "md"))
    found = Transfer.model_validate(json.loads(as_json.read_text())["transfer"])
    cell, tables, text = found.cell(0, "tiny", "zero"), as_markdown.read_text(), page.read_text()
    assert cell is not None and f"| tiny ({len(circuit().edges):,}) | {two(cell.faithfulness)}" in tables
    assert "| hard | too hard |" in tables and tables.count("## ") == 7
    assert (
        "10 prompts of each (seed 1)" in text
        and as_markdown.name in text
        and "## Zero ablation\n\n0 of 1 circuits" in text
    )
    assert (page.parent / "images" / "transfer-patch.svg").is_file()
