"""`acdc curve`: faithfulness against size, several methods on one picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from acdc_engine.cli import options
from acdc_engine.cli.command import AsJson, beside, command, examples, print_result, progress, starting, stoppable
from acdc_engine.run.settings import choices_of

if TYPE_CHECKING:
    from acdc_engine.graph.result_records import Curve

_SETTINGS = (
    "device", "dtype", "ungroup_kv", "steps", "ablation", "metric", "n", "n_held_out", "seed", "prepend_bos",
    "drop_misfits", "batch_size", "force",
)  # fmt: skip


@command(
    model=True,
    settings=_SETTINGS,
    epilog=examples("curve ioi", "curve ioi --method eap-ig --sizes 0.1,1,10 --circuit runs/demo --to pdf"),
)
def curve(
    task: options.Task,
    model: options.Model = "smollm2-135m",
    method: Annotated[
        list[str],
        options.in_pruning(
            autocompletion=options.among(choices_of("method")),
            help="How edges are scored: eap-ig, eap or clean-corrupted. Repeat it for several.",
        ),
    ] = ["eap-ig", "eap"],  # noqa: B006
    rank: Annotated[
        list[str],
        options.in_pruning(
            autocompletion=options.among(("absolute", "signed")),
            help="What counts as strong: signed or absolute scores. Repeat it for both. MIB publishes CPR for signed "
            "and CMD for absolute.",
        ),
    ] = ["signed", "absolute"],  # noqa: B006
    strategy: Annotated[
        list[str],
        options.in_pruning(
            autocompletion=options.among(("top-k", "greedy")),
            help="top-k: the strongest edges. greedy: grown from the logits. Repeat it for both.",
        ),
    ] = ["top-k"],  # noqa: B006
    sizes: Annotated[
        str | None,
        options.in_pruning(
            help="Sizes in percent of the graph's edges, growing, as in 0.5,1,5,100.",
            show_default="MIB's: 0.1,0.2,0.5,1,2,5,10,20,50,100",
        ),
    ] = None,
    n_random: Annotated[
        int,
        options.in_run(
            "--random",
            help="Random circuits per size, as a baseline; fewer above 5 % of the edges, where each costs more. 0: "
            "none.",
        ),
    ] = 10,
    circuit: Annotated[
        list[str] | None,
        options.in_run(
            help="A circuit of acdc discover (a run's folder or a file), of the same model and task, to mark on the "
            "picture. Repeat it for several."
        ),
    ] = None,
    faithfulness: Annotated[
        float,
        options.in_run(help="The picture shades the band from t to 2 - t, in which a circuit counts as faithful."),
    ] = 0.9,
    to: Annotated[str, options.in_run(help="The picture: png, svg, pdf or none.")] = "png",
    out_folder: Annotated[
        Path | None,
        options.in_run("--out", help="Folder for curve.json and the picture.", show_default="runs/TASK-curve"),
    ] = None,
    overwrite: Annotated[bool, options.in_run("--overwrite", help="Replace an earlier curve in that folder.")] = False,
    as_json: AsJson = False,
    **settings: Any,
) -> None:
    """Compares methods at every size: faithfulness of their strongest edges, with the areas CPR and CMD of MIB.

    Scores edges on the discovery prompts, takes the strongest 0.1 %, 0.2 %, ...
    of them, drops what lies on no path, and judges the circuits on held-out
    prompts beside random circuits. Writes curve.json (after every method, so
    Ctrl-C leaves what is finished) and a picture.
    """
    with starting():
        from acdc_engine.run.curve import curve as run

    folder = out_folder or Path("runs") / f"{options.name_of_task(task)}-curve"
    picture = _picture(folder, to, overwrite)
    if sizes is not None:
        settings["sizes"] = _percent(sizes)
    with stoppable(lambda: f"In {folder}: {', '.join(_names_in(folder)) or 'nothing yet'}."):
        found = run(
            task,
            model,
            methods=method,
            ranks=rank,
            strategies=strategy,
            n_random=n_random,
            circuits=circuit or (),
            out=folder,
            overwrite=overwrite,
            progress=progress(),
            faithfulness=faithfulness,
            **settings,
        )
    _close(found, folder, picture, as_json)


def _names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []


def _percent(text: str) -> tuple[float, ...]:
    from acdc_engine.errors import MethodError

    try:
        return tuple(float(part) / 100 for part in text.split(","))
    except ValueError:
        raise MethodError(
            f"--sizes are percentages with commas between them, as in 0.5,1,5,100, not {text!r}."
        ) from None


def _picture(folder: Path, to: str, overwrite: bool) -> Path | None:
    """Where the picture will be; refused now rather than after the computation."""
    from acdc_engine.errors import RunFolderError
    from acdc_engine.show.pictures.figure import check_picture

    if to == "none":
        return None
    check_picture(to)
    path = folder / f"curve.{to}"
    if path.exists() and not overwrite:
        raise RunFolderError(f"{path} exists already. Choose another --out, or add --overwrite to replace it.")
    return path


def _close(found: "Curve", folder: Path, picture: Path | None, as_json: bool) -> None:
    from acdc_engine.show.pictures.curve import curve_figure
    from acdc_engine.show.pictures.figure import write_figure
    from acdc_engine.show.results import curve_sections
    from acdc_engine.show.words import curve_remarks

    print_result(found.model_dump_json(indent=2) if as_json else None, curve_sections(found), curve_remarks(found))
    if picture is not None:
        write_figure(curve_figure(found), picture, overwrite=True)
    names = "curve.json" + ("" if picture is None else f" and {picture.name}")
    beside(as_json).print(f"\nWritten to {folder}: {names}", soft_wrap=True, markup=False)
