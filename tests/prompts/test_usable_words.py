"""Word lists against a tokenizer."""

from collections.abc import Callable
from typing import Any

import pytest

from acdc_engine.errors import PromptError
from acdc_engine.prompts.card import parse_card
from acdc_engine.prompts.usable_words import usable_words

Data = dict[str, Any]


def test_words_that_must_be_one_token_are_listed_with_their_tokens(
    card_data: Callable[[], Data], make_tokenizer: Any
) -> None:
    data = card_data()
    data["words"]["names"]["words"] += ["Ivanovich", "Kristina"]
    with pytest.raises(PromptError) as error:
        usable_words(parse_card(data, "x"), make_tokenizer())
    assert str(error.value) == (
        "The word lists of task 'small' do not fit this tokenizer:\n"
        "  words.names: 'Ivanovich' is not a single token: ' Ivan' 'ovich'\n"
        "  words.names: 'Kristina' is not a single token: ' Krist' 'ina'\n"
        "Words in slots that differ between clean and corrupt, or that are part of an answer, must be one "
        "token. Take such words out, or set only_single_token = true for the list to leave them out."
    )


def test_a_slot_that_is_the_same_in_both_prompts_may_hold_any_word(
    card_data: Callable[[], Data], make_tokenizer: Any
) -> None:
    found = usable_words(parse_card(card_data(), "x"), make_tokenizer())
    assert found.words["places"] == ("park", "Petrovich")
    assert found.left_out == {}


def test_only_single_token_leaves_words_out_and_says_which(card_data: Callable[[], Data], make_tokenizer: Any) -> None:
    data = card_data()
    data["words"]["names"] |= {"words": ["Ann", "Ivanovich", "Bob", "Cem"], "only_single_token": True}
    data["words"]["places"]["only_single_token"] = True
    found = usable_words(parse_card(data, "x"), make_tokenizer())
    assert found.words == {"names": ("Ann", "Bob", "Cem"), "places": ("park",)}
    assert found.left_out == {
        "names": {"Ivanovich": "' Ivan' 'ovich'"},
        "places": {"Petrovich": "' Petr' 'ovich'"},
    }


def test_too_few_words_left(card_data: Callable[[], Data], make_tokenizer: Any) -> None:
    data = card_data()
    data["words"]["names"] |= {"words": ["Ann", "Ivanovich", "Bob"], "only_single_token": True}
    with pytest.raises(PromptError, match=r"words.names: only 2 of its 3 words are a single token and at least 3 are"):
        usable_words(parse_card(data, "x"), make_tokenizer())


def test_a_word_at_the_start_of_a_text_is_looked_at_without_a_space(make_tokenizer: Any) -> None:
    class NeedsSpace(make_tokenizer):  # type: ignore[misc]
        def pieces(self, text: str) -> list[str]:
            return [*"Ann", *super().pieces(text[3:])] if text.startswith("Ann") else super().pieces(text)

    data = {
        "name": "start",
        "description": "x",
        "metric": "nll",
        "slots": {"A": "names", "B": "others"},
        "words": {"names": {"words": ["Ann"]}, "others": {"words": ["Bob"]}},
        "templates": [{"name": "t", "clean": "{A} is", "corrupt": "{B} is", "answers": [" in"]}],
    }
    with pytest.raises(PromptError, match=r"words.names: 'Ann' is not a single token: 'A' 'n' 'n'"):
        usable_words(parse_card(data, "x"), NeedsSpace())
