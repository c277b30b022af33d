"""Prompts for the compiled models (`graphs/tracr-*`): every input of one length, each paired with another.

The functions are those of the RASP programs that graphs/make/compiled.py compiles (Lindner et al. 2023, arXiv
2301.05062), in plain Python: from the words of an input to the word that the model says at each position.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import accumulate, product
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from acdc_engine.errors import PromptError
from acdc_engine.prompts.generators import GENERATORS
from acdc_engine.prompts.template import Draft, NamedRange, PromptPair
from acdc_engine.prompts.tokens import Tokenizer

Words = Sequence[str]


def frac_prevs(words: Words) -> list[str]:
    """The share of x among the words up to each, in lowest terms: `0`, `1/2`, `1`."""
    return [str(Fraction(seen, place)) for place, seen in enumerate(accumulate(word == "x" for word in words), 1)]


def hist(words: Words) -> list[str]:
    """How often each word is in the input."""
    counts = Counter(words)
    return [str(counts[word]) for word in words]


def double_hist(words: Words) -> list[str]:
    """How many positions hold a word that is as frequent as the one here."""
    return hist(hist(words))


def sort_freq(words: Words) -> list[str]:
    """The words, the most frequent first; equally frequent ones as in the input."""
    counts = Counter(words)
    return sorted(words, key=lambda word: -counts[word])


def majority(words: Words) -> list[str]:
    """Which of a and b is more frequent, `=` for as many of each; at every position."""
    a, b = words.count("a"), words.count("b")
    return ["a" if a > b else "b" if b > a else "="] * len(words)


FUNCTIONS: dict[str, Callable[[Words], list[str]]] = {
    "reverse": lambda words: list(reversed(words)),
    "frac_prevs": frac_prevs,
    "hist": hist,
    "double_hist": double_hist,
    "sort": sorted,
    "sort_freq": sort_freq,
    "majority": majority,
}


class CompiledParameters(BaseModel):
    """Parameters of the generator.

    Attributes:
        function: What the model computes.
        letters: The words that inputs are made of.
        length: Words per input. The models are not causal, so all prompts of a run have one length.
    """

    model_config = ConfigDict(extra="forbid")

    function: Literal["reverse", "frac_prevs", "hist", "double_hist", "sort", "sort_freq", "majority"]
    letters: list[str] = Field(min_length=2)
    length: int = Field(ge=1, le=8)

    @field_validator("letters")
    @classmethod
    def _each_once(cls, letters: list[str]) -> list[str]:
        twice = [letter for letter, times in Counter(letters).items() if times > 1]
        if twice:
            raise ValueError(f"listed more than once: {', '.join(map(repr, twice))}.")
        return letters


@GENERATORS.add("compiled", "every input of a compiled model", parameters=CompiledParameters)
def compiled(rng: random.Random, tokenizer: Tokenizer, parameters: CompiledParameters) -> Iterator[Draft]:
    """Yields every input of the length at most once as a clean prompt, in random order.

    Inputs are matched two by two, so that no text is in two pairs of two and splits can be disjoint. Each of the two is
    the other's corrupt prompt. The logits are read at a position where the two outputs differ, at one as often as at
    another as far as possible. Inputs that are left without a partner of another output are left out.

    Raises:
        PromptError: Words that are no single token of the model.
    """
    function = FUNCTIONS[parameters.function]
    inputs = list(product(parameters.letters, repeat=parameters.length))
    _check_words(tokenizer, {*parameters.letters, *(word for words in inputs for word in function(words))})
    rng.shuffle(inputs)
    read = Counter[int]()
    while inputs:
        first = inputs.pop()
        partner = next((i for i, other in enumerate(inputs) if function(other) != function(first)), None)
        if partner is None:
            continue
        second = inputs.pop(partner)
        for clean, corrupt in ((first, second), (second, first)):
            right, wrong = function(clean), function(corrupt)
            differing = [i for i in range(parameters.length) if right[i] != wrong[i]]
            at = min(differing, key=lambda i: (read[i], rng.random()))
            read[at] += 1
            yield _draft(clean, corrupt, at, right[at], wrong[at])


def _draft(clean: Words, corrupt: Words, at: int, right: str, wrong: str) -> Draft:
    pair = PromptPair(" ".join(clean), " ".join(corrupt), (f" {right}",), (f" {wrong}",), f"position {at}", read_at=at)
    differing = [i for i, (a, b) in enumerate(zip(clean, corrupt, strict=True)) if a != b]
    places = enumerate(_ranges(clean, range(len(clean))))
    spans = tuple(NamedRange(f"w{i}", *place) for i, place in places if i != at)  # which is the span `end`
    return Draft(pair, _ranges(clean, differing), _ranges(corrupt, differing), spans=spans)


def _ranges(words: Words, which: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Character ranges of some words of a text."""
    ends = list(accumulate((len(word) + 1 for word in words), initial=0))
    return tuple((ends[i], ends[i + 1] - 1) for i in which)


def _check_words(tokenizer: Tokenizer, words: set[str]) -> None:
    split = sorted(w for w in words if len(tokenizer(w, add_special_tokens=False)["input_ids"]) != 1)
    if split:
        raise PromptError(
            f"The generator 'compiled' needs a model whose vocabulary has its words; this one's has not "
            f"{', '.join(map(repr, split))}. Use the compiled model of this task (its name with a hyphen: tracr-...)."
        )
