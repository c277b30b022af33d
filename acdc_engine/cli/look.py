"""`acdc show`: looking at a circuit."""

from textwrap import shorten
from typing import Annotated

import typer

from acdc_engine.cli import options
from acdc_engine.cli.console import examples, out, print_notes
from acdc_engine.cli.frame import AsJson, command, print_json

_LONGEST = 42
"""Letters of a source in the list; `acdc show NAME` has all of it."""


def _list_known(asked: bool) -> bool:
    """Prints the circuits that come along and ends, if that was asked for."""
    if not asked:
        return False
    from rich.table import Table

    from acdc_engine.graph.circuit import Circuit
    from acdc_engine.graph.files import known_graphs

    table = Table("name", "edges", "where it comes from", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for name, path in known_graphs().items():
        circuit = Circuit.load(path)
        table.add_row(name, f"{len(circuit.edges):,}", shorten(circuit.source or "", _LONGEST, placeholder="..."))
    out.print(table)
    raise typer.Exit()


Listed = Annotated[
    bool,
    typer.Option("--list", is_eager=True, callback=_list_known, help="List the known circuits that come along."),
]


@command(epilog=examples("show runs/demo", "show gpt2/ioi --all"))
def show(
    circuit: options.AnyCircuit,
    show_all: Annotated[bool, typer.Option("--all", help="Print all edges instead of the strongest 40.")] = False,
    list_known: Listed = False,
    as_json: AsJson = False,
) -> None:
    """Prints a circuit: where it comes from, its figures, its nodes by layer, its edges by strength."""
    from acdc_engine.formats.register import import_circuit
    from acdc_engine.show.figures import whole
    from acdc_engine.show.remarks import remarks
    from acdc_engine.show.terminal import text_of

    loaded = import_circuit(circuit)
    if as_json:
        print_json(loaded.to_json())
        return
    out.print(text_of(whole(loaded, None if show_all else 40)))
    print_notes(remarks(loaded))
