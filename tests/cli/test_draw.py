"""`acdc draw`: files, names of circuits, notes and refusals."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from acdc_engine import cli
from acdc_engine.errors import CircuitFileError
from tests.made_circuits import made_circuit

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.out, "width", 200)


def invoke(*arguments: str) -> Any:
    return RUNNER.invoke(cli.app, ["draw", *arguments], catch_exceptions=False)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run."""
    (tmp_path / "run").mkdir()
    made_circuit(60).save(tmp_path / "run" / "circuit.json")
    return tmp_path / "run"


def test_by_role(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "roles.svg"
    assert invoke("gpt2/ioi", "--by", "role", "--out", str(target)).stdout == f"Drawn to {target}\n"
    text = target.read_text()
    assert "S-inhibition" in text and "ioi in gpt2: 963 edges" in text and ">MLPs<" not in text
    invoke("gpt2/ioi", "--by", "role", "--mlps", "--out", str(target), "--overwrite")
    assert ">MLPs<" in target.read_text()
    assert "names are" in invoke(str(run), "--by", "role", "--out", str(tmp_path / "n.svg"), "--width", "2").output
    with pytest.raises(CircuitFileError, match="by role"):
        invoke(str(run), "--mlps", "--out", str(tmp_path / "m.svg"))


def test_a_run_and_a_shipped_circuit(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "fig.svg"
    ran = invoke(str(run), "--out", str(target))
    assert ran.exit_code == 0 and ran.stdout == f"Drawn to {target}\n"
    whole = target.read_text()
    assert "made-up: 60 edges" in whole
    ran = invoke(str(run / "circuit.json"), "--out", str(target), "--top", "40", "--no-title", "--overwrite")
    assert ran.exit_code == 0
    part = target.read_text()
    assert "made-up" not in part and "of 60 edges" in part
    assert invoke("induction-2l/induction", "--out", str(tmp_path / "i.pdf"), "--width", "3.3").exit_code == 0
    assert (tmp_path / "i.pdf").read_bytes().startswith(b"%PDF")


def test_small_print_is_told(run: Path, tmp_path: Path) -> None:
    ran = invoke(str(run), "--out", str(tmp_path / "c.svg"), "--width", "2")
    assert "Note: names are" in ran.output and "A larger --width" in ran.output
    assert "Note" not in invoke(str(run), "--out", str(tmp_path / "d.svg"), "--width", "10").output


def test_a_title_and_none(run: Path, tmp_path: Path) -> None:
    with pytest.raises(CircuitFileError, match="--title or --no-title, not both"):
        invoke(str(run), "--out", str(tmp_path / "c.svg"), "--title", "x", "--no-title")
    assert not (tmp_path / "c.svg").exists()
