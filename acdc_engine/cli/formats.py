"""`acdc export` and `acdc import`: circuits for other tools, and back."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acdc_engine.cli import options
from acdc_engine.cli.console import examples, out, print_notes
from acdc_engine.cli.frame import command, progress, stage

if TYPE_CHECKING:
    from acdc_engine.graph.circuit import Circuit

_NAMES = "engine, networkx-json, graphml, gexf, cytoscape, dot, csv, parquet, eap, eap-pt, auto-circuit, neuronpedia"


def _list_formats(asked: bool) -> bool:
    """Prints the formats and ends, if that was asked for."""
    if not asked:
        return False
    from rich.table import Table

    from acdc_engine.formats.registry import FORMATS

    table = Table("--to", "what it is, what reads it", "lost on the way there and back", box=None, pad_edge=False)
    for fmt in FORMATS.values():
        table.add_row(fmt.name, fmt.title, fmt.lossy or "[dim]nothing[/dim]")
    table.add_row("svg, png, pdf", "a picture; acdc draw has more settings", "cannot be read back")
    out.print(table)
    raise typer.Exit()


Listed = Annotated[
    bool,
    typer.Option(
        "--list", is_eager=True, callback=_list_formats, help="List the formats, what reads each and what is lost."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace that file.")]


@command(epilog=examples("export runs/demo --to graphml", "export gpt2/ioi --to neuronpedia --out ioi.json"))
def export(
    circuit: options.AnyCircuit,
    to: Annotated[str, typer.Option(help=f"{_NAMES}; or a picture: svg, png or pdf. See --list.", metavar="FORMAT")],
    out_file: Annotated[
        Path | None, typer.Option("--out", help="File to write.", show_default="beside the circuit")
    ] = None,
    overwrite: Overwrite = False,
    list_formats: Listed = False,
) -> None:
    """Writes a circuit for other tools: networkx, Gephi, Cytoscape, Graphviz, pandas, EAP-IG and more.

    Says afterwards what the format cannot hold. acdc import reads all of them.
    """
    from acdc_engine.errors import CircuitFileError, nearest
    from acdc_engine.formats.registry import FORMATS, default_name, import_circuit
    from acdc_engine.formats.registry import export as write
    from acdc_engine.graph.files import find_circuit
    from acdc_engine.show.pictures.figure import PICTURE_FORMATS

    if to not in (*FORMATS, *PICTURE_FORMATS):
        raise CircuitFileError(f"No format {to!r}.{nearest(to, (*FORMATS, *PICTURE_FORMATS))}")
    path = find_circuit(circuit)
    loaded = import_circuit(path)
    # Shipped circuits lie in the installation, which is nobody's folder for results.
    folder, stem = (path.parent, path.stem) if Path(circuit).exists() else (Path(), path.stem)
    target = out_file or folder / (f"{stem}.{to}" if to in PICTURE_FORMATS else default_name(stem, to))
    if to in PICTURE_FORMATS:
        from acdc_engine.show.pictures.draw import draw

        with stage("Drawing"):
            draw(loaded, target, fmt=to, overwrite=overwrite)
    else:
        with stage("Writing"):
            write(loaded, to, target, overwrite=overwrite)
    _print_written(loaded, target)
    if to in PICTURE_FORMATS:
        return
    fmt = FORMATS[to]
    if not fmt.lossy:
        out.print("Nothing is lost: acdc import gives the same circuit.")
    else:
        out.print(f"Lost: {fmt.lossy}.", markup=False, highlight=False)


@command(
    "import",
    model=True,
    epilog=examples("import circuit.gexf --out circuit.json", "import mine.csv --like gpt2/ioi --out mine.json"),
)
def import_file(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file of another tool, or one that acdc export wrote.")
    ],
    out_file: Annotated[Path, typer.Option("--out", help="Circuit file to write, such as circuit.json.")],
    from_format: Annotated[
        str | None,
        typer.Option("--from", help=f"{_NAMES}.", metavar="FORMAT", show_default="what its content shows"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="The model, for a file that does not describe it: a Hugging Face name or a local directory. It is "
            "loaded to learn its sizes."
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            metavar="CIRCUIT", help="Instead, a circuit of the same model, such as gpt2/ioi: nothing is loaded."
        ),
    ] = None,
    ungroup_kv: Annotated[
        bool, typer.Option("--ungroup-kv", help="With --model: a k and v for every query head, as in MIB.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Makes a circuit file of a graph: from networkx, Gephi, Cytoscape, Graphviz, a table of edges, EAP-IG and more.

    Nodes are named input, a5.h3, m4 and logits; an edge into a head says by its
    kind (q, k or v) which input it enters. acdc export --list lists the formats.
    """
    from acdc_engine.formats.registry import FORMATS, recognised
    from acdc_engine.graph.files import check_target
    from acdc_engine.run.reopen import import_with_model

    check_target(out_file, overwrite=overwrite)
    circuit = import_with_model(file, from_format, model=model, like=like, ungroup_kv=ungroup_kv, progress=progress())
    circuit.save(out_file, overwrite=overwrite)
    _print_written(circuit, out_file)
    fmt = FORMATS[from_format] if from_format else recognised(file)
    out.print(f"Read as {fmt.title}.", markup=False, highlight=False)
    if fmt.lossy:
        out.print(f"Not in such files: {fmt.lossy}.", markup=False, highlight=False)
    if circuit.source is not None and ("edited" in circuit.source or "now reach" in circuit.source):
        print_notes([circuit.source])


def _print_written(circuit: "Circuit", path: Path) -> None:
    size = path.stat().st_size
    out.print(f"Written to {path}", soft_wrap=True, markup=False)
    counts = f"{len(circuit.edges):,} edges between {len(circuit.nodes):,} nodes of {circuit.model.name}"
    out.print(f"{counts}; {size / 1000:,.0f} KB.", markup=False, highlight=False)
