"""Finding circuits: `acdc discover`, the main job, and `acdc curve`, which compares methods at every size."""

import shlex
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from acdc_engine import ranks
from acdc_engine.cli import options
from acdc_engine.cli.command import AsJson, command, err, out, print_broken, print_result, progress, stage, stoppable
from acdc_engine.cli.look import write_report
from acdc_engine.run.settings import Settings, choices_of, registers

if TYPE_CHECKING:
    from acdc_engine.graph.circuit import Circuit


def _list_choices() -> None:
    """Prints what methods, strategies, ablations and metrics there are, with their parameters."""
    from rich.markup import escape
    from rich.table import Table

    with stage("Starting"):
        found = registers()
    for name, register in found.items():
        table = Table(f"--{name}", "what it is, and its parameters", box=None, pad_edge=False)
        for entry in register:
            told = f"{entry.help} (from {entry.source})" if entry.source else entry.help
            table.add_row(entry.name, escape("\n".join([told, *(f"  {line}" for line in entry.takes)])))
        out.print(table, "")
        print_broken(register.broken)


@command(
    model=True,
    config=True,
    settings=list(Settings.__dataclass_fields__),
    examples=[
        "discover ioi",
        "discover my_task.toml --model gpt2 --out runs/mine",
        "discover ioi --objective kl --faithfulness 0.96",
        "discover ioi --objective kl --around runs/ioi-20260101-120000",
        "discover ioi --strategy acdc --threshold 0.03 --candidates 2000",
    ],
)
def discover(
    task: options.Task,
    model: options.Model = "smollm2-135m",
    out_folder: Annotated[
        Path | None, options.in_run("--out", help="Folder for the results.", show_default="runs/TASK-DATE-TIME")
    ] = None,
    overwrite: Annotated[
        bool,
        options.in_run(
            "--overwrite",
            help="Replace an earlier run in that folder; one of this very command that is unfinished is gone on with.",
        ),
    ] = False,
    list_choices: Annotated[
        bool,
        options.instead(
            "--list",
            _list_choices,
            help="List methods, strategies, ablations and metrics, also those of other packages, with the parameters "
            "that may stand behind a name: --method eap-ig:steps=7.",
        ),
    ] = False,
    as_json: AsJson = False,
    **settings: Any,
) -> None:
    """Finds a small circuit that meets a faithfulness target, and judges it on held-out prompts.

    Leaves a folder with a report to read (report.html), the circuit and its
    evidence (circuit.json), the scores of all edges (scores.safetensors) and a
    line per circuit tried (trace.jsonl). Ctrl-C leaves what is there so far. The
    same command goes on with a run that was interrupted or killed.
    """
    with stage("Starting"):
        from acdc_engine.run.discover import discover as run

    folder = out_folder or _default_folder(task, model, settings)
    with stoppable(lambda: _left_in(folder)):
        circuit = run(task, model, out=folder, overwrite=overwrite, progress=progress(), **settings)
        if not ranks.rank():
            _report(circuit, folder)
    from acdc_engine.show.figures import summary
    from acdc_engine.show.remarks import remarks

    edges = f"acdc show {shlex.quote(str(folder / 'circuit.json'))}"
    written = f"Written to {folder}. Read {folder / 'report.html'}, or see the edges with:  {edges}"
    print_result(circuit.to_json() if as_json else None, summary(circuit), remarks(circuit), written)


def _report(circuit: "Circuit", folder: Path) -> None:
    """Writes the report. The run is over by now: what goes wrong here is told, and takes nothing from it."""
    from acdc_engine.errors import AcdcError

    try:
        write_report(folder / "circuit.json", circuit, folder / "report.html", overwrite=True)
    except AcdcError as error:
        told = f"The report could not be written: {error} acdc report {folder} tries it again."
        err.print(told, markup=False, soft_wrap=True)


def _left_in(folder: Path) -> str:
    files = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
    more = "\nRun the same command to go on." if "trace.jsonl" in files else ""
    return f"In {folder}: {', '.join(files) or 'nothing yet'}.{more}"


def _default_folder(task: str, model: str, settings: dict[str, Any]) -> Path:
    """A folder in runs/ called after task and time; that of a killed run of the same command, where there is one."""
    from acdc_engine.run.discover import unfinished_run

    runs, name = Path("runs"), _name_of(task)
    started = any(path.name.startswith(f"{name}-") for path in runs.glob("*"))
    unfinished = unfinished_run(task, model, runs, name, **settings) if started else None
    new = runs / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    names = (new, *(new.with_name(f"{new.name}-{number}") for number in range(2, 100)))  # two begin in one second
    return unfinished or next(path for path in names if not path.exists())


def _name_of(task: str) -> str:
    """What to call a task before its card is read; cards are often called task.toml, in a folder of the task's name."""
    path = Path(task)
    return (path.absolute().parent.name if path.name == "task.toml" else "") or path.stem


_CURVE_SETTINGS = (
    "device", "dtype", "memory", "device_map", "adapter", "ungroup_kv", "steps", "ablation", "metric", "n",
    "n_held_out", "seed", "prepend_bos", "drop_misfits", "where", "batch_size", "force",
)  # fmt: skip
_Methods = Annotated[
    list[str],
    options.in_pruning(
        autocompletion=options.among(lambda: choices_of("method")),
        help="How edges are scored: eap-ig, eap-ig-path, eap, gim or clean-corrupted. Repeat it for several.",
    ),
]
_Ranks = Annotated[
    list[str],
    options.in_pruning(
        autocompletion=options.among(lambda: ("absolute", "signed")),
        help="What counts as strong: signed or absolute scores. Repeat it for both. MIB publishes CPR for signed and "
        "CMD for absolute.",
    ),
]
_Strategies = Annotated[
    list[str],
    options.in_pruning(
        autocompletion=options.among(lambda: ("top-k", "greedy")),
        help="top-k: the strongest edges. greedy: grown from the logits. Repeat it for both.",
    ),
]
_Shares = Annotated[
    str | None,
    options.in_pruning(
        help="Sizes in percent of the graph's edges, growing, as in 0.5,1,5,100; with --where of edges at places.",
        show_default="MIB's: 0.1,0.2,0.5,1,2,5,10,20,50,100",
    ),
]
_Random = Annotated[
    int,
    options.in_run(
        "--random",
        help="Random circuits per size, as a baseline; fewer above 5 % of the edges, where each costs more. 0: none.",
    ),
]
_Marked = Annotated[
    list[str] | None,
    options.in_run(
        help="A circuit of acdc discover (a run's folder or a file), of the same model and task, to mark on the "
        "picture. Repeat it for several."
    ),
]
_Band = Annotated[
    float, options.in_run(help="The picture shades the band from t to 2 - t, in which a circuit counts as faithful.")
]


@command(
    model=True,
    settings=_CURVE_SETTINGS,
    examples=["curve ioi", "curve ioi --method eap-ig --sizes 0.1,1,10 --circuit runs/demo --to pdf"],
)
def curve(
    task: options.Task,
    model: options.Model = "smollm2-135m",
    method: _Methods = ["eap-ig", "eap"],  # noqa: B006
    rank: _Ranks = ["signed", "absolute"],  # noqa: B006
    strategy: _Strategies = ["top-k"],  # noqa: B006
    sizes: _Shares = None,
    n_random: _Random = 10,
    circuit: _Marked = None,
    faithfulness: _Band = 0.9,
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
    with stage("Starting"):
        from acdc_engine.run.curve import curve as run

    folder = out_folder or Path("runs") / f"{_name_of(task)}-curve"
    picture = _picture(folder, to, overwrite)
    if sizes is not None:
        settings["sizes"] = _percent(sizes)
    with stoppable(lambda: _left_in(folder)):
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
    from acdc_engine.show.pictures import write_figure
    from acdc_engine.show.pictures.charts import curve_figure
    from acdc_engine.show.remarks import curve_remarks
    from acdc_engine.show.results import curve_sections

    if picture is not None:
        write_figure(curve_figure(found), picture, overwrite=True)
    written = f"Written to {folder}: curve.json" + ("" if picture is None else f" and {picture.name}")
    text = found.model_dump_json(indent=2) if as_json else None
    print_result(text, curve_sections(found), curve_remarks(found), written)


def _percent(text: str) -> tuple[float, ...]:
    from acdc_engine.errors import MethodError

    try:
        return tuple(float(part) / 100 for part in text.split(","))
    except ValueError:
        told = f"--sizes are percentages with commas between them, as in 0.5,1,5,100, not {text!r}."
        raise MethodError(told) from None


def _picture(folder: Path, to: str, overwrite: bool) -> Path | None:
    """Where the picture will be; refused now rather than after the computation."""
    from acdc_engine.graph.files import check_target
    from acdc_engine.show.pictures import picture_format

    if to == "none":
        return None
    path = folder / f"curve.{to}"
    picture_format(path, to)
    if folder.is_dir():
        check_target(path, overwrite=overwrite)
    return path
