"""Prompts for greater-than (Hanna et al. 2023, arXiv 2305.00586), for tokenizers that split years either way.

`The war lasted from the year 1732 to the year 17`: years after 32 are right, earlier ones wrong. In the
corrupt prompt the first year ends in 01, after which nothing is too early. What one token of the answer can
say depends on the tokenizer, which templates cannot know:

- `17|32` (GPT-2): the answer is a two-digit year. Right: later than 32. Wrong: 32 and earlier, as in the
  paper.
- `1|7|3|2` (SmolLM2, Llama 2, Gemma): the answer is the tens digit. Right: 4 to 9. Wrong: 0 to 2. The digit 3
  is neither, as it depends on the digit after it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from acdc_engine.errors import PromptError
from acdc_engine.prompts.generators import GENERATORS
from acdc_engine.prompts.template import Draft, PairTemplate
from acdc_engine.prompts.tokens import Tokenizer, is_one_token

_CLEAN = "The {noun} lasted from the year {century}{year} to the year {century}"
_CORRUPT = "The {noun} lasted from the year {century}{first_year} to the year {century}"
_FIRST_YEAR = "01"


class GreaterThanParameters(BaseModel):
    """Parameters of the greater-than generator.

    Attributes:
        nouns: Things that last for years.
        centuries: First two digits of the years.
    """

    model_config = ConfigDict(extra="forbid")

    nouns: list[str] = Field(min_length=1)
    centuries: list[Annotated[int, Field(ge=10, le=99)]] = Field(min_length=1)


@dataclass(frozen=True)
class _Question:
    """A first year, with what one token can answer after its century."""

    century: str
    year: str
    right: tuple[str, ...]
    wrong: tuple[str, ...]


@GENERATORS.add("greater_than", "a war from 1732 to 17..: years after 32", parameters=GreaterThanParameters)
def greater_than(rng: random.Random, tokenizer: Tokenizer, parameters: GreaterThanParameters) -> Iterator[Draft]:
    """Yields every noun with every year once, in random order.

    Raises:
        PromptError: A tokenizer that splits years neither in two halves nor into digits.
    """
    questions = [q for century in parameters.centuries for q in _questions(tokenizer, str(century))]
    if not questions:
        raise PromptError(
            "The generator 'greater_than' needs a tokenizer that splits years as 17|32 or 1|7|3|2, for at "
            f"least one of the centuries {parameters.centuries}; this one does neither."
        )
    choices = [(noun, question) for noun in parameters.nouns for question in questions]
    rng.shuffle(choices)
    for noun, question in choices:
        values = {"noun": noun, "century": question.century, "year": question.year, "first_year": _FIRST_YEAR}
        pattern = PairTemplate.parse("years", _CLEAN, _CORRUPT, question.right, question.wrong)
        yield pattern.named().fill(values)


def _questions(tokenizer: Tokenizer, century: str) -> list[_Question]:
    """All first years of a century that this tokenizer can ask about; none if it splits years otherwise."""

    def one_token(ending: str) -> bool:
        return is_one_token(tokenizer, f"the year {century}", ending)

    years = [year for year in (f"{y:02d}" for y in range(100)) if one_token(year)]
    if _FIRST_YEAR in years:
        # Years that are one token as a whole (GPT-2: 1776) can be neither asked nor answered.
        found = [
            _Question(century, y, tuple(x for x in years if x > y), tuple(x for x in years if x <= y))
            for y in years
            if y > _FIRST_YEAR
        ]
        return [q for q in found if q.right]
    digits = "0123456789"
    if all(one_token(digit) for digit in digits):
        return [
            _Question(century, ten + unit, tuple(digits[int(ten) + 1 :]), tuple(digits[: int(ten)]))
            for ten in digits[1:-1]  # after 0 no digit is wrong, after 9 none is right
            for unit in digits
        ]
    return []
