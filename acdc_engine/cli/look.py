"""`acdc show`: looking at a circuit."""

from typing import Annotated

import typer

from acdc_engine.cli import options
from acdc_engine.cli.console import app, examples, out, print_notes


@app.command(epilog=examples("show runs/demo", "show gpt2/ioi --all"))
def show(
    circuit: options.AnyCircuit,
    show_all: Annotated[bool, typer.Option("--all", help="Print all edges instead of the strongest 40.")] = False,
) -> None:
    """Prints a circuit: where it comes from, its figures, its nodes by layer, its edges by strength."""
    from acdc_engine.export.text import remarks
    from acdc_engine.export.text import show as shown
    from acdc_engine.formats.registry import import_circuit
    from acdc_engine.run.known_graphs import find_circuit

    loaded = import_circuit(find_circuit(circuit))
    out.print(shown(loaded, None if show_all else 40))
    print_notes(remarks(loaded))
