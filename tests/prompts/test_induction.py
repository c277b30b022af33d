"""The generator of repeated random words."""

import random
from itertools import islice
from typing import Any

import pytest

from acdc_engine.errors import PromptError, TaskError
from acdc_engine.model.small_model import WordTokenizer
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.card import TaskCard, parse_card
from acdc_engine.prompts.induction import InductionParameters, induction
from acdc_engine.prompts.pair import Draft

WORDS = ["cup", "salt", "river", "plan", "north", "door", "seven", "cloud"]


def drawn(tokenizer: Any, n: int = 40, **changed: Any) -> list[Draft]:
    parameters = InductionParameters.model_validate({"words": WORDS, "length": 3, "shown": [1, 2]} | changed)
    return list(islice(induction(random.Random(0), tokenizer, parameters), n))


def card(**parameters: Any) -> TaskCard:
    data = {"name": "x", "description": "x", "generator": "induction"}
    return parse_card(data | {"parameters": {"words": WORDS, "length": 3, "shown": [1, 2]} | parameters}, "x")


def test_the_row_begins_again_and_the_next_word_is_asked_for(make_tokenizer: Any) -> None:
    found = drawn(make_tokenizer())
    assert [draft.pair.template for draft in found[:4]] == ["shown_1", "shown_2", "shown_1", "shown_2"]
    for draft in found:
        pair, shown = draft.pair, int(draft.pair.template[-1])
        row, repetition = pair.clean.split()[:3], pair.clean.split()[3:]
        assert pair.clean == "".join(f" {word}" for word in row + repetition)
        assert len(set(row)) == 3 and repetition == row[:shown]
        assert pair.answers == (f" {row[shown]}",)
        assert set(pair.wrong_answers) == {f" {word}" for word in row if word != row[shown]}


def test_nothing_is_repeated_in_the_corrupt_prompt(make_tokenizer: Any) -> None:
    for draft in drawn(make_tokenizer()):
        clean, corrupt = draft.pair.clean.split(), draft.pair.corrupt.split()
        assert len(set(corrupt)) == len(corrupt)
        assert not set(corrupt[:3]) & set(clean) and corrupt[3:] == clean[3:]
        assert [draft.pair.corrupt[start:end] for start, end in draft.corrupt_spans] == corrupt[:3]


def test_every_word_comes_in_every_place(make_tokenizer: Any) -> None:
    found = drawn(make_tokenizer(), n=400)
    for place in range(3):
        assert {draft.pair.clean.split()[place] for draft in found} == set(WORDS)
        assert {draft.pair.corrupt.split()[place] for draft in found} == set(WORDS)


def test_prompts_pass_the_checks_and_splits_are_disjoint(make_tokenizer: Any) -> None:
    discovery, held_out = build_splits(card(), make_tokenizer(), 10, 10, seed=0)
    assert sorted(discovery.lengths.tolist()) == [4] * 5 + [5] * 5
    assert (discovery.clean != discovery.corrupt).nonzero()[:, 1].tolist() == [0, 1, 2] * 10
    texts = [{text for p in split.pairs for text in (p.clean, p.corrupt)} for split in (discovery, held_out)]
    assert not texts[0] & texts[1]


def test_a_vocabulary_of_whole_words_will_do() -> None:
    prompts, _ = build_splits(card(), WordTokenizer(["<bos>", *WORDS], "<bos>"), 4, 0, seed=0)
    assert sorted(prompts.lengths.tolist()) == [5, 5, 6, 6]


def test_words_the_tokenizer_splits_are_left_out(make_tokenizer: Any) -> None:
    found = drawn(make_tokenizer(), n=200, words=[*WORDS, "Petrovich", "Karina"])
    assert {word for draft in found for word in draft.pair.clean.split()} == set(WORDS)
    with pytest.raises(PromptError, match=r"needs 6 words .* \(twice length = 3\); this tokenizer leaves 5 of the 6"):
        drawn(make_tokenizer(), words=[*WORDS[:5], "Petrovich"])


def test_parameters_that_cannot_be_met_are_all_listed() -> None:
    with pytest.raises(TaskError) as caught:
        card(words=["cup", "salt", "cup"], length=3, shown=[0, 1, 3])
    assert str(caught.value).split("\n")[1:] == [
        "  parameters.words: in it more than once: ['cup'].",
        "  parameters.words: has 3 words, and a pair with length = 3 needs 6 different ones.",
        "  parameters.shown: numbers from 1 to length - 1 = 2, each once, not [0, 1, 3].",
    ]
