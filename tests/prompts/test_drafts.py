"""From a card to pairs: word lists against a tokenizer, counting a task's pairs and taking some of them."""

import random
from collections import Counter
from itertools import islice
from typing import Any

import pytest

from acdc_engine.errors import PromptError
from acdc_engine.prompts.card import TaskCard, parse_card
from acdc_engine.prompts.drafts import _usable_rows, count_pairs, drafts, sample_pairs
from tests.fake_tokenizer import FakeTokenizer
from tests.prompts.cards import card_data

Data = dict[str, Any]


def test_words_that_must_be_one_token_are_listed_with_their_tokens() -> None:
    data = card_data()
    data["words"]["names"]["words"] += ["Ivanovich", "Kristina"]
    with pytest.raises(PromptError) as error:
        _usable_rows(parse_card(data, "x"), FakeTokenizer())
    assert str(error.value) == (
        "The word lists of task 'small' do not fit this tokenizer:\n"
        "  words.names: 'Ivanovich' is not a single token: ' Ivan' 'ovich'\n"
        "  words.names: 'Kristina' is not a single token: ' Krist' 'ina'\n"
        "Words in slots that differ between clean and corrupt, or that are part of an answer, must be one "
        "token. Take such words out, or set only_single_token = true for the list or table to leave them out."
    )


def test_only_single_token_leaves_words_out() -> None:
    data = card_data()
    data["words"]["names"] |= {"words": ["Ann", "Ivanovich", "Bob", "Cem"], "only_single_token": True}
    data["words"]["places"]["only_single_token"] = True
    found = _usable_rows(parse_card(data, "x"), FakeTokenizer())
    assert [row[""] for row in found["words.names"]] == [("Ann",), ("Bob",), ("Cem",)]
    assert [row[""] for row in found["words.places"]] == [("park",)]


def test_too_few_words_left() -> None:
    data = card_data()
    data["words"]["names"] |= {"words": ["Ann", "Ivanovich", "Bob"], "only_single_token": True}
    with pytest.raises(PromptError, match=r"words.names: only 2 of its 3 are a single token and at least 3 are"):
        _usable_rows(parse_card(data, "x"), FakeTokenizer())


def test_a_word_at_the_start_of_a_text_is_looked_at_without_a_space() -> None:
    class NeedsSpace(FakeTokenizer):
        def pieces(self, text: str) -> list[str]:
            return [*"Ann", *super().pieces(text[3:])] if text.startswith("Ann") else super().pieces(text)

    data = card_data() | {"metric": "nll", "slots": {"A": "names", "B": "others"}, "distinct": []}
    data["words"] = {"names": {"words": ["Ann"]}, "others": {"words": ["Bob"]}}
    data["templates"] = [{"name": "t", "clean": "{A} is", "corrupt": "{B} is", "answers": [" in"]}]
    with pytest.raises(PromptError, match=r"words.names: 'Ann' is not a single token: 'A' 'n' 'n'"):
        _usable_rows(parse_card(data, "x"), NeedsSpace())


def words(prefix: str, n: int) -> list[str]:
    """Words of letters alone, which the fake tokenizer keeps whole."""
    return [prefix + chr(ord("a") + i // 26) + chr(ord("a") + i % 26) for i in range(n)]


def many(n: int) -> TaskCard:
    """A card of n clean prompts and n^3 fillings: the corrupt prompt has words of its own."""
    lists = {key: {"words": words(key, n)} for key in ("x", "y", "z")}
    template = {"name": "t", "clean": "{x} and {x} so", "corrupt": "{y} and {z} so", "answers": [" {x}"]}
    data = card_data() | {"metric": "nll", "words": lists, "slots": {key: key for key in lists}, "distinct": []}
    return parse_card(data | {"templates": [template]}, "m")


def test_pairs_are_counted_by_their_clean_prompts() -> None:
    card = parse_card(card_data(), "small")
    # "A and B" and "B and A" are prompts of both templates, told apart by who gives: 4 * 3 names, 2 places, 2 givers.
    assert count_pairs(card, FakeTokenizer(), 10_000) == 48
    assert count_pairs(card, FakeTokenizer(), 7) == 7


def test_a_stream_without_end_is_counted_too() -> None:
    card = many(30)  # 27,000 fillings are drawn, not gone through
    assert count_pairs(card, FakeTokenizer(), 10_000) == 30


def test_samples_are_spread_over_the_templates_and_seeded() -> None:
    card = parse_card(card_data(), "small")
    chosen = sample_pairs(card, FakeTokenizer(), 9, seed=3)
    assert Counter(draft.pair.template for draft in chosen) == {"ABBA": 5, "BABA": 4}
    assert len({draft.pair.clean for draft in chosen}) == 9
    again, other = (sample_pairs(card, FakeTokenizer(), 9, seed=seed) for seed in (3, 4))
    assert [d.pair for d in again] == [d.pair for d in chosen] != [d.pair for d in other]


def test_every_word_comes_into_a_slot_as_often_as_the_others() -> None:
    """Where prompts are drawn and not gone through; in any stretch of them, rows of a table alike."""
    lists = {"names": {"words": words("n", 40)}, "things": {"words": words("t", 7)}}
    clean, corrupt = "{A} and {B} saw {thing} , {A}", "{A} and {B} saw {thing} , {C}"
    template = {"name": "t", "clean": clean, "corrupt": corrupt, "answers": [" {B}"], "wrong_answers": [" {A}"]}
    data = card_data() | {"words": lists, "distinct": [["A", "B", "C"]], "templates": [template]}
    card = parse_card(data | {"slots": {"A": "names", "B": "names", "C": "names", "thing": "things"}}, "m")
    texts = [draft.pair.clean.split() for draft in islice(drafts(card, FakeTokenizer(), random.Random(0)), 400)]
    for place in (0, 2, 4):
        for stretch in (texts[:80], texts[80:200], texts):
            counts = Counter(text[place] for text in stretch)
            expected = len(stretch) / (7 if place == 4 else 40)
            assert max(counts.values()) <= expected + 2 and sum(counts.values()) == len(stretch)
            assert len(counts) == (7 if place == 4 else 40) and min(counts.values()) >= expected - 2
    assert len({(text[0], text[2]) for text in texts}) > 350, "names are not tied to each other"


def test_words_that_leave_nothing_for_a_later_slot_end_nothing() -> None:
    """A may be Mary or John, after which B or C has nobody left: such draws fail, and the others go on."""
    lists = {
        "many": {"words": ["Mary", "John", *words("n", 30)]},
        "two": {"words": ["Mary", "John"]},
        "things": {"words": words("t", 320)},
    }
    template = {
        "name": "t",
        "clean": "{A} and {B} saw {thing} , {B}",
        "corrupt": "{A} and {B} saw {thing} , {C}",
        "answers": [" {A}"],
        "wrong_answers": [" {B}"],
    }
    data = card_data() | {"words": lists, "distinct": [["A", "B", "C"]], "templates": [template]}
    card = parse_card(data | {"slots": {"A": "many", "B": "two", "C": "two", "thing": "things"}}, "m")
    found = list(islice(drafts(card, FakeTokenizer(), random.Random(0)), 2000))
    assert len(found) == 2000
    counts = Counter(draft.pair.clean.split()[0] for draft in found)
    assert len(counts) == 30 and max(counts.values()) - min(counts.values()) <= 20
