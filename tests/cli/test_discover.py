"""`acdc discover`: what it says when it is interrupted."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from acdc_engine import cli


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that is interrupted after it has left its trace and the best circuit so far."""

    def run(task: str, model: str, out: Path, **settings: object) -> None:
        out.mkdir(exist_ok=True)
        for name in ("circuit-so-far.json", "trace.jsonl"):
            (out / name).write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr("acdc_engine.run.discover.discover", run)
    monkeypatch.setattr(cli.err, "width", 300)
    return tmp_path / "run"


def interrupted(folder: Path) -> str:
    ran = CliRunner().invoke(cli.app, ["discover", "ioi", "--out", str(folder), "--overwrite"])
    assert ran.exit_code == 130
    return ran.stderr


def test_what_is_left(folder: Path) -> None:
    assert interrupted(folder).splitlines() == [
        "",
        f"Interrupted. In {folder}: circuit-so-far.json, trace.jsonl.",
        "Run the same command to go on.",
    ]


def test_results_of_an_earlier_run_are_told_from_those_of_this_one(folder: Path) -> None:
    folder.mkdir()
    for name in ("circuit.json", "report.html"):
        (folder / name).write_text("{}")
        os.utime(folder / name, (1e9, 1e9))
    assert interrupted(folder).splitlines()[1:] == [
        f"Interrupted. In {folder}: circuit-so-far.json, trace.jsonl.",
        "Still there from an earlier run: circuit.json, report.html.",
        "Run the same command to go on.",
    ]
