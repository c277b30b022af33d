"""Texts of strangers made fit for a picture: one line, cut, in letters that the picture's font has."""

from __future__ import annotations

import textwrap
from functools import cache

from acdc_engine.show.visible import plain

LETTER = 0.6
"""Width of a letter as a share of the font's size: a little more than the mean of DejaVu Sans."""


def drawn(text: str, most: int) -> str:
    """Returns a text as one line of at most `most` characters; what the font cannot show is written as escapes."""
    line = " ".join(text[: 4 * most].split())
    shown = "".join(character if _in_font(character) else _escape(character) for character in plain(line[: most + 1]))
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def letters_in(inches: float, points: float) -> int:
    """How many letters of that size fit beside each other, at least 6."""
    return max(6, int(inches * 72 / (LETTER * points)))


def wrapped(text: str, inches: float, points: float, most: int = 4) -> list[str]:
    """Breaks a text into lines that fit; at most so many."""
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, letters_in(inches, points))]
    return lines if len(lines) <= most else [*lines[: most - 1], lines[most - 1][:-1] + "…"]


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _in_font(character: str) -> bool:
    return ord(character) in _letters()


@cache
def _letters() -> frozenset[int]:
    """Code points of the font that pictures are drawn with."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties())).get_charmap())
