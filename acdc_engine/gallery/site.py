"""Many runs as a static site: cards and a table, a page for each run, and any two circuits side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from acdc_engine.errors import AcdcError, CircuitFileError, GalleryError
from acdc_engine.export.visible import plain
from acdc_engine.gallery.compact import Compared
from acdc_engine.gallery.entries import COLUMNS, Entry, entry_of
from acdc_engine.gallery.find import REPORT, Found, Problem, Search, find_runs
from acdc_engine.gallery.output import check_target, replaced
from acdc_engine.gallery.slugs import slugs
from acdc_engine.gallery.thumbnail import HEIGHT, WIDTH
from acdc_engine.graph.circuit import Circuit
from acdc_engine.html.page import render
from acdc_engine.report.page import report_html
from acdc_engine.viewer.page import viewer_html

INDEX, COMPARE, RUNS = "index.html", "compare.html", "runs"
_REASON = 500
"""Characters of a reason on the page."""


@dataclass(frozen=True)
class Gallery:
    """What was written.

    Attributes:
        folder: The site; open `index.html` in it.
        entries: The runs in it.
        problems: What is not shown, and why.
        remarks: What else a reader should know.
    """

    folder: Path
    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...]
    remarks: tuple[str, ...]


def write_gallery(
    runs: str | Path,
    out: str | Path,
    *,
    title: str | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Gallery:
    """Writes a site about all runs in a folder: plain files, to be opened from disk or put on any web server.

    Args:
        runs: Folder with run folders and circuit files, up to three folders down.
        out: Folder of the site; the folder around it must exist.
        title: Heading of the site; the folder's name by default.
        overwrite: Replace an earlier gallery in that folder.
        progress: Told after each run how many are done, and of how many.

    Returns:
        What is in it. Runs that are unfinished or cannot be read are listed there and on the page.

    Raises:
        GalleryError: There is no circuit to show; or the folder holds something else; or it cannot be written.
    """
    source, asked = Path(runs), Path(out)
    search = find_runs(source)
    target = check_target(asked, source, overwrite)
    heading = title or f"Circuits in {plain(source.resolve().name, 80) or '/'}"
    with replaced(target) as folder:
        site = _Site(folder, source, search)
        for done, (slug, found) in enumerate(zip(slugs(f.name for f in search.found), search.found, strict=True), 1):
            site.add(slug, found)
            progress(done, len(search.found))
        site.close(heading)
    return Gallery(target, tuple(site.entries), tuple(site.problems), tuple(site.remarks))


class _Site:
    """A site that is being written."""

    def __init__(self, folder: Path, source: Path, search: Search) -> None:
        self.folder, self.source = folder, source
        self.entries: list[Entry] = []
        self.problems, self.remarks = list(search.problems), list(search.remarks)
        self.compared = Compared()
        self._policy = ""  # of the report made last: those of most runs have the same scripts

    def add(self, slug: str, found: Found) -> None:
        """Writes the pages of a run, or says why not."""
        try:
            circuit = Circuit.load(found.path)
            entry = entry_of(slug, found.name, circuit)
            pages = {
                "viewer.html": viewer_html(circuit, title=entry.name).encode(),
                "report.html": self._report(found, circuit, entry.name).encode(),
                "circuit.json": _bytes(found.path),
            }
        except AcdcError as error:
            self.problems.append(Problem(found.name, self._on_the_page(str(error))))
            return
        folder = self.folder / RUNS / slug
        folder.mkdir(parents=True)
        for name, content in pages.items():
            (folder / name).write_bytes(content)
        self.compared.add(entry, circuit)
        self.entries.append(entry)

    def close(self, title: str) -> None:
        """Writes the pages about all runs."""
        if not self.entries:
            raise GalleryError(_nothing(self.source, self.problems, self.remarks))
        data, too_large = self.compared.page_data()
        names = {entry.slug: entry.name for entry in self.entries}
        self.remarks += [
            f"{names[slug]} is too large to be compared in the gallery: see acdc compare." for slug in too_large
        ]
        problems = [Problem(plain(problem.name, 200), plain(problem.reason, _REASON)) for problem in self.problems]
        shapes = {run["slug"]: data["shapes"][run["shape"]]["words"] for run in data["runs"]}
        index = render(
            "gallery/index.html.j2",
            title=title,
            entries=self.entries,
            columns=COLUMNS,
            problems=problems,
            shapes=shapes,
            width=WIDTH,
            height=HEIGHT,
        )
        compare = render("gallery/compare.html.j2", title=title, entries=self.entries, data=data)
        (self.folder / INDEX).write_text(index, encoding="utf-8")
        (self.folder / COMPARE).write_text(compare, encoding="utf-8")

    def _report(self, found: Found, circuit: Circuit, name: str) -> str:
        """The run's own report, which may say more than the circuit, if nothing in it can run but the engine's code."""
        own = _text(found.report) if found.report is not None else None
        if own is not None and self._policy and own.startswith(self._policy):
            return own
        made = report_html(circuit)
        self._policy = policy_of(made)
        if own is not None and own.startswith(self._policy):
            return own
        if found.report is not None:
            self.remarks.append(f"{name}: its {REPORT} does not begin as this engine's do; it was made anew.")
        return made

    def _on_the_page(self, reason: str) -> str:
        """Without the folders above the runs, which are nobody's business on a public page."""
        return reason.replace(f"{self.source}/", "").replace(str(self.source), ".")


def policy_of(page: str) -> str:
    """The beginning of a page up to the end of its content security policy.

    A file that begins like this runs nothing but the scripts named there: nothing can come before the policy.
    """
    start = page.index('http-equiv="Content-Security-Policy"')
    return page[: page.index(">", start) + 1]


def _text(path: Path) -> str | None:
    """A file's text; None where it has none that can be read."""
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CircuitFileError(f"Cannot read {path}: {error.strerror or error}.") from error


def _nothing(source: Path, problems: list[Problem], remarks: list[str]) -> str:
    found = [f"  {plain(problem.name, 200)}: {plain(problem.reason, _REASON)}" for problem in problems[:10]]
    more = [f"  ... and {len(problems) - 10:,} more"] if len(problems) > 10 else []
    first = f"No circuit to show in {source}: acdc discover writes one as circuit.json into its run's folder."
    return "\n".join([first, *found, *more, *(f"  {remark}" for remark in remarks)])
