"""Many runs as a static site (`acdc gallery`): an index of them, a page for each, and any two circuits side by side."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from acdc_engine.errors import AcdcError, CircuitFileError, GalleryError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import CIRCUIT, FORMAT, SCORES, SO_FAR, TRACE
from acdc_engine.graph.records import Record
from acdc_engine.graph.result_records import Comparison
from acdc_engine.show.index_entries import COLUMNS, HEIGHT, WIDTH, Entry, compared, entry_of
from acdc_engine.show.page import render
from acdc_engine.show.report import report_html
from acdc_engine.show.viewer import viewer_html
from acdc_engine.show.visible import plain

Against = Callable[[Path, Circuit], tuple[Comparison, Circuit] | None]
"""Compares a circuit file, and what it holds, with a known circuit: the comparison and that circuit, or None."""
INDEX, _COMPARE, _MANIFEST = "index.html", "compare.html", "gallery.json"
_DEPTH = 3  # folders below the one that is searched
_LONGEST_SLUG = 60
_RESERVED = re.compile(r"con|prn|aux|nul|com\d|lpt\d")  # names that Windows keeps for devices
_SAYS_SO = re.compile(rb'"format"\s*:\s*"%b"' % re.escape(FORMAT).encode())
_SNIFFED = 65_536  # bytes in which a circuit file says what it is, also one that is cut short


@dataclass(frozen=True)
class Gallery:
    """What was written."""

    folder: Path  # The site; open `index.html` in it
    entries: tuple[Entry, ...]  # The runs in it
    problems: tuple[tuple[str, str], ...]  # Names of runs and files that are not shown, and why
    remarks: tuple[str, ...]  # What else a reader should know


def write_gallery(
    runs: str | Path,
    out: str | Path,
    *,
    title: str | None = None,
    overwrite: bool = False,
    against: Against = lambda path, circuit: None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Gallery:
    """Writes a site about all runs in a folder: plain files, to be opened from disk or put on any web server.

    Args:
        runs: Folder with run folders and circuit files, up to three folders down.
        out: Folder of the site; the folder around it must exist.
        title: Heading of the site; the folder's name by default.
        overwrite: Replace an earlier gallery in that folder.
        against: What viewer and report set a circuit against. Where it raises an AcdcError, they go without.
        progress: Told after each run how many are done, and of how many.

    Returns:
        What is in it: of a run that has not finished its best circuit so far; and what cannot be read, as on the page.

    Raises:
        GalleryError: There is no circuit to show; or the folder holds something else; or it cannot be written.
    """
    source, asked = Path(runs), Path(out)
    search = _Search(source)
    target = _target(asked, source, overwrite)
    title = title or f"Circuits in {plain(source.resolve().name, 80) or '/'}"
    entries: list[Entry] = []
    with _replaced(target, search.remarks) as folder:
        names = _slugs(name for name, _ in search.found)
        for done, (slug, (name, path)) in enumerate(zip(names, search.found, strict=True), 1):
            try:
                circuit = Circuit.load(path)
                entry = entry_of(slug, name, circuit, unfinished=path.name == SO_FAR)
                _write_run(folder / "runs" / slug, entry, circuit, path, search, title, against)
                entries.append(entry)
            except AcdcError as error:
                search.problems.append((name, search.without_folders(path, str(error))))
            progress(done, len(search.found))
        if not entries:
            raise GalleryError(_nothing(search))
        _write_index(folder, entries, search, title)
    return Gallery(target, tuple(entries), tuple(search.problems), tuple(search.remarks))


def _write_run(
    folder: Path, entry: Entry, circuit: Circuit, path: Path, search: _Search, title: str, against: Against
) -> None:
    """Viewer and report are made anew: those of the run may be about an earlier circuit, or lead away."""
    comparison, known = None, None
    try:
        comparison, known = against(path, circuit) or (None, None)
    except AcdcError as error:
        search.remarks.append(f"{entry.name}: its pages go without the known circuit. {error}")
    beside = {}
    if comparison is not None:
        remarks = tuple(search.without_folders(path, remark) for remark in comparison.remarks)
        comparison = comparison.model_copy(update={"remarks": remarks})
        beside = {"known_name": comparison.known}
    links = ((title, f"../../{INDEX}"), ("viewer", "viewer.html"), ("circuit file", CIRCUIT))
    try:
        written = path.read_bytes()
    except OSError as error:
        raise CircuitFileError(f"Cannot read {path}: {error.strerror or error}.") from error
    viewer = viewer_html(circuit, known, title=entry.name, **beside)
    report = report_html(circuit, comparison=comparison, known=known, links=links)
    folder.mkdir(parents=True)
    (folder / "viewer.html").write_text(viewer, encoding="utf-8")
    (folder / "report.html").write_text(report, encoding="utf-8")
    (folder / CIRCUIT).write_bytes(written)


def _write_index(folder: Path, entries: list[Entry], search: _Search, title: str) -> None:
    data, too_large = compared(entries)
    search.remarks += [f"{name} is too large to be compared in the gallery: see acdc compare." for name in too_large]
    problems = [(plain(name, 200), plain(reason, 500)) for name, reason in search.problems]
    index = render(
        "gallery/index.html.j2",
        title=title,
        entries=entries,
        columns=COLUMNS,
        problems=problems,
        width=WIDTH,
        height=HEIGHT,
    )
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.shape, []).append(entry)
    compare = render("gallery/compare.html.j2", title=title, groups=groups, data=data)
    (folder / INDEX).write_text(index, encoding="utf-8")
    (folder / _COMPARE).write_text(compare, encoding="utf-8")


def _nothing(search: _Search) -> str:
    found = [f"  {plain(name, 200)}: {plain(reason, 500)}" for name, reason in search.problems[:10]]
    more = [f"  ... and {len(search.problems) - 10:,} more"] if len(search.problems) > 10 else []
    first = f"No circuit to show in {search.root}: acdc discover writes one as {CIRCUIT} into its run's folder."
    return "\n".join([first, *found, *more, *(f"  {remark}" for remark in search.remarks)])


class _Search:
    """Which circuits a folder and those in it hold, what in it is not one, and what was left alone.

    Attributes:
        found: Circuit files by name: their folder, or themselves without `.json`, seen from the folder searched.
        problems: Runs without a circuit, and what cannot be read, with the reasons.
        remarks: What was left alone.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            what = "is a file" if root.exists() else "does not exist"
            raise GalleryError(f"{root} {what}: give the folder that holds the run folders, such as runs/.")
        self.root = root
        self.found: list[tuple[str, Path]] = []
        self.problems: list[tuple[str, str]] = []
        self.remarks: list[str] = []
        self._seen: set[Path] = set()
        self._others: list[str] = []
        self._deeper = 0
        self._look_into(root, 0)
        if self._deeper:
            folders = "1 folder" if self._deeper == 1 else f"{self._deeper:,} folders"
            self.remarks.append(f"{folders} more than {_DEPTH} levels down: not searched. Give one further down.")
        if self._others:
            files = "1 other .json file" if len(self._others) == 1 else f"{len(self._others):,} other .json files"
            named = ", ".join(self._others[:5]) + ", ..." * (len(self._others) > 5)
            self.remarks.append(f"{files}: no circuit files, left alone ({named}).")

    def without_folders(self, path: Path, text: str) -> str:
        """A text about a run without the folders above it, which are nobody's business on a public page."""
        for file in (path, path.with_name(SCORES)):
            text = text.replace(str(file), file.relative_to(self.root).as_posix())
        return text

    def _look_into(self, folder: Path, depth: int) -> None:
        if folder.resolve() in self._seen:  # links may lead in circles
            return
        self._seen.add(folder.resolve())
        try:
            entries = {path.name: path for path in sorted(folder.iterdir())}
        except OSError as error:
            self.problems.append((self._name(folder), f"The folder cannot be read: {error.strerror or error}."))
            return
        if _manifest(folder) is not None:
            self.remarks.append(f"{self._name(folder)} is a gallery itself and was not searched.")
            return
        self._run(folder, entries)
        # By os.path: Path.is_dir raises an error at a link to where nobody may look, and all the rest would be lost.
        folders = [path for name, path in entries.items() if os.path.isdir(path) and not name.startswith(".")]
        for name, path in entries.items():
            if name not in (CIRCUIT, SO_FAR) and path.suffix == ".json" and not os.path.isdir(path):
                self._other_file(path)
        if depth == _DEPTH:
            self._deeper += len(folders)
            return
        for path in folders:
            self._look_into(path, depth + 1)

    def _run(self, folder: Path, entries: dict[str, Path]) -> None:
        path = entries.get(CIRCUIT, entries.get(SO_FAR))
        left = [name for name in (TRACE, SCORES) if name in entries]
        if path is not None and os.path.isfile(path):  # a pipe would be waited for
            self.found.append((self._name(folder), path))
        elif path is not None and not os.path.isdir(path):
            why = f"Its {path.name} is not a file: a link that leads nowhere, a pipe or a device."
            self.problems.append((self._name(folder), why))
        elif left:
            why = f"Unfinished run: it has {left[0]} and no {CIRCUIT}. Run its command again to go on."
            self.problems.append((self._name(folder), why))

    def _other_file(self, path: Path) -> None:
        """A circuit if it says so near its beginning."""
        begins = b""
        if os.path.isfile(path):
            try:
                with open(path, "rb") as file:
                    begins = file.read(_SNIFFED)
            except OSError as error:
                self.problems.append((self._name(path), f"The file cannot be read: {error.strerror or error}."))
                return
        if _SAYS_SO.search(begins):
            self.found.append((self._name(path.with_suffix("")), path))
        else:
            self._others.append(self._name(path))

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix() if path != self.root else self.root.resolve().name


def _slugs(names: Iterable[str]) -> list[str]:
    """Turns names such as `smollm2/IOI seed 3` into unique ones of the letters a to z, digits and hyphens, in order."""
    made: dict[str, None] = {}
    for name in names:
        letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
        plain = re.sub(r"[^a-z0-9]+", "-", letters).strip("-")[:_LONGEST_SLUG].strip("-") or "run"
        plain = slug = f"{plain}-run" if _RESERVED.fullmatch(plain) else plain
        count = 1
        while slug in made:
            count += 1
            slug = f"{plain}-{count}"
        made[slug] = None
    return list(made)


class _Manifest(Record):
    """Content of `gallery.json`, which marks a folder as a gallery and lists its files, so that it can be replaced."""

    format: Literal["acdc-engine/gallery"] = "acdc-engine/gallery"
    version: Literal[1] = 1
    files: tuple[str, ...]


def _manifest(folder: Path) -> _Manifest | None:
    if not os.path.isfile(folder / _MANIFEST):  # a pipe would be waited for
        return None
    try:
        return _Manifest.model_validate_json((folder / _MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None


def _target(out: Path, runs: Path, overwrite: bool) -> Path:
    """The folder with links resolved; refused before the work where a gallery must not be written there."""
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
        held, foreign = _held(target)
    except OSError as error:
        raise _cannot_write(out, error) from error
    if held and _manifest(target) is None:
        raise GalleryError(
            f"{out} exists, holds {_some(held)} and was not written by acdc gallery (it has no {_MANIFEST}): "
            "choose another --out."
        )
    if foreign:
        raise GalleryError(
            f"{out} holds files that acdc gallery did not write ({_some(foreign)}) and would delete. "
            "Move them away, or choose another --out."
        )
    if held and not overwrite:
        raise GalleryError(f"{out} holds a gallery. Choose another --out, or add --overwrite to replace it.")
    return target


@contextlib.contextmanager
def _replaced(target: Path, remarks: list[str]) -> Iterator[Path]:
    """Gives a folder to write to, which takes the target's place when all is written; after an error nothing changed.

    `remarks` gets a line if what was there before is kept, and where.
    """
    beside: Path | None = None
    try:
        beside = Path(tempfile.mkdtemp(prefix=".acdc-gallery-", dir=target.parent))
        new = beside / "new"  # mkdtemp's own folder is private to the user
        new.mkdir()
        yield new
        files = tuple(sorted(_held(new)[0]))
        (new / _MANIFEST).write_text(_Manifest(files=files).model_dump_json(indent=1) + "\n", encoding="utf-8")
        remarks += _swap(new, target)
    except OSError as error:
        raise _cannot_write(target, error) from error
    finally:
        if beside is not None:
            shutil.rmtree(beside, ignore_errors=True)


def _swap(new: Path, target: Path) -> list[str]:
    """Puts the new folder in the old one's place; returns what to say of the old one.

    It was looked at before the work, which takes minutes, and somebody may be writing there even now: nothing is
    deleted but the files that the old gallery lists.
    """
    if not target.exists():
        os.replace(new, target)
        return []
    aside = Path(tempfile.mkdtemp(prefix="acdc-gallery-old-", dir=target.parent))
    old = aside / target.name
    try:
        os.replace(target, old)
        os.replace(new, target)
    except BaseException:  # interrupted between the two: the old one returns
        if old.exists() and not target.exists():
            os.replace(old, target)
        with contextlib.suppress(OSError):
            aside.rmdir()
        raise
    with contextlib.suppress(OSError):
        held, foreign = (set(), {"a link"}) if old.is_symlink() else _held(old)
        if not foreign:
            for name in held:
                (old / name).unlink()
            for folder, _, _ in os.walk(aside, topdown=False):
                os.rmdir(folder)
            return []
    why = "it holds files that acdc gallery did not write, or cannot be deleted"
    return [f"What {target} held before is now in {old}, for you to move or delete: {why}."]


def _held(folder: Path) -> tuple[set[str], set[str]]:
    """Everything in a folder that is no folder, links to folders too; and what of it is not that of a gallery there."""
    held: set[str] = set()
    for parent, folders, files in os.walk(folder, onerror=_raise):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        held.update((Path(parent) / name).relative_to(folder).as_posix() for name in (*files, *links))
    manifest = _manifest(folder)
    return held, held if manifest is None else held - set(manifest.files) - {_MANIFEST}


def _raise(error: OSError) -> None:
    raise error


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def _cannot_write(out: Path, error: OSError) -> GalleryError:
    return GalleryError(f"Cannot write {out}: {error.strerror or error}. Nothing was changed there.")
