"""`acdc draw`: a picture for a paper."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from acdc_engine.cli import options
from acdc_engine.cli.console import examples, out, print_notes
from acdc_engine.cli.frame import command, stage

OutFile = Annotated[
    Path, typer.Option("--out", help="File to write, ending in .svg, .pdf or .png. The first two are vectors.")
]
Width = Annotated[
    float | None,
    typer.Option(
        help="Inches: one column of a paper has about 3.3, two have 6.75.", show_default="as wide as it needs"
    ),
]
Top = Annotated[
    int | None,
    typer.Option(
        help="Draw at most so many edges, the strongest that lie on paths; the picture says so.", show_default="all"
    ),
]
Title = Annotated[
    str | None, typer.Option("--title", help="Title of the picture.", show_default="task, model and figures")
]
NoTitle = Annotated[bool, typer.Option("--no-title", help="No title: the paper has a caption.")]
By = Annotated[
    Literal["role"] | None,
    typer.Option(
        help="Boxes of all heads that have one role, with what the edges between boxes add up to. Heads only: MLPs "
        "without a role, and paths through them, are left out; dashed lines stand for these where a box would be "
        "loose.",
        show_default="every node a box",
    ),
]
Mlps = Annotated[bool, typer.Option("--mlps", help="By role: draw the MLPs too, as one box.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace that file.")]


@command(
    epilog=examples(
        "draw runs/demo --out fig.pdf --width 3.3 --no-title",
        "draw runs/large --out fig.svg --width 6.75 --top 60",
        "draw gpt2/ioi --by role --out figure-2.pdf",
    )
)
def draw(
    circuit: options.AnyCircuit,
    out_file: OutFile,
    width: Width = None,
    top: Top = None,
    title: Title = None,
    no_title: NoTitle = False,
    by: By = None,
    mlps: Mlps = False,
    overwrite: Overwrite = False,
) -> None:
    """Draws a circuit for a paper: input at the bottom, logits at the top, heads and MLPs by layer.

    Blue edges support the behaviour, orange ones work against it. Dashed edges
    enter a head's q, dotted ones its k, solid ones its v. More than 250 edges
    are thin lines; --top and --by role keep a large circuit readable. Roles of
    heads are colours, the same in all pictures, with names below the boxes where
    those are large enough to read.
    """
    from acdc_engine.errors import CircuitFileError
    from acdc_engine.formats.register import import_circuit
    from acdc_engine.show.pictures.draw import SMALL_PRINT
    from acdc_engine.show.pictures.draw import draw as drawn

    if title is not None and no_title:
        raise CircuitFileError("A picture has a --title or --no-title, not both. Leave one out.")
    loaded = import_circuit(circuit)
    title = "" if no_title else title
    with stage("Drawing"):
        points = drawn(loaded, out_file, width=width, top=top, title=title, by=by, mlps=mlps, overwrite=overwrite)
    out.print(f"Drawn to {out_file}", soft_wrap=True, markup=False)
    if points < SMALL_PRINT:
        print_notes(
            [f"names are {points:.1f} points high at that width. A larger --width or --top with fewer edges helps."]
        )
