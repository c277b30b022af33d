"""Every command that takes a circuit takes a file, a run's folder, finished or not, or a name."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from acdc_engine import cli
from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import known_graphs
from tests.run.circuit_files import NAME, saved
from tests.tiny_task import tiny_view

COMMANDS = {
    "show": "{}",
    "draw": "{} --out {out}.svg",
    "export": "{} --to csv --out {out}.csv",
    "view": "{} --out {out}.html",
    "report": "{} --out {out}.html",
    "compare": "{} gpt2/ioi",
    "view --known": "gpt2/ioi --known {} --out {out}.html",
    "report --known": "gpt2/ioi --known {} --out {out}.html",
    "compare, known": "gpt2/ioi {}",
    "import --like": "{table} --like {} --out {out}.json",
}


def acdc(command: str, circuit: str, tmp_path: Path) -> Result:
    words = [command.split()[0].rstrip(","), *COMMANDS[command].split()]
    places = {"{}": circuit, "{table}": str(tmp_path / "table.csv")}
    asked = [places.get(word, word.replace("{out}", str(tmp_path / "out"))) for word in words]
    return CliRunner().invoke(cli.app, asked)


@pytest.fixture(autouse=True)
def runs(tmp_path: Path) -> None:
    """A finished run, an unfinished one, one without any circuit, and a table of edges."""
    known = Circuit.load("gpt2/ioi")
    for name, file in (("done", "circuit.json"), ("going", "circuit-so-far.json")):
        (tmp_path / name).mkdir()
        known.save(tmp_path / name / file)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "trace.jsonl").touch()
    (tmp_path / "table.csv").write_text("sender,receiver\ninput,logits\n")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("given", ["file", "folder", "unfinished", "name"])
def test_taken(command: str, given: str, tmp_path: Path) -> None:
    places = {"file": "done/circuit.json", "folder": "done", "unfinished": "going"}
    result = acdc(command, str(tmp_path / places[given]) if given in places else "gpt2/ioi", tmp_path)
    assert result.exit_code == 0, result.output
    note = "Note: the run in" in result.stderr and "circuit-so-far.json" in result.stderr
    assert note == (given == "unfinished"), result.stderr
    assert "Note: the run in" not in result.stdout


@pytest.mark.parametrize("command", [*COMMANDS])
@pytest.mark.parametrize("given", ["begun", "nothing"])
def test_refused_with_what_is_there(command: str, given: str, tmp_path: Path) -> None:
    result = acdc(command, str(tmp_path / given), tmp_path)
    assert isinstance(result.exception, CircuitFileError)
    wanted = {"begun": "no circuit has been found yet (it has trace.jsonl)", "nothing": "Known: attn-only-4l/docstring"}
    assert wanted[given] in str(result.exception)


@pytest.mark.parametrize("command", ["verify", "evaluate"])
@pytest.mark.parametrize("given", ["file", "folder", "unfinished"])
def test_judged(command: str, given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acdc_engine.run.reopen.load_model", lambda *a, **k: tiny_view(NAME))
    (tmp_path / "mine").mkdir()
    path = saved(tmp_path / "mine")
    if given == "unfinished":
        path.rename(path.with_name("circuit-so-far.json"))
    more = ["--random", "0", "--no-tests"] if command == "evaluate" else []
    result = CliRunner().invoke(cli.app, [command, str(path if given == "file" else path.parent), *more])
    assert result.exit_code == 0, result.output
    assert ("has not finished" in " ".join(result.stderr.split())) == (given == "unfinished")


def test_the_circuits_that_come_along_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.out, "width", 200)
    ran = CliRunner().invoke(cli.app, ["show", "--list"])
    assert ran.exit_code == 0, ran.output
    rows = [line.split() for line in ran.stdout.splitlines()]
    named = {row[0]: row[1] for row in rows if row and row[0] in known_graphs()}
    assert named.keys() == known_graphs().keys()
    assert (named["gpt2/ioi"], named["induction-2l/induction"]) == ("963", "9")
    assert "Wang et al. 2022" in ran.stdout
