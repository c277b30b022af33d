"""What the index of many runs says of one: its cells in the table, its card with a small drawing, its edges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, NamedTuple

from acdc_engine.graph.blocks import Graph, GraphShape
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.style import by_strength, measure_of, relative_strengths, strength_of
from acdc_engine.show.pictures.layered import first_lines, lines_of, place_nodes
from acdc_engine.show.visible import plain
from acdc_engine.show.words import warning

WIDTH, HEIGHT = 240, 150
"""Pixels of a drawing."""
_MOST_LINES = 400  # a few hundred are all that so small a picture can show
_LONGEST = 80  # characters of a stranger's text in a cell
_MARGIN = 7
_WIDTHS = (("thick", 0.5), ("middle", 0.1), ("thin", 0.0))  # classes of edges, by least share of the strongest


class _Cell(NamedTuple):
    """A value of the table: as shown, what it is sorted by (empty ones come last), and a note in smaller letters."""

    text: str = ""
    sort: str = ""
    note: str = ""

    def __str__(self) -> str:
        return f"{self.text} ({self.note})" if self.note else self.text


class _Column(NamedTuple):
    """A column of the table: its name in addresses, its heading, and whether it is sorted as numbers."""

    key: str
    label: str
    number: bool = False


COLUMNS = (
    _Column("name", "Run"),
    _Column("task", "Task"),
    _Column("model", "Model"),
    _Column("method", "Method"),
    _Column("search", "Search"),
    _Column("edges", "Edges", number=True),
    _Column("faithfulness", "Faithfulness", number=True),
    _Column("kl", "KL recovered", number=True),
    _Column("date", "Date (UTC)"),
    _Column("seconds", "Seconds", number=True),
)


@dataclass(frozen=True)
class Entry:
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


def entry_of(slug: str, name: str, circuit: Circuit, *, unfinished: bool = False) -> Entry:
    """Collects what is shown of a circuit; an unfinished one is the best so far of a run that goes on."""
    shown = plain(name, 2 * _LONGEST)
    cells = {"name": _Cell(shown, shown.lower())} | _cells(circuit)
    drawn = first_lines(circuit, by_strength(circuit), _MOST_LINES)
    return Entry(
        slug=slug,
        name=shown,
        cells=cells,
        source=plain(circuit.source, 2 * _LONGEST) if circuit.source else "",
        shape=_in_words(circuit.shape()),
        badges=tuple(_badges(circuit, unfinished)),
        paths=_drawing(circuit.model_copy(update={"edges": tuple(drawn)})),
        n_drawn=len(drawn),
        circuit={"slug": slug, "name": shown, "facts": _facts(circuit, cells)} | _compact(circuit),
    )


def _badges(circuit: Circuit, unfinished: bool) -> Iterator[tuple[str, str]]:
    search, evaluation = circuit.search, circuit.evaluation
    if unfinished or (search is not None and search.unfinished is not None):
        yield "unfinished", "The run has not come to its end: this is its best circuit so far."
    if warning(circuit):
        yield "not faithful", warning(circuit)
    if search is None or search.target_faithfulness is None or evaluation is None:
        return
    figures = evaluation.held_out
    reached = figures.kl_recovered if search.objective == "kl" else figures.faithfulness
    meaning = "On held-out prompts; the circuit met the target, if at all, on those of the search."
    if reached < search.target_faithfulness:
        yield "target missed", meaning
    elif reached > 2 - search.target_faithfulness:
        yield "overshoots target", meaning


def _cells(circuit: Circuit) -> dict[str, _Cell]:
    figures = circuit.evaluation.held_out if circuit.evaluation else None
    interval = figures.faithfulness_interval if figures else None
    between = f"{_number(interval.low)} to {_number(interval.high)}" if interval else ""
    return {
        "task": _text(circuit.behaviour_name),
        "model": _text(circuit.model.name),
        "method": _text(circuit.attribution.method if circuit.attribution else None),
        "search": _text(circuit.search.strategy if circuit.search else None),
        "edges": _Cell(f"{len(circuit.edges):,}", str(len(circuit.edges))),
        "faithfulness": _figure(figures.faithfulness, between) if figures else _Cell(),
        "kl": _figure(figures.kl_recovered) if figures else _Cell(),
        "date": _date(circuit.environment.created) if circuit.environment else _Cell(),
        "seconds": _seconds(circuit.cost.seconds) if circuit.cost else _Cell(),
    }


def _figure(value: float, note: str = "") -> _Cell:
    return _Cell(_number(value), repr(value), note)


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.3g}"


def _text(text: str | None) -> _Cell:
    shown = plain(text, _LONGEST) if text else ""
    return _Cell(shown, shown.lower())


def _seconds(seconds: float) -> _Cell:
    return _Cell(f"{seconds:,.0f}" if seconds < 1e9 else f"{seconds:.3g}", repr(seconds))


def _date(created: str) -> _Cell:
    """In UTC, so that dates sort as text; what is no date is shown as it is and sorted after all dates."""
    try:
        moment = datetime.fromisoformat(created)
        text = (moment.astimezone(UTC) if moment.tzinfo else moment).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError):
        return _Cell(plain(created, _LONGEST), f"~{plain(created, _LONGEST)}")
    return _Cell(text, text)


def _drawing(circuit: Circuit) -> tuple[tuple[str, str], ...]:
    """Layers bottom to top, edges by sign and strength, each line once, the weakest class first."""
    picture = place_nodes(circuit)
    spots = {}
    for name, (x, up) in picture.places.items():  # whole pixels; pictures of any shape fill the same space
        across, high = x / picture.width if picture.width else 0.5, up / picture.height if picture.height else 0.5
        down = round(HEIGHT - _MARGIN - high * (HEIGHT - 2 * _MARGIN))
        spots[name] = f"{round(_MARGIN + across * (WIDTH - 2 * _MARGIN))} {down}"
    measure, shares = measure_of(circuit), relative_strengths(circuit)
    lines: dict[str, dict[str, dict[str, None]]] = {width: {} for width, _ in reversed(_WIDTHS)}
    for edge, _, target in lines_of(circuit, reversed(circuit.edges)):
        strength = strength_of(edge, measure)
        sign = "unknown" if strength is None else "positive" if strength >= 0 else "negative"
        width = "thin" if strength is None else next(name for name, least in _WIDTHS if shares[edge] >= least)
        lines[width].setdefault(sign, {})[f"M{spots[edge.sender]}L{spots[target]}"] = None
    paths = [(f"edge {width} {sign}", "".join(found)) for width in lines for sign, found in lines[width].items()]
    dots: dict[str, str] = {}
    for node in circuit.nodes:
        dots[f"node {node.kind}"] = dots.get(f"node {node.kind}", "") + f"M{spots[node.name]}h0"
    return (*paths, *dots.items())


def _facts(circuit: Circuit, cells: dict[str, _Cell]) -> list[tuple[str, str]]:
    return [
        ("Task", str(cells["task"])),
        ("Model", str(cells["model"])),
        ("Metric", plain(circuit.metric.name, _LONGEST) if circuit.metric else ""),
        ("Ablation", circuit.ablation or ""),
        ("Method", str(cells["method"])),
        ("Search", str(cells["search"])),
        ("Edges", f"{cells['edges']} of {circuit.graph().n_edges:,}"),
        ("Nodes", f"{len(circuit.nodes):,}"),
        ("Faithfulness", str(cells["faithfulness"])),
        ("KL recovered", str(cells["kl"])),
        ("Date (UTC)", str(cells["date"])),
    ]


def _compact(circuit: Circuit) -> dict[str, Any]:
    """A circuit as small as it can be in a page, so that any two of a hundred can be compared without a server.

    An edge is the number `sender * receivers + receiver` by the indices of `Graph`; a circuit is its edges in
    ascending order, each written as the distance from the one before, and beside them their strengths.
    """
    layout, measure = circuit.graph(), measure_of(circuit)
    numbered = sorted(
        (layout.sender_index(edge.sender) * layout.n_receivers + layout.receiver_index(edge.receiver), edge)
        for edge in circuit.edges
    )
    numbers = [0, *(number for number, _ in numbered)]
    strengths = [strength_of(edge, measure) for _, edge in numbered]
    return {
        "shape": circuit.shape(),
        "measure": measure,
        "edges": [here - before for before, here in pairwise(numbers)],
        "strengths": [None if value is None else float(f"{value:.4g}") for value in strengths],
        "nodes": [node.name for node in circuit.nodes],
        "roles": {node.name: plain(node.role, _LONGEST) for node in circuit.nodes if node.role},
    }


def compared(entries: Sequence[Entry]) -> dict[str, Any]:
    """What the page that compares reads: the circuits, and the shapes of their graphs, each once."""
    shapes: dict[GraphShape, int] = {}
    runs = [entry.circuit | {"shape": shapes.setdefault(entry.circuit["shape"], len(shapes))} for entry in entries]
    return {"shapes": list(map(_shape, shapes)), "runs": runs}


def _shape(shape: GraphShape) -> dict[str, Any]:
    layout = Graph(shape)
    return {
        "layers": shape.n_layers,
        "heads": shape.n_heads,
        "groups": shape.n_kv_heads,
        "mlps": shape.mlps,
        "words": _in_words(shape),
        "senders": layout.senders,
        "receivers": layout.receivers,
    }


def _in_words(shape: GraphShape) -> str:
    """Such as `30 layers of 9 heads (3 key/value groups)`."""
    groups = f" ({shape.n_kv_heads} key/value groups)" if shape.grouped else ""
    parallel = ", MLPs parallel to attention" if shape.parallel else ""
    return f"{shape.n_layers} layers of {shape.n_heads} heads{groups}{parallel if shape.mlps else ', no MLPs'}"
