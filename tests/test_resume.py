"""Killed runs, gone on with: the circuit of an uninterrupted run, and at most one batch of work repeated."""

import json
import random
import subprocess
import sys
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from acdc_engine import cli
from acdc_engine.errors import RunFolderError
from acdc_engine.graph.files import CIRCUIT, SCORES, TRACE
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.judge import Judge
from acdc_engine.run.discover import discover
from tests.fake_tokenizer import FakeTokenizer
from tests.tiny_task import tiny_view, write_card

QUICK: dict[str, Any] = {"n": 6, "n_held_out": 5, "n_validation": 0, "faithfulness": 0.7, "force": True}
TIMES = ("seconds", "cpu_seconds", "passes")
CHECKOUT = Path(__file__).parents[1]


def same_but_for_times(path: Path) -> str:
    """The text of a circuit file without what may differ between two runs of one command."""
    content = json.loads(path.read_text())
    evaluations = content.pop("cost")["exact_evaluations"]
    del content["environment"]["created"], content["checksum"]
    return json.dumps([content, evaluations], indent=1)


def trace_but_for_times(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def scores_in(folder: Path) -> torch.Tensor:
    """Not the file's bytes: safetensors writes its metadata in an order of its own at each time."""
    return load_file(folder / SCORES)["scores"]


@pytest.fixture(autouse=True)
def short_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in a report is tested elsewhere; drawing it takes a third of a tiny run."""
    monkeypatch.setattr("acdc_engine.show.report.report_html", lambda circuit, **_: "a report")


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_card(tmp_path_factory.mktemp("card"))


@pytest.fixture(scope="module")
def whole(card: Path) -> Path:
    """The folder of an uninterrupted run."""
    discover(card, tiny_view(), out=card.parent / "whole", **QUICK)
    return card.parent / "whole"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the model is asked for, as it is asked."""
    calls: list[str] = []
    for name in ("values", "edge_gradients"):
        original = getattr(CircuitEvaluator, name)

        def counted(self: CircuitEvaluator, *a: Any, _original: Any = original, _name: str = name) -> Any:
            calls.append(_name)
            return _original(self, *a)

        monkeypatch.setattr(CircuitEvaluator, name, counted)
    return calls


def leave(whole: Path, folder: Path, trace: bytes) -> None:
    """Leaves what a process does that was killed when so much of the trace was written."""
    folder.mkdir()
    (folder / SCORES).write_bytes((whole / SCORES).read_bytes())
    (folder / TRACE).write_bytes(trace)


@pytest.fixture
def left(whole: Path, tmp_path: Path) -> Path:
    """A run that was killed near its end."""
    leave(whole, tmp_path / "run", (whole / TRACE).read_bytes()[:-20])
    return tmp_path / "run"


def cuts(trace: bytes) -> list[int]:
    """Random places, and all around some ends of lines: at the beginning, in the middle and at the end."""
    ends = [place + 1 for place, byte in enumerate(trace) if byte == ord("\n")][:-1]
    chosen = [ends[0], ends[len(ends) // 2], ends[-1], len(trace)]
    near = [end + shift for end in chosen for shift in (-1, 0, 1) if ends[0] <= end + shift < len(trace)]
    return sorted({*near, *random.Random(0).sample(range(ends[0], len(trace)), 5)})


def test_a_run_killed_at_any_byte_of_its_trace_ends_alike_and_asks_nothing_twice(
    card: Path, whole: Path, tmp_path: Path, asked: list[str]
) -> None:
    trace = (whole / TRACE).read_bytes()
    answers = [line["kind"] in ("values", "gradients") for line in map(json.loads, trace.splitlines())]
    for cut in cuts(trace):
        folder = tmp_path / str(cut)
        leave(whole, folder, trace[:cut])
        asked.clear()
        discover(card, tiny_view(), out=folder, **QUICK)
        # What was written as a whole is not asked again: of the rest, only what was being written had been answered.
        assert len(asked) == sum(answers[trace[:cut].count(b"\n") :])
        assert same_but_for_times(folder / CIRCUIT) == same_but_for_times(whole / CIRCUIT)
        assert trace_but_for_times(folder / TRACE) == trace_but_for_times(whole / TRACE)
        assert sorted(file.name for file in folder.iterdir()) == [CIRCUIT, SCORES, TRACE]


def test_a_run_killed_after_its_first_look_at_validation_prompts_ends_alike(card: Path, tmp_path: Path) -> None:
    how = {**QUICK, "n_validation": 4}
    discover(card, tiny_view(), out=tmp_path / "whole", **how)
    lines = (tmp_path / "whole" / TRACE).read_bytes().splitlines(keepends=True)
    leave(tmp_path / "whole", tmp_path / "cut", b"".join(lines[: -len(lines) // 4]))
    circuit = discover(card, tiny_view(), out=tmp_path / "cut", **how)
    assert circuit.search is not None and len(circuit.search.validated) > 1
    assert same_but_for_times(tmp_path / "cut" / CIRCUIT) == same_but_for_times(tmp_path / "whole" / CIRCUIT)


def test_scores_are_not_computed_twice(
    card: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(whole, tmp_path / "run", (whole / TRACE).read_bytes().splitlines(keepends=True)[0])
    monkeypatch.setattr("acdc_engine.experiment.score_edges", lambda *a, **k: pytest.fail("edges were scored again"))
    discover(card, tiny_view(), out=tmp_path / "run", **QUICK)
    assert same_but_for_times(tmp_path / "run" / CIRCUIT) == same_but_for_times(whole / CIRCUIT)


def test_another_model_is_refused_and_overwrite_starts_anew(card: Path, left: Path, tmp_path: Path) -> None:
    before = (left / TRACE).read_bytes()
    with pytest.raises(RunFolderError, match=r"another command \(model: llama_grouped there and gpt2 here; weights: "):
        discover(card, tiny_view("gpt2"), out=left, **QUICK)
    assert (left / TRACE).read_bytes() == before
    discover(card, tiny_view("gpt2"), out=left, overwrite=True, **QUICK)
    discover(card, tiny_view("gpt2"), out=tmp_path / "fresh", **QUICK)
    assert same_but_for_times(left / CIRCUIT) == same_but_for_times(tmp_path / "fresh" / CIRCUIT)


class Stopped(datetime):
    """A clock that stands still: all runs begin in the same second."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "Stopped":
        """Always the same."""
        return cls(2026, 11, 21, 12, 13, 15, tzinfo=tz)


def test_ctrl_c_and_the_same_command_without_out(card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr("acdc_engine.run.prepare.load_model", lambda *a, **k: tiny_view())
    monkeypatch.setattr("acdc_engine.run.prepare.load_tokenizer", lambda model: FakeTokenizer())
    command = [
        "discover",
        str(card),
        "--n",
        "6",
        "--n-held-out",
        "5",
        "--n-validation",
        "0",
        "--faithfulness",
        "0.7",
        "--force",
    ]
    calls = iter(range(10**6))
    original = Judge.contributions

    def impatient(self: Judge, mask: torch.Tensor) -> torch.Tensor:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return original(self, mask)

    monkeypatch.setattr(Judge, "contributions", impatient)
    monkeypatch.setattr("acdc_engine.cli.find.datetime", Stopped)
    stopped = CliRunner().invoke(cli.app, command)
    assert stopped.exit_code == 130 and "Run the same command to go on." in stopped.output
    (folder,) = (tmp_path / "runs").iterdir()
    other = CliRunner().invoke(cli.app, [*command, "--seed", "3"])
    assert other.exit_code == 0 and "Going on" not in other.output
    again = CliRunner().invoke(cli.app, command)
    assert again.exit_code == 0, again.output
    answers = [line for line in trace_but_for_times(folder / TRACE) if line["kind"] == "values"]
    assert f"Going on with the unfinished run in runs/{folder.name}: " in again.output
    assert "evaluations are there already." in again.output and answers
    assert (folder / CIRCUIT).is_file() and f"Written to runs/{folder.name}" in again.output
    assert len(list((tmp_path / "runs").iterdir())) == 2


DRIVER = """
import json, os, random, signal, sys, time, traceback
from datetime import datetime, tzinfo
from pathlib import Path
import torch
torch.set_num_threads(1)  # no pool of threads that a fork would lose
from acdc_engine import experiment
from acdc_engine.evidence import single_edges
from acdc_engine.run import discover, folder
from acdc_engine.patch.trace import Trace
from tests.tiny_task import tiny_view

card, runs = Path(sys.argv[1]), Path(sys.argv[2])
view = tiny_view()

def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def while_scoring():
    experiment.score_edges = kill

def in_the_scores_file():
    import safetensors.torch
    def half(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        kill()
    safetensors.torch.save_file = half

def in_a_line():
    write, lines = Trace._write, iter(range(100))
    def half(self, **line):
        if next(lines) == 20:
            self._file.write(json.dumps(line).encode()[:30])
            kill()
        write(self, **line)
    Trace._write = half

def after_the_search():
    single_edges.edge_evidence = kill

def before_circuit_json():
    save = folder.RunFolder.save_circuit
    folder.RunFolder.save_circuit = lambda self, circuit, name="circuit.json": (
        kill() if name == "circuit.json" else save(self, circuit, name))

def in_circuit_json():
    replace = os.replace
    os.replace = lambda source, target: kill() if str(target).endswith("circuit.json") else replace(source, target)

def before_the_last_line():
    Trace.end = kill

def nothing():
    pass

def run(name, prepare, seconds=None):
    child = os.fork()
    if child == 0:
        try:
            prepare()
            how = dict(n=6, n_validation=0, n_held_out=5, faithfulness=0.7, force=True)
            discover.discover(card, view, out=runs / name, **how)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

print("whole", run("whole", nothing))
for point in (while_scoring, in_the_scores_file, in_a_line, after_the_search, before_circuit_json, in_circuit_json,
              before_the_last_line):
    print(point.__name__, run(point.__name__, point), run(point.__name__, nothing))
draw = random.Random(0)
for number in range(2):
    kills, name = 0, f"random{number}"
    while (ended := run(name, nothing, draw.uniform(0.02, 0.1 + 0.1 * kills))) == -signal.SIGKILL:
        kills += 1  # and a little more time for the next, or no run would ever end
        trace = runs / name / "trace.jsonl"
        if trace.is_file() and b'"kind":"end"' in trace.read_bytes():  # all was there
            for half in trace.parent.glob(folder._LOCK):
                half.unlink()  # nobody was left to do so
            ended = 0
            break
    print(name, "kills" if kills else "no kills", ended)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills forked processes")
def test_sigkill_at_named_and_at_random_points(card: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(card), str(tmp_path)], cwd=CHECKOUT, capture_output=True, text=True
    )
    told = [line.split() for line in done.stdout.splitlines()]
    assert told[0] == ["whole", "0"], done.stderr
    assert [line[1:] for line in told[1:8]] == [["-9", "0"]] * 7, done.stdout + done.stderr
    assert [line[1:] for line in told[8:]] == [["kills", "0"]] * 2, done.stdout + done.stderr
    expected = same_but_for_times(tmp_path / "whole" / CIRCUIT)
    for name in [line[0] for line in told[1:]]:
        folder = tmp_path / name
        assert same_but_for_times(folder / CIRCUIT) == expected, name
        assert torch.equal(scores_in(folder), scores_in(tmp_path / "whole")), name
        assert trace_but_for_times(folder / TRACE) == trace_but_for_times(tmp_path / "whole" / TRACE), name
        assert sorted(file.name for file in folder.iterdir()) == [CIRCUIT, SCORES, TRACE], name
