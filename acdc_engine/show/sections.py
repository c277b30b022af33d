"""What is said of a result: a list of sections with texts and tables, which terminal, notebooks and reports render."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Style = Literal["", "positive", "negative", "good", "wrong"]
"""How a cell stands out: by its sign, or by a verdict."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What it says. Line breaks in it are meant: texts of strangers have none left.
        value: What it is sorted by, where that is a number.
        style: How it stands out.
    """

    text: str
    value: float | int | None = None
    style: Style = ""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: Its heading.
        kind: Texts fold, numbers end at the right, names (of nodes and edges) stay on one line.
        short: The heading where there is little room; None for the name itself.
        wide: Left out where there is little room.
        strong: To be read first.
    """

    name: str
    kind: Literal["text", "number", "name"] = "number"
    short: str | None = None
    wide: bool = False
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells, the first of which names the row.

    Attributes:
        columns: Headings and kinds.
        rows: As many cells each.
        own: The row that stands for the circuit itself, if any.
        tight: Many columns, which need all the room there is.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    own: int | None = None
    tight: bool = False


@dataclass(frozen=True)
class Section:
    """One thing that is said, from top to bottom.

    Attributes:
        title: Its heading; empty for none.
        warning: What must be read before any figure.
        texts: Sentences.
        hints: What words of the table mean, short.
        pairs: Names beside their texts.
        table: Figures.
        left: Rows of the table that are left out, its last ones.
        rest: What follows after `and 3 more` of them.
        notes: Longer explanations, for pages that are read at leisure.
    """

    title: str = ""
    warning: str = ""
    texts: Sequence[str] = ()
    hints: Sequence[str] = ()
    pairs: Mapping[str, str] = field(default_factory=dict)
    table: Table | None = None
    left: int = 0
    rest: str = ""
    notes: Sequence[str] = ()


def table_of(
    columns: Sequence[Column | str],
    rows: Iterable[Sequence[Cell | str]],
    *,
    own: int | None = None,
    tight: bool = False,
) -> Table:
    """A table without the columns that are empty in every row.

    Args:
        columns: A text alone is the heading of numbers, or, of the first column, of names of rows.
        rows: A text alone is a cell that does not stand out.
        own: As in `Table`.
        tight: As in `Table`.
    """
    filled = [tuple(Cell(cell) if isinstance(cell, str) else cell for cell in row) for row in rows]
    headings = [
        Column(name, "number" if place else "text") if isinstance(name, str) else name
        for place, name in enumerate(columns)
    ]
    kept = [place for place in range(len(headings)) if not place or any(row[place].text for row in filled)]
    shown = tuple(tuple(row[place] for place in kept) for row in filled)
    return Table(tuple(headings[place] for place in kept), shown, own, tight)


def signed(value: float | None, style: str) -> Cell:
    """A number whose sign says something: positive supports the behaviour. What rounds to zero has none."""
    if value is None:
        return Cell("")
    if not float(format(value, style)):
        return Cell(format(0.0, style), value)
    return Cell(f"{value:+{style}}", value, "positive" if value > 0 else "negative")


def three(value: float | None) -> str:
    """Three decimals; a dash where there is no number."""
    return "-" if value is None else f"{value:.3f}"
