"""`acdc gallery`: many runs as a static site."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acdc_engine.cli.console import examples, out, print_notes
from acdc_engine.cli.frame import command, progress

if TYPE_CHECKING:
    from acdc_engine.show.index import Against

Runs = Annotated[
    Path,
    typer.Argument(help="Folder that holds run folders or circuit files, up to three folders down.", metavar="RUNS"),
]
Out = Annotated[Path, typer.Option("--out", help="Folder of the site.")]
Title = Annotated[
    str | None,
    typer.Option(help="Heading of the site.", show_default="Circuits in RUNS"),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an earlier gallery in that folder; other folders are refused.")
]


@command(epilog=examples("gallery runs/ --out site", "gallery runs/ --out site --overwrite"))
def gallery(runs: Runs, out_folder: Out = Path("site"), title: Title = None, overwrite: Overwrite = False) -> None:
    """Builds a static site of many runs: cards, a sortable table, two circuits side by side.

    Open its index.html from disk, or put the folder on any web server. Of a run
    that has not finished the best circuit so far is shown. What cannot be read is
    listed there, and does not stop the rest.
    It shows circuit files of this engine; acdc import makes one of another tool's.
    Viewers and reports are made anew, against the known circuit of the same
    model and task where one comes along.
    """
    from rich.text import Text

    from acdc_engine.run.progress import reporter_of
    from acdc_engine.show.index import INDEX, write_gallery
    from acdc_engine.show.visible import plain

    with reporter_of(progress()).stage("Circuits", 0) as stage:
        made = write_gallery(
            runs, out_folder, title=title, overwrite=overwrite, against=_known_circuits(), progress=stage.at
        )
    for name, reason in made.problems:
        out.print(Text.assemble(("Not shown: ", "yellow"), f"{plain(name, 200)}: {plain(reason)}"))
    print_notes([plain(remark) for remark in made.remarks])
    count = f"{len(made.entries):,} circuit{'' if len(made.entries) == 1 else 's'}"
    out.print(f"Written to {out_folder / INDEX}: {count}.", soft_wrap=True, markup=False)


def _known_circuits() -> "Against":
    """Compares circuits with the known ones that come along, which are looked for once per task and model."""
    from acdc_engine.graph.circuit import Circuit
    from acdc_engine.graph.records import ModelRecord
    from acdc_engine.graph.result_records import Comparison
    from acdc_engine.run.known import against_known, known_for

    there: dict[tuple[str, ModelRecord], bool] = {}

    def against(path: Path, circuit: Circuit) -> tuple[Comparison, Circuit] | None:
        if circuit.task is None:
            return None
        asked = circuit.task.name, circuit.model
        if asked not in there:
            there[asked] = known_for(circuit) is not None
        return against_known(path, circuit) if there[asked] else None

    return against
