"""Looking at circuits: `acdc show` in the terminal, `view` in a browser, `draw` for a paper, `report`, `gallery`."""

import tempfile
import webbrowser
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from acdc_engine.cli import options
from acdc_engine.cli.command import AsJson, command, out, print_notes, print_result, progress, stage

if TYPE_CHECKING:
    from acdc_engine.graph.circuit import Circuit


_LONGEST = 42
"""Letters of a source in the list; `acdc show NAME` has all of it."""


def _list_known() -> None:
    """Prints the circuits that come along."""
    from rich.table import Table

    from acdc_engine.graph.circuit import Circuit
    from acdc_engine.graph.files import known_graphs

    table = Table("name", "edges", "where it comes from", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for name, path in known_graphs().items():
        circuit = Circuit.load(path)
        table.add_row(name, f"{len(circuit.edges):,}", shorten(circuit.source or "", _LONGEST, placeholder="..."))
    out.print(table)


@command(examples=["show runs/demo", "show gpt2/ioi --all"])
def show(
    circuit: options.AnyCircuit,
    show_all: Annotated[bool, typer.Option("--all", help="Print all edges instead of the strongest 40.")] = False,
    list_known: Annotated[
        bool, options.instead("--list", _list_known, help="List the known circuits that come along.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Prints a circuit: where it comes from, its figures, its nodes by layer, its edges by strength."""
    from acdc_engine.formats.register import import_circuit
    from acdc_engine.show.figures import whole
    from acdc_engine.show.remarks import remarks

    loaded = import_circuit(circuit)
    print_result(loaded.to_json() if as_json else None, whole(loaded, None if show_all else 40), remarks(loaded))


@command(examples=["view runs/demo", "view runs/demo --out ioi.html", "view runs/mine --known gpt2/ioi --out ioi.html"])
def view(
    circuit: options.AnyCircuit,
    out_file: Annotated[
        Path | None,
        typer.Option("--out", help="File to write, ending in .html.", show_default="a temporary one, which is opened"),
    ] = None,
    known: Annotated[
        str | None,
        typer.Option(
            help="Another circuit of the same graph, a run's folder, a file or a name such as gpt2/ioi, to lay beside "
            "it: which edges are found, missed and extra.",
            show_default="the one that comes along for this model and task",
        ),
    ] = None,
    no_known: Annotated[bool, typer.Option("--no-known", help="No known circuit beside it.")] = False,
    open_it: Annotated[
        bool | None,
        typer.Option("--open/--no-open", help="Open the file in a browser.", show_default="only without --out"),
    ] = None,
    overwrite: options.ReplaceFile = False,
) -> None:
    """Shows a circuit in a browser: one HTML file that needs no network and can be sent as it is.

    Hover for numbers, click a node to trace its paths, filter by strength,
    layer and kind, change the size; By role makes one box of all heads of a
    role, and adds up the edges between boxes. A circuit that says where in
    the prompt opens by place. Needs no model.
    """
    from acdc_engine.formats.register import import_circuit
    from acdc_engine.graph.files import check_target, find_circuit, name_of, write_text
    from acdc_engine.run.compare import known_beside
    from acdc_engine.show.viewer import viewer_html

    _not_both(known=known is not None, no_known=no_known)
    _check_page(out_file)
    file = find_circuit(circuit)
    shown = import_circuit(file)
    beside = None if no_known else find_circuit(known) if known is not None else known_beside(file, shown)
    name = "" if beside is None else name_of(beside)
    if out_file is not None:
        check_target(out_file, overwrite=overwrite)
    with stage("Drawing"):
        other = None if beside is None else import_circuit(beside, model=shown.model)
        html = viewer_html(shown, other, known_name=name)
    path = Path(tempfile.mkdtemp(prefix="acdc-view-")) / "circuit.html" if out_file is None else out_file
    write_text(path, html, overwrite=overwrite)
    out.print(f"Written to {path}", soft_wrap=True, markup=False)
    notes = [f"beside it stands the known circuit {name}; --no-known leaves it out."] if beside and not known else []
    if open_it or (open_it is None and out_file is None):
        notes += _open(path)
        notes += [] if out_file else ["it lies in a temporary folder: --out names a file to keep."]
    print_notes(notes)


@command(
    examples=[
        "draw runs/demo --out fig.pdf --width 3.3 --no-title",
        "draw runs/large --out fig.svg --width 6.75 --top 60",
        "draw gpt2/ioi --by role --out figure-2.pdf",
    ]
)
def draw(
    circuit: options.AnyCircuit,
    out_file: Annotated[
        Path, typer.Option("--out", help="File to write, ending in .svg, .pdf or .png. The first two are vectors.")
    ],
    width: Annotated[
        float | None,
        typer.Option(
            help="Inches: one column of a paper has about 3.3, two have 6.75.", show_default="as wide as it needs"
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            help="Draw at most so many edges, the strongest that lie on paths; the picture says so.", show_default="all"
        ),
    ] = None,
    title: Annotated[
        str | None, typer.Option("--title", help="Title of the picture.", show_default="task, model and figures")
    ] = None,
    no_title: Annotated[bool, typer.Option("--no-title", help="No title: the paper has a caption.")] = False,
    by: Annotated[
        Literal["role"] | None,
        typer.Option(
            help="Boxes of all heads that have one role, with what the edges between boxes add up to. Heads only: MLPs "
            "without a role, and paths through them, are left out; dashed lines stand for these where a box would be "
            "loose.",
            show_default="every node a box",
        ),
    ] = None,
    mlps: Annotated[bool, typer.Option("--mlps", help="By role: draw the MLPs too, as one box.")] = False,
    overwrite: options.ReplaceFile = False,
) -> None:
    """Draws a circuit for a paper: input at the bottom, logits at the top, heads and MLPs by layer.

    Blue edges support the behaviour, orange ones work against it. Dashed edges
    enter a head's q, dotted ones its k, solid ones its v. More than 250 edges
    are thin lines; --top and --by role keep a large circuit readable. Roles of
    heads are colours, the same in all pictures, with names below the boxes where
    those are large enough to read.
    """
    from acdc_engine.formats.register import import_circuit
    from acdc_engine.show.pictures.draw import SMALL_PRINT
    from acdc_engine.show.pictures.draw import draw as drawn

    _not_both(title=title is not None, no_title=no_title)
    loaded, title = import_circuit(circuit), "" if no_title else title
    with stage("Drawing"):
        points = drawn(loaded, out_file, width=width, top=top, title=title, by=by, mlps=mlps, overwrite=overwrite)
    out.print(f"Drawn to {out_file}", soft_wrap=True, markup=False)
    if points < SMALL_PRINT:
        small = f"names are {points:.1f} points high at that width."
        print_notes([f"{small} A larger --width or --top with fewer edges helps."])


@command(
    examples=[
        "report runs/demo --overwrite",
        "report gpt2/ioi --out ioi.html --open",
        "report mine.json --known gpt2/ioi",
    ]
)
def report(
    circuit: options.AnyCircuit,
    known: Annotated[
        str | None,
        typer.Option(
            help="A known circuit to set it against: a run's folder, a file, or a name such as gpt2/ioi.",
            show_default="the one of this model and task that comes along",
        ),
    ] = None,
    out_file: Annotated[
        Path | None, typer.Option("--out", help="File to write.", show_default="report.html beside the circuit")
    ] = None,
    overwrite: options.ReplaceFile = False,
    open_it: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Writes the report of a circuit: one HTML file to read, print and send, with the viewer in it.

    Every run writes one. Needs no model; what the file does not hold is left
    out (acdc evaluate --out adds figures, other sizes, roles and examples).
    """
    from acdc_engine.errors import CircuitFileError
    from acdc_engine.formats.register import import_circuit
    from acdc_engine.graph.files import check_target, find_circuit

    _check_page(out_file)
    path = find_circuit(circuit)
    if out_file is None and not Path(circuit).exists():
        raise CircuitFileError(f"{circuit} comes with the engine: say with --out where its report goes.")
    loaded = import_circuit(path)
    target = out_file or path.with_name("report.html")
    check_target(target, overwrite=overwrite)
    write_report(path, loaded, target, known, overwrite=overwrite)
    out.print(f"Written to {target}", soft_wrap=True, markup=False)
    if open_it:
        print_notes(_open(target))


def _not_both(**given: bool) -> None:
    """Refuses options that contradict each other."""
    if all(given.values()):
        raise typer.BadParameter(" and ".join(f"--{name.replace('_', '-')}" for name in given) + ": leave one out.")


def _check_page(path: Path | None) -> None:
    """Refuses a name for a page that says it is something else."""
    from acdc_engine.errors import CircuitFileError

    if path is not None and path.suffix.lower() not in (".html", ".htm"):
        raise CircuitFileError(
            f"A viewer or report is an HTML file; its name ends in .html, not as {path} does. Pictures (.svg, .pdf, "
            ".png) are made by acdc draw."
        )


def write_report(path: Path, circuit: "Circuit", target: Path, known: str | None = None, *, overwrite: bool) -> None:
    """Writes the report of a circuit file, beside the known circuit asked for, or the one that comes with the engine.

    Raises:
        AcdcError: The known circuit cannot be read, or the page cannot be written.
    """
    from acdc_engine.graph.files import write_text
    from acdc_engine.run.compare import against_known
    from acdc_engine.show.report import report_html

    with stage("Report"):
        comparison, other = against_known(path, circuit, known) or (None, None)
        write_text(target, report_html(circuit, comparison=comparison, known=other), overwrite=overwrite)


@command(examples=["gallery runs/ --out site", "gallery runs/ --out site --overwrite"])
def gallery(
    runs: Annotated[
        Path,
        typer.Argument(metavar="RUNS", help="Folder that holds runs or circuit files, up to three folders down."),
    ],
    out_folder: Annotated[Path, typer.Option("--out", help="Folder of the site.")] = Path("site"),
    title: Annotated[str | None, typer.Option(help="Heading of the site.", show_default="Circuits in RUNS")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier gallery in that folder; other folders are refused.")
    ] = False,
) -> None:
    """Builds a static site of many runs: cards, a sortable table, two circuits side by side.

    Open its index.html from disk, or put the folder on any web server. Of a run
    that has not finished the best circuit so far is shown. What cannot be read is
    listed there, and does not stop the rest.
    It shows circuit files of this engine; acdc import makes one of another tool's.
    Viewers and reports are made anew, against the known circuit of the same
    model and task where one comes along.
    """
    from rich.text import Text

    from acdc_engine.run.compare import against_known
    from acdc_engine.run.progress import reporter_of
    from acdc_engine.show.index import INDEX, write_gallery
    from acdc_engine.show.visible import plain

    with reporter_of(progress()).stage("Circuits", 0) as bar:
        made = write_gallery(runs, out_folder, title=title, overwrite=overwrite, against=against_known, progress=bar.at)
    for name, reason in made.problems:
        out.print(Text.assemble(("Not shown: ", "yellow"), f"{plain(name, 200)}: {plain(reason)}"))
    print_notes([plain(remark) for remark in made.remarks])
    count = f"{len(made.entries):,} circuit{'' if len(made.entries) == 1 else 's'}"
    out.print(f"Written to {out_folder / INDEX}: {count}.", soft_wrap=True, markup=False)


def _open(path: Path) -> list[str]:
    """Opens a page in the browser, and returns what a user should know of that."""
    opened = webbrowser.open(path.resolve().as_uri())
    return [] if opened else [f"no browser could be opened here. Open {path} yourself."]
