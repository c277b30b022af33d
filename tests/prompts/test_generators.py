"""The registry, and the greater-than generator with tokenizers that split years in different ways."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from acdc_engine.errors import PromptError, TaskError
from acdc_engine.prompts import generators
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.card import parse_card
from acdc_engine.prompts.generators import get_generator, register
from acdc_engine.prompts.greater_than import GreaterThanParameters, greater_than
from acdc_engine.prompts.pair import Draft
from acdc_engine.prompts.template import PairTemplate
from acdc_engine.prompts.tokenizer import Tokenizer


def test_a_generator_of_ones_own(make_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generators, "_GENERATORS", dict(generators._GENERATORS))

    class Parameters(BaseModel):
        words: list[str]

    @register("echo", Parameters)
    def echo(rng: random.Random, tokenizer: Tokenizer, parameters: Parameters) -> Iterator[Draft]:
        pattern = PairTemplate.parse("echo", "{w} {w}", "{v} {w}", [" {w}"], [" {v}"])
        while True:
            w, v = rng.sample(parameters.words, 2)
            yield pattern.fill({"w": w, "v": v})

    card = parse_card(
        {
            "name": "echo",
            "description": "x",
            "generator": "echo",
            "parameters": {"words": ["red", "green", "blue", "grey"]},
        },
        "x",
    )
    discovery, held_out = build_splits(card, make_tokenizer(), 2, 2, seed=3)
    assert {p.template for p in (*discovery.pairs, *held_out.pairs)} == {"echo"}
    with pytest.raises(PromptError, match=r"can give 2 and 2: it has 4 different .* or add nouns or other parameters"):
        build_splits(card, make_tokenizer(), 3, 3, seed=3)
    with pytest.raises(TaskError, match=r"There is a generator called 'echo' already: choose another name"):
        register("echo", Parameters)(echo)


def test_unknown_generator() -> None:
    with pytest.raises(TaskError, match=r"there is no generator 'greater'. Did you mean 'greater_than'\?"):
        get_generator("greater")


def years(make_tokenizer: Any, digits: int | None, centuries: list[int]) -> dict[str, Draft]:
    parameters = GreaterThanParameters(nouns=["war"], centuries=centuries)
    found = list(greater_than(random.Random(0), make_tokenizer(digits=digits), parameters))
    by_year = {draft.pair.clean.split()[6]: draft for draft in found}
    assert len(by_year) == len(found)
    return by_year


def test_digit_by_digit_the_tens_digit_is_the_answer(make_tokenizer: Any) -> None:
    found = years(make_tokenizer, 1, [17])
    assert sorted(found) == [str(year) for year in range(1710, 1790)]
    pair = found["1732"].pair
    assert pair.clean == "The war lasted from the year 1732 to the year 17"
    assert pair.corrupt == "The war lasted from the year 1701 to the year 17"
    assert pair.answers == tuple("456789") and pair.wrong_answers == tuple("012")


def test_in_two_halves_the_year_is_the_answer_as_in_the_paper(make_tokenizer: Any) -> None:
    found = years(make_tokenizer, 2, [11, 17])
    assert len(found) == 2 * 97  # 02 to 98
    pair = found["1132"].pair
    assert pair.answers == tuple(str(y) for y in range(33, 100))
    assert pair.wrong_answers == tuple(f"{y:02d}" for y in range(33))


def test_years_that_are_one_token_are_left_out(make_tokenizer: Any) -> None:
    class Whole(make_tokenizer):  # type: ignore[misc]
        def pieces(self, text: str) -> list[str]:
            return [p for q in text.split("#") for p in super(Whole, self).pieces(q)] if "1776" not in text else [text]

    parameters = GreaterThanParameters(nouns=["war"], centuries=[17])
    found = list(greater_than(random.Random(0), Whole(digits=2), parameters))
    assert len(found) == 96
    assert all("1776" not in d.pair.clean and "76" not in (*d.pair.answers, *d.pair.wrong_answers) for d in found)


def test_years_left_whole_are_refused(make_tokenizer: Any) -> None:
    with pytest.raises(PromptError, match=r"splits years as 17\|32 or 1\|7\|3\|2, for at least one of .* \[17\]"):
        years(make_tokenizer, None, [17])


def test_splits_do_not_share_a_corrupt_prompt(make_tokenizer: Any) -> None:
    card = parse_card(
        {
            "name": "gt",
            "description": "x",
            "metric": "prob_diff",
            "generator": "greater_than",
            "parameters": {"nouns": ["war", "reign"], "centuries": [16, 17]},
        },
        "x",
    )
    discovery, held_out = build_splits(card, make_tokenizer(), 100, 100, seed=0)
    corrupt = [{p.corrupt for p in prompts.pairs} for prompts in (discovery, held_out)]
    assert not corrupt[0] & corrupt[1] and len(corrupt[0] | corrupt[1]) == 4
