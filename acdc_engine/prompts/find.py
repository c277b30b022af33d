"""Finding tasks: the shipped ones by name, anyone's by the path of its card."""

from __future__ import annotations

from pathlib import Path

from acdc_engine.errors import TaskError, nearest
from acdc_engine.prompts.card import TaskCard, load_card
from acdc_engine.shipped import tasks_folder


def list_tasks() -> dict[str, Path]:
    """Returns the shipped tasks: name to the path of the card."""
    return {path.parent.name: path for path in sorted(tasks_folder().glob("*/task.toml"))}


def find_task(name_or_path: str | Path) -> TaskCard:
    """Returns the card of a shipped task or of a card file.

    Args:
        name_or_path: The name of a shipped task, or the path of a .toml file.

    Returns:
        The card.

    Raises:
        TaskError: No such task or file, or a card with problems.
    """
    if not isinstance(name_or_path, str | Path):
        raise TaskError(f"A task is a name or the path of a card, not {name_or_path!r}.")
    path = Path(name_or_path)
    if path.suffix == ".toml":
        return load_card(path)
    tasks = list_tasks()
    if str(name_or_path) not in tasks:
        raise TaskError(
            f"There is no task {str(name_or_path)!r}.{nearest(str(name_or_path), tasks)} "
            "A task card of your own is given by its path, ending in .toml."
        )
    return load_card(tasks[str(name_or_path)])
