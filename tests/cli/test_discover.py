"""`acdc discover`: its report, and what it says when it is interrupted."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from acdc_engine import cli
from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.circuit import Circuit
from tests.made_circuits import made_circuit


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


def test_what_is_left(folder: Path) -> None:
    ran = CliRunner().invoke(cli.app, ["discover", "ioi", "--out", str(folder)])
    assert ran.exit_code == 130
    assert ran.stderr.splitlines() == [
        "",
        f"Interrupted. In {folder}: circuit-so-far.json, trace.jsonl.",
        "Run the same command to go on.",
    ]


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that ends at once."""

    def run(task: str, model: str, out: Path, **settings: object) -> Circuit:
        out.mkdir(exist_ok=True)
        circuit = made_circuit(20)
        circuit.save(out / "circuit.json", overwrite=True)
        return circuit

    monkeypatch.setattr("acdc_engine.run.discover.discover", run)
    monkeypatch.setattr(cli.err, "width", 300)
    return tmp_path / "run"


def test_the_command_line_writes_the_report(found: Path) -> None:
    ran = CliRunner().invoke(cli.app, ["discover", "ioi", "--out", str(found)])
    assert ran.exit_code == 0 and f"Read {found / 'report.html'}" in ran.output.replace("\n", " ")
    assert "20 of " in (found / "report.html").read_text()


def test_a_report_that_fails_is_a_note_and_loses_no_circuit(found: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise CircuitFileError("scores.safetensors is damaged.")

    monkeypatch.setattr("acdc_engine.run.compare.against_known", broken)
    ran = CliRunner().invoke(cli.app, ["discover", "ioi", "--out", str(found)])
    said = f"The report could not be written: scores.safetensors is damaged. acdc report {found} tries it again."
    assert ran.exit_code == 0 and said in ran.stderr.replace("\n", " ")
    assert [file.name for file in found.iterdir()] == ["circuit.json"]
