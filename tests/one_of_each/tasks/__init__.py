"""A generator, beside the card of the task that uses it."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from acdc_engine.prompts.generators import GENERATORS
from acdc_engine.prompts.template import Draft, PairTemplate
from acdc_engine.prompts.tokens import Tokenizer

_PATTERN = PairTemplate.parse("any", "{X} {A} {B} {C} {D}", "{Y} {A} {B} {C} {D}", [" {X}"], [" {Y}"])


@dataclass(frozen=True)
class Letters:
    """The words there are."""

    letters: list[str]


@GENERATORS.add("one changed word", "two words, one of which begins any four others", parameters=Letters)
def one_changed_word(rng: random.Random, tokenizer: Tokenizer, parameters: Letters) -> Iterator[Draft]:
    others = list(product(parameters.letters, repeat=4))
    rng.shuffle(others)
    for words in others:
        yield _PATTERN.fill(dict(zip("XYABCD", (*rng.sample(parameters.letters, 2), *words), strict=True)))
