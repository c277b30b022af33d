"""Many runs as a static site: cards and a table, a page for each run, and any two circuits side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from acdc_engine.errors import AcdcError, CircuitFileError, GalleryError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import SCORES
from acdc_engine.graph.result_records import Comparison
from acdc_engine.show.gallery.compact import Compared
from acdc_engine.show.gallery.entries import COLUMNS, Entry, entry_of
from acdc_engine.show.gallery.find import Found, Problem, Search, find_runs
from acdc_engine.show.gallery.output import check_target, replaced
from acdc_engine.show.gallery.slugs import slugs
from acdc_engine.show.gallery.thumbnail import HEIGHT, WIDTH
from acdc_engine.show.html.page import render
from acdc_engine.show.report.page import report_html
from acdc_engine.show.viewer.page import viewer_html
from acdc_engine.show.visible import plain

Against = Callable[[Path, Circuit], tuple[Comparison, Circuit] | None]
"""Compares a circuit file, and what it holds, with a known circuit: the comparison and that circuit, or None."""
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
        What is in it. Runs that are unfinished or cannot be read are listed there and on the page.

    Raises:
        GalleryError: There is no circuit to show; or the folder holds something else; or it cannot be written.
    """
    source, asked = Path(runs), Path(out)
    search = find_runs(source)
    target = check_target(asked, source, overwrite)
    kept: list[str] = []
    heading = title or f"Circuits in {plain(source.resolve().name, 80) or '/'}"
    with replaced(target, kept) as folder:
        site = _Site(folder, source, search, against, heading)
        for done, (slug, found) in enumerate(zip(slugs(f.name for f in search.found), search.found, strict=True), 1):
            site.add(slug, found)
            progress(done, len(search.found))
        site.close()
    return Gallery(target, tuple(site.entries), tuple(site.problems), (*site.remarks, *kept))


class _Site:
    """A site that is being written."""

    def __init__(self, folder: Path, source: Path, search: Search, against: Against, title: str) -> None:
        self.folder, self.source, self.against, self.title = folder, source, against, title
        self.links = ((title, f"../../{INDEX}"), ("viewer", "viewer.html"), ("circuit file", "circuit.json"))
        self.entries: list[Entry] = []
        self.problems, self.remarks = list(search.problems), list(search.remarks)
        self.compared = Compared()

    def add(self, slug: str, found: Found) -> None:
        """Writes the pages of a run, or says why not."""
        try:
            circuit = Circuit.load(found.path)
            entry = entry_of(slug, found.name, circuit)
            comparison, known = self._known(found, circuit, entry.name)
            known_name = {} if comparison is None else {"known_name": comparison.known}
            pages = {
                "viewer.html": viewer_html(circuit, known, title=entry.name, **known_name).encode(),
                "report.html": report_html(circuit, comparison=comparison, known=known, links=self.links).encode(),
                "circuit.json": _bytes(found.path),
            }
        except AcdcError as error:
            self.problems.append(Problem(found.name, self._on_the_page(found, str(error))))
            return
        folder = self.folder / RUNS / slug
        folder.mkdir(parents=True)
        for name, content in pages.items():
            (folder / name).write_bytes(content)
        self.compared.add(entry, circuit)
        self.entries.append(entry)

    def close(self) -> None:
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
            title=self.title,
            entries=self.entries,
            columns=COLUMNS,
            problems=problems,
            shapes=shapes,
            width=WIDTH,
            height=HEIGHT,
        )
        groups: dict[str, list[Entry]] = {}
        for entry in self.entries:
            groups.setdefault(shapes[entry.slug], []).append(entry)
        compare = render("gallery/compare.html.j2", title=self.title, groups=groups, data=data)
        (self.folder / INDEX).write_text(index, encoding="utf-8")
        (self.folder / COMPARE).write_text(compare, encoding="utf-8")

    def _known(self, found: Found, circuit: Circuit, name: str) -> tuple[Comparison, Circuit] | tuple[None, None]:
        """The known circuit for the pages of a run, which are made anew: its own may be about an earlier circuit."""
        try:
            comparison, known = self.against(found.path, circuit) or (None, None)
        except AcdcError as error:
            self.remarks.append(f"{name}: its pages go without the known circuit. {error}")
            return None, None
        if comparison is None or known is None:
            return None, None
        remarks = tuple(self._on_the_page(found, remark) for remark in comparison.remarks)
        return comparison.model_copy(update={"remarks": remarks}), known

    def _on_the_page(self, found: Found, text: str) -> str:
        """Without the folders above the runs, which are nobody's business on a public page."""
        for path in (found.path, found.path.with_name(SCORES)):
            text = text.replace(str(path), path.relative_to(self.source).as_posix())
        return text


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
