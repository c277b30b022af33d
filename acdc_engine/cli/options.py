"""The options that commands share: their names, what they mean, where `--help` lists them, what a shell completes.

Completions are names that are cheap to know: nothing large is imported for them.
"""

from collections.abc import Callable, Iterable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from acdc_engine.run.settings import MODEL, PROMPTS, PRUNING, RUN, Settings, choices_of, option_of
from acdc_engine.shipped import small_models, tasks_folder

_HUB = (
    "smollm2-135m",
    "gpt2",
    "gpt2-medium",
    "EleutherAI/pythia-160m",
    "Qwen/Qwen3-0.6B",
    "google/gemma-3-270m",
)
in_model = partial(typer.Option, rich_help_panel=MODEL)
in_pruning = partial(typer.Option, rich_help_panel=PRUNING)
in_prompts = partial(typer.Option, rich_help_panel=PROMPTS)
in_run = partial(typer.Option, rich_help_panel=RUN)
"""Options with their place in `--help`."""


def among(known: Callable[[], Iterable[str]], files: bool = False) -> Callable[[str], list[str]]:
    """Completes one of some names, or a file."""

    def complete(incomplete: str) -> list[str]:
        names = [name for name in known() if name.startswith(incomplete)]
        return names + _files(incomplete) if files else names

    return complete


def _files(incomplete: str) -> list[str]:
    """Paths, which a shell leaves to a program that completes anything by itself."""
    typed = Path(incomplete)
    folder, beginning = (typed, "") if incomplete.endswith("/") else (typed.parent, typed.name)
    try:
        found = sorted(path for path in folder.iterdir() if path.name.startswith(beginning))
    except OSError:
        return []
    hidden = beginning.startswith(".")
    return [f"{path}{'/' if path.is_dir() else ''}" for path in found if hidden or not path.name.startswith(".")]


def _tasks() -> Iterable[str]:
    return (path.parent.name for path in sorted(tasks_folder().glob("*/task.toml")))


def _circuits() -> Iterable[str]:
    from acdc_engine.graph.files import known_graphs

    return known_graphs()


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
                autocompletion=among(partial(choices_of, one.name)) if told["choices"] else None,
            )
            made[one.name] = Annotated[one.type, option], one.default
    return made


def _flags(name: str, default: Any) -> str:
    on, kind = option_of(name), Settings.__dataclass_fields__[name].type
    off = f"--no-{on.removeprefix('--')}"
    if bool not in (kind, *get_args(kind)) or default is False:
        return on
    return f" /{off}" if default else f"{on}/{off}"


_CIRCUIT = (
    "A run's folder, finished or not; a circuit file, also of any format that acdc export --list names; or a circuit "
    "that comes along, such as gpt2/ioi (acdc show --list)."
)


def a_circuit(metavar: str = "CIRCUIT", more: str = "") -> Any:
    """The argument of every command that takes a circuit."""
    complete = among(_circuits, files=True)
    return typer.Argument(autocompletion=complete, metavar=metavar, help=f"{_CIRCUIT} {more}".strip())


AnyCircuit = Annotated[str, a_circuit()]
Task = Annotated[
    str,
    typer.Argument(
        autocompletion=among(_tasks, files=True),
        metavar="TASK",
        help="A task by its name ([bold]ioi[/bold]; [bold]acdc tasks[/bold] lists them), or the path of your own: a "
        "card (.toml) or prompt pairs (.jsonl, .json, .csv, .tsv).",
    ),
]
Model = Annotated[
    str,
    in_model(
        autocompletion=among(lambda: (*_HUB, *small_models()), files=True),
        help="smollm2-135m (no hub needed), any Hugging Face name (gpt2, ...) or a local directory.",
    ),
]
CircuitModel = Annotated[
    str | None,
    in_model(
        help="The model, or where it is: a Hugging Face name or a local directory.",
        show_default="the one the file names",
    ),
]
CircuitDtype = Annotated[
    str | None, in_model(help="float32, bfloat16, float16 or float64.", show_default="the file's, or float32")
]
PictureFile = Annotated[
    Path | None, in_run("--picture", help="Picture to draw: the name ends in .png, .svg or .pdf.", show_default=False)
]
ReplaceFiles = Annotated[bool, in_run("--overwrite", help="Replace these files.")]
ReplaceFile = Annotated[bool, typer.Option("--overwrite", help="Replace that file.", rich_help_panel=RUN)]
