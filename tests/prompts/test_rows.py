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
from acdc_engine.prompts.drafts import _ENUMERATE_UP_TO, _usable_words, drafts
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
        assert [draft.pair.clean[a:b] for a, b in draft.clean_spans] == [country]
        assert [draft.pair.corrupt[a:b] for a, b in draft.corrupt_spans] == [other]


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
        _usable_words(parse_card(changed, "x"), FakeTokenizer())
    assert str(error.value).split("\n")[1:4] == [
        "  tables.capitals.country: 'Petrovich' is not a single token: ' Petr' 'ovich'",
        "  tables.capitals.capital: 'Katina' is not a single token: ' Kat' 'ina'",
        "  tables.capitals.capital: 'Ivanovich' is not a single token: ' Ivan' 'ovich'",
    ]
    assert str(error.value).endswith("only_single_token = true for the list or table to leave them out.")
    changed["tables"]["capitals"]["only_single_token"] = True
    with pytest.raises(
        PromptError, match=r"capitals: only 1 of its 4 rows are a single token and at least 2 are needed"
    ):
        _usable_words(parse_card(changed, "x"), FakeTokenizer())
    changed["tables"]["capitals"]["capital"][2] = "Cairo"
    found = _usable_words(parse_card(changed, "x"), FakeTokenizer())
    assert [row["country"] for row in found.rows["capitals"]] == [("France",), ("Egypt",)]


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
    changed["tables"] |= {"empty": {}, "idle": {"a": ["x"]}, "bare": {"word": []}}
    changed["tables"]["capitals"] |= {"capital": ["Paris ", "Lima"], "leader": [["a", "a"]] * 4, "1st": ["x"] * 4}
    changed["tables"]["capitals"]["country"] = [" France", ["Peru", "Perou"], "", "Chad"]
    changed["rows"] |= {"E": "empty", "B": "bare"}
    found = problems(changed)
    assert set(found) == {
        "tables.capitals: its columns must be equally long, one word per row, and are not: country 4, capital 2, "
        "leader 4, 1st 4.",
        "tables.capitals.country[0]: ' France' is empty or has spaces around it.",
        "tables.capitals.country[1]: ['Peru', 'Perou'] are several words, and the column stands in a prompt: give one.",
        "tables.capitals.country[2]: '' is empty or has spaces around it.",
        "tables.capitals.capital[0]: 'Paris ' is empty or ends in a space.",
        *(f"tables.capitals.leader[{i}]: 'a' is in it 2 times." for i in range(4)),
        "tables.capitals.1st: a name has letters, digits and underscores, a letter first.",
        "tables.capitals.1st: nothing uses it.",
        "tables.capitals.leader: nothing uses it.",
        "tables.empty: it has no columns.",
        "tables.idle: no row is taken from it.",
        "tables.bare: it has no rows.",
        "tables.bare.word: nothing uses it.",
        "rows.E: no template uses it.",
        "rows.B: no template uses it.",
    }
    assert len(found) == len(set(found))


def test_cells_are_texts() -> None:
    changed = data()
    changed["tables"]["capitals"] |= {"capital": ["Paris", 3, [], ["a", 4]], "only_single_token": "perhaps"}
    found = problems(changed)
    rule = "A cell is a word, or a list of words that are all right answers"
    assert [p for p in found if "capital[" in p] == [
        f"tables.capitals.capital[1]: {rule} (found 3).",
        f"tables.capitals.capital[2]: {rule} (found []).",
        f"tables.capitals.capital[3]: {rule} (found ['a', 4]).",
    ]
    assert any(p.startswith("tables.capitals.only_single_token: ") for p in found) and len(found) == 4


def test_rows_and_cells_that_do_not_exist() -> None:
    changed = data()
    changed["rows"] = {"X": "capitols", "Y": "capitals", "who": "capitals", "4": "capitals"}
    changed["distinct"] = [["Y", "who"], ["Y", "Z.country"], ["Q"], ["Y.lake", "Y.country"]]
    changed["templates"][0] |= {"answers": [" {Y.capitol}", " {who.name}", " {Y}"], "wrong_answers": [" {Z.capital}"]}
    found = problems(changed)
    for line in (
        "rows.X: there is no table 'capitols'. Did you mean 'capitals'? Known: capitals.",
        "rows.who: there is a slot of that name too: rename one.",
        "rows.4: a name has letters, digits and underscores, a letter first.",
        "rows.4: no template uses it.",
        "distinct[1]: rows and slots cannot differ from each other; it has ['Y', 'Z.country']. Name columns.",
        "distinct[1]: the row Z of {Z.country} is not in [rows]. Known: 4, X, Y, who.",
        "distinct[2]: needs at least two slots, each once; it has ['Q'].",
        "distinct[2]: there is no slot 'Q'. Known: 4, X, Y, who, who.",
        "distinct[3]: the table capitals of {Y.lake} has no column 'lake'. Known: capital, country.",
        "templates[0]: the table capitals of {Y.capitol} has no column 'capitol'. Did you mean 'capital'? Known: "
        "capital, country.",
        "templates[0]: {Y} is a row; name one of its columns too, as in {Y.country}.",
        "templates[0]: the row Z of {Z.capital} is not in [rows]. Known: 4, X, Y, who.",
    ):
        assert line in found


def test_a_slot_has_no_columns() -> None:
    changed = data()
    changed["templates"][0]["answers"] = [" {who.name}"]
    assert "templates[0]: {who.name}: who is a slot, which has no columns: write {who}." in problems(changed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distinct": []}, "{X.country} is replaced by {Y.country}, and both can be the same word: put X and Y in one"),
        ({"country": ["Chad", "Peru", "Chad", "Mali"]}, "both can be the same word: put them in one distinct group."),
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


def test_rows_of_different_tables_differ_anyway() -> None:
    changed = data()
    changed["tables"]["rivers"] = {"river": ["Nile", "Rhine"]}
    changed["rows"]["R"] = "rivers"
    changed["distinct"].append(["X", "R"])
    for key in ("clean", "corrupt"):
        changed["templates"][0][key] += " {R.river}"
    assert problems(changed) == ["distinct[1]: rows of different tables differ anyway; it has ['X', 'R']."]


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
