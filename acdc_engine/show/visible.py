"""Text of strangers made fit for a terminal: task cards, tokens and file names may hold anything."""

from __future__ import annotations

import unicodedata

SPACE = "·"
MOST = 2_000
"""Characters of a text that are shown."""

_RIGHT_TO_LEFT = ("R", "AL", "AN")


def plain(text: str, most: int = MOST) -> str:
    """Returns a text in which control characters (line breaks and marks of direction too) are written as escapes.

    Args:
        text: Anything.
        most: Characters shown; the rest is counted.
    """
    shown = "".join(character if character.isprintable() else _escaped(character) for character in text[:most])
    return shown if len(text) <= most else f"{shown}... ({len(text) - most:,} more characters)"


def visible_token(token: str, most: int = 24) -> str:
    """Returns a token as one word that keeps to its column.

    Spaces are dots (·). Control characters are escapes; so are letters written from right to left, which would turn
    the order of the columns round, and a mark that would sit on the token before. Long tokens are cut.

    Args:
        token: Its text.
        most: Characters shown.
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
