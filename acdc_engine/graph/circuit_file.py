"""The circuit file as text: its layout, its checksum, and what is wrong with one that cannot be read, in words."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from acdc_engine.errors import CircuitFileError, nearest

FORMAT = "acdc-engine/circuit"
VERSION = 1
_MOST_LINES = 10  # one typing mistake in a program that writes files is found at every edge


def json_text(content: Mapping[str, Any]) -> str:
    """Lays a circuit out for reading and for line-by-line diffs: one node or edge per line."""
    parts = []
    for key, value in content.items():
        if isinstance(value, list) and value:
            items = ",\n".join(f"    {json.dumps(item, ensure_ascii=False)}" for item in value)
            text = f"[\n{items}\n  ]"
        else:
            text = json.dumps(value, indent=2, ensure_ascii=False).replace("\n", "\n  ")
        parts.append(f"  {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def checksum_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of the content without its checksum, as JSON with sorted keys and no spaces."""
    rest = {key: value for key, value in content.items() if key != "checksum"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # Surrogates come from broken text in a hand-written file; they must not end in an encoding error.
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


def read_content(path: Path) -> dict[str, Any]:
    """Reads a circuit file up to where its parts are looked at.

    Returns:
        The parsed content: of the right format, of a version known here, with its checksum intact.

    Raises:
        CircuitFileError: Which of these does not hold.
    """
    content = _parse(path, _read(path))
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CircuitFileError(
            f'{path} is not a circuit file: it does not say "format": "{FORMAT}". '
            "acdc discover writes one as circuit.json."
        )
    _check_version(path, content.get("version"))
    found = _first_not_finite(content)
    if found:
        raise CircuitFileError(f"{path}: {found}. Numbers of a circuit must be finite; null means unknown.")
    checksum = content.get("checksum")
    if checksum is not None and checksum != checksum_of(content):
        raise CircuitFileError(
            f"{path} was edited since it was written: its content does not match its checksum. "
            "Remove the checksum, with the comma before it, to use it as a hand-written circuit."
        )
    return content


def explain_faults(error: ValidationError, root: type[BaseModel]) -> str:
    """Says one fault per line, with the path to the key.

    Args:
        error: What pydantic found.
        root: The model it was looking for, whose keys are offered in place of unknown ones.
    """
    faults = error.errors(include_url=False)
    lines = [_explain(fault["loc"], fault["type"], fault["msg"], fault["input"], root) for fault in faults]
    if len(lines) > _MOST_LINES:
        lines = [*lines[:_MOST_LINES], f"... and {len(lines) - _MOST_LINES} more."]
    return "\n".join(f"  {line}" for line in lines)


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        raise CircuitFileError(f"No circuit file {path}.") from None
    except UnicodeDecodeError as error:
        raise CircuitFileError(f"{path} is not a circuit file: byte {error.start} is not UTF-8.") from error
    except OSError as error:
        raise CircuitFileError(f"Cannot read {path}: {error.strerror or error}.") from error


def _parse(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        # A file cut short fails at its end, in a string or in a word such as nul.
        last = re.fullmatch(r"[-+.\w]*\s*", text[error.pos :]) is not None
        cut = last or error.msg.startswith("Unterminated string")
        what = "is cut short" if cut else "is not JSON"
        advice = "Copy it again from where it was written." if cut else "Correct it there."
        message = f"{path} {what}: {error.msg} at line {error.lineno}, column {error.colno}. {advice}"
        raise CircuitFileError(message) from error
    except RecursionError as error:
        raise CircuitFileError(f"{path} is not a circuit file: it is nested too deeply.") from error
    except ValueError as error:
        # Python refuses integers of thousands of digits.
        raise CircuitFileError(f"{path} is not a circuit file: {error}.") from error


def _check_version(path: Path, version: object) -> None:
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise CircuitFileError(f"{path}: version is {version!r}; it must be a whole number, 1 to {VERSION}.")
    if version > VERSION:
        raise CircuitFileError(
            f"{path} was written by a newer acdc-engine (version {version}; this one reads up to {VERSION}): "
            "upgrade with pip install --upgrade acdc-engine."
        )


def _first_not_finite(value: object, path: str = "") -> str | None:
    """Finds a NaN or an infinity in parsed JSON: `edges.3.score is nan`."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{path} is {value}"
    if isinstance(value, Mapping):
        children: Iterable[tuple[Any, object]] = value.items()
    elif isinstance(value, list | tuple):
        children = enumerate(value)
    else:
        return None
    for key, child in children:
        found = _first_not_finite(child, f"{path}.{key}" if path else str(key))
        if found:
            return found
    return None


def _explain(loc: tuple[int | str, ...], kind: str, message: str, value: object, root: type[BaseModel]) -> str:
    place = ".".join(str(part) for part in loc) or "the file"
    if kind == "extra_forbidden":
        keys = _record_at(loc[:-1], root).model_fields
        return f"{place} is not a key of the format.{nearest(str(loc[-1]), keys)}"
    if kind == "missing":
        return f"{place} is missing."
    text = repr(value)
    shown = text if len(text) <= 60 else f"{text[:57]}..."
    return f"{place} is {shown}: {message[0].lower()}{message[1:]}."


def _record_at(loc: tuple[int | str, ...], root: type[BaseModel]) -> type[BaseModel]:
    """The part of a file that a path leads to."""
    record = root
    for part in loc:
        if isinstance(part, str):
            record = _record_in(record.model_fields[part].annotation) or record
    return record


def _record_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside an annotation such as `tuple[Model, ...]` or `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_record_in, get_args(annotation))), None)
