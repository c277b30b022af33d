"""`run.toml`: what it says, what it refuses, and that it repeats a run."""

import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from acdc_engine import cli
from acdc_engine.errors import MethodError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.run.discover import discover
from acdc_engine.run.settings import RUN_FILE, Settings, read_run_file, run_file_text
from tests.fake_tokenizer import FakeTokenizer
from tests.tiny_task import tiny_view, write_card

RUNNER = CliRunner()


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    settings = Settings(strategy="top-k", size=30, n=8, faithfulness=0.95, prepend_bos=True, edge_tests=False)
    asked = read_run_file(written(tmp_path, run_file_text('a "b"\\c é.toml', "gpt2", settings, 2)))
    assert (asked.pop("task"), asked.pop("model"), asked.pop("threads")) == ('a "b"\\c é.toml', "gpt2", 2)
    assert Settings.of(asked) == settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("faithfullness = 0.9", r"faithfullness: unknown key\. Did you mean 'faithfulness'"),
        ('n = "many"', r"n: Input should be a valid integer \(found 'many'\)"),
        ("out = 'runs/x'", "out: unknown key"),
        ("force = 1", r"force: Input should be a valid boolean \(found 1\)"),
        ("n == 3", "is not TOML"),
    ],
)
def test_what_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(MethodError, match=message):
        read_run_file(written(tmp_path, text))
    with pytest.raises(MethodError, match=r"Cannot read .*gone\.toml: No such file"):
        read_run_file(tmp_path / "gone.toml")


def test_a_run_leaves_the_file_that_repeats_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("acdc_engine.run.prepare.load_model", lambda *a, **k: tiny_view())
    monkeypatch.setattr("acdc_engine.run.prepare.load_tokenizer", lambda model: FakeTokenizer())
    monkeypatch.setattr("acdc_engine.show.report.page.report_html", lambda circuit, **_: "a report")
    write_card(tmp_path)
    asked = ["tiny.toml", "--n", "6", "--n-held-out", "5", "--strategy", "top-k", "--size", "20", "--force"]
    first = RUNNER.invoke(cli.app, ["discover", *asked, "--no-edge-tests", "--random", "2", "--out", "first"])
    assert first.exit_code == 0, first.output
    content = tomllib.loads((tmp_path / "first" / RUN_FILE).read_text())
    assert (content["task"], content["model"], content["size"], content["n_random"]) == (
        "tiny.toml", "smollm2-135m", 20, 2,
    )  # fmt: skip
    again = RUNNER.invoke(cli.app, ["discover", "--config", f"first/{RUN_FILE}", "--out", "again"])
    assert again.exit_code == 0, again.output
    there, here = Circuit.load("first/circuit.json"), Circuit.load("again/circuit.json")
    assert there.edges == here.edges and there.evaluation == here.evaluation and there.command == here.command
    smaller = RUNNER.invoke(cli.app, ["discover", "--config", f"first/{RUN_FILE}", "--out", "b", "--size", "12"])
    assert smaller.exit_code == 0 and len(Circuit.load("b/circuit.json").edges) <= 12


def test_a_model_that_is_an_object_has_no_such_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acdc_engine.show.report.page.report_html", lambda circuit, **_: "a report")
    discover(
        write_card(tmp_path), tiny_view(), out=tmp_path / "run", n=6, n_held_out=5, strategy="top-k", size=20,
        edge_tests=False, n_random=0, force=True,
    )  # fmt: skip
    assert not (tmp_path / "run" / RUN_FILE).exists()
