"""`acdc view`: a circuit as one interactive HTML file."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from acdc_engine.cli import options
from acdc_engine.cli.console import examples, open_page, out, print_notes
from acdc_engine.cli.frame import command, stage

OutFile = Annotated[
    Path | None,
    typer.Option("--out", help="File to write, ending in .html.", show_default="a temporary one, which is opened"),
]
Known = Annotated[
    str | None,
    typer.Option(
        help="Another circuit of the same graph, a run's folder, a file or a name such as gpt2/ioi, to lay beside it: "
        "which edges are found, missed and extra.",
        show_default="the one that comes along for this model and task",
    ),
]
NoKnown = Annotated[bool, typer.Option("--no-known", help="No known circuit beside it.")]
Open = Annotated[
    bool | None,
    typer.Option("--open/--no-open", help="Open the file in a browser.", show_default="only without --out"),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace that file.")]


@command(
    epilog=examples("view runs/demo", "view runs/demo --out ioi.html", "view runs/mine --known gpt2/ioi --out ioi.html")
)
def view(
    circuit: options.AnyCircuit,
    out_file: OutFile = None,
    known: Known = None,
    no_known: NoKnown = False,
    open_it: Open = None,
    overwrite: Overwrite = False,
) -> None:
    """Shows a circuit in a browser: one HTML file that needs no network and can be sent as it is.

    Hover for numbers, click a node to trace its paths, filter by strength,
    layer and kind, change the size; By role makes one box of all heads of a
    role, and adds up the edges between boxes. Needs no model.
    """
    from acdc_engine.errors import CircuitFileError
    from acdc_engine.formats.register import import_circuit
    from acdc_engine.graph.files import check_target, find_circuit, name_of, write_text
    from acdc_engine.run.known import known_beside
    from acdc_engine.show.viewer.page import viewer_html

    if known is not None and no_known:
        raise CircuitFileError(f"A circuit has a known one beside it or not: give --known {known} or --no-known.")
    options.check_page(out_file)
    file = find_circuit(circuit)
    shown = import_circuit(file)
    beside = None if no_known else find_circuit(known) if known is not None else known_beside(file, shown)
    name = "" if beside is None else name_of(beside)
    if out_file is not None:
        check_target(out_file, overwrite=overwrite)
    with stage("Drawing"):
        html = viewer_html(
            shown, None if beside is None else import_circuit(beside, model=shown.model), known_name=name
        )
    path = Path(tempfile.mkdtemp(prefix="acdc-view-")) / "circuit.html" if out_file is None else out_file
    write_text(path, html, overwrite=overwrite)
    out.print(f"Written to {path}", soft_wrap=True, markup=False)
    notes = [f"beside it stands the known circuit {name}; --no-known leaves it out."] if beside and not known else []
    if open_it or (open_it is None and out_file is None):
        notes += open_page(path)
        notes += [] if out_file else ["it lies in a temporary folder: --out names a file to keep."]
    print_notes(notes)
