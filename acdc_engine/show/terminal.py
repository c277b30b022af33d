"""Sections for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from acdc_engine.show.sections import Section, Style, Table

_STYLES: dict[Style, str] = {
    "": "",
    "positive": "blue",
    "negative": "dark_orange3",
    "good": "green",
    "wrong": "bold red",
}


def text_of(sections: Iterable[Section]) -> RenderableType:
    """Lays sections out for a terminal of 80 columns or more, an empty line between them.

    Returns:
        What `rich.print` prints; none of the texts is read as markup.
    """
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
