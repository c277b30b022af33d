"""The options that commands share: their names, what they mean, where `--help` lists them, what a shell completes.

Completions are names that are cheap to know: nothing large is imported for them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from acdc_engine.errors import CircuitFileError
from acdc_engine.run.settings import help_of
from acdc_engine.shipped import graphs_folder, tasks_folder

METRICS = ("logit_diff", "prob_diff", "kl", "nll")
METHODS = ("eap-ig", "eap", "clean-corrupted")
STRATEGIES = ("iterative", "top-k", "greedy", "threshold", "acdc")
OBJECTIVES = ("faithfulness", "kl")
RANKS = ("absolute", "signed", "rms")
ABLATIONS = ("patch", "mean", "zero")
DTYPES = ("float32", "bfloat16", "float16", "float64")
DEVICES = ("auto", "cpu", "cuda", "mps")
HUB_MODELS = ("smollm2-135m", "gpt2", "gpt2-medium", "EleutherAI/pythia-160m", "Qwen/Qwen3-0.6B", "google/gemma-3-270m")

Completion = Callable[[str], list[str]]


def among(names: tuple[str, ...]) -> Completion:
    """Completes one of some names."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return complete


def task_names(incomplete: str) -> list[str]:
    """Names of shipped tasks, and files."""
    names = [path.parent.name for path in sorted(tasks_folder().glob("*/task.toml"))]
    return [*(name for name in names if name.startswith(incomplete)), *file_names(incomplete)]


def model_names(incomplete: str) -> list[str]:
    """Well-known models, those that come along, and folders."""
    shipped = [path.parent.name for path in sorted(graphs_folder().glob("*/model.json"))]
    return [*(name for name in (*HUB_MODELS, *shipped) if name.startswith(incomplete)), *file_names(incomplete)]


def circuit_names(incomplete: str) -> list[str]:
    """Known circuits that come along, and files."""
    from acdc_engine.graph.files import known_graphs

    return [*(name for name in known_graphs() if name.startswith(incomplete)), *file_names(incomplete)]


def file_names(incomplete: str) -> list[str]:
    """Paths, which a shell leaves to a program that completes anything by itself."""
    from pathlib import Path

    typed = Path(incomplete)
    folder, beginning = (typed, "") if incomplete.endswith("/") else (typed.parent, typed.name)
    try:
        found = sorted(path for path in folder.iterdir() if path.name.startswith(beginning))
    except OSError:
        return []
    hidden = beginning.startswith(".")
    return [f"{path}{'/' if path.is_dir() else ''}" for path in found if hidden or not path.name.startswith(".")]


def check_seed(seed: int | None) -> int | None:
    """Refuses a seed that numpy would refuse, but only after the search."""
    if seed is not None and seed < 0:
        raise typer.BadParameter(f"A seed is a whole number from 0, not {seed}.")
    return seed


MODEL, PRUNING, PROMPTS, RUN = "Model", "Scoring and pruning", "Prompts", "Run"


def _option(name: str, panel: str, *flags: str, choices: tuple[str, ...] = (), **more: Any) -> Any:
    """The option of a setting, in the setting's words."""
    complete = among(choices) if choices else None
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
AnyCircuit = Annotated[str, typer.Argument(autocompletion=circuit_names, metavar="CIRCUIT", help=CIRCUIT)]
Task = Annotated[
    str,
    typer.Argument(
        autocompletion=task_names,
        metavar="TASK",
        help="A task by its name ([bold]ioi[/bold]; [bold]acdc tasks[/bold] lists them), or the path of your own: a "
        "card (.toml) or prompt pairs (.jsonl, .json, .csv, .tsv).",
    ),
]
Model = Annotated[
    str,
    typer.Option(
        autocompletion=model_names,
        help="smollm2-135m (no hub needed), any Hugging Face name (gpt2, ...) or a local directory.",
        rich_help_panel=MODEL,
    ),
]
Device = Annotated[str, _option("device", MODEL, choices=DEVICES)]
Dtype = Annotated[str, _option("dtype", MODEL, choices=DTYPES)]
UngroupKv = Annotated[bool, _option("ungroup_kv", MODEL, "--ungroup-kv")]
Method = Annotated[str, _option("method", PRUNING, choices=METHODS)]
Steps = Annotated[int | None, _option("steps", PRUNING, show_default="5")]
Strategy = Annotated[str, _option("strategy", PRUNING, choices=STRATEGIES)]
Objective = Annotated[str, _option("objective", PRUNING, choices=OBJECTIVES)]
Candidates = Annotated[int | None, _option("candidates", PRUNING, show_default="the whole graph")]
RandomCircuits = Annotated[int, _option("n_random", RUN, "--random")]
Faithfulness = Annotated[float, _option("faithfulness", PRUNING)]
Size = Annotated[int | None, _option("size", PRUNING, show_default="as few as meet the target")]
Threshold = Annotated[float | None, _option("threshold", PRUNING)]
RankName = Annotated[str | None, _option("rank", PRUNING, choices=RANKS)]
Ablation = Annotated[str, _option("ablation", PRUNING, choices=ABLATIONS)]
MetricName = Annotated[str | None, _option("metric", PROMPTS, choices=METRICS, show_default="the task's")]
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
ReplaceFile = Annotated[bool, typer.Option("--overwrite", help="Replace that file.", rich_help_panel=RUN)]


def name_of_task(task: str) -> str:
    """What to call a task before its card is read; cards are often called task.toml, in a folder of the task's name."""
    path = Path(task)
    return (path.absolute().parent.name if path.name == "task.toml" else "") or path.stem
