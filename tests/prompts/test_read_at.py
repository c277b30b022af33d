"""Reading positions other than the last: in tokens, in answers, in errors; and tasks without answers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acdc_engine.errors import PromptError, TaskError
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.card import parse_card
from acdc_engine.prompts.check import Rules, encode
from acdc_engine.prompts.template import Draft, PairTemplate
from tests.fake_tokenizer import FakeTokenizer
from tests.prompts.cards import card_data

Data = dict[str, Any]
WORDS = {"A": "Ann", "B": "Bob", "C": "Cem"}


def draft(read_at: int, right: tuple[str, ...] = (" {A}",), wrong: tuple[str, ...] = (" x",)) -> Draft:
    pattern = PairTemplate.parse("t", "{A} saw {B}; {B} told", "{A} saw {C}; {C} told", right, wrong, read_at=read_at)
    return pattern.fill(WORDS)


@given(st.integers(-6, 5), st.booleans())
def test_positions_count_from_either_end(read_at: int, bos: bool) -> None:
    prompts = encode([draft(read_at)], Rules(FakeTokenizer(), "small", prepend_bos=bos))
    assert prompts.read_at.tolist() == [bos + (read_at if read_at >= 0 else 6 + read_at)]
    assert prompts.pairs[0].read_at == read_at


def test_positions_outside_the_prompt_are_listed_with_everything_else() -> None:
    sound = PairTemplate.parse("t", "{A} met {B}", "{A} met {C}", [" x"], [" y"]).fill(WORDS)
    with pytest.raises(PromptError) as error:
        encode([draft(6), sound, draft(-7, right=(" Petrovich",))], Rules(FakeTokenizer(), "small"))
    for place, read_at in ((0, 6), (2, -7)):
        line = f"prompt {place} (template t):\n    read_at is {read_at}, and the prompt has 6 tokens\n"
        assert line in str(error.value)


def test_answers_follow_what_is_before_the_position() -> None:
    class Joins(FakeTokenizer):
        """ "Ann Eve" is one token."""

        def pieces(self, text: str) -> list[str]:
            return ["Ann Eve"] if text == "Ann Eve" else super().pieces(text)

    tokenizer = Joins()
    prompts = encode([draft(0, right=(" Eve", " Dora"))], Rules(tokenizer, "small"))
    # " Eve" would join with "Ann" and is looked up alone.
    assert [tokenizer.decode([token]) for token in prompts.answers[0].tolist()] == [" Eve", " Dora"]


def test_where_the_tokens_are_not_their_own_texts_the_answer_is_looked_up_alone() -> None:
    class Strips(FakeTokenizer):
        def decode(self, token_ids: list[int]) -> str:
            return str(super().decode(token_ids)).replace("Ann saw", "Annsaw")

    tokenizer = Strips()
    prompts = encode([draft(2, right=(" Dora",))], Rules(tokenizer, "small"))
    assert [tokenizer.vocabulary[token] for token in prompts.answers[0].tolist()] == [" Dora"]
    with pytest.raises(PromptError, match=r"the answer ' Petrovich' is not one token: ' Petr' 'ovich'"):
        encode([draft(2, right=(" Petrovich",))], Rules(tokenizer, "small"))


def test_a_missing_space_is_noticed_inside_too() -> None:
    # Inside, "Annie" after "Ann" is no other splitting but one other token, so the text is looked up alone.
    prompts = encode([draft(0, right=("ie",))], Rules(FakeTokenizer(), "small"))
    assert len(prompts.answers[0]) == 1
    with pytest.raises(PromptError, match=r"right and wrong at the same time: ' saw'"):
        encode([draft(0, right=(" saw",), wrong=(" saw",))], Rules(FakeTokenizer(), "small"))


def test_a_card_says_where_to_read() -> None:
    data = card_data()
    data["templates"][0]["read_at"] = -3
    data["templates"][1]["read_at"] = 2
    discovery, _ = build_splits(parse_card(data, "x"), FakeTokenizer(), 6, 0, seed=0)
    for pair, position, length in zip(
        discovery.pairs, discovery.read_at.tolist(), discovery.lengths.tolist(), strict=True
    ):
        assert position == (length - 3 if pair.template == "ABBA" else 2)
    plain, _ = build_splits(parse_card(card_data(), "x"), FakeTokenizer(), 6, 0, seed=0)
    assert plain.fingerprint() != discovery.fingerprint()
    data["templates"][0]["read_at"] = "last"
    with pytest.raises(TaskError, match=r"templates\[0\]\.read_at: Input should be a valid integer .*'last'"):
        parse_card(data, "x")
