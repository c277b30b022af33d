"""Comparing models: `acdc diff` sets a model against what tuning made of it, or several checkpoints in a row."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from acdc_engine.cli import options
from acdc_engine.cli.command import AsJson, check_picture, command, draw, kept, print_result, progress, stage, stoppable
from acdc_engine.run.settings import DIFF_SETTINGS, Settings

if TYPE_CHECKING:
    from acdc_engine.graph.diff_records import Diff


@command(
    model=True,
    settings=DIFF_SETTINGS,
    examples=[
        "diff ioi --base smollm2-135m --adapter my-lora",
        "diff my_task.toml --base gpt2 --tuned my-gpt2 --out runs/change",
        "diff ioi --models smollm2-135m lora/step-10 lora/step-20 --out runs/training",
    ],
)
def diff(
    task: options.Task,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL",
            help="Those of --models, as --model of acdc discover; an adapter's folder is merged into the first.",
            show_default=False,
        ),
    ] = None,
    across: Annotated[
        bool,
        options.in_model(
            "--models", help="Compare all models that are named behind it, in order: checkpoints of a training."
        ),
    ] = False,
    base: Annotated[
        str | None,
        options.in_model(help="The model as it was, as --model of acdc discover.", show_default=False),
    ] = None,
    tuned: Annotated[
        str | None,
        options.in_model(help="The model as it has become, likewise.", show_default="the base with --adapter"),
    ] = None,
    out_folder: Annotated[
        Path | None,
        options.in_run("--out", help="Folder for the result, its page and circuit files.", show_default=False),
    ] = None,
    picture: Annotated[
        Path | None,
        options.in_run(help="Picture to draw: the name ends in .png, .svg or .pdf.", show_default=False),
    ] = None,
    overwrite: options.ReplaceFiles = False,
    as_json: AsJson = False,
    **settings: Any,
) -> None:
    """Compares a model with what tuning made of it: which edges carry the change of a behaviour.

    Both models run on the same prompts, and a circuit of each is searched with
    the same settings and judged in the other. Effects of all edges and nodes
    are compared, corrected for their number. Then edges of the tuned model are
    set back to what the base model writes: a minimal circuit of the change, and
    how much of it is undone where just these edges are set back. --out keeps
    a page, diff.html, and base.json, tuned.json and change.json, which acdc
    view and draw show.

    With --models: how the circuit grows and changes from one to the next, what
    each shares with the one before and with the last, and how faithful it is in
    the last model. With --out Ctrl-C loses no model that is done: the same
    command goes on, also with more models. --overwrite replaces a result of
    other settings.
    """
    check_picture(picture, overwrite)
    if across:
        if base is not None or tuned is not None:
            raise typer.BadParameter("Models are named behind --models, or with --base and --tuned, not both.")
        return _across(task, models or [], out_folder, picture, overwrite, as_json, settings)
    if models or base is None:
        raise typer.BadParameter("Name the model as it was with --base, or several models behind --models.")
    with stage("Starting"):
        from acdc_engine.run.diff import diff as run
        from acdc_engine.show.diff import diff_remarks, diff_sections
        from acdc_engine.show.pictures.difference import diff_figure

    with stoppable(lambda: "Nothing was written."):
        found = run(task, base, tuned, out=out_folder, overwrite=overwrite, progress=progress(), **settings)
    draw(picture, overwrite, lambda: diff_figure(found))
    if out_folder is not None:
        with stage("Drawing"):
            _write_diff_page(found, out_folder)
    as_text = found.model_dump_json(indent=1) if as_json else None
    print_result(as_text, diff_sections(found), diff_remarks(found), _kept_in(out_folder, picture))


def _across(
    task: str,
    models: list[str],
    out_folder: Path | None,
    picture: Path | None,
    overwrite: bool,
    as_json: bool,
    settings: dict[str, Any],
) -> None:
    """`acdc diff --models`."""
    with stage("Starting"):
        from acdc_engine.graph.files import write_text
        from acdc_engine.run.checkpoint_folder import PAGE, RESULT
        from acdc_engine.run.checkpoints import SETTINGS
        from acdc_engine.run.checkpoints import checkpoints as run
        from acdc_engine.show.checkpoints import checkpoints_remarks, checkpoints_sections
        from acdc_engine.show.diff_page import checkpoints_html
        from acdc_engine.show.pictures.checkpoints import checkpoints_figure

    before = _content(out_folder and out_folder / RESULT)

    def left() -> str:
        if out_folder is None or _content(out_folder / RESULT) == before:
            return "Nothing was written."
        return f"{out_folder} has the models that were finished. The same command goes on."

    usual = {name: one.default for name, one in Settings.__dataclass_fields__.items() if name not in SETTINGS}
    given = {name: value for name, value in settings.items() if name not in usual or value != usual[name]}
    with stoppable(left):
        found = run(task, models, out=out_folder, overwrite=overwrite, progress=progress(), **given)
        if out_folder is not None:
            with stage("Drawing"):
                write_text(out_folder / PAGE, checkpoints_html(found), overwrite=True)
        draw(picture, overwrite, lambda: checkpoints_figure(found))
    as_text = found.model_dump_json(indent=1) if as_json else None
    print_result(as_text, checkpoints_sections(found), checkpoints_remarks(found), _kept_in(out_folder, picture))


def _content(path: Path | None) -> bytes | None:
    return path.read_bytes() if path is not None and path.is_file() else None


def _kept_in(folder: Path | None, picture: Path | None) -> str:
    return kept(folder, picture) if folder or picture else "To keep this and the circuits, add:  --out FOLDER"


def _write_diff_page(found: "Diff", folder: Path) -> None:
    from acdc_engine.graph.circuit import Circuit
    from acdc_engine.graph.files import write_text
    from acdc_engine.run.diff import PAGE
    from acdc_engine.show.diff_page import diff_html

    change = Circuit.load(folder / "change.json") if found.carried.edges else None
    write_text(folder / PAGE, diff_html(found, change), overwrite=True)
