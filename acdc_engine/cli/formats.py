"""`acdc export` and `acdc import`: circuits for other tools, and back."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acdc_engine.cli import options
from acdc_engine.cli.command import command, out, print_broken, print_notes, progress, stage
from acdc_engine.display import counted

if TYPE_CHECKING:
    from acdc_engine.graph.circuit import Circuit

_WRITTEN = "engine, csv, parquet, networkx-json, graphml, gexf, cytoscape, dot, eap, eap-pt, auto-circuit, neuronpedia"
_READ = "engine, csv, networkx-json, eap, eap-pt, auto-circuit"


def _list_formats() -> None:
    from rich.table import Table

    from acdc_engine.formats.register import FORMATS, is_read

    table = Table("--to", "what it is, what reads it", "acdc import", "not in it", box=None, pad_edge=False)
    for entry in FORMATS:
        lost = entry.value.lost or "[dim]all is in it[/dim]"
        table.add_row(entry.name, entry.help, "reads it" if is_read(entry) else "", lost)
    table.add_row("svg, png, pdf", "a picture; acdc draw has more settings", "", "figures")
    out.print(table)
    print_broken(FORMATS.broken)


@command(examples=["export runs/demo --to graphml", "export gpt2/ioi --to neuronpedia --out ioi.json"])
def export(
    circuit: options.AnyCircuit,
    to: Annotated[str, typer.Option(help=f"{_WRITTEN}; or a picture: svg, png or pdf. See --list.", metavar="FORMAT")],
    out_file: Annotated[
        Path | None, typer.Option("--out", help="File to write.", show_default="beside the circuit")
    ] = None,
    overwrite: options.ReplaceFile = False,
    list_formats: Annotated[
        bool,
        options.instead("--list", _list_formats, help="List the formats, what reads each and what is not in it."),
    ] = False,
) -> None:
    """Writes a circuit for other tools: networkx, Gephi, Cytoscape, Graphviz, pandas, EAP-IG and more.

    Says afterwards what the format does not hold. acdc import reads some of them: see --list.
    """
    from acdc_engine.formats.register import FORMATS, as_written, default_name, import_circuit
    from acdc_engine.formats.register import export as write
    from acdc_engine.graph.files import find_circuit
    from acdc_engine.show.pictures import PICTURE_FORMATS

    if to not in PICTURE_FORMATS and to not in FORMATS:
        raise FORMATS.unknown(to, *PICTURE_FORMATS)
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
    _print_written(loaded if to in PICTURE_FORMATS else as_written(loaded, to), target)
    if to in PICTURE_FORMATS:
        return
    lost = FORMATS[to].value.lost
    if loaded.spans is not None and not FORMATS[to].value.places:
        lost = f"the places in the prompt, {lost}"
    out.print(f"Not in it: {lost}." if lost else "All of it is in the file.", markup=False, highlight=False)


@command(
    "import",
    model=True,
    examples=["import mine.csv --like gpt2/ioi --out mine.json", "import x.eap.json --model gpt2 --out x.json"],
)
def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file of another tool.")],
    out_file: Annotated[Path, typer.Option("--out", help="Circuit file to write, such as circuit.json.")],
    from_format: Annotated[
        str | None, typer.Option("--from", help=f"{_READ}.", metavar="FORMAT", show_default="what its content shows")
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
    overwrite: options.ReplaceFile = False,
) -> None:
    """Makes a circuit file of a table of edges, a graph of networkx, or a file of EAP-IG, MIB or auto-circuit.

    Nodes are named input, a5.h3, m4 and logits; a receiver says by its
    q, k or v which input of a head it is. acdc export --list lists the formats.
    """
    from acdc_engine.formats.register import FORMATS, recognised
    from acdc_engine.graph.files import check_target
    from acdc_engine.run.reopen import import_with_model

    check_target(out_file, overwrite=overwrite)
    circuit = import_with_model(file, from_format, model=model, like=like, ungroup_kv=ungroup_kv, progress=progress())
    circuit.save(out_file, overwrite=overwrite)
    _print_written(circuit, out_file)
    entry = FORMATS[from_format] if from_format else recognised(file)
    out.print(f"Read as {entry.help}.", markup=False, highlight=False)
    if entry.value.lost:
        out.print(f"Not in such files: {entry.value.lost}.", markup=False, highlight=False)
    if circuit.source is not None and "now reach" in circuit.source:
        print_notes([circuit.source])


def _print_written(circuit: "Circuit", path: Path) -> None:
    size = path.stat().st_size
    out.print(f"Written to {path}", soft_wrap=True, markup=False)
    counts = (
        f"{counted(len(circuit.edges), 'edge')} between {counted(len(circuit.nodes), 'node')} of {circuit.model.name}"
    )
    out.print(f"{counts}; {size / 1000:,.0f} KB.", markup=False, highlight=False)
