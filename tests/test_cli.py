"""The command line: help that teaches, errors without tracebacks, the commands on tiny models."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from acdc_engine import cli
from acdc_engine.graph.circuit import Circuit
from acdc_engine.run.discover import discover
from tests.fake_tokenizer import FakeTokenizer
from tests.tiny_task import tiny_view, write_card

RUNNER = CliRunner()
CHECKOUT = Path(__file__).parents[1]


def acdc(*arguments: str, columns: int = 100) -> subprocess.CompletedProcess[str]:
    code = "from acdc_engine.cli import main; main()"
    env = {**os.environ, "COLUMNS": str(columns), "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=CHECKOUT, capture_output=True, text=True, env=env, check=False
    )


@pytest.fixture(scope="module")
def circuit_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    discover(write_card(folder), tiny_view(), out=folder / "run", n=6, n_held_out=5, faithfulness=0.7, force=True)
    return folder / "run" / "circuit.json"


def test_help_teaches() -> None:
    shown = acdc("--help").stdout
    assert "acdc discover ioi" in shown and "acdc show" in shown
    discover_help = " ".join(acdc("discover", "--help", columns=300).stdout.split())
    words = "--model, --method, --faithfulness, --n, --seed, --out, between t and 2 - t, default: 0.9"
    assert all(word in discover_help for word in words.split(", "))
    alone = acdc()
    assert (alone.returncode, alone.stderr, alone.stdout.strip()) == (0, "", shown.strip()), "without arguments, too"


@pytest.mark.parametrize(
    ("task", "name"),
    [("ioi", "ioi"), ("x.toml", "x"), ("some/my_task/task.toml", "my_task"), ("some/my_task/other.toml", "other")],
)
def test_run_folders_are_called_after_the_task(monkeypatch: pytest.MonkeyPatch, task: str, name: str) -> None:
    folders: list[Path] = []

    def run(task: str, model: str, out: Path, **settings: object) -> None:
        folders.append(out)
        raise KeyboardInterrupt

    monkeypatch.setattr("acdc_engine.run.discover.discover", run)
    assert RUNNER.invoke(cli.app, ["discover", task]).exit_code == 130
    assert folders[0].parent == Path("runs") and folders[0].name.startswith(f"{name}-2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("discover", "ioi", "--method", "eapig"), "Unknown scoring method 'eapig'. Did you mean 'eap-ig'"),
        (("discover", "ioi", "--faithfulness", "1.5"), "must lie in (0, 1], not 1.5"),
        (("discover", "ioi", "--device", "cuda:99"), "Device 'cuda:99' was asked for"),
        (("discover", "ioi", "--model", "./no/such/folder"), "There is no model folder at"),
        (("discover", "no.toml"), "no.toml cannot be read: No such file"),
    ],
)
def test_errors_are_one_message_without_a_traceback(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["acdc", *arguments])
    monkeypatch.setattr(cli.err, "width", 1000)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    stderr = capfd.readouterr().err
    assert ended.value.code == 1
    assert message in stderr and "Traceback" not in stderr
    assert stderr.splitlines()[-1].startswith("Error: ")


def test_show(circuit_file: Path) -> None:
    shown = RUNNER.invoke(cli.app, ["show", str(circuit_file), "--all"])
    assert shown.exit_code == 0
    circuit = Circuit.load(circuit_file)
    for edge in circuit.edges:
        assert f"{edge.sender} -> {edge.receiver}" in shown.output


def test_discover_prints_a_closing_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acdc_engine.run.prepare.load_model", lambda *a, **k: tiny_view())
    monkeypatch.setattr("acdc_engine.run.prepare.load_tokenizer", lambda model: FakeTokenizer())
    monkeypatch.setattr(cli.out, "width", 100)
    arguments = ["discover", str(write_card(tmp_path)), "--out", str(tmp_path / "run"), "--n", "6", "--n-held-out", "5"]
    ran = RUNNER.invoke(cli.app, [*arguments, "--faithfulness", "0.7", "--force"])
    assert ran.exit_code == 0, ran.output
    for word in ("faithfulness", "KL recovered", "held-out", "clean", "corrupt", "at most", "Written to"):
        assert word in ran.output
    assert json.loads((tmp_path / "run" / "circuit.json").read_text())["format"] == "acdc-engine/circuit"
