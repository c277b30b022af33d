"""Tables and rows: what is refused when the card is read, and which pairs come out."""

import copy
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acdc_engine.errors import PromptError, TaskError
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.card import TaskCard, parse_card
from acdc_engine.prompts.drafts import _ENUMERATE_UP_TO, _usable_rows, drafts
from acdc_engine.prompts.template import Draft
from tests.fake_tokenizer import FakeTokenizer
from tests.prompts.cards import card_data

Data = dict[str, Any]

CARD: Data = {
    "name": "capitals",
    "description": "Countries and their capitals.",
    "known_in": "GPT-2 small",
    "slots": {"who": "names"},
    "rows": {"X": "capitals", "Y": "capitals"},
    "distinct": [["X", "Y"]],
    "words": {"names": {"words": ["Ann", "Bob"]}},
    "tables": {
        "capitals": {"country": ["France", "Peru", "Egypt", "Chad"], "capital": ["Paris", "Lima", "Cairo", "Ndjamena"]}
    },
    "templates": [
        {
            "name": "capital",
            "clean": "{who} says: {X.country} has",
            "corrupt": "{who} says: {Y.country} has",
            "answers": [" {X.capital}"],
            "wrong_answers": [" {Y.capital}"],
        }
    ],
}


def data() -> Data:
    return copy.deepcopy(CARD)


def every(card: TaskCard, tokenizer: Any, seed: int = 0) -> list[Draft]:
    return list(drafts(card, tokenizer, random.Random(seed)))


def problems(changed: Data) -> list[str]:
    with pytest.raises(TaskError) as error:
        parse_card(changed, where="x.toml")
    return [line.removeprefix("  ") for line in str(error.value).split("\n")[1:]]


def test_every_pair_of_rows_comes_once() -> None:
    found = every(parse_card(data(), "x"), FakeTokenizer())
    assert len(found) == 2 * 4 * 3
    pairs = {draft.pair.clean: draft for draft in found}
    assert len(pairs) == 8
    for draft in found:
        country, other = draft.pair.clean.split()[2], draft.pair.corrupt.split()[2]
        capital = dict(zip(*CARD["tables"]["capitals"].values(), strict=True))
        assert country != other
        assert (draft.pair.answers, draft.pair.wrong_answers) == ((f" {capital[country]}",), (f" {capital[other]}",))
        assert [draft.pair.clean[a:b] for a, b in draft.clean_ranges] == [country]
        assert [draft.pair.corrupt[a:b] for a, b in draft.corrupt_ranges] == [other]


def test_a_cell_with_several_words_is_several_answers() -> None:
    changed = data()
    changed["tables"]["capitals"]["capital"] = [[" Paris", " Lyon"], "Lima", "Cairo", "Ndjamena"]
    changed["templates"][0] |= {"answers": ["{X.capital}", " yes"], "wrong_answers": ["{Y.capital}", " no"]}
    found = every(parse_card(changed, "x"), FakeTokenizer())
    right = {draft.pair.answers for draft in found}
    assert right == {(" Paris", " Lyon", " yes"), ("Lima", " yes"), ("Cairo", " yes"), ("Ndjamena", " yes")}


def test_rows_whose_words_must_be_one_token() -> None:
    changed = data()
    changed["tables"]["capitals"]["country"][1] = "Petrovich"
    changed["tables"]["capitals"]["capital"][2:] = ["Katina", "Ivanovich"]
    with pytest.raises(PromptError) as error:
        _usable_rows(parse_card(changed, "x"), FakeTokenizer())
    assert str(error.value).split("\n")[1:4] == [
        "  tables.capitals.country: 'Petrovich' is not a single token: ' Petr' 'ovich'",
        "  tables.capitals.capital: 'Katina' is not a single token: ' Kat' 'ina'",
        "  tables.capitals.capital: 'Ivanovich' is not a single token: ' Ivan' 'ovich'",
    ]
    assert str(error.value).endswith("only_single_token = true for the list or table to leave them out.")
    changed["tables"]["capitals"]["only_single_token"] = True
    with pytest.raises(PromptError, match=r"capitals: only 1 of its 4 are a single token and at least 2 are needed"):
        _usable_rows(parse_card(changed, "x"), FakeTokenizer())
    changed["tables"]["capitals"]["capital"][2] = "Cairo"
    found = _usable_rows(parse_card(changed, "x"), FakeTokenizer())
    assert [row["country"] for row in found["tables.capitals"]] == [("France",), ("Egypt",)]


def test_an_answer_may_bring_its_own_space() -> None:
    changed = data()
    changed["tables"]["capitals"]["capital"] = [" Paris", " Lima", " Cairo", " Petrovich"]
    changed["templates"][0] |= {"answers": ["{X.capital}"], "wrong_answers": ["{Y.capital}"]}
    with pytest.raises(PromptError, match=r"' Petrovich' is not a single token: ' Petr' 'ovich'"):
        build_splits(parse_card(changed, "x"), FakeTokenizer(), 2, 1, 0)


def test_distinct_cells_of_different_rows_and_of_one_row() -> None:
    changed = data()
    changed["tables"]["capitals"]["capital"] = ["Paris", "Lima", "Paris", "Chad"]
    changed["distinct"] = [["X", "Y"], ["X.capital", "Y.capital"], ["X.country", "X.capital"]]
    found = every(parse_card(changed, "x"), FakeTokenizer())
    countries = {(d.pair.clean.split()[2], d.pair.corrupt.split()[2]) for d in found}
    # Not France and Egypt, which share a capital; and X not Chad, which is called like its own.
    assert countries == {
        *(("France", y) for y in ("Peru", "Chad")),
        *(("Peru", y) for y in ("France", "Egypt", "Chad")),
        *(("Egypt", y) for y in ("Peru", "Chad")),
    }


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(3, 5), st.integers(1, 4))
def test_what_is_distinct_differs_enumerated_or_drawn(seed: int, n: int, kinds: int) -> None:
    """Cells that hold sets of words differ where they have no word in common."""
    changed = data()
    changed["words"]["names"]["words"] = [f"N{chr(97 + i)}{chr(97 + j)}" for i in range(26) for j in range(26)]
    rng = random.Random(seed)
    kind = [[f" k{chr(97 + i)}", f" l{chr(97 + rng.randrange(kinds))}"] for i in range(n)]
    changed["tables"]["capitals"] = {"country": [f"C{chr(97 + i)}" for i in range(n)], "kind": kind}
    changed["rows"]["Z"] = "capitals"
    changed["distinct"] = [["X", "Y"], ["X.kind", "Z.kind"]]
    template = changed["templates"][0]
    template |= {
        "clean": "{who}, {who2}: {X.country} {Z.country} has",
        "corrupt": "{who}, {who2}: {Y.country} {Z.country} has",
    }
    template |= {"answers": ["{X.kind}"], "wrong_answers": ["{Z.kind}"]}
    changed["slots"]["who2"] = "names"
    assert _ENUMERATE_UP_TO < 676**2
    stream = drafts(parse_card(changed, "x"), FakeTokenizer(), random.Random(seed))
    for _, draft in zip(range(30), stream, strict=False):
        assert not set(draft.pair.answers) & set(draft.pair.wrong_answers)
        assert draft.pair.clean.split()[2] != draft.pair.corrupt.split()[2]


def test_tables_are_checked() -> None:
    changed = data()
    changed["tables"] |= {"empty": {}, "bare": {"word": []}}
    changed["tables"]["capitals"] |= {"capital": ["Paris", 3, [], ["a", "a"]], "only_single_token": "perhaps"}
    found = problems(changed)
    assert [p for p in found if "capital[" in p] == [
        "tables.capitals.capital[1][0]: Input should be a valid string (found 3).",
        "tables.capitals.capital[2]: give at least one word.",
        "tables.capitals.capital[3]: 'a' is in it 2 times.",
    ]
    assert any(p.startswith("tables.capitals.only_single_token: ") for p in found)
    long = "its columns must be equally long, one word per row, and are not: "
    assert found[-2:] == [f"tables.empty: {long}none.", f"tables.bare: {long}word 0."]
    changed = data()
    changed["tables"]["capitals"]["capital"] = ["Paris", "Lima"]
    assert problems(changed) == [f"tables.capitals: {long}country 4, capital 2."]


def test_rows_and_cells_that_do_not_exist() -> None:
    changed = data()
    changed["rows"] = {"X": "capitols", "Y": "capitals", "who": "capitals"}
    changed["tables"] |= {"idle": {"a": ["x"]}}
    changed["tables"]["capitals"]["country"][1] = ["Peru", "Perou"]
    changed["distinct"] = [["Y", "who"], ["Y", "Z.country"], ["Y.lake", "Y.country"]]
    changed["templates"][0] |= {"answers": [" {Y.capitol}", " {who.name}", " {Y}"], "wrong_answers": [" {Z.capital}"]}
    found, pairs = problems(changed), "needs two or more slots, cells or rows of one table, each once, not "
    for line in (
        "tables.idle: nothing uses it.",
        "rows.X: there is no table 'capitols'. Did you mean 'capitals'? Known: capitals, idle.",
        "rows.who: there is a slot of that name too: rename one.",
        f"distinct[1]: {pairs}['Y', 'Z.country'].",
    ):
        assert line in found
    for start in (
        "distinct[1]: there is no slot, cell or row 'Z.country'. Did you mean 'Y.country' or 'who.country'? Known: ",
        "distinct[2]: there is no slot, cell or row 'Y.lake'. ",
        "templates[0]: there is no slot or cell {Y.capitol}. Did you mean 'Y.capital' or 'who.capital'? Known: ",
        "templates[0]: there is no slot or cell {who.name}. ",
        "templates[0]: there is no slot or cell {Y}. ",
        "templates[0]: {Y.country} stands in a prompt, where every cell of its column must be one word without a "
        "space in front, not ['Peru', 'Perou'].",
    ):
        assert any(line.startswith(start) for line in found)


def test_a_prompt_has_its_spaces_from_the_template_alone() -> None:
    changed = data()
    changed["tables"]["capitals"]["country"][2:] = [" Egypt", " Chad"]
    assert problems(changed) == [
        f"templates[0]: {{{row}.country}} stands in a prompt, where every cell of its column must be one word without "
        "a space in front, not [' Egypt'] and 1 more."
        for row in "XY"
    ]


def test_rows_of_one_table_are_distinct() -> None:
    changed = data()
    changed["tables"]["rivers"] = {"river": ["Nile", "Rhine"]}
    changed["rows"]["R"] = "rivers"
    changed["distinct"].append(["X", "R"])
    for key in ("clean", "corrupt"):
        changed["templates"][0][key] += " {R.river}"
    (found,) = problems(changed)
    assert found.startswith("distinct[1]: needs two or more slots, cells or rows of one table")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"distinct": []},
            "{X.country} is replaced by {Y.country}, and both can be the same word: put them, or t",
        ),
        ({"country": ["Chad", "Peru", "Chad", "Mali"]}, "both can be the same word: put them, or their rows"),
        ({"clean": "{who} says: {X.country} has", "corrupt": "{who} says: {X.capital} has"}, None),
        (
            {"clean": "{X.country} {Y.country}", "corrupt": "{X.capital} {Y.country}", "country": ["Lima"] * 4},
            "{X.country} is replaced by {X.capital}, and both can be the same word",
        ),
    ],
)
def test_what_is_replaced_must_differ(change: Data, message: str | None) -> None:
    changed = data()
    changed["slots"], changed["words"] = {}, {}
    for key in ("clean", "corrupt"):
        changed["templates"][0][key] = change.get(key, changed["templates"][0][key]).replace("{who} ", "")
    changed["distinct"] = change.get("distinct", changed["distinct"])
    changed["tables"]["capitals"]["country"] = change.get("country", changed["tables"]["capitals"]["country"])
    if message is None:
        parse_card(changed, "x")
    else:
        assert any(p.startswith("templates[0].corrupt: ") and message in p for p in problems(changed))


def test_right_and_wrong_answers_must_differ() -> None:
    changed = data()
    changed["tables"]["capitals"]["capital"] = ["Paris", "Lima", "Paris", "Chad"]
    assert problems(changed) == [
        "templates[0].wrong_answers: {X.capital} is right and {Y.capital} wrong, and both can be the same word: put "
        "them in one distinct group."
    ]
    changed["distinct"].append(["X.capital", "Y.capital"])
    parse_card(changed, "x")


def test_what_is_new_counts_only_where_it_is_said() -> None:
    plain = parse_card(card_data(), "x").fingerprint()
    assert parse_card(card_data() | {"known_in": "GPT-2"}, "x").fingerprint() == plain
    template = card_data()
    template["templates"][0]["read_at"] = -1
    assert parse_card(template, "x").fingerprint() == plain
    template["templates"][0]["read_at"] = -2
    assert parse_card(template, "x").fingerprint() != plain
    first, changed = parse_card(data(), "x").fingerprint(), data()
    changed["tables"]["capitals"]["capital"][3] = "Moundou"
    assert parse_card(changed, "x").fingerprint() != first
