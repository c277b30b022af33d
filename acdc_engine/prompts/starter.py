"""A first task file to change: the card starter.toml, or prompt pairs made of its words."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from acdc_engine.errors import TaskError


def check_new_name(name: str) -> None:
    """Refuses what cannot be a task's name.

    Raises:
        TaskError: It has other characters than lower-case letters, digits and underscores.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise TaskError(
            f"A task's name is made of lower-case letters, digits and underscores, a letter first, not {name!r}. The "
            "file gets that name, with .toml or .jsonl behind it."
        )


def starter_card(name: str) -> str:
    """Returns the text of a card that can be used as it stands."""
    return Path(__file__).with_name("starter.toml").read_text(encoding="utf-8").replace("NAME", name)


def starter_pairs() -> str:
    """Returns the text of a file of prompt pairs, a JSON object a line, that can be used as it stands."""
    lists = tomllib.loads(starter_card("pairs"))["words"]
    singular, plural = lists["singular"]["words"], lists["plural"]["words"]
    lines = []
    for i, place in enumerate(lists["places"]["words"]):
        one, many = singular[i % len(singular)], plural[i % len(plural)]
        nouns, verbs = ((many, one), (" are", " is")) if i % 2 else ((one, many), (" is", " are"))
        clean, corrupt = (f"The {noun} near the {place}" for noun in nouns)
        pair = {"clean": clean, "corrupt": corrupt, "answers": [verbs[0]], "wrong_answers": [verbs[1]]}
        lines.append(json.dumps(pair))
    return "\n".join(lines) + "\n"


def write_new(path: Path, text: str) -> None:
    """Writes a new file; never over one that is there.

    Raises:
        TaskError: There is something at that path, or it cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise TaskError(f"{path} exists already, and is left as it is. Choose another name or --out.") from None
    except OSError as error:
        raise TaskError(f"{path} cannot be written: {error.strerror}. Choose another --out.") from None
