"""Texts of strangers made fit to be shown (task cards, tokens, file names hold anything); prompts token by token."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

SPACE = "·"
_MOST = 2_000
"""Characters of a text that are shown."""

LABEL = 9
"""Cells in front of the tokens."""
_MOST_COLUMNS = 200
"""Longer prompts are shown in parts: both ends, and what lies around marked positions."""

_AROUND, _ENDS = 4, 12
_DIFFERS, _READ = "bold yellow", "bold cyan"
_RIGHT_TO_LEFT = ("R", "AL", "AN")


def plain(text: str, most: int = _MOST) -> str:
    """A text in which control characters (line breaks, marks of direction too) are escapes; what is cut is counted."""
    shown = "".join(character if character.isprintable() else _escaped(character) for character in text[:most])
    return shown if len(text) <= most else f"{shown}... ({len(text) - most:,} more characters)"


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


@dataclass(frozen=True)
class _Column:
    """Tokens of one position, or a gap where some are left out."""

    clean: str
    corrupt: str
    mark: str
    style: str

    @property
    def width(self) -> int:
        return max(cell_len(self.clean), cell_len(self.corrupt), len(self.mark))


def token_columns(clean: Sequence[str], corrupt: Sequence[str], read_at: int, width: int) -> Text:
    """Lays out a pair of equally many tokens in blocks of three lines (clean, corrupt, marks) of so many cells.

    `^^^` stands under positions where the two differ, `read` under the position whose logits are read.
    """
    columns = list(_columns(clean, corrupt, read_at))
    text = Text(no_wrap=True, overflow="crop")
    for block in _blocks(columns, width - LABEL):
        if text:
            text.append("\n\n")
        _append(text, "clean", [(c.clean, c.style) for c in block], block)
        text.append("\n")
        _append(text, "corrupt", [(c.corrupt, c.style) for c in block], block)
        if any(column.mark for column in block):
            text.append("\n")
            _append(text, "", [(c.mark, c.style) for c in block], block)
    return text


def _columns(clean: Sequence[str], corrupt: Sequence[str], read_at: int) -> Iterator[_Column]:
    differs = [a != b for a, b in zip(clean, corrupt, strict=True)]
    before = -1
    for i in _kept(differs, read_at):
        if i > before + 1:
            gap = f"[{i - before - 1:,} more]"
            yield _Column(gap, gap, "", "dim")
        before = i
        a, b = visible_token(clean[i]), visible_token(corrupt[i])
        if differs[i] and a == b:  # different tokens of one text
            b += "'"
        carets = "^" * max(cell_len(a), cell_len(b)) if differs[i] else ""
        mark = " ".join(part for part in (carets, "read" if i == read_at else "") if part)
        yield _Column(a, b, mark, _READ if i == read_at else _DIFFERS if differs[i] else "")


def _kept(differs: Sequence[bool], read_at: int) -> list[int]:
    """Positions that are shown: all, or those at the ends and around marked ones."""
    n = len(differs)
    if n <= _MOST_COLUMNS:
        return list(range(n))
    around = [i for i, marked in enumerate(differs) if marked][: _MOST_COLUMNS // (2 * _AROUND + 1)]
    near = {j for i in (*around, read_at) for j in range(i - _AROUND, i + _AROUND + 1)}
    return sorted(near & set(range(n)) | set(range(_ENDS)) | set(range(n - _ENDS, n)))


def _blocks(columns: Sequence[_Column], width: int) -> Iterator[list[_Column]]:
    block: list[_Column] = []
    used = 0
    for column in columns:
        if block and used + column.width > width:
            yield block
            block, used = [], 0
        block.append(column)
        used += column.width + 1
    if block:
        yield block


def _append(text: Text, label: str, cells: Sequence[tuple[str, str]], block: Sequence[_Column]) -> None:
    text.append(f"{label:<{LABEL}}", style="dim")
    line = Text()
    for (cell, style), column in zip(cells, block, strict=True):
        line.append(cell, style=style)
        line.append(" " * (column.width - cell_len(cell) + 1))
    line.rstrip()
    text.append_text(line)
