"""Two prompts, one above the other."""

from rich.cells import cell_len

from acdc_engine.show.token_columns import LABEL, MOST_TOKENS, token_columns


def lines(clean: list[str], corrupt: list[str], read_at: int, width: int = 80) -> list[str]:
    return [line.rstrip() for line in token_columns(clean, corrupt, read_at, width).plain.split("\n")]


def test_tokens_stand_in_columns_and_differences_are_marked() -> None:
    assert lines(["The", " dog", " ran"], ["The", " horses", " ran"], read_at=2) == [
        "clean    The ·dog    ·ran",
        "corrupt  The ·horses ·ran",
        "             ^^^^^^^ read",
    ]


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


def test_prompts_that_differ_everywhere_are_cut_too() -> None:
    clean, corrupt = ["a"] * 5_000, ["b"] * 5_000
    shown = token_columns(clean, corrupt, 2_500, 100).plain
    assert shown.count("a") < 2 * MOST_TOKENS and "read" in shown
