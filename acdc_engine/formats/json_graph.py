"""What the JSON formats of graphs have in common: lists of objects that are nodes and edges."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from acdc_engine.errors import CircuitFileError
from acdc_engine.formats.format import check_size
from acdc_engine.graph.circuit_file import read_content


def parsed(path: Path) -> Any:
    """The content of a JSON file of at most `LARGEST_FILE` bytes.

    Raises:
        CircuitFileError: It is missing, too large, or not JSON.
    """
    check_size(path)
    try:
        return json.loads(path.read_bytes().decode())
    except (OSError, ValueError, RecursionError):
        return read_content(path)  # which says what is wrong with it


def objects(path: Path, content: Any, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a list in parsed JSON, each with its place for messages (`edges.3`).

    Raises:
        CircuitFileError: It is no list, or something in it is no object.
    """
    listed = content.get(key, [])
    if not isinstance(listed, list):
        raise CircuitFileError(f"{path}: {key} is no list. Write it again where it comes from.")
    for place, item in enumerate(listed):
        if not isinstance(item, dict):
            raise CircuitFileError(f"{path}: {key}.{place} is {str(item)[:60]!r}; it must be an object.")
        yield f"{key}.{place}", item


def named(path: Path, place: str, item: dict[str, Any], key: str) -> str:
    """What names a node: a text, or a whole number where a program numbers them.

    Raises:
        CircuitFileError: It is missing, or something else.
    """
    name = item.get(key)
    if not isinstance(name, str) and type(name) is not int:
        said = f"is {str(item[key])[:60]!r}" if key in item else "is missing"
        raise CircuitFileError(f"{path}: {place}.{key} {said}; it must be a text that names a node.")
    return str(name)
