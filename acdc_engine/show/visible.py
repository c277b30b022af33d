"""Texts of strangers made fit to be shown (task cards, tokens, file names hold anything); prompts token by token."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.cells import cell_len, set_cell_size
from rich.text import Text

SPACE = "·"
_MOST = 2_000
"""Characters of a text that are shown."""

LABEL = 9
"""Cells in front of the tokens."""
_MOST_COLUMNS = 200
"""Longer prompts are shown in parts: both ends, and what lies around marked positions."""

_AROUND, _ENDS = 4, 12
_DIFFERS, _READ, _NAMED = "bold yellow", "bold cyan", "green"
BAR = "│"
"""In front of the name of a span, under its first token."""
_RIGHT_TO_LEFT = ("R", "AL", "AN")


def plain(text: str, most: int = _MOST) -> str:
    """A text in which control characters (line breaks, marks of direction too) are escapes; what is cut is counted."""
    shown = "".join(character if character.isprintable() else _escaped(character) for character in text[:most])
    return shown if len(text) <= most else f"{shown}... ({len(text) - most:,} more characters)"


def both_ends(text: str, most: int) -> str:
    """At most so many characters of a name, whose end tells it from others as its beginning does."""
    return text if len(text) <= most else f"{text[: (most - 1) // 2]}\u2026{text[-(most // 2) :]}"


def visible_token(token: str, most: int = 24) -> str:
    """A token as one word that keeps to its column, at most so many characters.

    Spaces are dots (·). Control characters are escapes; so are letters written from right to left, which would turn the
    order of the columns round, and a mark that would sit on the token before.
    """
    shown = "".join(_in_column(character) for character in token[: most + 1])
    if token and unicodedata.combining(token[0]):
        shown = _escaped(token[0]) + shown[1:]
    if not token:
        return "''"
    return shown if len(token) <= most and len(shown) <= most else f"{shown[: most - 1]}…"


def _in_column(character: str) -> str:
    if character == " ":
        return SPACE
    if not character.isprintable() or unicodedata.bidirectional(character) in _RIGHT_TO_LEFT:
        return _escaped(character)
    return character


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


@dataclass
class _Column:
    """Tokens of one position, or a gap where some are left out.

    Attributes:
        rows: Clean, corrupt, what marks it.
        style: How they look.
        span: The name of its place.
        width: Cells it takes.
    """

    rows: tuple[str, str, str]
    style: str
    span: str
    width: int = 0

    def __post_init__(self) -> None:
        self.width = max(map(cell_len, self.rows))


def token_columns(
    clean: Sequence[str], corrupt: Sequence[str], read_at: int, width: int, spans: Sequence[str] = ()
) -> Text:
    """Lays out a pair of equally many tokens in blocks of three lines (clean, corrupt, marks) of so many cells.

    `^^^` stands under positions where the two differ, `read` under the position whose logits are read. With the names
    of the places that the tokens are of, a fourth line has each behind a bar, under its first token.
    """
    blocks: list[list[_Column]] = []
    left, columns = 0, list(_columns(clean, corrupt, read_at, spans))
    for run in _runs(columns) if spans else ():  # as wide as its name
        lacking = cell_len(run[0].span) + 1 - sum(column.width + 1 for column in run[:-1]) - run[-1].width
        run[-1].width += max(0, min(lacking, width - LABEL - run[-1].width))
    for column in columns:
        if not blocks or column.width > left:
            blocks.append([])
            left = width - LABEL
        blocks[-1].append(column)
        left -= column.width + 1
    return Text("\n\n", no_wrap=True, overflow="crop").join(map(_block, blocks))


def _block(block: Sequence[_Column]) -> Text:
    lines = []
    for row, label in enumerate(("clean", "corrupt", "")):
        if label or any(column.rows[row] for column in block):
            cells = [(column.rows[row], column.width, column.style) for column in block]
            lines.append(_line(label, cells))
    if any(column.span for column in block):
        lines.append(_line("spans", map(_named, _runs(block))))
    return Text("\n").join(lines)


def _line(label: str, cells: Iterable[tuple[str, int, str]]) -> Text:
    """Texts, each with its width and style, behind a label; what is too long is cut."""
    fitted = ((_fitted(text, width) + " ", style) for text, width, style in cells)
    line = Text.assemble((f"{label:<{LABEL}}", "dim"), *fitted)
    line.rstrip()
    return line


def _named(run: Sequence[_Column]) -> tuple[str, int, str]:
    name = run[0].span
    return f"{BAR}{name}" if name else "", sum(column.width + 1 for column in run) - 1, _NAMED


def _fitted(text: str, width: int) -> str:
    return set_cell_size(text if cell_len(text) <= width else f"{set_cell_size(text, width - 1)}…", width)


def _runs(columns: Iterable[_Column]) -> list[list[_Column]]:
    """Neighbours of one place."""
    return [list(run) for _, run in groupby(columns, key=lambda column: column.span)]


def _columns(clean: Sequence[str], corrupt: Sequence[str], read_at: int, spans: Sequence[str]) -> Iterator[_Column]:
    differs = [a != b for a, b in zip(clean, corrupt, strict=True)]
    before = -1
    for i in _kept(differs, read_at):
        if i > before + 1:
            gap = f"[{i - before - 1:,} more]"
            yield _Column((gap, gap, ""), "dim", "")
        before = i
        a, b = visible_token(clean[i]), visible_token(corrupt[i])
        if differs[i] and a == b:  # different tokens of one text
            b += "'"
        carets = "^" * max(cell_len(a), cell_len(b)) if differs[i] else ""
        mark = " ".join(part for part in (carets, "read" if i == read_at else "") if part)
        style = _READ if i == read_at else _DIFFERS if differs[i] else ""
        yield _Column((a, b, mark), style, plain(spans[i]) if spans else "")


def _kept(differs: Sequence[bool], read_at: int) -> list[int]:
    """Positions that are shown: all, or those at the ends and around marked ones."""
    n = len(differs)
    if n <= _MOST_COLUMNS:
        return list(range(n))
    around = [i for i, marked in enumerate(differs) if marked][: _MOST_COLUMNS // (2 * _AROUND + 1)]
    near = {j for i in (*around, read_at) for j in range(i - _AROUND, i + _AROUND + 1)}
    return sorted(near & set(range(n)) | set(range(_ENDS)) | set(range(n - _ENDS, n)))
