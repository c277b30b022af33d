"""What all commands share: help, -q, -v, --json, --threads, how they end, `python -m`, shell completion."""

import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from rich.console import Console
from typer.testing import CliRunner

from acdc_engine import __version__, cli
from acdc_engine.cli import command as frame
from acdc_engine.cli import options
from acdc_engine.cli.command import Exit
from acdc_engine.errors import MethodError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.model.devices import pick_dtype
from acdc_engine.model.find import _WELL_KNOWN
from acdc_engine.patch.ablations import ABLATIONS
from acdc_engine.prompts.find import list_tasks
from acdc_engine.prompts.metrics import OBJECTIVES, get_metric
from acdc_engine.run.settings import Settings
from acdc_engine.score.methods import METHODS
from acdc_engine.search import RANKS, SEARCHES
from tests.cli.conftest import CHECKOUT, acdc, flat, in_a_process
from tests.tiny_task import write_card

REPORTS = [
    "discover",
    "plan",
    "evaluate",
    "verify",
    "curve",
    "compare",
    "transfer",
    "diff",
    "run",
    "steer",
    "ablate",
    "show",
]
REPORTS += ["show", "tasks list", "tasks check", "tasks show"]
QUICK = ["--n", "6", "--n-held-out", "10", "--force"]
DISCOVER = [*QUICK, "--n-validation", "0", "--faithfulness", "0.7", "--random", "2"]


def commands(group: Any = None, name: tuple[str, ...] = ()) -> dict[str, Any]:
    """Every command by its name in words."""
    group = group or typer.main.get_command(cli.app)
    if not hasattr(group, "commands"):
        return {" ".join(name): group}
    return {n: c for word, inner in group.commands.items() for n, c in commands(inner, (*name, word)).items()}


def test_help_teaches() -> None:
    shown = in_a_process("--help")
    assert "acdc discover ioi" in shown.stdout and " 3  done, and the answer is no" in shown.stdout
    alone = in_a_process()
    assert (alone.returncode, alone.stderr, alone.stdout) == (0, "False\n", shown.stdout), "without arguments, too"
    told = flat(acdc("discover", "--help").output.replace("│", " "))
    assert all(word in told for word in ("--model", "--faithfulness", "--n ", "between t and 2 - t", "default: 0.9"))


def test_help_of_every_command_is_whole_at_80_columns() -> None:
    narrow = {"COLUMNS": "80", "TERMINAL_WIDTH": "80", "NO_COLOR": "1"}
    for name in ("", "tasks", *commands()):
        shown = CliRunner().invoke(cli.app, [*name.split(), "--help"], env=narrow).output
        assert "Usage" in shown and max(map(len, shown.splitlines())) <= 80, name
        assert not any(trace in shown for trace in ("[/", "[bold", "[dim", "…")), name


def test_examples_in_help_are_commands_that_exist() -> None:
    """They are parsed, not run: misspelt options and missing arguments are errors."""
    for name, command in commands().items():
        title, *lines = (command.epilog or "Examples:").split("\n\n")
        assert title == "Examples:" and (lines or name == "tasks list"), name
        for line in lines:
            given = shlex.split(line.strip().removeprefix(f"acdc {name} "))
            command.make_context(name, given)


def test_every_command_takes_quiet_and_verbose_and_every_report_json() -> None:
    found = {name: {option for p in command.params for option in p.opts} for name, command in commands().items()}
    assert all({"-q", "--quiet", "-v", "--verbose"} <= options for options in found.values())
    assert [name for name, options in found.items() if "--json" in options] != []
    assert {name for name, options in found.items() if "--json" in options} == set(REPORTS)


def test_every_report_prints_one_json_object_and_nothing_else(tiny: str) -> None:
    run = acdc("discover", tiny, *DISCOVER, "--out", "run", "--json")
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
    command = ["discover", tiny, *DISCOVER, "--out"]
    assert acdc(*command, "quiet", "-q").stderr == ""
    assert acdc(*command, "json", "-q", "--json").stderr == ""
    loud = acdc(*command, "loud", "-v").stderr.splitlines()
    steps = [line for line in loud if line.startswith("Pruning: ")]
    assert len(steps) > 10 and any("; best " in line and "; round 2; " in line for line in steps)
    assert acdc(*command, "none", "-q", "-v").exit_code == Exit.USAGE


def test_notes_are_wrapped_to_the_width_and_printed_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = Console(width=40, record=True)
    notes = ["the target [0.9, 1.1] is missed on the [bold]held-out[/bold] prompts by a little.", "short."]
    frame.print_notes(notes, narrow)
    lines = narrow.export_text().splitlines()
    assert max(map(len, lines)) <= 40 and all(len(line) > 20 for line in lines[:-2]), "the first line is filled up"
    assert flat(" ".join(lines)) == " ".join(f"Note: {note}" for note in notes)


def test_a_circuit_is_shown_in_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it lacks is written in letters it has: no-break spaces between a role and its figures, here."""
    bytes_of = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_of, encoding="ascii", write_through=True))
    monkeypatch.setattr(sys, "argv", ["acdc", "show", "gpt2/ioi"])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    assert b"h9 induction (22, 14)" in bytes_of.getvalue()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("ioi --method eapig", "Unknown scoring method 'eapig'. Did you mean 'eap-ig'"),
        ("ioi --faithfulness 1.5", "must lie in (0, 1], not 1.5"),
        ("ioi --device cuda:99", "Device 'cuda:99' was asked for"),
        ("ioi --model ./no/such/folder", "There is no model at"),
        ("no.toml", "no.toml cannot be read: No such file"),
    ],
)
def test_errors_are_one_message_without_a_traceback(
    arguments: str, message: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["acdc", "discover", *arguments.split()])
    monkeypatch.setattr(cli.err, "width", 1000)
    with pytest.raises(SystemExit, match="1"):
        cli.main()
    stderr = capfd.readouterr().err
    assert message in stderr and "Traceback" not in stderr and stderr.splitlines()[-1].startswith("Error: ")


@pytest.mark.parametrize("command", ["discover ioi", "curve ioi", "evaluate gpt2/ioi", "tasks check ioi"])
def test_a_negative_seed_is_refused_before_anything_is_loaded(command: str) -> None:
    ran = acdc(*command.split(), "--seed", "-1")
    assert isinstance(ran.exception, MethodError) and "-1" in str(ran.exception)


@pytest.mark.parametrize(("stop", "status"), [(KeyboardInterrupt, 130), (frame._Terminated, 143)])
@pytest.mark.parametrize("command", [["show", "gpt2/ioi"], ["tasks", "list"]])
def test_any_command_that_is_stopped_says_so(
    command: list[str], stop: type[BaseException], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise stop

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
            "--n-validation", "0", "--out", "run"]
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


def test_the_package_is_the_command_and_says_its_version() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "acdc_engine", "show", "no-such-circuit"], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert ran.returncode == Exit.FAILED and ran.stdout == "" and ran.stderr.startswith("Error: ")
    assert acdc("--version").output == f"acdc-engine {__version__}\n"


def test_a_shell_completes_tasks_models_circuits_and_names() -> None:
    def completed(line: str) -> list[str]:
        place = str(len(line.split()) - 1)
        ran = in_a_process(_ACDC_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=place)
        assert ran.stderr == "False\n", "nothing large is imported"
        return ran.stdout.split()

    assert {"ioi", "induction"} <= set(completed("acdc discover i"))
    assert "gpt2/ioi" in completed("acdc show gpt2/i")
    assert "tracr-reverse" in completed("acdc discover ioi --model tracr-r")
    assert completed("acdc discover ioi --method eap") == ["eap-ig", "eap-ig-path", "eap"]


def test_what_is_completed_exists(tmp_path: Path) -> None:
    known = {field.name: field.metadata["choices"] for field in fields(Settings)}
    assert set(known["method"]) == set(METHODS.names) and set(known["strategy"]) == set(SEARCHES.names)
    assert set(known["objective"]) == set(OBJECTIVES) and set(known["rank"]) == set(RANKS)
    assert set(options._HUB) <= set(_WELL_KNOWN) and set(list_tasks()) == set(options._tasks())
    for setting, check in (("metric", get_metric), ("ablation", ABLATIONS.__getitem__), ("dtype", pick_dtype)):
        for name in known[setting]:
            check(name)
    (tmp_path / "runs").mkdir()
    for name in ("run.toml", ".hidden"):
        (tmp_path / name).touch()
    for typed in ("ru", ""):
        assert options._files(f"{tmp_path}/{typed}") == [f"{tmp_path}/run.toml", f"{tmp_path}/runs/"]
    assert options._files(f"{tmp_path}/nowhere/x") == []


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four cores of two threads each, 0 with 4, 1 with 5, ..., and a control group without a limit."""
    for cpu in range(8):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{cpu % 4},{cpu % 4 + 4}\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    for place in ("_CPUS", "_CGROUP"):
        monkeypatch.setattr(frame, place, tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return tmp_path


def test_cores_that_affinity_and_quota_allow_are_free(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert frame._free_cores() == 4, "two threads of a core are one core"
    (machine / "cpu.max").write_text("250000 100000\n")
    assert frame._free_cores() == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 7}, raising=False)
    assert frame._free_cores() == 1
    (machine / "cpu.max").unlink()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 9}, raising=False)
    assert frame._free_cores() == 3


def test_threads_that_the_user_asks_for_go_before(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.setattr("acdc_engine.run.verify.verify", lambda *a, **k: sys.exit(0))
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert acdc("verify", "gpt2/ioi").exit_code == 0
    assert set_to == [] and os.environ["OMP_NUM_THREADS"] == "3"
    assert acdc("verify", "gpt2/ioi", "--threads", "2").exit_code == 0
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert acdc("verify", "gpt2/ioi").exit_code == 0
    assert set_to == [2, 4] and os.environ["OMP_NUM_THREADS"] == "4"
    assert acdc("verify", "gpt2/ioi", "--threads", "0").exit_code == 2
