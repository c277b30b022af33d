"""What is said of a result: a list of sections with texts and tables, which terminal, notebooks and reports render."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

_Style = Literal["", "positive", "negative", "good", "wrong"]
"""How a cell stands out: by its sign, or by a verdict."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table."""

    text: str  # What it says. Line breaks in it are meant: texts of strangers have none left.
    value: float | int | None = None  # What it is sorted by, where that is a number
    style: _Style = ""  # How it stands out


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str  # Its heading
    kind: Literal["text", "number", "name"] = "number"  # Texts fold, numbers end at the right, names stay on one line
    short: str | None = None  # The heading where there is little room; None for the name itself
    wide: bool = False  # Left out where there is little room
    strong: bool = False  # To be read first


@dataclass(frozen=True)
class Table:
    """Rows of cells, the first of which names the row."""

    columns: tuple[Column, ...]  # Headings and kinds
    rows: tuple[tuple[Cell, ...], ...]  # As many cells each
    own: int | None = None  # The row that stands for the circuit itself, if any
    tight: bool = False  # Many columns, which need all the room there is


@dataclass(frozen=True)
class Section:
    """One thing that is said, from top to bottom."""

    title: str = ""  # Its heading; empty for none
    warning: str = ""  # What must be read before any figure
    texts: Sequence[str] = ()  # Sentences
    hints: Sequence[str] = ()  # What words of the table mean, short
    pairs: Mapping[str, str] = field(default_factory=dict)  # Names beside their texts
    table: Table | None = None  # Figures
    left: int = 0  # Rows of the table that are left out, its last ones
    rest: str = ""  # What follows after `and 3 more` of them
    notes: Sequence[str] = ()  # Longer explanations, for pages that are read at leisure


def table_of(
    columns: Sequence[Column | str],
    rows: Iterable[Sequence[Cell | str]],
    *,
    own: int | None = None,
    tight: bool = False,
) -> Table:
    """A table without the columns that are empty in every row.

    A text alone among the columns is the heading of numbers, or, as the first, of names of rows; among the cells one
    that does not stand out.
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


_STYLES: dict[_Style, str] = {
    "": "",
    "positive": "blue",
    "negative": "dark_orange3",
    "good": "green",
    "wrong": "bold red",
}


def text_of(sections: Iterable[Section]) -> RenderableType:
    """What `rich.print` prints in 80 columns or more, an empty line between sections; no text is read as markup."""
    parts: list[RenderableType] = []
    for section in sections:
        parts += [*([""] if parts else []), *_section(section)]
    return Group(*parts)


def _section(section: Section) -> Iterator[RenderableType]:
    if section.title:
        yield Text(section.title, style="bold")
    if section.warning:
        yield Text(section.warning, style="bold red")
    yield from map(Text, section.texts)
    for hint in section.hints:
        yield Text(f"  {hint}", style="dim")
    if section.pairs:
        yield _pairs(section)
    if section.table is not None:
        yield _table(section.table)
    if section.left:
        yield Text(f"  ... and {section.left:,} more{section.rest}", style="dim")


def _pairs(section: Section) -> Grid:
    grid = Grid.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in section.pairs.items():
        grid.add_row(name, Text(text))
    return grid


def _table(table: Table) -> Grid:
    shown = [place for place, column in enumerate(table.columns) if not column.wide]
    grid = Grid(box=None, padding=(0, 1, 0, 0) if table.tight else (0, 2), collapse_padding=True)
    for column in (table.columns[place] for place in shown):
        grid.add_column(
            Text(column.name if column.short is None else column.short),
            justify="right" if column.kind == "number" else "left",
            style="bold" if column.strong else None,
            no_wrap=column.kind != "text",
            overflow="fold",
        )
    for row in table.rows:
        grid.add_row(*(Text(row[place].text, style=_STYLES[row[place].style]) for place in shown))
    return grid
