"""Which circuits there are in a folder of runs, and what in it is not one."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from acdc_engine.errors import GalleryError
from acdc_engine.graph.circuit_file import FORMAT
from acdc_engine.graph.files import CIRCUIT, SCORES, SO_FAR, TRACE
from acdc_engine.show.gallery.output import MANIFEST, is_gallery

DEPTH = 3
"""Folders below the one that is searched; deeper ones are counted, not searched."""
UNFINISHED = (SO_FAR, TRACE, SCORES)
"""Files of a run that has no circuit yet."""
_SAYS_SO = re.compile(rb'"format"\s*:\s*"%b"' % re.escape(FORMAT).encode())
_MOST_NAMED = 5
_SNIFFED = 65_536
"""Bytes in which a circuit file says what it is, also one that is cut short."""


@dataclass(frozen=True)
class Found:
    """A file that says it is a circuit.

    Attributes:
        name: Its folder, or itself without `.json`, seen from the folder that was searched: a stranger's text.
        path: The file.
    """

    name: str
    path: Path


@dataclass(frozen=True)
class Problem:
    """Something that a reader would look for in the gallery, and why it is not there.

    Attributes:
        name: As for `Found`.
        reason: In words.
    """

    name: str
    reason: str


@dataclass
class Search:
    """What a folder holds.

    Attributes:
        found: Circuit files, by name.
        problems: Runs without a circuit, and folders that cannot be read.
        remarks: What was left alone.
    """

    found: list[Found] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def find_runs(root: Path) -> Search:
    """Searches a folder, and folders in it up to `DEPTH` below, for run folders and circuit files.

    Raises:
        GalleryError: There is no such folder.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise GalleryError(f"{root} {what}: give the folder that holds the run folders, such as runs/.")
    walk = _Walk(root)
    walk.look_into(root, 0)
    return walk.closed()


class _Walk:
    """One search; every folder once, whatever links lead to it."""

    def __init__(self, root: Path) -> None:
        self.root, self.search = root, Search()
        self.seen: set[Path] = set()
        self.others: list[str] = []
        self.deeper = self.hidden = 0

    def look_into(self, folder: Path, depth: int) -> None:
        if folder.resolve() in self.seen:
            return
        self.seen.add(folder.resolve())
        try:
            entries = {path.name: path for path in sorted(folder.iterdir())}
        except OSError as error:
            self.problem(folder, f"The folder cannot be read: {error.strerror or error}.")
            return
        # By os.path: Path.is_dir raises an error at a link to where nobody may look, and all the rest would be lost.
        inner = [path for path in entries.values() if os.path.isdir(path)]
        folders = [path for path in inner if not path.name.startswith(".")]
        if MANIFEST in entries and is_gallery(folder):
            self.search.remarks.append(f"{self.name_of(folder)} is a gallery itself and was not searched.")
            return
        self.hidden += len(inner) - len(folders)
        self.run(folder, entries)
        for name, path in entries.items():
            if name not in (CIRCUIT, SO_FAR) and path.suffix == ".json" and not os.path.isdir(path):
                self.plain_file(path)
        if depth == DEPTH:
            self.deeper += len(folders)
            return
        for path in folders:
            self.look_into(path, depth + 1)

    def run(self, folder: Path, entries: dict[str, Path]) -> None:
        """A run's folder: finished, or not."""
        circuit = entries.get(CIRCUIT)
        if circuit is not None and os.path.isfile(circuit):
            self.search.found.append(Found(self.name_of(folder), circuit))
            return
        if circuit is not None and not os.path.isdir(circuit):
            self.problem(folder, f"Its {CIRCUIT} is not a file: a link that leads nowhere, a pipe or a device.")
            return
        left = [name for name in UNFINISHED if name in entries]
        if left:
            self.problem(folder, f"Unfinished run: it has {left[0]} and no {CIRCUIT}. Run its command again to go on.")

    def plain_file(self, path: Path) -> None:
        """Any other JSON: a circuit if it says so near its beginning."""
        if not os.path.isfile(path):  # a pipe would be waited for
            self.others.append(self.name_of(path))
            return
        try:
            with open(path, "rb") as file:
                begins = file.read(_SNIFFED)
        except OSError as error:
            self.problem(path, f"The file cannot be read: {error.strerror or error}.")
            return
        if _SAYS_SO.search(begins):
            self.search.found.append(Found(self.name_of(path.with_suffix("")), path))
        else:
            self.others.append(self.name_of(path))

    def problem(self, path: Path, reason: str) -> None:
        self.search.problems.append(Problem(self.name_of(path), reason))

    def name_of(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix() if path != self.root else self.root.resolve().name

    def closed(self) -> Search:
        """With what was not searched, in words."""
        if self.deeper:
            self.search.remarks.append(
                f"{_count(self.deeper, 'folder')} more than {DEPTH} levels down: not searched. Give one further down."
            )
        if self.hidden:
            self.search.remarks.append(f"{_count(self.hidden, 'hidden folder')}: not searched.")
        if self.others:
            named = ", ".join(self.others[:_MOST_NAMED]) + ", ..." * (len(self.others) > _MOST_NAMED)
            self.search.remarks.append(
                f"{_count(len(self.others), 'other .json file')}: no circuit files, left alone ({named})."
            )
        return self.search


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
