"""acdc report: from a run folder, a file or a name, and what it refuses."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from acdc_engine import cli
from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import find_circuit
from tests.made_circuits import made_circuit


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with a circuit of gpt2 for ioi."""
    folder = tmp_path / "run"
    folder.mkdir()
    model = Circuit.load(find_circuit("gpt2/ioi")).model
    made_circuit(30).model_copy(update={"model": model}).save(folder / "circuit.json")
    return folder


def acdc(*words: object) -> Result:
    return CliRunner().invoke(cli.app, ["report", *map(str, words)])


def test_beside_the_circuit_with_the_known_one_that_comes_along(run: Path) -> None:
    done = acdc(run)
    assert done.exit_code == 0 and done.output.strip().endswith(str(run / "report.html"))
    text = (run / "report.html").read_text()
    assert "Against the known circuit" in text and "gpt2/ioi" in text
    again = acdc(run)
    assert isinstance(again.exception, CircuitFileError) and "report.html exists already" in str(again.exception)
    assert acdc(run, "--overwrite").exit_code == 0


def test_another_known_circuit_and_another_place(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr("webbrowser.open", seen.append)
    target = tmp_path / "a b.html"
    assert acdc(run / "circuit.json", "--known", "gpt2/greater_than", "--out", target, "--open").exit_code == 0
    assert "gpt2/greater_than" in target.read_text() and seen == [target.as_uri()]


def test_a_circuit_that_comes_along_needs_a_place(tmp_path: Path) -> None:
    refused = acdc("gpt2/ioi")
    assert str(refused.exception) == "gpt2/ioi comes with the engine: say with --out where its report goes."
    assert acdc("gpt2/ioi", "--out", tmp_path / "x.html").exit_code == 0
    assert "Against the known circuit" not in (tmp_path / "x.html").read_text()


def test_a_report_is_called_html(tmp_path: Path) -> None:
    refused = acdc("gpt2/ioi", "--out", tmp_path / "x.txt")
    assert isinstance(refused.exception, CircuitFileError)
    assert "A viewer or report is an HTML file; its name ends in .html, not as" in str(refused.exception)
