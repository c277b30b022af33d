"""`acdc curve`: faithfulness against size, several methods on one picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from acdc_engine.cli import options
from acdc_engine.cli.command import (
    AsJson,
    beside,
    command,
    examples,
    out,
    print_json,
    print_notes,
    progress,
    starting,
    stoppable,
)

if TYPE_CHECKING:
    from acdc_engine.graph.result_records import Curve

Methods = Annotated[
    list[str],
    typer.Option(
        "--method",
        autocompletion=options.among(options.METHODS),
        help="How edges are scored: eap-ig, eap or clean-corrupted. Repeat it for several.",
        rich_help_panel=options.PRUNING,
    ),
]
Ranks = Annotated[
    list[str],
    typer.Option(
        "--rank",
        autocompletion=options.among(options.RANKS[:2]),
        help="What counts as strong: signed or absolute scores. Repeat it for both. MIB publishes CPR for signed and "
        "CMD for absolute.",
        rich_help_panel=options.PRUNING,
    ),
]
Strategies = Annotated[
    list[str],
    typer.Option(
        "--strategy",
        autocompletion=options.among(("top-k", "greedy")),
        help="top-k: the strongest edges. greedy: grown from the logits. Repeat it for both.",
        rich_help_panel=options.PRUNING,
    ),
]
Sizes = Annotated[
    str | None,
    typer.Option(
        help="Sizes in percent of the graph's edges, growing, as in 0.5,1,5,100.",
        show_default="MIB's: 0.1,0.2,0.5,1,2,5,10,20,50,100",
        rich_help_panel=options.PRUNING,
    ),
]
Band = Annotated[
    float,
    typer.Option(
        "--faithfulness",
        help="The picture shades the band from t to 2 - t, in which a circuit counts as faithful.",
        rich_help_panel=options.RUN,
    ),
]
Random = Annotated[
    int,
    typer.Option(
        "--random",
        help="Random circuits per size, as a baseline; fewer above 5 % of the edges, where each costs more. 0: none.",
        rich_help_panel=options.RUN,
    ),
]
Known = Annotated[
    list[str] | None,
    typer.Option(
        "--circuit",
        help="A circuit of acdc discover (a run's folder or a file), of the same model and task, to mark on the "
        "picture. Repeat it for several.",
        rich_help_panel=options.RUN,
    ),
]
To = Annotated[
    str,
    typer.Option(help="The picture: png, svg, pdf or none.", rich_help_panel=options.RUN),
]
OutFolder = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Folder for curve.json and the picture.",
        show_default="runs/TASK-curve",
        rich_help_panel=options.RUN,
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an earlier curve in that folder.", rich_help_panel=options.RUN)
]


@command(
    model=True, epilog=examples("curve ioi", "curve ioi --method eap-ig --sizes 0.1,1,10 --circuit runs/demo --to pdf")
)
def curve(
    task: options.Task,
    model: options.Model = "smollm2-135m",
    device: options.Device = "auto",
    dtype: options.Dtype = "float32",
    ungroup_kv: options.UngroupKv = False,
    method: Methods = ["eap-ig", "eap"],  # noqa: B006
    steps: options.Steps = None,
    rank: Ranks = ["signed", "absolute"],  # noqa: B006
    strategy: Strategies = ["top-k"],  # noqa: B006
    sizes: Sizes = None,
    ablation: options.Ablation = "patch",
    metric: options.MetricName = None,
    n: options.Prompts = None,
    n_held_out: options.HeldOut = None,
    seed: options.Seed = 0,
    prepend_bos: options.PrependBos = None,
    drop_misfits: options.DropMisfits = False,
    batch_size: options.BatchSize = 16,
    n_random: Random = 10,
    circuit: Known = None,
    faithfulness: Band = 0.9,
    to: To = "png",
    out_folder: OutFolder = None,
    overwrite: Overwrite = False,
    force: options.Force = False,
    as_json: AsJson = False,
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
    chosen: dict[str, Any] = {} if sizes is None else {"sizes": _percent(sizes)}
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
            steps=steps,
            faithfulness=faithfulness,
            ablation=ablation,
            metric=metric,
            n=n,
            n_held_out=n_held_out,
            seed=seed,
            batch_size=batch_size,
            device=device,
            dtype=dtype,
            ungroup_kv=ungroup_kv,
            prepend_bos=prepend_bos,
            drop_misfits=drop_misfits,
            force=force,
            **chosen,
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
    from acdc_engine.show.remarks import curve_remarks
    from acdc_engine.show.results import curve_sections
    from acdc_engine.show.sections import text_of

    if as_json:
        print_json(found.model_dump_json(indent=2))
    else:
        out.print()
        out.print(text_of(curve_sections(found)))
        print_notes(curve_remarks(found))
    if picture is not None:
        write_figure(curve_figure(found), picture, overwrite=True)
    names = "curve.json" + ("" if picture is None else f" and {picture.name}")
    beside(as_json).print(f"\nWritten to {folder}: {names}", soft_wrap=True, markup=False)
