"""`acdc view`: what it writes, opens and refuses."""

import tempfile
import webbrowser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from acdc_engine import cli
from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.shipped import graphs_folder
from tests.made_circuits import made_circuit

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.out, "width", 120)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Addresses that the browser was asked to open; temporary folders are made in the test's own."""
    asked: list[str] = []

    def opens(address: str) -> bool:
        asked.append(address)
        return True

    monkeypatch.setattr(webbrowser, "open", opens)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return asked


def invoke(*arguments: str | Path) -> Any:
    return RUNNER.invoke(cli.app, ["view", *map(str, arguments)], catch_exceptions=False)


def gpt2_ioi(folder: Path) -> Path:
    """A found circuit of gpt2 on ioi, in a run's folder."""
    made = made_circuit(40)
    known = Circuit.load(graphs_folder() / "gpt2" / "ioi.json")
    folder.mkdir()
    made.model_copy(update={"model": known.model}).save(folder / "circuit.json")
    return folder


def test_a_file_is_written_and_not_opened(tmp_path: Path, opened: list[str]) -> None:
    out = tmp_path / "x.html"
    ran = invoke("gpt2/ioi", "--out", out)
    assert (ran.exit_code, ran.output, opened) == (0, f"Written to {out}\n", [])
    assert "gpt2: 963 edges" in out.read_text(encoding="utf-8")


def test_with_out_it_opens_if_asked(tmp_path: Path, opened: list[str]) -> None:
    out = tmp_path / "x.html"
    assert "temporary" not in invoke("gpt2/ioi", "--out", out, "--open").output
    assert opened == [out.as_uri()]


def test_without_out_a_temporary_file_is_opened(tmp_path: Path, opened: list[str]) -> None:
    ran = invoke("gpt2/ioi")
    (path,) = tmp_path.glob("acdc-view-*/circuit.html")
    assert opened == [path.as_uri()]
    assert f"Written to {path}" in ran.output
    assert "--out names a file to keep" in ran.output


def test_without_a_browser_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    assert "no browser could be opened here. Open" in invoke("gpt2/ioi").output
    (path,) = tmp_path.glob("acdc-view-*/circuit.html")
    assert "no browser" not in invoke("gpt2/ioi", "--no-open").output
    assert path.is_file()


def test_a_file_that_is_there_is_replaced_only_if_asked(tmp_path: Path) -> None:
    out = tmp_path / "x.html"
    out.write_text("mine")
    with pytest.raises(CircuitFileError, match="exists already"):
        invoke("gpt2/ioi", "--out", out)
    assert out.read_text() == "mine"
    assert invoke("gpt2/ioi", "--out", out, "--overwrite").exit_code == 0
    assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_the_known_circuit_of_model_and_task_stands_beside(tmp_path: Path) -> None:
    run, out = gpt2_ioi(tmp_path / "run"), tmp_path / "x.html"
    ran = invoke(run, "--out", out)
    assert "Note: beside it stands the known circuit gpt2/ioi; --no-known leaves it out." in ran.output
    assert '"known":"gpt2/ioi"' in out.read_text(encoding="utf-8")
    ran = invoke(run, "--out", out, "--overwrite", "--no-known")
    assert "Note" not in ran.output
    assert '"overlay":null' in out.read_text(encoding="utf-8")
    ran = invoke(run, "--out", out, "--overwrite", "--known", "gpt2/greater_than")
    assert "Note" not in ran.output
    assert '"known":"gpt2/greater_than"' in out.read_text(encoding="utf-8")


def test_a_known_circuit_does_not_stand_beside_itself(tmp_path: Path) -> None:
    out = tmp_path / "x.html"
    assert "Note" not in invoke("induction-2l/induction", "--out", out).output
    assert '"overlay":null' in out.read_text(encoding="utf-8")


def test_what_is_refused(tmp_path: Path, opened: list[str]) -> None:
    with pytest.raises(CircuitFileError, match="give --known gpt2/ioi or --no-known"):
        invoke("gpt2/ioi", "--known", "gpt2/ioi", "--no-known")
    with pytest.raises(CircuitFileError, match=r"ends in \.html, not as .*x\.pdf does\. Pictures .* acdc draw"):
        invoke("gpt2/ioi", "--out", tmp_path / "x.pdf")
    assert not (tmp_path / "x.pdf").exists()
    assert opened == [] and list(tmp_path.glob("acdc-view-*")) == []
