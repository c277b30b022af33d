"""Every command that takes a circuit takes a file, a run's folder, finished or not, or a name."""

from pathlib import Path

import pytest
from typer.testing import Result

from acdc_engine.graph.circuit import Circuit
from tests.cli.conftest import acdc, refused, use_tiny
from tests.run.circuit_files import NAME, saved
from tests.tiny_task import tiny_view

COMMANDS = (
    "show CIRCUIT",
    "draw CIRCUIT --out out.svg",
    "export CIRCUIT --to csv --out out.csv",
    "view CIRCUIT --out out.html",
    "report CIRCUIT --out out.html",
    "compare CIRCUIT gpt2/ioi",
    "view gpt2/ioi --known CIRCUIT --out out.html",
    "report gpt2/ioi --known CIRCUIT --out out.html",
    "compare gpt2/ioi CIRCUIT",
    "import table.csv --like CIRCUIT --out out.json",
)


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished run, an unfinished one, one without any circuit, and a table of edges."""
    monkeypatch.chdir(tmp_path)
    known = Circuit.load("gpt2/ioi")
    for name, file in (("done", "circuit.json"), ("going", "circuit-so-far.json"), ("begun", "trace.jsonl")):
        Path(name).mkdir()
        known.save(Path(name, file))
    Path("begun/trace.jsonl").write_text("")
    Path("table.csv").write_text("sender,receiver\ninput,logits\n")


def check_note(ran: Result, unfinished: bool) -> None:
    assert ran.exit_code == 0, ran.output
    note = "Note: the run in" in ran.stderr and "circuit-so-far.json" in ran.stderr
    assert note == unfinished and "Note: the run in" not in ran.stdout


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("given", ["done/circuit.json", "done", "going", "gpt2/ioi"])
def test_taken(command: str, given: str) -> None:
    check_note(acdc(*command.replace("CIRCUIT", given).split()), given == "going")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("given", "told"),
    [("begun", "no circuit has been found yet"), ("nothing", "Known: attn-only-4l/docstring")],
)
def test_refused_with_what_is_there(command: str, given: str, told: str) -> None:
    assert told in refused(*command.replace("CIRCUIT", given).split())


@pytest.mark.parametrize("command", ["verify", "evaluate --random 0 --no-tests"])
@pytest.mark.parametrize("given", ["mine/circuit.json", "mine", "unfinished"])
def test_judged(command: str, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny(monkeypatch, None, lambda: tiny_view(NAME))
    Path("mine").mkdir()
    path = saved(Path("mine"))
    if given == "unfinished":
        path.rename(path.with_name("circuit-so-far.json"))
    ran = acdc(*command.split(), "mine" if given == "unfinished" else given)
    check_note(ran, given == "unfinished")
