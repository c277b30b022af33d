"""Notes below a result."""

import io
import shlex
import signal
import sys
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from acdc_engine import __version__, cli
from acdc_engine.cli import command as console
from acdc_engine.errors import MethodError


def test_notes_are_wrapped_to_the_width_and_printed_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = Console(width=40, record=True)
    monkeypatch.setattr(console, "out", narrow)
    notes = ["the target [0.9, 1.1] is missed on the [bold]held-out[/bold] prompts by a little.", "short."]
    console.print_notes(notes)
    lines = narrow.export_text().splitlines()
    assert max(map(len, lines)) <= 40
    assert [" ".join(" ".join(lines).split())] == [" ".join(f"Note: {note}" for note in notes)]
    assert all(len(line) > 20 for line in lines[:-2]), "the first line is filled up"


def test_errors_are_wrapped_with_their_first_word(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = Console(width=40, record=True)
    monkeypatch.setattr(console, "err", narrow)
    text = "No circuit file [red]x[/red], and none of that name comes with the engine. Give a run's folder."
    console.print_error(text)
    lines = narrow.export_text().splitlines()
    assert max(map(len, lines)) <= 40
    assert " ".join(" ".join(lines).split()) == f"Error: {text}"


def test_a_circuit_is_shown_in_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it lacks is written in letters it has: no-break spaces between a role and its figures, here."""
    bytes_of = io.BytesIO()
    stream = io.TextIOWrapper(bytes_of, encoding="ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "argv", ["acdc", "show", "gpt2/ioi"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # as it was before
    assert b"h9 induction (22, 14)" in bytes_of.getvalue()


def test_the_version() -> None:
    ran = CliRunner().invoke(cli.app, ["--version"])
    assert (ran.exit_code, ran.output) == (0, f"acdc-engine {__version__}\n")


def _commands(group: Any, name: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Every command with its name in words."""
    if not hasattr(group, "commands"):
        return [(name, group)]
    return [found for word, command in group.commands.items() for found in _commands(command, (*name, word))]


WITHOUT_EXAMPLES = {("tasks", "list")}


def test_examples_in_help_are_commands_that_exist() -> None:
    """They are parsed, not run: misspelt options and missing arguments are errors."""
    root: Any = typer.main.get_command(cli.app)
    for name, command in _commands(root):
        if name in WITHOUT_EXAMPLES:
            continue
        shown = (command.epilog or "").split("\n\n")
        assert shown[0] == "Examples:" and len(shown) > 1, name
        for line in shown[1:]:
            words = shlex.split(line)
            assert tuple(words[: 1 + len(name)]) == ("acdc", *name)
            command.make_context(" ".join(name), words[1 + len(name) :])


def test_arguments_are_in_capitals() -> None:
    root: Any = typer.main.get_command(cli.app)
    for name, command in _commands(root):
        for parameter in command.params:
            if parameter.param_type_name == "argument" and name not in WITHOUT_EXAMPLES:
                assert parameter.metavar and parameter.metavar.isupper(), (name, parameter.name)


@pytest.mark.parametrize("command", ["discover ioi", "curve ioi", "evaluate gpt2/ioi", "tasks check ioi"])
def test_a_negative_seed_is_refused_before_anything_is_loaded(command: str) -> None:
    ran = CliRunner().invoke(cli.app, [*command.split(), "--seed", "-1"])
    assert isinstance(ran.exception, MethodError) and "-1" in str(ran.exception)


def test_help_of_every_command_is_whole_at_80_columns() -> None:
    root: Any = typer.main.get_command(cli.app)
    names = [name for name, _ in _commands(root)]
    assert ("tasks", "check") in names
    for name in ((), ("tasks",), *names):
        narrow = {"COLUMNS": "80", "TERMINAL_WIDTH": "80", "NO_COLOR": "1"}
        shown = CliRunner().invoke(cli.app, [*name, "--help"], env=narrow).output
        assert "Usage" in shown and max(map(len, shown.splitlines())) <= 80, name
        assert not any(trace in shown for trace in ("[/", "[bold", "[dim", "…")), name
