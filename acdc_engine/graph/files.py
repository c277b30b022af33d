"""Files: written whole or not at all, found by name, read and checked.

A circuit is found by its file, by the folder of its run, or by the name under which it comes with the engine.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ValidationError

from acdc_engine import ranks
from acdc_engine.display import Shown
from acdc_engine.errors import AcdcWarning, CircuitFileError, did_you_mean, nearest
from acdc_engine.graph.records import Record
from acdc_engine.shipped import graphs_folder

CIRCUIT, SO_FAR, SCORES, TRACE = "circuit.json", "circuit-so-far.json", "scores.safetensors", "trace.jsonl"
"""What a run leaves in its folder: its circuit; until it has finished, the best one so far; scores of all edges; what
the model was asked and answered."""
FORMAT = "acdc-engine/circuit"
LARGEST_FILE = 512 * 2**20
"""Bytes. EAP-IG's JSON of a model of 32 layers and 32 heads, all of whose edges it lists, has about 120 MB."""
_VERSION = 2
_NO_CIRCUITS = ("schema.json", "model.json")
_MOST_NAMED = 10
_MOST_LINES = 10  # one typing mistake in a program that writes files is found at every edge


def write_text(path: Path, text: str, *, overwrite: bool = False) -> None:
    """Writes UTF-8 text to a temporary file beside `path`, then renames it.

    Raises:
        CircuitFileError: As for `check_target`, or the disk refuses.
    """
    write_with(path, lambda temporary: temporary.write_bytes(text.encode()), overwrite=overwrite)


def check_target(path: str | Path, *, overwrite: bool = False) -> Path:
    """Refuses a name that `write_with` would refuse, before anything is computed for it.

    Raises:
        CircuitFileError: It is a folder, the file exists, or its folder does not or cannot be written to.
    """
    path = Path(path)
    if ranks.rank():  # rank 0 writes
        return path
    # Not Path.is_dir and so on: these raise where a folder may not be looked into or a name is too long.
    if os.path.isdir(path):
        raise CircuitFileError(f"{path} is a folder; give the name of a file to write.")
    if os.path.exists(path) and not overwrite:
        raise CircuitFileError(f"{path} exists already. Choose another name, or add --overwrite to replace it.")
    if not os.path.isdir(path.parent):
        raise CircuitFileError(f"Cannot write {path}: there is no folder {path.parent}. Create it first.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise CircuitFileError(f"Cannot write {path}: no permission in {path.parent}. Choose another name.")
    return path


def write_with(path: Path, write: Callable[[Path], object], *, overwrite: bool = False) -> None:
    """Lets `write` fill a temporary file beside `path` (with its suffix), then renames it; of several ranks on 0 only.

    Raises:
        CircuitFileError: As for `check_target`, or the disk refuses.
    """
    check_target(path, overwrite=overwrite)
    if ranks.rank():
        return
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        # The content must be on disk before the name: a power cut in between would leave an empty file.
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        # mkstemp makes files private to the user; the result gets the permissions of any new file.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CircuitFileError(f"Cannot write {path}: {reason}. Nothing was left there.") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()


class Result(Shown, Record):
    """What a command gives that is no circuit: notebooks show it, and files hold it as JSON."""

    _indent: ClassVar[int] = 1

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Writes the file, complete or not at all.

        Raises:
            CircuitFileError: The file exists, or cannot be written.
        """
        write_text(Path(path), self.model_dump_json(indent=self._indent) + "\n", overwrite=overwrite)


def known_graphs() -> dict[str, Path]:
    """The circuit files of the folder `graphs/` by name, such as `gpt2/ioi`.

    Raises:
        AcdcError: This installation has no such folder.
    """
    folder = graphs_folder()
    files = sorted(path for path in folder.glob("*/*.json") if path.name not in _NO_CIRCUITS)
    return {f"{path.parent.name}/{path.stem}": path for path in files}


def find_circuit(name: str | os.PathLike[str]) -> Path:
    """Path of a circuit file.

    Warns (`AcdcWarning`) where it is the best circuit so far of a run that has not finished.

    Args:
        name: A file, the folder of a run, or the name of a circuit that comes with the engine: `gpt2/ioi`, also as
            `graphs/gpt2/ioi.json`. What exists comes before a name.

    Raises:
        CircuitFileError: None of these, or a folder without a circuit; what is there is said, or which circuits there
            are.
    """
    if not isinstance(name, str | os.PathLike):
        raise CircuitFileError(
            f"A circuit is given as a Circuit, a file, the folder of a run or a name such as gpt2/ioi, not as {name!r} "
            f"of type {type(name).__name__}."
        )
    path = Path(name)
    # Not Path.is_dir and so on: these raise where a folder may not be looked into or a name is too long.
    if os.path.isdir(path):
        return _in_folder(path)
    if os.path.exists(path):
        return path
    shipped = known_graphs()
    asked = path.as_posix().removeprefix("graphs/").removesuffix(".json")
    if asked in shipped:
        return shipped[asked]
    raise CircuitFileError(
        f"No circuit file {path}, no folder of that name, and no circuit of that name comes with the engine."
        f"{nearest(asked, shipped)}"
    )


def name_of(path: Path) -> str:
    """What to call a circuit file: its folder's name and its own, as in `gpt2/ioi`."""
    return f"{path.resolve().parent.name}/{path.stem}"


def short_name_of(path: Path) -> str:
    """What to call a circuit file among others: by its folder where it is a run's, as all of those are named alike."""
    return path.absolute().parent.name if path.name in (CIRCUIT, SO_FAR) else path.stem


def check_readable(path: Path) -> None:
    """Refuses what is no readable file, and files too large to be a circuit, with a CircuitFileError."""
    try:
        with path.open("rb"):
            size = path.stat().st_size
    except FileNotFoundError:
        raise CircuitFileError(f"No circuit file {path}.") from None
    except OSError as error:
        raise CircuitFileError(f"Cannot read {path}: {error.strerror or error}.") from error
    if size > LARGEST_FILE:
        raise CircuitFileError(
            f"{path} has {size / 2**20:,.0f} MB; circuits of more than {LARGEST_FILE // 2**20} MB are not read."
        )


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        CircuitFileError: It is missing, too large, cut short, or not JSON.
    """
    check_readable(path)
    text = ""
    try:
        text = path.read_bytes().decode()
        return json.loads(text)
    except UnicodeDecodeError as error:
        raise CircuitFileError(f"{path} is not a circuit file: byte {error.start} is not UTF-8.") from error
    except json.JSONDecodeError as error:
        # A file cut short fails at its end, in a string or in a word such as nul.
        last = re.fullmatch(r"[-+.\w]*\s*", text[error.pos :]) is not None
        cut = last or error.msg.startswith("Unterminated string")
        what = "is cut short" if cut else "is not JSON"
        advice = "Copy it again from where it was written." if cut else "Correct it there."
        message = f"{path} {what}: {error.msg} at line {error.lineno}, column {error.colno}. {advice}"
        raise CircuitFileError(message) from error
    except (RecursionError, ValueError) as error:  # Python refuses integers of thousands of digits
        what = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise CircuitFileError(f"{path} is not a circuit file: {what}.") from error


def read_content(path: Path) -> dict[str, Any]:
    """The parsed content of a circuit file: of the right format, of a version known here, with its checksum intact.

    Raises:
        CircuitFileError: Which of these does not hold.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CircuitFileError(
            f'{path} is not a circuit file: it does not say "format": "{FORMAT}". '
            "acdc discover writes one as circuit.json."
        )
    version = content.get("version")
    if type(version) is not int or version < 1:
        raise CircuitFileError(f"{path}: version is {version!r}; it must be a whole number, 1 to {_VERSION}.")
    if version > _VERSION:
        raise CircuitFileError(
            f"{path} was written by a newer acdc-engine (version {version}; this one reads up to {_VERSION}): "
            "upgrade with pip install --upgrade acdc-engine."
        )
    checksum = content.get("checksum")
    if checksum is not None and checksum != checksum_of(content):
        raise CircuitFileError(
            f"{path} was edited since it was written: its content does not match its checksum. "
            "Remove the checksum, with the comma before it, to use it as a hand-written circuit."
        )
    return content


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


def explain_faults(error: ValidationError) -> str:
    """Says what pydantic found, one fault per line, with the path to the key."""
    lines = []
    for fault in error.errors(include_url=False):
        place = ".".join(map(str, fault["loc"])) or "the file"
        if fault["type"] == "extra_forbidden":
            known = {name for kind in Record.__subclasses__() for name in kind.model_fields}
            lines.append(f"{place} is not a key of the format.{did_you_mean(str(fault['loc'][-1]), known)}")
        elif fault["type"] == "missing":
            lines.append(f"{place} is missing.")
        else:
            text, message = repr(fault["input"]), fault["msg"]
            shown = text if len(text) <= 60 else f"{text[:57]}..."
            lines.append(f"{place} is {shown}: {message[0].lower()}{message[1:]}.")
    if len(lines) > _MOST_LINES:
        lines = [*lines[:_MOST_LINES], f"... and {len(lines) - _MOST_LINES} more."]
    return "\n".join(f"  {line}" for line in lines)


def _in_folder(folder: Path) -> Path:
    """The circuit in a run's folder."""
    if os.path.exists(folder / CIRCUIT):
        return folder / CIRCUIT
    if os.path.exists(folder / SO_FAR):
        warnings.warn(
            f"the run in {folder} has not finished: this is its best circuit so far ({SO_FAR}). The command that began "
            "it goes on with it.",
            AcdcWarning,
            stacklevel=4,
        )
        return folder / SO_FAR
    try:
        there = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise CircuitFileError(f"Cannot look into the folder {folder}: {error.strerror or error}.") from error
    runs = [name for name in there if any(os.path.exists(folder / name / file) for file in (CIRCUIT, SO_FAR))]
    if TRACE in there:
        advice = (
            "its run has not finished and no circuit has been found yet. The command that began it goes on with it."
        )
    elif runs:
        advice = f"give one of the runs in it: {', '.join(runs[:_MOST_NAMED])}{', ...' if runs[_MOST_NAMED:] else '.'}"
    else:
        advice = "it is no folder of a run. Give a run's folder, a circuit file or a name such as gpt2/ioi."
    raise CircuitFileError(f"{folder} has no {CIRCUIT}: {advice}")
