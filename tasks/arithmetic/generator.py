"""Prompts for two-digit addition (Nikankin et al. 2024, arXiv 2410.21272), for tokenizers that split numbers or do not.

`45 + 35 = 80`, some lines of that kind, and then `57 + 25 =`. In the corrupt prompt the last line asks for another
sum. What one token of the answer can say depends on the tokenizer, which templates cannot know:

- ` 82` or `82` is one token (GPT-2; Llama 3, which splits off the space): the answer is the sum.
- `8|2` (SmolLM2, Llama 2, Gemma): the answer is a digit, in two templates. `tens` asks for the first digit, `units`
  shows it and asks for the second.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from pydantic import BaseModel, ConfigDict, Field, model_validator

from acdc_engine.errors import PromptError
from acdc_engine.prompts.generators import GENERATORS
from acdc_engine.prompts.template import Draft, PairTemplate
from acdc_engine.prompts.tokens import Tokenizer, is_one_token

_LARGEST_SUM = 99
_PROBED = "12 + 34 ="
"""Behind this the tokenizer is asked how it splits a sum."""


class ArithmeticParameters(BaseModel):
    """Parameters of the arithmetic generator.

    Attributes:
        shots: Solved additions in front of the one that is asked.
        lowest: Smallest number that is added.
        highest: Largest one. Only sums up to 99 are asked.
    """

    model_config = ConfigDict(extra="forbid")

    shots: int = Field(ge=0)
    lowest: int = Field(ge=10, le=99)
    highest: int = Field(ge=10, le=99)

    @model_validator(mode="after")
    def _enough(self) -> ArithmeticParameters:
        first_digits = {(a + b) // 10 for a, b in self.questions()}
        if len(self.questions()) <= self.shots or len(first_digits) < 2:
            raise ValueError(
                f"numbers from lowest = {self.lowest} to highest = {self.highest} give "
                f"{len(self.questions())} additions with a sum of at most {_LARGEST_SUM}; more than shots = "
                f"{self.shots} are needed, and sums with different first digits."
            )
        return self

    def questions(self) -> list[tuple[int, int]]:
        """Returns all pairs of numbers that can be added."""
        numbers = range(self.lowest, self.highest + 1)
        return [(a, b) for a, b in product(numbers, numbers) if a + b <= _LARGEST_SUM]


@dataclass(frozen=True)
class _Form:
    """What is asked about a sum.

    Attributes:
        name: The template's name.
        shown: Where the sum's digits are split: so many stand in the prompt.
        asked: How many of them one token answers.
        before: What stands between the equals sign and the digits, in the prompt.
        answer_space: What stands there in the answer.
    """

    name: str
    shown: int
    asked: int
    before: str
    answer_space: str

    def digits(self, total: int) -> tuple[str, str]:
        """The digits of a sum that the prompt shows, and those that are asked."""
        text = str(total)
        return text[: self.shown], text[self.shown : self.shown + self.asked]


_WHOLE = (_Form("sum", 0, 2, "", " "), _Form("sum", 0, 2, " ", ""))
_DIGITS = (_Form("tens", 0, 1, " ", ""), _Form("units", 1, 1, " ", ""))


@GENERATORS.add("arithmetic", "additions of two-digit numbers", parameters=ArithmeticParameters)
def arithmetic(rng: random.Random, tokenizer: Tokenizer, parameters: ArithmeticParameters) -> Iterator[Draft]:
    """Yields additions without end; the templates in turn.

    The sums of clean and corrupt prompt differ in what is asked and agree in what is shown of them.

    Raises:
        PromptError: A tokenizer for which neither two digits nor one are a token.
    """
    questions = parameters.questions()
    forms = {form: _by_digits(form, questions) for form in _forms(tokenizer)}
    while True:
        for form, by_digits in forms.items():
            *solved, (a, b) = rng.sample(questions, parameters.shots + 1)
            shown, right = form.digits(a + b)
            others = [asked for asked in by_digits[shown] if asked != right]
            if others:
                wrong = rng.choice(others)
                c, d = rng.choice(by_digits[shown][wrong])
                values = {"a": str(a), "b": str(b), "c": str(c), "d": str(d), "right": right, "wrong": wrong}
                yield _pattern(form, shown, solved).fill(values)


def _by_digits(form: _Form, questions: list[tuple[int, int]]) -> dict[str, dict[str, list[tuple[int, int]]]]:
    """The questions by what is shown of their sum, and by what is asked of it."""
    found: dict[str, dict[str, list[tuple[int, int]]]] = {}
    for a, b in questions:
        shown, asked = form.digits(a + b)
        found.setdefault(shown, {}).setdefault(asked, []).append((a, b))
    return found


def _pattern(form: _Form, shown: str, solved: list[tuple[int, int]]) -> PairTemplate:
    lines = "".join(f"{a} + {b} = {a + b}\n" for a, b in solved)
    clean, corrupt = (f"{lines}{{{x}}} + {{{y}}} ={form.before}{shown}" for x, y in ("ab", "cd"))
    answers = [[f"{form.answer_space}{{{name}}}"] for name in ("right", "wrong")]
    pattern = PairTemplate.parse(form.name, clean, corrupt, *answers)
    parts = zip(pattern.clean.span_names(), ("solved", "a", "+", "b", "="), strict=True)
    return pattern.named(dict(parts))


def _forms(tokenizer: Tokenizer) -> tuple[_Form, ...]:
    """What can be asked with this tokenizer."""

    def one_token(form: _Form, total: int) -> bool:
        shown, asked = form.digits(total)
        return is_one_token(tokenizer, f"{_PROBED}{form.before}{shown}", f"{form.answer_space}{asked}")

    sums = range(20, _LARGEST_SUM + 1)
    for form in _WHOLE:
        if all(one_token(form, total) for total in sums):
            return (form,)
    if all(one_token(form, total) for form in _DIGITS for total in sums):
        return _DIGITS
    raise PromptError(
        "The generator 'arithmetic' needs a tokenizer for which a two-digit number or each of its digits is one token "
        "behind 'a + b ='; this one splits them otherwise."
    )
