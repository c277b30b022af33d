"""Many runs as a static site (`acdc gallery`): an index of them, a page for each, and any two circuits side by side."""

from __future__ import annotations

import contextlib
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from acdc_engine.errors import AcdcError, GalleryError
from acdc_engine.graph.blocks import Graph, GraphShape
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import CIRCUIT, FORMAT, SCORES, SO_FAR, TRACE
from acdc_engine.graph.records import Record
from acdc_engine.graph.result_records import Comparison
from acdc_engine.graph.style import by_strength, measure_of, strength_of
from acdc_engine.show.page import render
from acdc_engine.show.pictures.layered import first_lines
from acdc_engine.show.remarks import warning
from acdc_engine.show.report import report_html
from acdc_engine.show.thumbnail import thumbnail
from acdc_engine.show.viewer import viewer_html
from acdc_engine.show.visible import plain
from acdc_engine.show.words import aim_of, between, edges_in_words, value_of

INDEX = "index.html"
_Against = Callable[[Path, Circuit], tuple[Comparison, Circuit] | None]
"""Compares a circuit file, and what it holds, with a known circuit: the comparison and that circuit, or None."""
_MANIFEST = "gallery.json"
_DEPTH = 3  # folders below the one that is searched
_LONGEST_SLUG = 60
_SAYS_SO = re.compile(rb'"format"\s*:\s*"%b"' % re.escape(FORMAT).encode())
_SNIFFED = 65_536  # bytes in which a circuit file says what it is, also one that is cut short
_MOST_LINES = 400  # a few hundred are all that so small a picture can show
_LONGEST = 80  # characters of a stranger's text in a cell


@dataclass(frozen=True)
class Gallery:
    """What was written."""

    folder: Path  # The site; open `index.html` in it
    entries: tuple[_Entry, ...]  # The runs in it
    problems: tuple[tuple[str, str], ...]  # Names of runs and files that are not shown, and why
    remarks: tuple[str, ...]  # What else a reader should know


def write_gallery(
    runs: str | Path,
    out: str | Path,
    *,
    title: str | None = None,
    overwrite: bool = False,
    against: _Against = lambda path, circuit: None,
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
    source, target = Path(runs), Path(out).resolve()
    if not source.is_dir():
        what = "is a file" if source.exists() else "does not exist"
        raise GalleryError(f"{source} {what}: give the folder that holds the run folders, such as runs/.")
    if target in (source.resolve(), *source.resolve().parents):
        raise GalleryError(f"{out} holds the runs that are shown ({source}): choose another --out.")
    _check(target, overwrite)
    title = title or f"Circuits in {plain(source.resolve().name, 80) or '/'}"
    found, problems, remarks = _circuits_in(source)
    entries: list[_Entry] = []
    with _replaced(target) as folder:
        for done, (slug, (name, path)) in enumerate(zip(_slugs(found), found.items(), strict=True), 1):
            try:
                circuit = Circuit.load(path)
                entry = _entry_of(slug, name, circuit, unfinished=path.name == SO_FAR)
                remarks += _write_run(folder / "runs" / slug, entry, circuit, path, source, title, against)
                entries.append(entry)
            except AcdcError as error:
                problems.append((name, _without_folders(str(error), path, source)))
            progress(done, len(found))
        if not entries:
            listed = [f"  {plain(name, 200)}: {plain(reason, 500)}" for name, reason in problems[:10]]
            first = f"No circuit to show in {source}: acdc discover writes one as {CIRCUIT} into its run's folder."
            raise GalleryError("\n".join([first, *listed]))
        shown = [(plain(name, 200), plain(reason, 500)) for name, reason in problems]
        table = render("gallery/index.html.j2", title=title, entries=entries, columns=_COLUMNS, problems=shown)
        groups: dict[str, list[_Entry]] = {}
        for entry in entries:
            groups.setdefault(entry.shape, []).append(entry)
        compare = render("gallery/compare.html.j2", title=title, groups=groups, data=_compared(entries))
        (folder / INDEX).write_text(table, encoding="utf-8")
        (folder / "compare.html").write_text(compare, encoding="utf-8")
    return Gallery(target, tuple(entries), tuple(problems), tuple(remarks))


def _write_run(
    folder: Path, entry: _Entry, circuit: Circuit, path: Path, source: Path, title: str, against: _Against
) -> Iterator[str]:
    """Writes the pages of a run and says what they go without.

    Viewer and report are made anew: those of the run may be about an earlier circuit, or lead away.
    """
    comparison, known = None, None
    try:
        comparison, known = against(path, circuit) or (None, None)
    except AcdcError as error:
        yield f"{entry.name}: its pages go without the known circuit. {error}"
    beside = {}
    if comparison is not None:
        remarks = tuple(_without_folders(remark, path, source) for remark in comparison.remarks)
        comparison = comparison.model_copy(update={"remarks": remarks})
        beside = {"known_name": comparison.known}
    links = ((title, f"../../{INDEX}"), ("viewer", "viewer.html"), ("circuit file", CIRCUIT))
    viewer = viewer_html(circuit, known, title=entry.name, **beside)
    report = report_html(circuit, comparison=comparison, known=known, links=links)
    folder.mkdir(parents=True)
    (folder / "viewer.html").write_text(viewer, encoding="utf-8")
    (folder / "report.html").write_text(report, encoding="utf-8")
    (folder / CIRCUIT).write_bytes(path.read_bytes())


def _without_folders(text: str, path: Path, source: Path) -> str:
    """A text about a run without the folders above it, which are nobody's business on a public page."""
    for file in (path, path.with_name(SCORES)):
        text = text.replace(str(file), file.relative_to(source).as_posix())
    return text


def _circuits_in(source: Path) -> tuple[dict[str, Path], list[tuple[str, str]], list[str]]:
    """Circuit files by name (their folder, or themselves without `.json`), runs without a circuit, and remarks."""
    found: dict[str, Path] = {}
    problems: list[tuple[str, str]] = []
    remarks: list[str] = []
    seen: set[str] = set()  # links may lead in circles

    def unreadable(error: OSError) -> None:
        problems.append((_named(Path(error.filename), source), f"Cannot be read: {error.strerror or error}."))

    for place, folders, files in os.walk(source, followlinks=True, onerror=unreadable):
        folder, name = Path(place), _named(Path(place), source)
        deep = len(folder.relative_to(source).parts) == _DEPTH
        folders[:] = [] if deep else sorted(each for each in folders if not each.startswith("."))
        if os.path.realpath(folder) in seen:
            folders.clear()
            continue
        seen.add(os.path.realpath(folder))
        if _manifest(folder) is not None:
            remarks.append(f"{name} is a gallery itself and was not searched.")
            folders.clear()
            continue
        circuit = next((file for file in (CIRCUIT, SO_FAR) if file in files), None)
        left = [file for file in (TRACE, SCORES) if file in files]
        if circuit is not None and os.path.isfile(folder / circuit):
            found[name] = folder / circuit
        elif circuit is not None:  # a pipe would be waited for
            problems.append((name, f"Its {circuit} is not a file: a link that leads nowhere, a pipe or a device."))
        elif left:
            problems.append((name, f"Unfinished run: it has {left[0]} and no {CIRCUIT}. Its command goes on with it."))
        for path in (folder / file for file in sorted(files) if file.endswith(".json")):
            if path.name not in (CIRCUIT, SO_FAR) and _says_so(path):
                found[_named(path.with_suffix(""), source)] = path
    return dict(sorted(found.items())), problems, remarks


def _says_so(path: Path) -> bool:
    """Whether a file says near its beginning that it is a circuit."""
    with contextlib.suppress(OSError):
        if path.is_file():  # a pipe would be waited for
            with open(path, "rb") as file:
                return _SAYS_SO.search(file.read(_SNIFFED)) is not None
    return False


def _named(path: Path, source: Path) -> str:
    return path.relative_to(source).as_posix() if path != source else source.resolve().name


def _slugs(names: Iterable[str]) -> list[str]:
    """Turns names such as `smollm2/IOI seed 3` into unique ones of the letters a to z, digits and hyphens, in order."""
    made: dict[str, None] = {}
    for name in names:
        letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
        plain = re.sub(r"[^a-z0-9]+", "-", letters).strip("-")[:_LONGEST_SLUG].strip("-") or "run"
        numbered = (plain, *(f"{plain}-{n}" for n in range(2, len(made) + 2)))
        made[next(slug for slug in numbered if slug not in made)] = None
    return list(made)


class _Manifest(Record):
    """Content of `gallery.json`, which marks a folder as a gallery and lists its files, so that it can be replaced."""

    format: Literal["acdc-engine/gallery"] = "acdc-engine/gallery"
    version: Literal[1] = 1
    files: tuple[str, ...]


def _manifest(folder: Path) -> _Manifest | None:
    try:
        return _Manifest.model_validate_json((folder / _MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None


def _check(out: Path, overwrite: bool) -> None:
    """Refuses a folder that a gallery must not be written to: nothing is deleted but the files that one lists."""
    if not out.parent.is_dir():
        raise GalleryError(f"Cannot write {out}: there is no folder {out.parent}. Create it first.")
    if not out.exists():
        return
    if not out.is_dir():
        raise GalleryError(f"{out} is a file; --out names a folder.")
    held, manifest = _held(out), _manifest(out)
    foreign = held - set(() if manifest is None else (*manifest.files, _MANIFEST))
    if foreign:
        some = ", ".join(sorted(foreign)[:3]) + (f" and {len(foreign) - 3:,} more" if len(foreign) > 3 else "")
        raise GalleryError(
            f"{out} holds files that acdc gallery did not write ({some}) and would delete. Move them away, or choose "
            "another --out."
        )
    if held and not overwrite:
        raise GalleryError(f"{out} holds a gallery. Choose another --out, or add --overwrite to replace it.")


def _held(folder: Path) -> set[str]:
    """Everything in a folder that is no folder; links to folders too."""
    files = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {path.relative_to(folder).as_posix() for path in files}


@contextlib.contextmanager
def _replaced(target: Path) -> Iterator[Path]:
    """Gives a folder to write to, which takes the target's place when all is written; an error changes nothing."""
    try:
        with TemporaryDirectory(prefix=".acdc-gallery-", dir=target.parent, ignore_cleanup_errors=True) as beside:
            new, old = Path(beside) / "new", Path(beside) / "old"  # the temporary folder is private to the user
            new.mkdir()
            yield new
            manifest = _Manifest(files=tuple(sorted(_held(new))))
            (new / _MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
            _check(target, overwrite=True)  # again: it was looked at before the work, which takes minutes
            try:
                if target.exists():
                    os.replace(target, old)
                os.replace(new, target)
            finally:
                if old.exists() and not target.exists():  # stopped in between
                    os.replace(old, target)
    except OSError as error:
        raise GalleryError(f"Cannot write {target}: {error.strerror or error}. Nothing was changed there.") from error


class _Cell(NamedTuple):
    """A value of the table: as shown, what it is sorted by (empty ones come last), and a note in smaller letters."""

    text: str = ""
    sort: str = ""
    note: str = ""


_COLUMNS = {
    "name": "Run",
    "task": "Task",
    "model": "Model",
    "method": "Method",
    "search": "Search",
    "edges": "Edges",
    "faithfulness": "Faithfulness",
    "kl": "KL recovered",
    "date": "Date (UTC)",
    "seconds": "Seconds",
}
"""Headings of the table, by the name that addresses have."""


@dataclass(frozen=True)
class _Entry:
    """A run in the index."""

    slug: str  # Its folder in `runs/`, and its name in addresses
    name: str  # Its name as found, made fit to be shown
    cells: dict[str, _Cell]  # By key of the column
    source: str  # Where a hand-written circuit comes from; empty for found ones
    shape: str  # Layers, heads and groups in words: circuits of one shape can be compared
    badges: tuple[tuple[str, str], ...]  # What must be seen at a glance, in two words each, and what they mean
    paths: tuple[tuple[str, str], ...]  # The drawing: classes and SVG path data, bottom first; nodes are dots
    n_drawn: int  # Edges in the drawing
    circuit: dict[str, Any]  # The circuit as the page that compares reads it


def _entry_of(slug: str, name: str, circuit: Circuit, *, unfinished: bool = False) -> _Entry:
    """Collects what is shown of a circuit; an unfinished one is the best so far of a run that goes on."""
    shown, cells = plain(name, 2 * _LONGEST), _cells(name, circuit)
    drawn = first_lines(circuit, by_strength(circuit), _MOST_LINES)
    facts = {label: cells[key].text for key, label in _COLUMNS.items() if key not in ("name", "seconds")}
    at = cells["edges"].note  # how many places
    facts["Edges"] += f" {at}, of {circuit.graph().n_edges:,}" if at else f" of {circuit.graph().n_edges:,}"
    facts["Faithfulness"] += f" ({cells['faithfulness'].note})" if cells["faithfulness"].note else ""
    facts |= {
        "Nodes": f"{len(circuit.nodes):,}",
        "Metric": plain(circuit.metric.name, _LONGEST) if circuit.metric else "",
        "Ablation": circuit.ablation or "",
    }
    return _Entry(
        slug=slug,
        name=shown,
        cells=cells,
        source=plain(circuit.source, 2 * _LONGEST) if circuit.source else "",
        shape=_in_words(circuit.shape()),
        badges=tuple(_badges(circuit, unfinished)),
        paths=thumbnail(circuit.model_copy(update={"edges": tuple(drawn)})),
        n_drawn=len(drawn),
        circuit={"slug": slug, "name": shown, "facts": list(facts.items())} | _compact(circuit),
    )


def _badges(circuit: Circuit, unfinished: bool) -> Iterator[tuple[str, str]]:
    search, evaluation = circuit.search, circuit.evaluation
    if unfinished or (search is not None and search.unfinished is not None):
        yield "unfinished", "The run has not come to its end: this is its best circuit so far."
    if against := warning(circuit):
        yield "not faithful", against
    if search is not None and search.target_faithfulness is not None and evaluation is not None:
        reached = value_of(evaluation.held_out, aim_of(search)) or 0.0
        meaning = "On held-out prompts; the circuit met the target, if at all, on those of the search."
        if reached < search.target_faithfulness:
            yield "target missed", meaning
        elif reached > 2 - search.target_faithfulness:
            yield "overshoots target", meaning


def _cells(name: str, circuit: Circuit) -> dict[str, _Cell]:
    """By key of the column; what is not known is empty."""
    texts = {
        "name": name,
        "task": circuit.behaviour_name,
        "model": circuit.model.name,
        "method": circuit.attribution and circuit.attribution.method,
        "search": circuit.search and circuit.search.strategy,
    }
    shown = {key: plain(text or "", (2 if key == "name" else 1) * _LONGEST) for key, text in texts.items()}
    cells = dict.fromkeys(_COLUMNS, _Cell())
    cells |= {key: _Cell(text, text.lower()) for key, text in shown.items()}
    number, _, places = edges_in_words(circuit).partition(" ")
    cells["edges"] = _Cell(number, str(len(circuit.edges)), places.partition(" ")[2])
    if circuit.evaluation is not None:
        of = circuit.evaluation.held_out
        sure = between(of.faithfulness_interval)
        cells["faithfulness"] = _Cell(f"{of.faithfulness:.3f}", repr(of.faithfulness), sure)
        cells["kl"] = _Cell(f"{of.kl_recovered:.3f}", repr(of.kl_recovered))
    if circuit.environment is not None:
        date = plain(circuit.environment.created, _LONGEST)
        with contextlib.suppress(ValueError, OverflowError):  # in UTC, so that dates sort as text
            date = datetime.fromisoformat(circuit.environment.created).astimezone(UTC).strftime("%Y-%m-%d %H:%M")
        cells["date"] = _Cell(date, date)
    if circuit.cost is not None:
        cells["seconds"] = _Cell(f"{circuit.cost.seconds:,.0f}", repr(circuit.cost.seconds))
    return cells


def _compact(circuit: Circuit) -> dict[str, Any]:
    """A circuit as small as it can be in a page, so that any two of a hundred can be compared without a server.

    An edge is the number `sender * receivers + receiver` by the indices of `Graph`; a circuit is its edges in
    ascending order, each written as the distance from the one before, and beside them their strengths. The same at
    places, `at`, where the circuit has any: there an edge's number is that times the places, plus its place's in the
    order of their names. Edges into the logits are where these are read.
    """
    whole, circuit = circuit, circuit.plain()
    layout = circuit.graph()
    found = {"shape": circuit.shape(), **_numbered(circuit, layout)}
    if whole.spans is not None:
        names = sorted(whole.spans.names)
        found["at"] = {"names": names, "read": whole.spans.read, **_numbered(whole, layout, names)}
    return found


def _numbered(circuit: Circuit, layout: Graph, places: Sequence[str] = ("",)) -> dict[str, Any]:
    measure, read = measure_of(circuit), "" if circuit.spans is None else circuit.spans.read
    numbered = sorted(
        (
            (layout.sender_index(edge.sender) * layout.n_receivers + layout.receiver_index(edge.receiver)) * len(places)
            + places.index(edge.span or read),
            edge,
        )
        for edge in circuit.edges
    )
    numbers = [0, *(number for number, _ in numbered)]
    strengths = [strength_of(edge, measure) for _, edge in numbered]
    return {
        "measure": measure,
        "edges": [here - before for before, here in pairwise(numbers)],
        "strengths": [None if value is None else float(f"{value:.4g}") for value in strengths],
        "nodes": [node.name for node in circuit.nodes],
        "roles": {node.name: plain(node.role, _LONGEST) for node in circuit.nodes if node.role},
    }


def _compared(entries: Sequence[_Entry]) -> dict[str, Any]:
    """What the page that compares reads: the circuits, and the shapes of their graphs, each once."""
    shapes: dict[GraphShape, int] = {}
    runs = [entry.circuit | {"shape": shapes.setdefault(entry.circuit["shape"], len(shapes))} for entry in entries]
    described = [
        {
            "heads": shape.n_heads,
            "groups": shape.n_kv_heads,
            "mlps": shape.mlps,
            "layers": shape.n_layers,
            "words": _in_words(shape),
            "senders": Graph(shape).senders,
            "receivers": Graph(shape).receivers,
        }
        for shape in shapes
    ]
    return {"shapes": described, "runs": runs}


def _in_words(shape: GraphShape) -> str:
    """Such as `30 layers of 9 heads (3 key/value groups)`."""
    groups = f" ({shape.n_kv_heads} key/value groups)" if shape.grouped else ""
    parallel = ", MLPs parallel to attention" if shape.parallel else ""
    return f"{shape.n_layers} layers of {shape.n_heads} heads{groups}{parallel if shape.mlps else ', no MLPs'}"
