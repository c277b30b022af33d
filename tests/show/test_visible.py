"""Strangers' text in a terminal."""

import pytest
from rich.cells import cell_len

from acdc_engine.show.visible import plain, visible_token


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (" Mary", "·Mary"),
        ("  ", "··"),
        ("\n", r"\n"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\u202eevil", r"\u202eevil"),  # right-to-left override
        ("\u05d0b", r"\u05d0b"),  # a Hebrew letter
        ("\u0301a", r"\u0301a"),  # an accent for the letter before
        ("e\u0301", "e\u0301"),
        ("\ud800", r"\ud800"),
        ("é", "é"),
        ("", "''"),
    ],
)
def test_tokens(token: str, shown: str) -> None:
    assert visible_token(token) == shown


def test_long_tokens_are_cut() -> None:
    assert visible_token("x" * 24) == "x" * 24
    assert visible_token("x" * 25) == visible_token("x" * 10**6) == "x" * 23 + "…"
    assert cell_len(visible_token("\x00" * 50)) == 24


def test_plain_text() -> None:
    assert plain("a\x1b]0;title\x07 b\u202e\r\nc") == r"a\x1b]0;title\x07 b\u202e\r\nc"
    assert plain("שלום, שלום") == "שלום, שלום"
    assert plain("x" * 12, most=10) == "x" * 10 + "... (2 more characters)"
