"""`acdc compare`: a found circuit against a known one."""

from pathlib import Path
from typing import Annotated

import typer

from acdc_engine.cli import completions, options
from acdc_engine.cli.console import examples, out, print_notes
from acdc_engine.cli.frame import AsJson, beside, command, print_json, stage, starting

Found = Annotated[
    str,
    typer.Argument(
        autocompletion=completions.circuits,
        metavar="FOUND",
        help=f"{options.CIRCUIT} Scores of all edges are taken from scores.safetensors beside it, or from EAP-IG's "
        "JSON.",
    ),
]
Known = Annotated[str, typer.Argument(autocompletion=completions.circuits, metavar="KNOWN", help=options.CIRCUIT)]
OtherModel = Annotated[
    bool,
    typer.Option("--other-model", help="Compare models of other names and the same sizes: local copies, fine-tunes."),
]
Picture = Annotated[
    Path | None,
    typer.Option(
        help="Picture to draw: its name ends in .png, .svg or .pdf.",
        show_default=False,
    ),
]
All = Annotated[bool, typer.Option("--all", help="Print the whole edit list instead of the strongest ten each way.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace that picture.")]


@command(epilog=examples("compare runs/mine gpt2/ioi", "compare runs/mine gpt2/ioi --picture roc.pdf --json"))
def compare(
    found: Found,
    known: Known,
    other_model: OtherModel = False,
    picture: Picture = None,
    show_all: All = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Compares a found circuit with a known one: ROC, precision and recall, overlap, what is missing and extra.

    Over edges and over nodes, with and without MLPs, class by class. Needs no
    model. Without scores of all edges the found circuit is one point.
    """
    from acdc_engine.graph.files import check_target
    from acdc_engine.show.pictures.figure import check_picture

    with starting():
        from acdc_engine.run.compare import compare as run
        from acdc_engine.show.pictures.comparison import draw_comparison
        from acdc_engine.show.results import comparison_sections
        from acdc_engine.show.terminal import text_of

    if picture is not None:
        check_picture(picture.suffix.lstrip(".").lower())
        check_target(picture, overwrite=overwrite)
    with stage("Comparing"):
        compared = run(found, known, other_model=other_model)
    if as_json:
        print_json(compared.model_dump_json(indent=1))
    else:
        out.print(text_of(comparison_sections(compared, None if show_all else 10, rest=": --all")))
        print_notes(list(compared.remarks))
    if picture is not None:
        with stage("Drawing"):
            draw_comparison(compared, picture, overwrite=overwrite)
        beside(as_json).print(f"Drawn to {picture}", soft_wrap=True, markup=False)
