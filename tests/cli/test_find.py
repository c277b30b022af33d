"""`acdc discover` and `acdc curve`: what they print and leave, also when interrupted; prompts that do not fit."""

import json
from pathlib import Path
from typing import Any

import pytest

from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.result_records import Curve
from tests.cli.conftest import acdc, flat, refused, use_tiny, words
from tests.fake_tokenizer import FakeTokenizer
from tests.made_circuits import made_circuit
from tests.tiny_task import tiny_view

CURVE = ("--n", "5", "--n-held-out", "12", "--method", "eap", "--sizes", "10,50,100", "--random", "2", "--force")


def interrupted(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("task", "name"),
    [("ioi", "ioi"), ("x.toml", "x"), ("some/my_task/task.toml", "my_task"), ("some/my_task/other.toml", "other")],
)
def test_folders_are_called_after_the_task(
    task: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ("discover", "curve"):
        monkeypatch.setattr(f"acdc_engine.run.{command}.{command}", interrupted)
    assert f"Interrupted. In runs/{name}-2" in acdc("discover", task).stderr
    assert f"Interrupted. In runs/{name}-curve: nothing yet." in acdc("curve", task).stderr


def test_discover_prints_a_closing_table(tiny: str, tmp_path: Path) -> None:
    said = words("discover", tiny, "--out", "run", "--n", "6", "--n-held-out", "5", "--faithfulness", "0.7", "--force")
    for word in ("faithfulness", "KL recovered", "held-out", "clean", "corrupt", "at most", "Written to run. Read"):
        assert word in said
    assert (tmp_path / "run" / "report.html").read_text() == "a report"
    shown = words("show", "run", "--all")
    assert all(f"{edge.sender} -> {edge.receiver}" in shown for edge in Circuit.load("run").edges)


def test_an_interrupted_run_says_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(task: str, model: str, out: Path, **settings: object) -> None:
        out.mkdir()
        (out / "trace.jsonl").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("acdc_engine.run.discover.discover", run)
    ran = acdc("discover", "ioi", "--out", tmp_path / "run")
    left = f"\nInterrupted. In {tmp_path / 'run'}: trace.jsonl.\nRun the same command to go on.\n"
    assert (ran.exit_code, ran.stderr) == (130, left)


def test_a_report_that_fails_is_a_note_and_loses_no_circuit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(task: str, model: str, out: Path, **settings: object) -> Circuit:
        out.mkdir()
        made_circuit(20).save(out / "circuit.json")
        return made_circuit(20)

    def broken(*_: object) -> None:
        raise CircuitFileError("scores.safetensors is damaged.")

    monkeypatch.setattr("acdc_engine.run.discover.discover", run)
    monkeypatch.setattr("acdc_engine.run.compare.against_known", broken)
    monkeypatch.chdir(tmp_path)
    ran = acdc("discover", "ioi", "--out", "run")
    said = "The report could not be written: scores.safetensors is damaged. acdc report run tries it again."
    assert ran.exit_code == 0 and said in ran.stderr
    assert [file.name for file in Path("run").iterdir()] == ["circuit.json"]


@pytest.mark.parametrize(("to", "files"), [("svg", ["curve.json", "curve.svg"]), ("none", ["curve.json"])])
def test_a_curve_prints_tables_and_leaves_files(tiny: str, tmp_path: Path, to: str, files: list[str]) -> None:
    said = words("curve", tiny, "--out", "run", "--to", to, *CURVE)
    for word in ("eap, signed", "eap, absolute", "random", "CPR", "CMD", "50 %", "Written to run: curve.json"):
        assert word in said
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == files
    found = Curve.model_validate_json((tmp_path / "run" / "curve.json").read_text())
    assert [point.requested_fraction for point in found.series[0].points] == [0.1, 0.5, 1.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sizes", "1,x"], "--sizes are percentages with commas between them, as in 0.5,1,5,100, not '1,x'"),
        (["--sizes", "50,200"], "above 0 and at most 1, not 0.5, 2"),
        (["--to", "gif"], "No picture format 'gif'"),
    ],
)
def test_bad_options_of_a_curve_are_refused_before_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr("acdc_engine.run.prepare.load_model", lambda *a, **k: pytest.fail("the model was loaded"))
    assert message in refused("curve", "ioi", "--out", tmp_path, *arguments)


@pytest.mark.parametrize("name", ["curve.json", "curve.png"])
def test_curves_are_kept_unless_overwriting(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).write_text("mine")
    with monkeypatch.context() as patch:
        patch.setattr("acdc_engine.run.prepare.load_model", lambda *a, **k: pytest.fail("the model was loaded"))
        assert f"{name} exists already" in refused("curve", tiny, "--out", tmp_path, *CURVE)
    assert (tmp_path / name).read_text() == "mine"
    words("curve", tiny, "--out", tmp_path, "--overwrite", *CURVE)
    assert (tmp_path / name).read_bytes() != b"mine"


def test_an_interrupted_curve_says_what_is_left(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acdc_engine.run.curve.random_circuits", interrupted)
    ran = acdc("curve", tiny, "--out", "run", *CURVE)
    assert ran.exit_code == 130 and ran.stderr.endswith("\nInterrupted. In run: curve.json.\n")


@pytest.fixture
def pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file of 18 pairs, 2 of which do not fit the tokenizer of the model that the commands get, and 1 twice."""
    use_tiny(monkeypatch, FakeTokenizer(digits=None), tiny_view)
    monkeypatch.chdir(tmp_path)
    lines = [
        {"clean": f"{a} is", "corrupt": f"x{a} is", "answers": f" {a}", "wrong_answers": " z"}
        for a in "abcdefghijklmnop"
    ]
    misfits = [
        {"clean": "q is", "corrupt": "Petrovich is", "answers": " q", "wrong_answers": " z"},
        {"clean": "r is", "corrupt": "xr is", "answers": " Petrovich", "wrong_answers": " z"},
    ]
    Path("pairs.jsonl").write_text("\n".join(map(json.dumps, [lines[0], *misfits, *lines])))
    return "pairs.jsonl"


@pytest.mark.parametrize("command", ["discover", "tasks check"])
def test_misfits_are_refused_before_the_model_is_loaded(
    pairs: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("prepare", "check_task"):
        monkeypatch.setattr(f"acdc_engine.run.{place}.load_model", lambda *a, **k: pytest.fail("the model was loaded"))
    told = refused(*command.split(), pairs)
    assert "2 of the 18 prompts of task 'pairs' do not fit this model:\n  line 2:" in told


def test_misfits_are_left_out_and_written_down(pairs: str) -> None:
    quick = ("--force", "--strategy", "top-k", "--size", "9", "--random", "0", "--method", "eap")
    ran = acdc("discover", pairs, "--out", "run", "--drop-misfits", *quick)
    assert ran.exit_code == 0, ran.output
    why = "clean and corrupt differ in their number of tokens (1); an answer is not one token (1)"
    for note in (
        "1 of the 19 pairs say the same as others and count once: line 4.",
        f"2 of the 18 pairs do not fit the model and are left out: {why}.",
        "The task can give 6 discovery and 10 held-out pairs that share no text",
    ):
        assert note in flat(ran.stderr)
    circuit = Circuit.load("run")
    assert circuit.task is not None and circuit.task.left_out is not None
    assert (circuit.task.n_discovery, circuit.task.n_held_out) == (6, 10)
    assert (circuit.task.left_out.count, circuit.task.left_out.of) == (2, 18)
    assert sum(circuit.task.left_out.reasons.values()) == 2
    assert circuit.command is not None and " --drop-misfits " in circuit.command


def test_a_check_says_the_same_of_misfits(pairs: str) -> None:
    (found,) = json.loads(acdc("tasks", "check", pairs, "--drop-misfits", "--json").stdout)["tasks"]
    assert found["sizes"] == [6, 10] and found["left_out"]["count"] == 2
    shown = flat(acdc("tasks", "check", pairs, "--drop-misfits").stdout)
    assert "(6 discovery and 10 held-out of them used)" in shown and "2 of the 18 pairs do not fit the model" in shown
