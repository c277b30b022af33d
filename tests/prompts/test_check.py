"""Pairs against a tokenizer: every rule broken once, by hand."""

from typing import Any

import pytest

from acdc_engine.errors import PromptError
from acdc_engine.prompts.check import Rules, encode
from acdc_engine.prompts.template import Draft, PairTemplate, PromptPair
from tests.fake_tokenizer import FakeTokenizer


def draft(
    clean: str = "{A} saw {B}; {B} told",
    corrupt: str = "{A} saw {B}; {C} told",
    right: tuple[str, ...] = (" {A}",),
    wrong: tuple[str, ...] = (" {B}",),
    **words: str,
) -> Draft:
    values = {"A": "Ann", "B": "Bob", "C": "Cem"} | words
    return PairTemplate.parse("t", clean, corrupt, right, wrong).fill(values)


def failure(*drafts: Draft, **settings: Any) -> str:
    with pytest.raises(PromptError) as error:
        encode(drafts, Rules(FakeTokenizer(), "small", **settings))
    return str(error.value)


def test_a_sound_pair_becomes_tokens() -> None:
    tokenizer, long = FakeTokenizer(), draft(A="Dora", B="Petrovich", C="Ivanovich", wrong=(" x",))
    prompts = encode([draft(), long], Rules(tokenizer, "small"))
    assert tokenizer.decode(prompts.clean[0, :6].tolist()) == "Ann saw Bob; Bob told"
    assert prompts.lengths.tolist() == [6, 8]
    assert prompts.clean[0, 6:].tolist() == [0, 0]
    assert [tokenizer.decode(row) for row in prompts.answers[:1].tolist()] == [" Ann"]
    assert (prompts.clean != prompts.corrupt).nonzero().tolist() == [[0, 4], [1, 5]]


def test_bos_is_put_in_front() -> None:
    plain = encode([draft()], Rules(FakeTokenizer(), "small"))
    with_bos = encode([draft()], Rules(FakeTokenizer(), "small", prepend_bos=True))
    assert with_bos.clean[0].tolist() == [1, *plain.clean[0].tolist()]
    assert with_bos.read_at.tolist() == [6]
    with pytest.raises(PromptError, match=r"prepend_bos = true in the card, or --bos\), and this tokenizer has none"):
        encode([draft()], Rules(FakeTokenizer(bos=None), "small", prepend_bos=True))


def test_different_lengths_are_shown_with_the_tokens() -> None:
    assert failure(draft(), draft(C="Ivanovich")) == (
        "1 of the 2 prompts of task 'small' do not fit this model:\n"
        "  prompt 1 (template t):\n"
        "    clean has 6 tokens and corrupt 7: both must have as many\n"
        "    clean   [6] 'Ann' ' saw' ' Bob' ';' ' Bob' ' told'\n"
        "    corrupt [7] 'Ann' ' saw' ' Bob' ';' ' Ivan' 'ovich' ' told'\n"
        "Change the words, the answers or the fixed text of the card; or go on without them: --drop-misfits."
    )


def test_a_difference_where_no_slot_was_replaced() -> None:
    pair = PromptPair("Ann saw it", "Ann had it", (" now",), (" then",), "t")
    text = failure(Draft(pair, (), ()))
    assert "clean and corrupt differ at positions [1], where no slot was replaced" in text


def test_a_replaced_word_joined_with_what_follows_is_one_token_that_may_differ() -> None:
    prompts = encode([draft("the {B}s saw", "the {C}s saw", (" x",), (" y",))], Rules(FakeTokenizer(), "small"))
    assert (prompts.clean != prompts.corrupt).tolist() == [[False, True, False]]


def test_the_space_in_front_of_a_word_belongs_to_it_even_as_a_token() -> None:
    class SpaceApart(FakeTokenizer):
        def pieces(self, text: str) -> list[str]:
            return [p for q in super().pieces(text) for p in ([" ", "Zoe"] if q == " Zoe" else [q])]

    pair = draft(C="Zoe", B="Ivanovich", wrong=(" x",))
    prompts = encode([pair], Rules(SpaceApart(), "small"))
    assert (prompts.clean != prompts.corrupt).nonzero()[:, 1].tolist() == [5, 6]


def test_duplicates_and_the_list_is_cut_after_ten() -> None:
    text = failure(*[draft()] * 13)
    assert text.startswith("12 of the 13 prompts of task 'small'")
    assert text.count("the same pair as prompt 0") == 10
    assert "  ... and 2 more.\n" in text


def test_part_of_a_character_is_shown_as_the_vocabulary_spells_it() -> None:
    class Bytes(FakeTokenizer):
        def decode(self, token_ids: list[int]) -> str:
            return str(super().decode(token_ids)).replace(" Ivan", " \ufffd")

    with pytest.raises(PromptError, match=r"'_Ivan' 'ovich'"):
        encode([draft(C="Ivanovich")], Rules(Bytes(), "small"))


@pytest.mark.parametrize(
    ("changed", "messages"),
    [
        ({"C": "Bob"}, ["clean and corrupt are the same prompt"]),
        ({"right": (" Ivanovich",)}, ["the answer ' Ivanovich' is not one token: ' Ivan' 'ovich'"]),
        ({"right": ("Ann",)}, ["the answer 'Ann' changes how the prompt before it is split: is a space in front"]),
        ({"right": ("",)}, ["the answer '' is not one token: nothing"]),
        ({"right": (" {A}", " {C}"), "wrong": (" {B}", " {C}")}, ["right and wrong at the same time: ' Cem'"]),
        ({"right": (" {A}", " Ann")}, ["an answer is listed twice"]),
        (
            {"clean": "{A} saw {B}; told", "corrupt": "{B} saw {A}; told", "right": (" x",), "B": "Ivanovich"},
            ["do not stand at the same positions"],
        ),
        (
            {"C": "Ivanovich", "right": (" {B}", " Petrovich")},
            ["both must have as many", "same time: ' Bob'", "the answer ' Petrovich' is not one token"],
        ),
    ],
)
def test_what_can_be_wrong_with_a_pair(changed: dict[str, Any], messages: list[str]) -> None:
    text = failure(draft(**changed))
    assert all(message in text for message in messages)
