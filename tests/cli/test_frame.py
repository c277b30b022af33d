"""What all commands share: -q, -v, --json, how they end, `python -m`, shell completion."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from acdc_engine import cli
from acdc_engine.cli import command as frame
from acdc_engine.cli import options
from acdc_engine.cli.command import MEANINGS, Exit, Terminated
from acdc_engine.experiment import OBJECTIVES
from acdc_engine.graph.circuit import Circuit
from acdc_engine.model.devices import pick_dtype
from acdc_engine.model.load import _WELL_KNOWN
from acdc_engine.patch.ablations import ABLATIONS
from acdc_engine.prompts.find import list_tasks
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.run.settings import Settings
from acdc_engine.score.methods import METHODS
from acdc_engine.search import RANKS, SEARCHES
from tests.cli.test_console import _commands
from tests.fake_tokenizer import FakeTokenizer
from tests.tiny_task import tiny_view, write_card

CHECKOUT = Path(__file__).parents[2]
RUNNER = CliRunner()
REPORTS = [
    ("discover",), ("evaluate",), ("verify",), ("curve",), ("compare",), ("show",),
    ("tasks", "list"), ("tasks", "check"), ("tasks", "show"),
]  # fmt: skip
"""Commands that report something."""
QUICK = ["--n", "6", "--n-held-out", "10", "--force"]


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The path of a card, for a tiny model whatever model is asked for."""
    for place in ("run.prepare", "run.reopen", "run.check_task"):
        monkeypatch.setattr(f"acdc_engine.{place}.load_model", lambda *a, **k: tiny_view())
    monkeypatch.setattr("acdc_engine.show.report.report_html", lambda circuit, **_: "a report")
    for place in ("check_task", "prepare"):
        monkeypatch.setattr(f"acdc_engine.run.{place}.load_tokenizer", lambda *a, **k: FakeTokenizer())
    monkeypatch.chdir(tmp_path)
    return str(write_card(tmp_path))


def acdc(*arguments: str) -> Any:
    return RUNNER.invoke(cli.app, list(arguments), catch_exceptions=False)


def test_every_command_takes_quiet_and_verbose_and_every_report_json() -> None:
    root: Any = typer.main.get_command(cli.app)
    found = {name: {option for p in command.params for option in p.opts} for name, command in _commands(root)}
    assert all({"-q", "--quiet", "-v", "--verbose"} <= options for options in found.values())
    assert {name for name, options in found.items() if "--json" in options} == set(REPORTS)


def test_every_report_prints_one_json_object_and_nothing_else(tiny: str) -> None:
    run = acdc("discover", tiny, *QUICK, "--faithfulness", "0.7", "--out", "run", "--json", "--random", "2")
    circuit = Circuit.load("run/circuit.json")
    assert run.stdout == circuit.to_json() + "\n" and "Written to run." in run.stderr
    assert json.loads(acdc("show", "run", "--json").stdout) == json.loads(run.stdout)
    verified = acdc("verify", "run", "--json")
    assert verified.exit_code == 0 and all(claim["holds"] for claim in json.loads(verified.stdout)["claims"])
    judged = json.loads(acdc("evaluate", "run", "--random", "0", "--no-tests", "--json").stdout)
    assert judged["evaluation"]["held_out"]["n_prompts"] == 10
    assert len(json.loads(acdc("compare", "run", "run", "--json").stdout)["overlaps"])
    curve = ["curve", tiny, *QUICK, "--sizes", "10,100", "--random", "1", "--to", "none", "--json"]
    assert len(json.loads(acdc(*curve).stdout)["series"]) == 4
    assert json.loads(acdc("tasks", "show", tiny, "--n", "2", "--json").stdout)["pairs"][0]["template"] == "ABBA"
    assert json.loads(acdc("tasks", "check", tiny, "--json").stdout)["tasks"][0]["task"] == "tiny"
    assert json.loads(acdc("tasks", "list", "--json").stdout)["broken"] == []


def test_quiet_says_nothing_on_stderr_and_verbose_a_line_for_every_step(tiny: str) -> None:
    command = ["discover", tiny, *QUICK, "--faithfulness", "0.7", "--random", "2", "--out"]
    assert acdc(*command, "quiet", "-q").stderr == ""
    assert acdc(*command, "json", "-q", "--json").stderr == ""
    loud = acdc(*command, "loud", "-v").stderr.splitlines()
    steps = [line for line in loud if line.startswith("Pruning: ")]
    assert len(steps) > 10 and any("; best " in line and "; round 2; " in line for line in steps)
    assert acdc(*command, "none", "-q", "-v").exit_code == Exit.USAGE


@pytest.mark.parametrize(("stop", "status"), [(KeyboardInterrupt, 130), (Terminated, 143)])
@pytest.mark.parametrize("command", [["show", "gpt2/ioi"], ["draw", "gpt2/ioi", "--out", "x.svg"], ["tasks", "list"]])
def test_any_command_that_is_stopped_says_so(
    command: list[str], stop: type[BaseException], status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise stop

    monkeypatch.chdir(tmp_path)
    for place in ("formats.register.import_circuit", "prompts.find.known_tasks"):
        monkeypatch.setattr(f"acdc_engine.{place}", stopped)
    ran = acdc(*command)
    assert (ran.exit_code, ran.stderr) == (status, "\nInterrupted.\n")


SLEEPER = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a process behind a shell's & would ignore
sys.path.insert(0, {checkout!r})
from acdc_engine import cli
from acdc_engine.patch.judge import Judge
from tests.tiny_task import tiny_view
from acdc_engine.run import prepare
prepare.load_model = lambda *a, **k: tiny_view()
prepare.load_tokenizer = lambda model: tiny_view().tokenizer
original, calls = Judge.contributions, []
def slow(self, mask):
    calls.append(1)
    if len(calls) == 3:
        open("ready", "w").close()
        time.sleep(60)
    return original(self, mask)
Judge.contributions = slow
sys.argv = ["acdc", "discover", {card!r}, "--n", "6", "--n-held-out", "5", "--faithfulness", "0.7", "--force",
            "--out", "run"]
cli.main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are another thing there")
@pytest.mark.parametrize(("sent", "status"), [("SIGINT", Exit.INTERRUPTED), ("SIGTERM", Exit.TERMINATED)])
def test_a_process_that_is_stopped_leaves_the_best_circuit_so_far(sent: str, status: Exit, tmp_path: Path) -> None:
    code = SLEEPER.format(checkout=str(CHECKOUT), card=str(write_card(tmp_path)))
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "ready").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(getattr(signal, sent))
    _, told = process.communicate()
    assert process.returncode == status and "Traceback" not in told
    assert "Interrupted. In run: circuit-so-far.json, run.toml, scores.safetensors, trace.jsonl." in told
    left = Circuit.load(tmp_path / "run" / "circuit-so-far.json")
    assert left.edges and left.search is not None and left.search.unfinished is not None


def test_statuses_are_in_the_help() -> None:
    told = " ".join(acdc("--help").stdout.split())
    assert all(f" {code.value} {meaning}" in told for code, meaning in MEANINGS.items())


def test_the_package_is_the_command() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "acdc_engine", "show", "no-such-circuit"], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert ran.returncode == Exit.FAILED and ran.stdout == "" and ran.stderr.startswith("Error: ")


def test_a_shell_completes_tasks_models_circuits_and_names() -> None:
    def completed(*words: str) -> list[str]:
        environment = {
            **os.environ,
            "_ACDC_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(["acdc", *words]),
            "COMP_CWORD": str(len(words)),
        }
        code = "import sys, acdc_engine.cli as c\ntry: c.main()\nfinally: assert 'torch' not in sys.modules"
        ran = subprocess.run(
            [sys.executable, "-c", code], cwd=CHECKOUT, env=environment, capture_output=True, text=True
        )
        assert "AssertionError" not in ran.stderr, ran.stderr
        return ran.stdout.split()

    assert {"ioi", "induction"} <= set(completed("discover", "i"))
    assert "gpt2/ioi" in completed("show", "gpt2/i")
    assert "tracr-reverse" in completed("discover", "ioi", "--model", "tracr-r")
    assert completed("discover", "ioi", "--method", "eap") == ["eap-ig", "eap"]


def test_what_is_completed_exists() -> None:
    known = {field.name: field.metadata["choices"] for field in fields(Settings)}
    assert set(known["method"]) == set(METHODS.names) and set(known["strategy"]) == set(SEARCHES.names)
    assert set(known["objective"]) == set(OBJECTIVES) and set(known["rank"]) == set(RANKS)
    assert set(options.HUB_MODELS) <= set(_WELL_KNOWN) and set(list_tasks()) <= set(options.task_names(""))
    for setting, check in (("metric", get_metric), ("ablation", ABLATIONS.__getitem__), ("dtype", pick_dtype)):
        for name in known[setting]:
            check(name)


def test_files_are_completed_without_hidden_ones(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    for name in ("run.toml", ".hidden"):
        (tmp_path / name).touch()
    assert options.file_names(f"{tmp_path}/ru") == [f"{tmp_path}/run.toml", f"{tmp_path}/runs/"]
    assert options.file_names(f"{tmp_path}/") == [f"{tmp_path}/run.toml", f"{tmp_path}/runs/"]
    assert options.file_names(f"{tmp_path}/nowhere/x") == []


def test_a_message_of_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), frame.stoppable(lambda: "In runs/a: trace.jsonl."):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "\nInterrupted. In runs/a: trace.jsonl.\n"
