"""The options that commands share: their names, what they mean, where `--help` lists them, what a shell completes.

Completions are names that are cheap to know: nothing large is imported for them.
"""

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from acdc_engine.errors import CircuitFileError
from acdc_engine.run.settings import MODEL, PROMPTS, PRUNING, RUN, Settings, choices_of, option_of
from acdc_engine.shipped import graphs_folder, tasks_folder

HUB_MODELS = ("smollm2-135m", "gpt2", "gpt2-medium", "EleutherAI/pythia-160m", "Qwen/Qwen3-0.6B", "google/gemma-3-270m")
in_model = partial(typer.Option, rich_help_panel=MODEL)
in_pruning = partial(typer.Option, rich_help_panel=PRUNING)
in_prompts = partial(typer.Option, rich_help_panel=PROMPTS)
in_run = partial(typer.Option, rich_help_panel=RUN)
"""Options with their place in `--help`."""


def among(names: tuple[str, ...]) -> Callable[[str], list[str]]:
    """Completes one of some names."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return complete


def task_names(incomplete: str) -> list[str]:
    """Names of shipped tasks, and files."""
    names = [path.parent.name for path in sorted(tasks_folder().glob("*/task.toml"))]
    return [*(name for name in names if name.startswith(incomplete)), *file_names(incomplete)]


def _model_names(incomplete: str) -> list[str]:
    """Well-known models, those that come along, and folders."""
    shipped = [path.parent.name for path in sorted(graphs_folder().glob("*/model.json"))]
    return [*(name for name in (*HUB_MODELS, *shipped) if name.startswith(incomplete)), *file_names(incomplete)]


def circuit_names(incomplete: str) -> list[str]:
    """Known circuits that come along, and files."""
    from acdc_engine.graph.files import known_graphs

    return [*(name for name in known_graphs() if name.startswith(incomplete)), *file_names(incomplete)]


def file_names(incomplete: str) -> list[str]:
    """Paths, which a shell leaves to a program that completes anything by itself."""
    typed = Path(incomplete)
    folder, beginning = (typed, "") if incomplete.endswith("/") else (typed.parent, typed.name)
    try:
        found = sorted(path for path in folder.iterdir() if path.name.startswith(beginning))
    except OSError:
        return []
    hidden = beginning.startswith(".")
    return [f"{path}{'/' if path.is_dir() else ''}" for path in found if hidden or not path.name.startswith(".")]


def instead(name: str, show: Callable[[], None], help: str) -> Any:
    """A flag that shows something instead of what the command does."""

    def ends(asked: bool) -> bool:
        if asked:
            show()
            raise typer.Exit
        return asked

    return typer.Option(name, is_eager=True, callback=ends, help=help)


def settings(*names: str) -> dict[str, tuple[Any, Any]]:
    """Annotation and default of the options of some settings, in the settings' words."""
    made: dict[str, tuple[Any, Any]] = {}
    for one in fields(Settings):
        if one.name in names:
            told = one.metadata
            option = typer.Option(
                _flags(one.name, one.default),
                help=told["help"],
                rich_help_panel=told["group"],
                show_default=told["shown"],
                autocompletion=among(choices_of(one.name)) if told["choices"] else None,
            )
            made[one.name] = Annotated[one.type, option], one.default
    return made


def _flags(name: str, default: Any) -> str:
    on, kind = option_of(name), Settings.__dataclass_fields__[name].type
    off = f"--no-{on.removeprefix('--')}"
    if bool not in (kind, *get_args(kind)) or default is False:
        return on
    return f" /{off}" if default else f"{on}/{off}"


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
    in_model(
        autocompletion=_model_names,
        help="smollm2-135m (no hub needed), any Hugging Face name (gpt2, ...) or a local directory.",
    ),
]
ReplaceFile = Annotated[bool, typer.Option("--overwrite", help="Replace that file.", rich_help_panel=RUN)]


def name_of_task(task: str) -> str:
    """What to call a task before its card is read; cards are often called task.toml, in a folder of the task's name."""
    path = Path(task)
    return (path.absolute().parent.name if path.name == "task.toml" else "") or path.stem
