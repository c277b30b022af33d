"""The generator for compiled models: its functions by hand, its pairs over whole domains."""

import random
from collections import Counter

import pytest

from acdc_engine.errors import PromptError, TaskError
from acdc_engine.model.small_model import WordTokenizer
from acdc_engine.prompts.card import parse_card
from acdc_engine.prompts.template import Draft
from tests.task_generators import generator_module

MODULE = generator_module("compiled")
FUNCTIONS, CompiledParameters, compiled = MODULE.FUNCTIONS, MODULE.CompiledParameters, MODULE.compiled

TOKENIZER = WordTokenizer(["bos", "a", "b", "c", "x", *"012345", "="], "bos")
CARD = {"name": "small", "description": "A small one.", "prepend_bos": True, "generator": "compiled"}


@pytest.mark.parametrize(
    ("function", "words", "wanted"),
    [
        ("reverse", "a b c c", "c c b a"),
        ("frac_prevs", "x a a x x", "1 1/2 1/3 1/2 3/5"),
        ("frac_prevs", "a a x", "0 0 1/3"),
        ("hist", "a b a c a", "3 1 3 1 3"),
        ("double_hist", "a b a c a", "3 2 3 2 3"),  # three positions hold a token that is there 3 times, two once
        ("double_hist", "a a b b c", "4 4 4 4 1"),
        ("sort", "3 1 2 1", "1 1 2 3"),
        ("sort_freq", "c a b a c", "c a a c b"),  # c and a are there twice each: they stay in the input's order
        ("sort_freq", "a b b", "b b a"),
        ("majority", "a c b a", "a a a a"),
        ("majority", "b c b a", "b b b b"),
        ("majority", "a c b", "= = ="),
    ],
)
def test_functions_by_hand(function: str, words: str, wanted: str) -> None:
    assert FUNCTIONS[function](tuple(words.split())) == wanted.split()


def make(function: str, letters: str, length: int, seed: int = 0) -> list[Draft]:
    parameters = CompiledParameters(function=function, letters=list(letters), length=length)
    return list(compiled(random.Random(seed), TOKENIZER, parameters))


@pytest.mark.parametrize("function", ["hist", "double_hist", "majority", "reverse", "sort_freq"])
def test_inputs_are_matched_two_by_two_and_read_where_the_outputs_differ(function: str) -> None:
    found = [draft.pair for draft in make(function, "abc", 4)]
    output = FUNCTIONS[function]
    for pair in found:
        clean, corrupt = output(pair.clean.split()), output(pair.corrupt.split())
        assert clean[pair.read_at] != corrupt[pair.read_at]
        assert pair.answers == (f" {clean[pair.read_at]}",)
        assert pair.wrong_answers == (f" {corrupt[pair.read_at]}",)
        assert pair.template == f"position {pair.read_at}"
    partner = {pair.clean: pair.corrupt for pair in found}
    assert len(partner) == len(found)
    assert all(partner[corrupt] == clean for clean, corrupt in partner.items())


def test_only_inputs_without_a_partner_are_left_out() -> None:
    # Of the 81 inputs one is left over in any case.
    assert len(make("reverse", "abc", 4)) == 80
    # Of the 4 inputs of two letters a b and b a have another majority (=) than a a and b b.
    assert len(make("majority", "ab", 2)) == 4
    # All permutations sort alike: 0 0 | 0 1, 1 0 | 1 1.
    assert len(make("sort", "01", 2)) == 4


def test_positions_are_read_equally_often_where_they_can_be() -> None:
    counts = Counter(draft.pair.read_at for draft in make("hist", "abc", 5))
    assert sorted(counts) == [0, 1, 2, 3, 4]
    assert max(counts.values()) - min(counts.values()) <= 2


def test_spans_mark_the_words_that_differ() -> None:
    tokenizer = WordTokenizer(["bos", "one", "two"], "bos")
    parameters = CompiledParameters(function="reverse", letters=["one", "two"], length=2)
    for draft in compiled(random.Random(0), tokenizer, parameters):
        pair = draft.pair
        differing = [(a, b) for a, b in zip(pair.clean.split(), pair.corrupt.split(), strict=True) if a != b]
        assert [pair.clean[start:end] for start, end in draft.clean_ranges] == [a for a, _ in differing]
        assert [pair.corrupt[start:end] for start, end in draft.corrupt_ranges] == [b for _, b in differing]


def test_another_models_tokenizer_is_refused_with_the_words_it_lacks() -> None:
    parameters = CompiledParameters(function="hist", letters=["a", "y", "z"], length=2)
    with pytest.raises(PromptError, match=r"has not 'y', 'z'\. Use the compiled model of this task"):
        next(compiled(random.Random(0), TOKENIZER, parameters))


def test_bad_parameters_are_all_listed() -> None:
    card = CARD | {"parameters": {"function": "hists", "letters": ["a"], "length": 0, "depth": 1}}
    with pytest.raises(TaskError) as caught:
        parse_card(card, "small.toml")
    for key in ("parameters.function", "parameters.letters", "parameters.length", "parameters.depth"):
        assert key in str(caught.value)
