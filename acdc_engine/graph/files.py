"""Writing files so that nothing half-written is ever found under the final name."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from acdc_engine.errors import CircuitFileError


def write_text(path: Path, text: str, *, overwrite: bool = False) -> None:
    """Writes UTF-8 text to a temporary file beside `path`, then renames it.

    Args:
        path: The final name.
        text: The content.
        overwrite: Replace a file of that name.

    Raises:
        CircuitFileError: As for `check_target`, or the disk refuses.
    """
    write_with(path, lambda temporary: temporary.write_bytes(text.encode()), overwrite=overwrite)


def check_target(path: str | Path, *, overwrite: bool = False) -> Path:
    """Refuses a name that `write_with` would refuse, before anything is computed for it.

    Args:
        path: The final name.
        overwrite: Replace a file of that name.

    Returns:
        The path.

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

    Args:
        path: The final name.
        write: Given the temporary path, writes the content there.
        overwrite: Replace a file of that name.

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


def _publish(temporary: Path, path: Path) -> None:
    # The content must be on disk before the name: a power cut in between would leave an empty file.
    with open(temporary, "rb") as written:
        os.fsync(written.fileno())
    # mkstemp makes files private to the user; the result gets the permissions of any new file.
    mask = os.umask(0)
    os.umask(mask)
    temporary.chmod(0o666 & ~mask)
    os.replace(temporary, path)
