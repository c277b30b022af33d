"""The register of generators; greater-than, induction and arithmetic with tokenizers that split in different ways."""

import random
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
from pydantic import BaseModel

from acdc_engine.errors import PromptError, TaskError
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.card import TaskCard, parse_card
from acdc_engine.prompts.generators import GENERATORS
from acdc_engine.prompts.template import Draft, PairTemplate, PromptPair
from acdc_engine.prompts.tokens import Tokenizer
from tests.fake_tokenizer import FakeTokenizer
from tests.task_generators import generator_module


def test_a_generator_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GENERATORS, "_entries", dict(GENERATORS._entries))

    class Parameters(BaseModel):
        words: list[str]

    @GENERATORS.add("echo", "a word twice", parameters=Parameters)
    def echo(rng: random.Random, tokenizer: Tokenizer, parameters: Parameters) -> Iterator[Draft]:
        pattern = PairTemplate.parse("echo", "{w} {w}", "{v} {w}", [" {w}"], [" {v}"])
        while True:
            w, v = rng.sample(parameters.words, 2)
            yield pattern.fill({"w": w, "v": v})

    data = {"name": "echo", "description": "x", "generator": "echo"}
    card = parse_card(data | {"parameters": {"words": ["red", "green", "blue", "grey"]}}, "x")
    discovery, held_out = build_splits(card, FakeTokenizer(), 2, 2, seed=3)
    assert {p.template for p in (*discovery.pairs, *held_out.pairs)} == {"echo"}
    with pytest.raises(PromptError, match=r"can give 2 and 2: it has 4 different .* or add nouns or other parameters"):
        build_splits(card, FakeTokenizer(), 3, 3, seed=3)
    with pytest.raises(TaskError, match=r"The generator 'echo' is there already"):
        GENERATORS.add("echo", "again")(echo)


GREATER_THAN = generator_module("greater_than")


def years(digits: int | None, centuries: list[int]) -> dict[str, Draft]:
    parameters = GREATER_THAN.GreaterThanParameters(nouns=["war"], centuries=centuries)
    found = list(GREATER_THAN.greater_than(random.Random(0), FakeTokenizer(digits=digits), parameters))
    by_year = {draft.pair.clean.split()[6]: draft for draft in found}
    assert len(by_year) == len(found)
    return by_year


def test_digit_by_digit_the_tens_digit_is_the_answer() -> None:
    found = years(1, [17])
    assert sorted(found) == [str(year) for year in range(1710, 1790)]
    pair = found["1732"].pair
    assert pair.clean == "The war lasted from the year 1732 to the year 17"
    assert pair.corrupt == "The war lasted from the year 1701 to the year 17"
    assert pair.answers == tuple("456789") and pair.wrong_answers == tuple("012")


def test_in_two_halves_the_year_is_the_answer_as_in_the_paper() -> None:
    found = years(2, [11, 17])
    assert len(found) == 2 * 97  # 02 to 98
    pair = found["1132"].pair
    assert pair.answers == tuple(str(y) for y in range(33, 100))
    assert pair.wrong_answers == tuple(f"{y:02d}" for y in range(33))


def test_years_that_are_one_token_are_left_out() -> None:
    class Whole(FakeTokenizer):
        def pieces(self, text: str) -> list[str]:
            return [p for q in text.split("#") for p in super(Whole, self).pieces(q)] if "1776" not in text else [text]

    parameters = GREATER_THAN.GreaterThanParameters(nouns=["war"], centuries=[17])
    found = list(GREATER_THAN.greater_than(random.Random(0), Whole(digits=2), parameters))
    assert len(found) == 96
    assert all("1776" not in d.pair.clean and "76" not in (*d.pair.answers, *d.pair.wrong_answers) for d in found)


WORDS = ["cup", "salt", "river", "plan", "north", "door", "seven", "cloud"]


def rows_drawn(tokenizer: Any, n: int = 40, **changed: Any) -> list[Draft]:
    module, given = generator_module("induction"), {"words": WORDS, "length": 3, "shown": [1, 2]} | changed
    return list(islice(module.induction(random.Random(0), tokenizer, module.InductionParameters(**given)), n))


def induction_card(**parameters: Any) -> TaskCard:
    data = {"name": "x", "description": "x", "generator": "induction"}
    return parse_card(data | {"parameters": {"words": WORDS, "length": 3, "shown": [1, 2]} | parameters}, "x")


def test_the_row_begins_again_and_the_next_word_is_asked_for() -> None:
    found = rows_drawn(FakeTokenizer())
    assert [draft.pair.template for draft in found[:4]] == ["shown_1", "shown_2", "shown_1", "shown_2"]
    for draft in found:
        pair, shown = draft.pair, int(draft.pair.template[-1])
        row, repetition = pair.clean.split()[:3], pair.clean.split()[3:]
        assert pair.clean == "".join(f" {word}" for word in row + repetition)
        assert len(set(row)) == 3 and repetition == row[:shown]
        assert pair.answers == (f" {row[shown]}",)
        assert set(pair.wrong_answers) == {f" {word}" for word in row if word != row[shown]}


def test_nothing_is_repeated_in_the_corrupt_prompt() -> None:
    for draft in rows_drawn(FakeTokenizer()):
        clean, corrupt = draft.pair.clean.split(), draft.pair.corrupt.split()
        assert len(set(corrupt)) == len(corrupt)
        assert not set(corrupt[:3]) & set(clean) and corrupt[3:] == clean[3:]
        assert [draft.pair.corrupt[start:end] for start, end in draft.corrupt_ranges] == corrupt[:3]


def test_words_the_tokenizer_splits_are_left_out() -> None:
    found = rows_drawn(FakeTokenizer(), n=200, words=[*WORDS, "Petrovich", "Karina"])
    assert {word for draft in found for word in draft.pair.clean.split()} == set(WORDS)
    with pytest.raises(PromptError, match=r"needs 6 words .* \(twice length = 3\); this tokenizer leaves 5 of the 6"):
        rows_drawn(FakeTokenizer(), words=[*WORDS[:5], "Petrovich"])


def test_parameters_that_cannot_be_met_are_all_listed() -> None:
    with pytest.raises(TaskError) as caught:
        induction_card(words=["cup", "salt", "cup"], length=3, shown=[0, 1, 3])
    assert str(caught.value).split("\n")[1:] == [
        "  parameters: words: in it more than once: ['cup'].",
        "  parameters: words: has 3 words, and a pair with length = 3 needs 6 different ones.",
        "  parameters: shown: numbers from 1 to length - 1 = 2, each once, not [0, 1, 3].",
    ]


def retrieved(tokenizer: Any, pairs: int) -> list[Draft]:
    module = generator_module("retrieval")
    parameters = module.RetrievalParameters(pairs=pairs)
    return list(islice(module.retrieval(random.Random(0), tokenizer, parameters), 60))


def test_two_lines_have_changed_their_keys_in_the_corrupt_prompt() -> None:
    places = set[int]()
    for draft in retrieved(FakeTokenizer(), 4):
        clean, corrupt = (
            dict(re.findall(r"The word for (\w+) is (\w+)\.", text)) for text in (draft.pair.clean, draft.pair.corrupt)
        )
        assert len(clean) == len(corrupt) == 4 and len({*clean, *clean.values()}) == 8
        assert sorted(clean) == sorted(corrupt) and list(clean.values()) == list(corrupt.values())
        (key,) = re.findall(r"\nThe word for (\w+) is$", draft.pair.clean)
        assert draft.pair.answers == (f" {clean[key]}",) and draft.pair.wrong_answers == (f" {corrupt[key]}",)
        changed = {one for one in clean if clean[one] != corrupt[one]}
        assert changed == {key, next(one for one in clean if clean[one] == corrupt[key])}
        assert {draft.pair.clean[start:end] for start, end in draft.clean_ranges} == changed
        places.add(list(clean).index(key))
    assert places == {0, 1, 2, 3}


def test_lists_too_long_for_a_tokenizer_or_for_the_words() -> None:
    class Splitting(FakeTokenizer):
        def pieces(self, text: str) -> list[str]:
            return [part for piece in super().pieces(text) for part in re.findall(" ?.{1,4}", piece, re.DOTALL)]

    assert retrieved(Splitting(), 2)
    with pytest.raises(
        PromptError, match=r"needs 342 words .* \(twice pairs = 171\); this tokenizer leaves \d+ of 343"
    ):
        retrieved(Splitting(), 171)
    with pytest.raises(TaskError, match=r"parameters.pairs: Input should be less than or equal to 171"):
        parse_card({"name": "x", "description": "x", "generator": "retrieval", "parameters": {"pairs": 172}}, "x")


ONE_BY_ONE, WHOLE_WITHOUT_SPACE = r"\d", r"\d{1,3}"


class SpaceApart(FakeTokenizer):
    """Splits the space off a number, as SmolLM2 and Llama 3 do; the number itself as `number` says."""

    def __init__(self, number: str) -> None:
        super().__init__()
        self.number = number

    def pieces(self, text: str) -> list[str]:
        return re.findall(rf" (?=\d)|{self.number}| ?[^\s\d]|\s", text)


def sums(tokenizer: FakeTokenizer, n: int = 40, shots: int = 2) -> list[PromptPair]:
    module = generator_module("arithmetic")
    parameters = module.ArithmeticParameters(shots=shots, lowest=10, highest=80)
    return [draft.pair for draft in islice(module.arithmetic(random.Random(0), tokenizer, parameters), n)]


def asked(text: str) -> tuple[int, int, str]:
    """Both numbers of the last line, and what stands behind its equals sign."""
    found = re.fullmatch(r"(\d\d) \+ (\d\d) =( ?\d*)", text.splitlines()[-1])
    assert found
    return int(found[1]), int(found[2]), found[3]


def test_digit_by_digit_the_digits_are_asked_in_turn() -> None:
    found = sums(SpaceApart(ONE_BY_ONE))
    assert [pair.template for pair in found[:4]] == ["tens", "units", "tens", "units"]
    for pair in found:
        (a, b, shown), (c, d, corrupt_shown) = asked(pair.clean), asked(pair.corrupt)
        place = 0 if pair.template == "tens" else 1
        assert shown == corrupt_shown == " " + str(a + b)[:place] == " " + str(c + d)[:place]
        assert pair.answers == (str(a + b)[place],) and pair.wrong_answers == (str(c + d)[place],)
        assert pair.answers != pair.wrong_answers and a + b <= 99 and c + d <= 99


@pytest.mark.parametrize(
    ("tokenizer", "before", "space"), [(FakeTokenizer(digits=2), "", " "), (SpaceApart(WHOLE_WITHOUT_SPACE), " ", "")]
)
def test_numbers_left_whole_are_the_answer(tokenizer: FakeTokenizer, before: str, space: str) -> None:
    for pair in sums(tokenizer):
        (a, b, shown), (c, d, _) = asked(pair.clean), asked(pair.corrupt)
        assert (pair.template, shown) == ("sum", before)
        assert pair.answers == (f"{space}{a + b}",) and pair.wrong_answers == (f"{space}{c + d}",)
        assert a + b != c + d


def test_the_solved_additions_are_right_and_the_same_in_both() -> None:
    for pair in sums(SpaceApart(ONE_BY_ONE), shots=3):
        *solved, _ = pair.clean.splitlines()
        assert len(solved) == len(set(solved)) == 3 and pair.corrupt.splitlines()[:-1] == solved
        for line in solved:
            a, b, total = (int(number) for number in re.findall(r"\d+", line))
            assert a + b == total
        a, b, _ = asked(pair.clean)
        assert not any(line.startswith(f"{a} + {b} =") for line in solved)


def test_other_splits_are_refused() -> None:
    with pytest.raises(PromptError, match=r"'arithmetic' needs a tokenizer for which a two-digit number or each of"):
        sums(FakeTokenizer(digits=1))  # 4|6 with the space at the 4: neither


def sums_card(**parameters: int) -> dict[str, object]:
    return {"name": "sums", "description": "x", "generator": "arithmetic", "parameters": parameters}


@pytest.mark.parametrize(("lowest", "highest", "shots", "additions"), [(50, 60, 1, 0), (10, 11, 1, 4), (10, 12, 9, 9)])
def test_too_few_additions(lowest: int, highest: int, shots: int, additions: int) -> None:
    found = rf"lowest = {lowest} to highest = {highest} give {additions} additions .* more than shots = {shots} are"
    with pytest.raises(TaskError, match=found):
        parse_card(sums_card(shots=shots, lowest=lowest, highest=highest), "x")


def test_years_left_whole_are_refused() -> None:
    with pytest.raises(PromptError, match=r"splits years as 17\|32 or 1\|7\|3\|2, for at least one of .* \[17\]"):
        years(None, [17])
