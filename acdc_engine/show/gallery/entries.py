"""What the gallery says about a run: its cells in the table, its card, its side in a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Figures
from acdc_engine.show.gallery.thumbnail import Thumbnail, thumbnail
from acdc_engine.show.visible import plain

LONGEST = 80
"""Characters of a stranger's text in a cell."""


@dataclass(frozen=True)
class Cell:
    """A value of the table.

    Attributes:
        text: As shown; empty where nothing is known.
        sort: What the column is sorted by; empty ones come last.
        note: After the text, in smaller letters.
    """

    text: str = ""
    sort: str = ""
    note: str = ""


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        key: Its name in addresses.
        label: Its heading.
        number: Whether it is sorted as numbers, largest first.
    """

    key: str
    label: str
    number: bool = False


COLUMNS = (
    Column("name", "Run"),
    Column("task", "Task"),
    Column("model", "Model"),
    Column("method", "Method"),
    Column("search", "Search"),
    Column("edges", "Edges", number=True),
    Column("faithfulness", "Faithfulness", number=True),
    Column("kl", "KL recovered", number=True),
    Column("date", "Date (UTC)"),
    Column("seconds", "Seconds", number=True),
)


@dataclass(frozen=True)
class Entry:
    """A run in the gallery.

    Attributes:
        slug: Its folder in `runs/`, and its name in addresses.
        name: Its name as found, made fit to be shown.
        cells: By key of the column.
        metric: What measures the behaviour; empty where unknown.
        ablation: What edges outside the circuit carry; empty where unknown.
        source: Where a hand-written circuit comes from; empty for found ones.
        n_nodes: Nodes of the circuit.
        n_possible: Edges of the whole graph.
        badge: Whether the target was missed or overshot on held-out prompts, in two words; empty where it was not.
        thumbnail: The drawing.
    """

    slug: str
    name: str
    cells: dict[str, Cell]
    metric: str
    ablation: str
    source: str
    n_nodes: int
    n_possible: int
    badge: str
    thumbnail: Thumbnail


def entry_of(slug: str, name: str, circuit: Circuit) -> Entry:
    """Collects what is shown of a circuit.

    Args:
        slug: See `slugs`.
        name: As found.
        circuit: The circuit.
    """
    shown = plain(name, 2 * LONGEST)
    return Entry(
        slug=slug,
        name=shown,
        cells={"name": Cell(shown, shown.lower())} | _cells(circuit),
        metric=plain(circuit.metric.name, LONGEST) if circuit.metric else "",
        ablation=circuit.ablation or "",
        source=plain(circuit.source, 2 * LONGEST) if circuit.source else "",
        n_nodes=len(circuit.nodes),
        n_possible=circuit.layout().n_edges,
        badge=_badge(circuit),
        thumbnail=thumbnail(circuit),
    )


def _badge(circuit: Circuit) -> str:
    search, evaluation = circuit.search, circuit.evaluation
    if search is None or search.target_faithfulness is None or evaluation is None:
        return ""
    figures = evaluation.held_out
    reached = figures.kl_recovered if search.objective == "kl" else figures.faithfulness
    if reached < search.target_faithfulness:
        return "target missed"
    return "overshoots target" if reached > 2 - search.target_faithfulness else ""


def _cells(circuit: Circuit) -> dict[str, Cell]:
    n_edges = len(circuit.edges)
    cells = {
        "task": _text(circuit.behaviour_name),
        "model": _text(circuit.model.name),
        "method": _text(circuit.attribution.method if circuit.attribution else None),
        "search": _text(circuit.search.strategy if circuit.search else None),
        "edges": Cell(f"{n_edges:,}", str(n_edges)),
        "date": _date(circuit.environment.created) if circuit.environment else Cell(),
        "seconds": _seconds(circuit.cost.seconds) if circuit.cost else Cell(),
    }
    return cells | (
        _figures(circuit.evaluation.held_out) if circuit.evaluation else {"faithfulness": Cell(), "kl": Cell()}
    )


def _figures(figures: Figures) -> dict[str, Cell]:
    interval = figures.faithfulness_interval
    between = f"{number(interval.low)} to {number(interval.high)}" if interval else ""
    return {
        "faithfulness": Cell(number(figures.faithfulness), repr(figures.faithfulness), between),
        "kl": Cell(number(figures.kl_recovered), repr(figures.kl_recovered)),
    }


def number(value: float) -> str:
    """Three decimals, or three digits where that would be long."""
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.3g}"


def _text(text: str | None) -> Cell:
    shown = plain(text, LONGEST) if text else ""
    return Cell(shown, shown.lower())


def _seconds(seconds: float) -> Cell:
    return Cell(f"{seconds:,.0f}" if seconds < 1e9 else f"{seconds:.3g}", repr(seconds))


def _date(created: str) -> Cell:
    """In UTC, so that dates sort as text; what is no date is shown as it is and sorted after all dates."""
    try:
        moment = datetime.fromisoformat(created)
        utc = moment.astimezone(UTC) if moment.tzinfo else moment
    except (ValueError, OverflowError):
        return Cell(plain(created, LONGEST), f"~{plain(created, LONGEST)}")
    text = utc.strftime("%Y-%m-%d %H:%M")
    return Cell(text, text)
