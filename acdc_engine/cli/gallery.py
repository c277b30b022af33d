"""`acdc gallery`: many runs as a static site."""

from pathlib import Path
from typing import Annotated

import typer

from acdc_engine.cli.console import app, err, out, print_notes

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


@app.command()
def gallery(runs: Runs, out_folder: Out = Path("site"), title: Title = None, overwrite: Overwrite = False) -> None:
    """Builds a static site of many runs: cards, a sortable table, two circuits side by side.

    Open its index.html from disk, or put the folder on any web server. Runs that
    are unfinished or cannot be read are listed there, and do not stop the rest.
    """
    from rich.text import Text

    from acdc_engine.export.visible import plain
    from acdc_engine.gallery.site import INDEX, write_gallery
    from acdc_engine.run.progress import RichReporter

    with RichReporter(err).stage("Circuits", 0) as stage:
        made = write_gallery(runs, out_folder, title=title, overwrite=overwrite, progress=stage.at)
    for problem in made.problems:
        out.print(Text.assemble(("Not shown: ", "yellow"), f"{plain(problem.name, 200)}: {plain(problem.reason)}"))
    print_notes([plain(remark) for remark in made.remarks])
    count = f"{len(made.entries):,} circuit{'' if len(made.entries) == 1 else 's'}"
    out.print(f"Written to {out_folder / INDEX}: {count}.", soft_wrap=True, markup=False)
