"""Finding tasks: the shipped ones and those of plug-ins by name, anyone's by the path of its file; beginning one.

A plug-in is a package that says in its pyproject.toml

    [project.entry-points."acdc_engine.tasks"]
    my_tasks = "my_package.tasks"

The value names a package (a folder that can be imported). Importing it may add generators (`GENERATORS.add`). Task
files are looked for in its folder: `NAME/task.toml`, and `.toml` and `.jsonl` files directly in it; every one of them
must be a task.

Nothing is imported before somebody asks for a task or a generator that does not come with the engine, or for the list
of all. What cannot be used is handed on with the reason, never skipped in silence, and stops nothing else.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acdc_engine.errors import TaskError, nearest
from acdc_engine.prompts.card import TaskCard, load_card
from acdc_engine.prompts.generators import GENERATORS, register_shipped
from acdc_engine.registers import Broken, Plugin, log_broken, plugins
from acdc_engine.shipped import tasks_folder

_CARD = ".toml"
_PAIRS = (".jsonl", ".json", ".csv", ".tsv")
_IN_FOLDER = "task.toml"
"""What the card is called in a folder that is a task."""

_ENDINGS = f"a task card ending in {_CARD}, or prompt pairs ending in {', '.join(_PAIRS[:-1])} or {_PAIRS[-1]}"
_IN_PLUGINS = ("*/task.toml", "*.toml", "*.jsonl")


@dataclass(frozen=True)
class KnownTask:
    """A task that can be called by its name; `package` is the distribution it comes from, None for a shipped one."""

    card: TaskCard
    path: Path
    package: str | None = None


@dataclass(frozen=True)
class KnownTasks:
    """Tasks by name, the shipped ones first, then package by package, and plug-ins or tasks that cannot be used."""

    tasks: dict[str, KnownTask]
    broken: tuple[Broken, ...]


def list_tasks() -> dict[str, Path]:
    """Returns the shipped tasks: name to the path of the card."""
    return {path.parent.name: path for path in sorted(tasks_folder().glob(f"*/{_IN_FOLDER}"))}


def known_tasks() -> KnownTasks:
    """Returns every task that has a name: the shipped ones and those of plug-ins, which are imported.

    Raises:
        TaskError: A shipped card has problems. (Those of plug-ins are in `broken`.)
    """
    shipped = {name: KnownTask(load_card(path), path) for name, path in list_tasks().items()}
    found = _of_plugins(shipped)
    return KnownTasks(shipped | found.tasks, found.broken)


def find_task(name_or_path: str | Path) -> TaskCard:
    """Returns the card of a task.

    That is a name, shipped or of a plug-in; or the path of a file, a card (.toml) or prompt pairs (.jsonl, .json, .csv,
    .tsv); or that of a folder with a task.toml, which needs a slash in it (`./my_task`). Plug-ins are imported only for
    a name that is not a shipped task's; broken ones are then logged.

    Raises:
        TaskError: No such task or file, or one with problems.
    """
    if not isinstance(name_or_path, str | Path):
        raise TaskError(f"A task is a name or the path of a card, not {name_or_path!r}.")
    name = str(name_or_path)
    if "." in name or "/" in name or os.sep in name:  # names have neither
        return _load_task_file(Path(name))
    shipped = list_tasks()
    if name in shipped:
        return load_card(shipped[name])
    found = _of_plugins(shipped)
    if name not in found.tasks:
        broken = "".join(f"\n{one}" for one in found.broken)
        raise TaskError(
            f"There is no task {name!r}.{_beside(name)}{nearest(name, [*shipped, *found.tasks])} A task of your own is "
            f"given by its path: {_ENDINGS}.{broken}"
        )
    log_broken(found.broken)
    return found.tasks[name].card


def _load_task_file(path: Path) -> TaskCard:
    """Reads a task from a card, a file of prompt pairs, or a folder with a task.toml, or raises a TaskError."""
    if path.is_dir():
        return load_card(_card_in(path))
    ending = path.suffix.lower()
    if ending == _CARD:
        return load_card(path)
    from acdc_engine.prompts.pairs_file import load_pairs, looks_like_pairs

    if ending in _PAIRS or looks_like_pairs(path):
        return load_pairs(path)
    if path.exists():
        raise TaskError(f"{path} cannot be read as a task by its ending {path.suffix!r}: give {_ENDINGS}.")
    raise TaskError(f"There is no file {path}.{_beside(str(path))} A task is {_ENDINGS}, or a name (see acdc tasks).")


def _card_in(folder: Path) -> Path:
    card = folder / _IN_FOLDER
    if card.is_file():
        return card
    files = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in (_CARD, *_PAIRS))
    there = f" Give one of its files: {', '.join(files)}." if files else f" Give the path of a file: {_ENDINGS}."
    raise TaskError(f"The folder {folder} holds no {_IN_FOLDER}.{there}")


def _beside(text: str) -> str:
    """A hint for somebody who left away an ending or a slash."""
    files = [text + ending for ending in (_CARD, *_PAIRS) if Path(text + ending).is_file()]
    if not files and (Path(text) / _IN_FOLDER).is_file():
        files = [f"{os.curdir}{os.sep}{text}"]
    return f" Did you mean {' or '.join(files)}?" if files else ""


def _of_plugins(shipped: Collection[str]) -> KnownTasks:
    """The tasks of plug-ins. One that is called like a shipped one, or like another plug-in's, cannot be used."""
    register_shipped()
    imported, broken = plugins(GENERATORS.group)
    problems = list(broken)
    found: dict[str, list[tuple[Plugin, KnownTask]]] = defaultdict(list)
    read: set[Path] = set()
    for plugin in imported:
        folders = [folder for folder in map(Path, getattr(plugin.module, "__path__", ())) if folder.is_dir()]
        files = sorted({path.resolve() for folder in folders for kind in _IN_PLUGINS for path in folder.glob(kind)})
        if not files:
            problems += _without_tasks(plugin, folders)
        for path in (path for path in files if path not in read):  # two entry points may name one package
            read.add(path)
            try:
                card = _load_task_file(path)
            except TaskError as error:
                problems.append(plugin.broken(str(error)))
            else:
                found[card.name].append((plugin, KnownTask(card, path, plugin.package)))
    tasks = {}
    for name, same in found.items():
        if name in shipped:
            problems += [p.broken(f"its task {name!r} ({t.path}) is called like a shipped one.") for p, t in same]
        elif len(same) > 1:
            problems += [p.broken(_clash(name, t, [other for _, other in same])) for p, t in same]
        else:
            tasks[name] = same[0][1]
    in_order = sorted(tasks.items(), key=lambda item: (str(item[1].package), item[0]))
    return KnownTasks(dict(in_order), tuple(problems))


def _without_tasks(plugin: Plugin, folders: Sequence[Path]) -> Iterator[Broken]:
    """What is wrong with a plug-in that has no task file, unless it has added a generator."""
    name = plugin.module.__name__
    if not hasattr(plugin.module, "__path__"):
        yield plugin.broken(
            f"{name} is a module, not a package. Name a package: task files are looked for in its folder."
        )
    elif not folders:
        yield plugin.broken(f"{name} does not lie in a folder (a zip archive?), so its task files cannot be read.")
    elif not any(generator.source == plugin.package for generator in GENERATORS):
        where = ", ".join(map(str, folders))
        yield plugin.broken(f"there is no task file in {where}. Does the package include its data?")


def _clash(name: str, task: KnownTask, same: list[KnownTask]) -> str:
    others = ", ".join(f"{other.path} of {other.package}" for other in same if other is not task)
    return f"its task {name!r} ({task.path}) is called like another: {others}. Give the path of the one you mean."


def write_new_task(name: str, path: Path, *, pairs: bool) -> None:
    """Writes a first task file to change: the card starter.toml, or prompt pairs made of its words.

    Raises:
        TaskError: The name has other characters than lower-case letters, digits and underscores; or there is something
            at that path, or it cannot be written.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise TaskError(
            f"A task's name is made of lower-case letters, digits and underscores, a letter first, not {name!r}. The "
            "file gets that name, with .toml or .jsonl behind it."
        )
    card = Path(__file__).with_name("starter.toml").read_text(encoding="utf-8").replace("NAME", name)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(_starter_pairs(tomllib.loads(card)["words"]) if pairs else card)
    except FileExistsError:
        raise TaskError(f"{path} exists already, and is left as it is. Choose another name or --out.") from None
    except OSError as error:
        raise TaskError(f"{path} cannot be written: {error.strerror}. Choose another --out.") from None


def _starter_pairs(lists: Mapping[str, Any]) -> str:
    singular, plural = lists["singular"]["words"], lists["plural"]["words"]
    lines = []
    for i, place in enumerate(lists["places"]["words"]):
        one, many = singular[i % len(singular)], plural[i % len(plural)]
        nouns, verbs = ((many, one), (" are", " is")) if i % 2 else ((one, many), (" is", " are"))
        clean, corrupt = (f"The {noun} near the {place}" for noun in nouns)
        pair = {"clean": clean, "corrupt": corrupt, "answers": [verbs[0]], "wrong_answers": [verbs[1]]}
        lines.append(json.dumps(pair))
    return "\n".join(lines) + "\n"
