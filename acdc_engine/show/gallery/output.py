"""The folder of a gallery: written beside its place and moved there whole; no file of anybody else's is deleted."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from acdc_engine.errors import GalleryError
from acdc_engine.graph.records import Record

MANIFEST = "gallery.json"
"""Marks a folder as a gallery and lists its files, so that it can be replaced."""


class Manifest(Record):
    """Content of `gallery.json`."""

    format: Literal["acdc-engine/gallery"] = "acdc-engine/gallery"
    """Says that the folder is a gallery."""
    version: int = Field(default=1, ge=1)
    """Of this record."""
    files: tuple[str, ...]
    """All other files, from the gallery's folder."""


def is_gallery(folder: Path) -> bool:
    """Whether a folder was written by `write_gallery`."""
    return _manifest(folder) is not None


def check_target(out: Path, runs: Path, overwrite: bool) -> Path:
    """Finds out before the work whether a gallery may be written to a folder.

    Args:
        out: The folder.
        runs: The folder that is shown.
        overwrite: Replace a gallery there.

    Returns:
        The folder with links resolved.

    Raises:
        GalleryError: A file is there; or a folder that is no gallery, holds files besides the gallery's, or holds the
            runs; or a gallery that is not to be replaced; or there is nowhere to put it.
    """
    target, runs = out.resolve(), runs.resolve()
    if runs == target or target in runs.parents:
        raise GalleryError(f"{out} holds the runs that are shown ({runs}): choose another --out.")
    if not target.parent.is_dir():
        raise GalleryError(f"Cannot write {out}: there is no folder {target.parent}. Create it first.")
    if not target.exists():
        return target
    if not target.is_dir():
        raise GalleryError(f"{out} is a file; --out names a folder.")
    try:
        _check_content(out, target, overwrite)
    except OSError as error:
        raise _cannot_write(out, error) from error
    return target


def _check_content(out: Path, target: Path, overwrite: bool) -> None:
    held = _files(target)
    if not held:
        return
    manifest = _manifest(target)
    if manifest is None:
        raise GalleryError(
            f"{out} exists, holds {_some(held)} and was not written by acdc gallery (it has no {MANIFEST}): "
            "choose another --out."
        )
    foreign = _foreign(held, manifest)
    if foreign:
        raise GalleryError(
            f"{out} holds files that acdc gallery did not write ({_some(foreign)}) and would delete. "
            "Move them away, or choose another --out."
        )
    if not overwrite:
        raise GalleryError(f"{out} holds a gallery. Choose another --out, or add --overwrite to replace it.")


@contextlib.contextmanager
def replaced(target: Path, remarks: list[str]) -> Iterator[Path]:
    """Gives a folder to write to, which takes the target's place when all is written; after an error nothing changed.

    Args:
        target: What `check_target` returned.
        remarks: Gets a line if there are files in the target at the end that no gallery wrote, and where they are now.

    Raises:
        GalleryError: The disk refuses.
    """
    new: Path | None = None
    try:
        new = Path(tempfile.mkdtemp(prefix=".acdc-gallery-", dir=target.parent))
        yield new
        files = tuple(sorted(_files(new)))
        (new / MANIFEST).write_text(Manifest(files=files).model_dump_json(indent=1) + "\n", encoding="utf-8")
        mask = os.umask(0)
        os.umask(mask)
        new.chmod(0o777 & ~mask)  # mkdtemp makes folders private to the user
        remarks += _swap(new, target)
    except OSError as error:
        raise _cannot_write(target, error) from error
    finally:
        if new is not None:
            shutil.rmtree(new, ignore_errors=True)


def _swap(new: Path, target: Path) -> list[str]:
    """Puts the new folder in the old one's place; returns what to say of the old one."""
    if not target.exists():
        os.replace(new, target)
        return []
    aside = Path(tempfile.mkdtemp(prefix="acdc-gallery-old-", dir=target.parent)) / target.name
    try:
        os.replace(target, aside)
        os.replace(new, target)
    except BaseException:
        # Interrupted between the two: the old one returns.
        if aside.exists() and not target.exists():
            os.replace(aside, target)
        with contextlib.suppress(OSError):
            aside.parent.rmdir()
        raise
    try:
        why = _remove_gallery(aside)
        if why is None:
            aside.parent.rmdir()
            return []
    except OSError as error:
        why = f"it cannot be deleted ({error.strerror or error})"
    return [f"What {target} held before is now in {aside}, for you to move or delete: {why}."]


def _remove_gallery(folder: Path) -> str | None:
    """Removes a gallery; None, or why it stays.

    It was looked at before the work, which takes minutes, and somebody may be writing there even now: nothing is
    deleted but the files that the gallery lists.
    """
    if folder.is_symlink() or not folder.is_dir():
        return "meanwhile it was no gallery any more"
    held = _files(folder)
    foreign = _foreign(held, _manifest(folder))
    if not foreign:
        for name in held:
            (folder / name).unlink()
        for inner, _, _ in os.walk(folder, topdown=False):
            with contextlib.suppress(OSError):  # not empty
                os.rmdir(inner)
        foreign = _files(folder) if folder.exists() else set()
    return f"meanwhile it got files that acdc gallery did not write ({_some(foreign)})" if foreign else None


def _foreign(held: set[str], manifest: Manifest | None) -> set[str]:
    """Files that are not the gallery's."""
    return held if manifest is None else held - set(manifest.files) - {MANIFEST}


def _files(folder: Path) -> set[str]:
    """Everything in a folder that is no folder, from there; links to folders too."""
    found: set[str] = set()
    for parent, folders, files in os.walk(folder, onerror=_raise):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        found.update((Path(parent) / name).relative_to(folder).as_posix() for name in (*files, *links))
    return found


def _raise(error: OSError) -> None:
    raise error


def _manifest(folder: Path) -> Manifest | None:
    if not os.path.isfile(folder / MANIFEST):  # a pipe would be waited for
        return None
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None


def _some(names: set[str]) -> str:
    first = sorted(names)[:3]
    return ", ".join(first) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def _cannot_write(out: Path, error: OSError) -> GalleryError:
    return GalleryError(f"Cannot write {out}: {error.strerror or error}. Nothing was changed there.")
