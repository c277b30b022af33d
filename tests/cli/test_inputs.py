"""Prompts at the command line: pairs left out on request, sizes that fit, the command that will run."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from acdc_engine import cli
from acdc_engine.errors import PromptError
from acdc_engine.graph.circuit import Circuit
from tests.fake_tokenizer import FakeTokenizer
from tests.tiny_task import tiny_view

RUNNER = CliRunner()
QUICK = ("--force", "--strategy", "top-k", "--size", "9", "--random", "0", "--method", "eap")


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A file of 18 pairs, 2 of which do not fit the tokenizer of the model that the commands get, and 1 twice."""
    for place in ("acdc_engine.run.prepare", "acdc_engine.run.check_task"):
        monkeypatch.setattr(f"{place}.load_model", lambda *a, **k: tiny_view())
    monkeypatch.setattr("acdc_engine.run.prepare.load_tokenizer", lambda model: FakeTokenizer(digits=None))
    monkeypatch.setattr(cli.out, "width", 300)
    monkeypatch.setattr(cli.err, "width", 300)
    monkeypatch.chdir(tmp_path)
    lines = [
        {"clean": f"{a} is", "corrupt": f"x{a} is", "answers": f" {a}", "wrong_answers": " z"}
        for a in "abcdefghijklmnop"
    ]
    misfits = [
        {"clean": "q is", "corrupt": "Petrovich is", "answers": " q", "wrong_answers": " z"},
        {"clean": "r is", "corrupt": "xr is", "answers": " Petrovich", "wrong_answers": " z"},
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, [lines[0], *misfits, *lines])))
    return path.name


def test_misfits_are_refused_before_the_model_is_loaded(pairs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("acdc_engine.run.prepare", "acdc_engine.run.check_task"):
        monkeypatch.setattr(f"{place}.load_model", lambda *a, **k: pytest.fail("the model was loaded"))
    for command in (["discover", pairs], ["tasks", "check", pairs]):
        with pytest.raises(PromptError, match=r"2 of the 18 prompts of task 'pairs' do not fit this model:\n  line 2:"):
            RUNNER.invoke(cli.app, command, catch_exceptions=False)


def test_misfits_are_left_out_and_written_down(pairs: str, tmp_path: Path) -> None:
    ran = RUNNER.invoke(cli.app, ["discover", pairs, "--out", "run", "--drop-misfits", *QUICK])
    assert ran.exit_code == 0, ran.output
    why = "clean and corrupt differ in their number of tokens (1); an answer is not one token (1)"
    for note in (
        "1 of the 19 pairs say the same as others and count once: line 4.",
        f"2 of the 18 pairs do not fit the model and are left out: {why}.",
        "The task can give 6 discovery and 10 held-out pairs that share no text",
    ):
        assert note in " ".join(ran.stderr.split())
    circuit = Circuit.load(tmp_path / "run" / "circuit.json")
    assert circuit.task is not None and circuit.task.left_out is not None
    assert (circuit.task.n_discovery, circuit.task.n_held_out) == (6, 10)
    assert (circuit.task.left_out.count, circuit.task.left_out.of) == (2, 18)
    assert sum(circuit.task.left_out.reasons.values()) == 2
    assert circuit.command is not None and " --drop-misfits " in circuit.command


def test_check_says_the_same(pairs: str) -> None:
    ran = RUNNER.invoke(cli.app, ["tasks", "check", pairs, "--drop-misfits", "--json"])
    (found,) = json.loads(ran.stdout)["tasks"]
    assert found["sizes"] == [6, 10] and found["left_out"]["count"] == 2
    shown = " ".join(RUNNER.invoke(cli.app, ["tasks", "check", pairs, "--drop-misfits"]).stdout.split())
    assert "(6 discovery and 10 held-out of them used)" in shown and "2 of the 18 pairs do not fit the model" in shown
