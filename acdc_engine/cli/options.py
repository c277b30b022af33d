"""The options that commands share: what they are called, what they mean, where `--help` lists them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from acdc_engine.cli import completions
from acdc_engine.errors import CircuitFileError
from acdc_engine.run.settings import help_of


def check_seed(seed: int | None) -> int | None:
    """Refuses a seed that numpy would refuse, but only after the search."""
    if seed is not None and seed < 0:
        raise typer.BadParameter(f"A seed is a whole number from 0, not {seed}.")
    return seed


MODEL, PRUNING, PROMPTS, RUN = "Model", "Scoring and pruning", "Prompts", "Run"


def _option(name: str, panel: str, *flags: str, choices: tuple[str, ...] = (), **more: Any) -> Any:
    """The option of a setting, in the setting's words."""
    complete = completions.among(choices) if choices else None
    return typer.Option(*flags, autocompletion=complete, help=help_of(name), rich_help_panel=panel, **more)


def check_page(path: Path | None) -> None:
    """Refuses a name for a page that says it is something else."""
    if path is not None and path.suffix.lower() not in (".html", ".htm"):
        raise CircuitFileError(
            f"A viewer or report is an HTML file; its name ends in .html, not as {path} does. Pictures (.svg, .pdf, "
            ".png) are made by acdc draw."
        )


CIRCUIT = (
    "A run's folder, finished or not; a circuit file, also of any format that acdc export --list names; or a circuit "
    "that comes along, such as gpt2/ioi (acdc show --list)."
)
"""What every command takes for a circuit."""
AnyCircuit = Annotated[str, typer.Argument(autocompletion=completions.circuits, metavar="CIRCUIT", help=CIRCUIT)]
Task = Annotated[
    str,
    typer.Argument(
        autocompletion=completions.tasks,
        metavar="TASK",
        help="A task by its name ([bold]ioi[/bold]; [bold]acdc tasks[/bold] lists them), or the path of your own: a "
        "card (.toml) or prompt pairs (.jsonl, .json, .csv, .tsv).",
    ),
]
Model = Annotated[
    str,
    typer.Option(
        autocompletion=completions.models,
        help="smollm2-135m (no hub needed), any Hugging Face name (gpt2, ...) or a local directory.",
        rich_help_panel=MODEL,
    ),
]
Device = Annotated[str, _option("device", MODEL, choices=completions.DEVICES)]
Dtype = Annotated[str, _option("dtype", MODEL, choices=completions.DTYPES)]
UngroupKv = Annotated[bool, _option("ungroup_kv", MODEL, "--ungroup-kv")]
Method = Annotated[str, _option("method", PRUNING, choices=completions.METHODS)]
Steps = Annotated[int | None, _option("steps", PRUNING, show_default="5")]
Strategy = Annotated[str, _option("strategy", PRUNING, choices=completions.STRATEGIES)]
Objective = Annotated[str, _option("objective", PRUNING, choices=completions.OBJECTIVES)]
Candidates = Annotated[int | None, _option("candidates", PRUNING, show_default="the whole graph")]
RandomCircuits = Annotated[int, _option("n_random", RUN, "--random")]
Faithfulness = Annotated[float, _option("faithfulness", PRUNING)]
Size = Annotated[int | None, _option("size", PRUNING, show_default="as few as meet the target")]
Threshold = Annotated[float | None, _option("threshold", PRUNING)]
RankName = Annotated[str | None, _option("rank", PRUNING, choices=completions.RANKS)]
Ablation = Annotated[str, _option("ablation", PRUNING, choices=completions.ABLATIONS)]
MetricName = Annotated[str | None, _option("metric", PROMPTS, choices=completions.METRICS, show_default="the task's")]
Prompts = Annotated[int | None, _option("n", PROMPTS, show_default="32, or as many as the task can give")]
HeldOut = Annotated[int | None, _option("n_held_out", PROMPTS, show_default="64, or as many as the task can give")]
DropMisfits = Annotated[bool, _option("drop_misfits", PROMPTS, "--drop-misfits")]
Seed = Annotated[int, _option("seed", PROMPTS, callback=check_seed)]
PrependBos = Annotated[bool | None, _option("prepend_bos", PROMPTS, "--bos/--no-bos")]
Minutes = Annotated[float | None, _option("minutes", RUN, show_default="until the search ends")]
EdgeTests = Annotated[bool, _option("edge_tests", RUN, " /--no-edge-tests", show_default=False)]
BatchSize = Annotated[int, _option("batch_size", RUN)]
OutFolder = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for the results.", show_default="runs/TASK-DATE-TIME", rich_help_panel=RUN),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace an earlier run in that folder; one of this very command that is unfinished is gone on with.",
        rich_help_panel=RUN,
    ),
]
Force = Annotated[bool, _option("force", RUN, "--force")]
