"""The circuit file as text: its layout, its checksum, and what can be wrong before its parts are read."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from acdc_engine.errors import CircuitFileError

FORMAT = "acdc-engine/circuit"
VERSION = 1


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
