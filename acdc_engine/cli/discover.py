"""`acdc discover`: the main job."""

import shlex
import time
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from acdc_engine.cli import options
from acdc_engine.cli.command import AsJson, beside, command, err, examples, print_result, progress, starting, stoppable
from acdc_engine.cli.look import write_report
from acdc_engine.run.settings import Settings

if TYPE_CHECKING:
    from acdc_engine.graph.circuit import Circuit

_RESULTS = ("circuit.json", "report.html")
"""Files that only a finished run writes."""


@command(
    model=True,
    config=True,
    settings=list(Settings.__dataclass_fields__),
    epilog=examples(
        "discover ioi",
        "discover my_task.toml --model gpt2 --out runs/mine",
        "discover ioi --objective kl --faithfulness 0.96",
        "discover ioi --strategy acdc --threshold 0.03 --candidates 2000",
    ),
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
    as_json: AsJson = False,
    **settings: Any,
) -> None:
    """Finds a small circuit that meets a faithfulness target, and judges it on held-out prompts.

    Leaves a folder with a report to read (report.html), the circuit and its
    evidence (circuit.json), the scores of all edges (scores.safetensors) and a
    line per circuit tried (trace.jsonl). Ctrl-C leaves what is there so far. The
    same command goes on with a run that was interrupted or killed.
    """
    with starting():
        from acdc_engine.run.discover import discover as run

    folder = out_folder or _default_folder(task, model, settings)
    started = time.time()
    with stoppable(lambda: _left_in(folder, started)):
        circuit = run(task, model, out=folder, overwrite=overwrite, progress=progress(), **settings)
        _report(circuit, folder)
    _close(circuit, folder, as_json)


def _report(circuit: "Circuit", folder: Path) -> None:
    """Writes the report. The run is over by now: what goes wrong here is told, and takes nothing from it."""
    from acdc_engine.errors import AcdcError

    try:
        write_report(folder / "circuit.json", circuit, folder / "report.html", overwrite=True)
    except AcdcError as error:
        err.print(
            f"The report could not be written: {error} acdc report {folder} tries it again.",
            markup=False,
            soft_wrap=True,
        )


def _left_in(folder: Path, started: float) -> str:
    """What an interrupted run leaves, and the results of an earlier one that it would have replaced (--overwrite)."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    earlier = [file.name for file in files if file.name in _RESULTS and file.stat().st_mtime < started]
    left = [file.name for file in files if file.name not in earlier]
    lines = [f"In {folder}: {', '.join(left) or 'nothing yet'}."]
    if earlier:
        lines.append(f"Still there from an earlier run: {', '.join(earlier)}.")
    if "trace.jsonl" in left:
        lines.append("Run the same command to go on.")
    return "\n".join(lines)


def _default_folder(task: str, model: str, settings: dict[str, Any]) -> Path:
    """A folder in runs/ called after task and time; that of a killed run of the same command, where there is one."""
    from acdc_engine.run.discover import unfinished_run

    runs, name = Path("runs"), options.name_of_task(task)
    started = any(path.name.startswith(f"{name}-") for path in runs.glob("*"))
    unfinished = unfinished_run(task, model, runs, name, **settings) if started else None
    return unfinished or _unused(runs / f"{name}-{datetime.now():%Y%m%d-%H%M%S}")


def _unused(path: Path) -> Path:
    """The path, or one with a number behind it: two runs may begin in the same second."""
    paths = (path.with_name(f"{path.name}-{number}") for number in count(2))
    return path if not path.exists() else next(p for p in paths if not p.exists())


def _close(circuit: "Circuit", folder: Path, as_json: bool) -> None:
    from acdc_engine.show.figures import summary
    from acdc_engine.show.words import remarks

    print_result(circuit.to_json() if as_json else None, summary(circuit), remarks(circuit))
    report, circuit_file = folder / "report.html", folder / "circuit.json"
    written = (
        f"\nWritten to {folder}. Read {report}, or see the edges with:  acdc show {shlex.quote(str(circuit_file))}"
    )
    beside(as_json).print(written, soft_wrap=True, markup=False)
