"""Strangers' text in a terminal; two prompts, one above the other."""

import pytest
from rich.cells import cell_len

from acdc_engine.show.visible import LABEL, plain, token_columns, visible_token


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


def test_plain_text() -> None:
    assert plain("a\x1b]0;title\x07 b\u202e\r\nc") == r"a\x1b]0;title\x07 b\u202e\r\nc"
    assert plain("שלום, שלום") == "שלום, שלום"
    assert plain("x" * 12, most=10) == "x" * 10 + "... (2 more characters)"


def lines(clean: list[str], corrupt: list[str], read_at: int, width: int = 80) -> list[str]:
    return [line.rstrip() for line in token_columns(clean, corrupt, read_at, width).plain.split("\n")]


def test_tokens_stand_in_columns_and_differences_are_marked() -> None:
    assert lines(["The", " dog", " ran"], ["The", " horses", " ran"], read_at=2) == [
        "clean    The ·dog    ·ran",
        "corrupt  The ·horses ·ran",
        "             ^^^^^^^ read",
    ]


def test_spans_stand_under_their_first_token() -> None:
    clean, spans = ["The", " dog", " and", " cat", " ran"], ["The dog", "The dog", "x", "a longer name", "end"]
    shown = token_columns(clean, clean, 4, 80, spans).plain.split("\n")
    assert [line.rstrip() for line in shown] == [
        "clean    The ·dog ·and ·cat           ·ran",
        "corrupt  The ·dog ·and ·cat           ·ran",
        "                                      read",
        "spans    │The dog │x   │a longer name │end",
    ]
    narrow = token_columns(clean, clean, 4, 24, spans).plain.split("\n")
    assert max(map(len, narrow)) <= 24
    assert [line.rstrip() for line in narrow if line.startswith("spans")] == [
        "spans    │The dog │x",
        "spans    │a longer name",
        "spans    │end",
    ]


def test_a_span_that_goes_on_in_the_next_block_is_named_again() -> None:
    words = [f" word{i}" for i in range(9)]
    shown = token_columns(words, words, 8, 30, [*["a"] * 2, *["that which is told"] * 6, "end"]).plain
    assert [line.rstrip() for line in shown.split("\n") if line.startswith("spans")] == [
        *("spans    │a            │that…", "spans    │that which is told", "spans    │that which … │end"),
    ]
    text = token_columns(["x"] * 3000, ["x"] * 3000, 2999, 100, [*["\x1b[2J"] * 2999, "end"]).plain
    assert "│\\x1b[2J" in text and "\x1b" not in text


def test_a_position_that_differs_and_is_read() -> None:
    assert lines(["a", "b", "c"], ["a", "d", "c"], read_at=1) == [
        "clean    a b      c",
        "corrupt  a d      c",
        "           ^ read",
    ]


def test_blocks_fit_the_width() -> None:
    clean, corrupt = [f" word{i}" for i in range(30)], [f" word{i}" for i in range(29)] + [" end"]
    shown = lines(clean, corrupt, read_at=29, width=40)
    assert max(map(len, shown)) <= 40
    assert shown[:3] == [
        "clean    ·word0 ·word1 ·word2 ·word3",
        "corrupt  ·word0 ·word1 ·word2 ·word3",
        "",
    ]
    assert shown[-3:] == ["clean    ·word28 ·word29", "corrupt  ·word28 ·end", "                 ^^^^^^^ read"]


def test_wide_characters_keep_their_columns() -> None:
    shown = lines(["日本", "X"], ["ab", "X"], read_at=1)
    starts = [cell_len(line[: line.index(end)]) for line, end in zip(shown, ("X", "X", "read"), strict=True)]
    assert starts == [LABEL + 5] * 3


def test_different_tokens_of_one_text_are_told_apart() -> None:
    # Two vocabulary entries may decode to one text; here both tokens are longer than what is shown of them.
    shown = lines(["x" * 30, "b"], ["x" * 29 + "y", "b"], read_at=1)
    assert shown[0] == f"clean    {'x' * 23}…  b" and shown[1] == f"corrupt  {'x' * 23}…' b"
    assert shown[2] == " " * LABEL + "^" * 25 + " read"


def test_long_prompts_are_shown_around_what_matters() -> None:
    n = 5_000
    clean = [f" t{i}" for i in range(n)]
    corrupt = [*clean]
    corrupt[2_000] = " other"
    text = token_columns(clean, corrupt, n - 1, 100).plain
    for position in (0, 11, 1_996, 2_000, 2_004, n - 12, n - 1):
        assert f"·t{position} " in text.replace("\n", " ") + " "
    for position in (20, 1_990, 2_010, n - 20):
        assert f"·t{position} " not in text
    assert "[1,984 more]" in text and "·other" in text and "read" in text
