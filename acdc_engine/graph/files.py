"""Files: writing them so that nothing half-written is found under the final name, and finding circuits.

A circuit is found by its file, by the folder of its run, or by the name under which it comes with the engine.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from acdc_engine.errors import AcdcWarning, CircuitFileError, nearest
from acdc_engine.shipped import graphs_folder

CIRCUIT, SO_FAR, SCORES, TRACE = "circuit.json", "circuit-so-far.json", "scores.safetensors", "trace.jsonl"
"""What a run leaves in its folder: its circuit; until it has finished, the best one so far; scores of all edges; what
the model was asked and answered."""
_NO_CIRCUITS = ("schema.json", "model.json")
_MOST_NAMED = 10


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
    # Not Path.is_dir and so on: these raise where a folder may not be looked into or a name is too long.
    if os.path.isdir(path):
        raise CircuitFileError(f"{path} is a folder; give the name of a file to write.")
    if os.path.exists(path) and not overwrite:
        raise CircuitFileError(f"{path} exists already. Choose another name, or add --overwrite to replace it.")
    if os.path.exists(path.parent) and not os.path.isdir(path.parent):
        raise CircuitFileError(f"Cannot write {path}: {path.parent} is a file, not a folder. Choose another name.")
    if not os.path.isdir(path.parent):
        raise CircuitFileError(f"Cannot write {path}: there is no folder {path.parent}. Create it first.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise CircuitFileError(f"Cannot write {path}: no permission in {path.parent}. Choose another name.")
    return path


def write_with(path: Path, write: Callable[[Path], object], *, overwrite: bool = False) -> None:
    """Lets `write` fill a temporary file beside `path` (with its suffix), then renames it.

    Raises:
        CircuitFileError: As for `check_target`, or the disk refuses.
    """
    check_target(path, overwrite=overwrite)
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        _publish(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CircuitFileError(f"Cannot write {path}: {reason}. Nothing was left there.") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()


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


def _publish(temporary: Path, path: Path) -> None:
    # The content must be on disk before the name: a power cut in between would leave an empty file.
    with open(temporary, "rb") as written:
        os.fsync(written.fileno())
    # mkstemp makes files private to the user; the result gets the permissions of any new file.
    mask = os.umask(0)
    os.umask(mask)
    temporary.chmod(0o666 & ~mask)
    os.replace(temporary, path)


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
    left = [name for name in (TRACE, SCORES) if name in there]
    runs = [name for name in there if any(os.path.exists(folder / name / file) for file in (CIRCUIT, SO_FAR))]
    if left:
        advice = (
            f"its run has not finished and no circuit has been found yet (it has {' and '.join(left)}). The command "
            "that began it goes on with it."
        )
    elif runs:
        advice = f"give one of the runs in it: {_listed(runs)}"
    else:
        holds = f"it holds {_listed(there)}" if there else "it is empty."
        advice = f"it is no folder of a run; {holds} Give a run's folder, a circuit file or a name such as gpt2/ioi."
    raise CircuitFileError(f"{folder} has no {CIRCUIT}: {advice}")


def _listed(names: list[str]) -> str:
    """The first names, as the end of a sentence."""
    return f"{', '.join(names[:_MOST_NAMED])}{', ...' if len(names) > _MOST_NAMED else '.'}"
