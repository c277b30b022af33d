"""`acdc report`: the report of a run, written again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acdc_engine.cli import options
from acdc_engine.cli.console import examples, open_page, out, print_notes
from acdc_engine.cli.frame import command, stage

if TYPE_CHECKING:
    from acdc_engine.graph.circuit import Circuit

Known = Annotated[
    str | None,
    typer.Option(
        help="A known circuit to set it against: a run's folder, a file, or a name such as gpt2/ioi.",
        show_default="the one of this model and task that comes along",
    ),
]
Target = Annotated[
    Path | None,
    typer.Option("--out", help="File to write.", show_default="report.html beside the circuit"),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace that file.")]
Open = Annotated[bool, typer.Option("--open", help="Show it in the browser.")]


@command(
    epilog=examples(
        "report runs/demo --overwrite", "report gpt2/ioi --out ioi.html --open", "report mine.json --known gpt2/ioi"
    )
)
def report(
    circuit: options.AnyCircuit,
    known: Known = None,
    out_file: Target = None,
    overwrite: Overwrite = False,
    open_it: Open = False,
) -> None:
    """Writes the report of a circuit: one HTML file to read, print and send, with the viewer in it.

    Every run writes one. Needs no model; what the file does not hold is left
    out (acdc evaluate --out adds figures, other sizes, roles and examples).
    """
    from acdc_engine.errors import CircuitFileError
    from acdc_engine.formats.register import import_circuit
    from acdc_engine.graph.files import check_target, find_circuit

    options.check_page(out_file)
    path = find_circuit(circuit)
    if out_file is None and not Path(circuit).exists():
        raise CircuitFileError(f"{circuit} comes with the engine: say with --out where its report goes.")
    loaded = import_circuit(path)
    target = out_file or path.with_name("report.html")
    check_target(target, overwrite=overwrite)
    write_report(path, loaded, target, known, overwrite=overwrite)
    out.print(f"Written to {target}", soft_wrap=True, markup=False)
    if open_it:
        print_notes(open_page(target))


def write_report(path: Path, circuit: "Circuit", target: Path, known: str | None = None, *, overwrite: bool) -> None:
    """Writes the report of a circuit file, beside the known circuit asked for, or the one that comes with the engine.

    Raises:
        AcdcError: The known circuit cannot be read, or the page cannot be written.
    """
    from acdc_engine.graph.files import write_text
    from acdc_engine.run.known import against_known
    from acdc_engine.show.report import report_html

    with stage("Report"):
        comparison, other = against_known(path, circuit, known) or (None, None)
        write_text(target, report_html(circuit, comparison=comparison, known=other), overwrite=overwrite)
