"""`acdc curve`: what it prints and leaves, and what it refuses before anything is computed."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from acdc_engine import cli
from acdc_engine.errors import AcdcError, CircuitFileError, MethodError
from acdc_engine.graph.result_records import Curve
from tests.fake_tokenizer import FakeTokenizer
from tests.tiny_task import tiny_view, write_card

RUNNER = CliRunner()
QUICK = ("--n", "5", "--n-held-out", "12", "--method", "eap", "--sizes", "10,50,100", "--random", "2", "--force")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.setattr("acdc_engine.run.prepare.load_model", lambda *a, **k: tiny_view())
    monkeypatch.setattr("acdc_engine.run.prepare.load_tokenizer", lambda model: FakeTokenizer())
    monkeypatch.setattr(cli.out, "width", 100)
    return str(write_card(tmp_path))


@pytest.mark.parametrize(("to", "files"), [("svg", ["curve.json", "curve.svg"]), ("none", ["curve.json"])])
def test_it_prints_tables_and_leaves_files(tiny: str, tmp_path: Path, to: str, files: list[str]) -> None:
    ran = RUNNER.invoke(cli.app, ["curve", tiny, "--out", str(tmp_path / "run"), "--to", to, *QUICK])
    assert ran.exit_code == 0, ran.output
    for word in ("eap, signed", "eap, absolute", "random", "CPR", "CMD", "50 %", "Written to"):
        assert word in ran.output
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == files
    found = Curve.model_validate_json((tmp_path / "run" / "curve.json").read_text())
    assert [point.requested_fraction for point in found.series[0].points] == [0.1, 0.5, 1.0]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--sizes", "1,x"], MethodError, "--sizes are percentages with commas between them.*not '1,x'"),
        (["--sizes", "50,200"], MethodError, r"above 0 and at most 1, not 0\.5, 2"),
        (["--to", "gif"], CircuitFileError, "No picture format 'gif'"),
    ],
)
def test_bad_options_are_refused_before_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], error: type[AcdcError], message: str
) -> None:
    monkeypatch.setattr("acdc_engine.run.prepare.load_model", lambda *a, **k: pytest.fail("the model was loaded"))
    with pytest.raises(error, match=message):
        RUNNER.invoke(cli.app, ["curve", "ioi", "--out", str(tmp_path), *arguments], catch_exceptions=False)


@pytest.mark.parametrize("name", ["curve.json", "curve.png"])
def test_existing_files_are_kept_unless_overwriting(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).write_text("mine")
    with monkeypatch.context() as patch, pytest.raises(AcdcError, match=f"{name} exists already"):
        patch.setattr("acdc_engine.run.prepare.load_model", lambda *a, **k: pytest.fail("the model was loaded"))
        RUNNER.invoke(cli.app, ["curve", tiny, "--out", str(tmp_path), *QUICK], catch_exceptions=False)
    assert (tmp_path / name).read_text() == "mine"
    ran = RUNNER.invoke(cli.app, ["curve", tiny, "--out", str(tmp_path), "--overwrite", *QUICK])
    assert ran.exit_code == 0 and (tmp_path / name).read_bytes() != b"mine"


def test_ctrl_c_says_what_is_left(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("acdc_engine.run.curve.random_circuits", interrupted)
    ran = RUNNER.invoke(cli.app, ["curve", tiny, "--out", str(tmp_path / "run"), *QUICK])
    assert ran.exit_code == 130 and "Traceback" not in ran.output
    assert " ".join(ran.stderr.split()).endswith("run: curve.json.") and "Interrupted. In" in ran.stderr


@pytest.mark.parametrize(("task", "name"), [("ioi", "ioi-curve"), ("some/my_task/task.toml", "my_task-curve")])
def test_folders_are_called_after_the_task(monkeypatch: pytest.MonkeyPatch, task: str, name: str) -> None:
    folders: list[Path] = []

    def run(*_: Any, out: Path, **__: Any) -> None:
        folders.append(out)
        raise KeyboardInterrupt

    monkeypatch.setattr("acdc_engine.run.curve.curve", run)
    assert RUNNER.invoke(cli.app, ["curve", task]).exit_code == 130
    assert folders == [Path("runs") / name]
