"""Prompts for induction: random words, the same words again, and the question which one comes next.

` cup north salt river plan cup north salt` goes on with ` river`: the word that followed ` salt` before (Elhage et al.
2021, transformer-circuits.pub/2021/framework; Olsson et al. 2022, arXiv 2209.11895). In the corrupt prompt the first
half consists of other words, so that nothing in it is repeated; the second half stays as it is.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field, model_validator

from acdc_engine.errors import PromptError
from acdc_engine.prompts.generators import GENERATORS
from acdc_engine.prompts.template import Draft, PairTemplate
from acdc_engine.prompts.tokens import Tokenizer, is_one_token


class InductionParameters(BaseModel):
    """Parameters of the induction generator.

    Attributes:
        words: What the prompts are made of. Words that are more than one token behind a space are left out.
        length: Words before the repetition starts.
        shown: How many words of the repetition the prompt shows before it ends. Prompts are spread evenly over these
            numbers; each is a template of its own, `shown_3`.
    """

    model_config = ConfigDict(extra="forbid")

    words: list[str]
    length: int = Field(ge=2)
    shown: list[int] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> InductionParameters:
        problems = []
        if len(set(self.words)) < len(self.words):
            twice = sorted({word for word in self.words if self.words.count(word) > 1})
            problems.append(f"words: in it more than once: {twice}.")
        if len(self.words) < 2 * self.length:
            problems.append(
                f"words: has {len(self.words)} words, and a pair with length = {self.length} needs "
                f"{2 * self.length} different ones."
            )
        wrong = [k for k in self.shown if not 1 <= k < self.length]
        if wrong or len(set(self.shown)) < len(self.shown):
            problems.append(f"shown: numbers from 1 to length - 1 = {self.length - 1}, each once, not {self.shown}.")
        if problems:
            raise ValueError("\n".join(problems))
        return self


@GENERATORS.add("induction", "random words, and the same words again", parameters=InductionParameters)
def induction(rng: random.Random, tokenizer: Tokenizer, parameters: InductionParameters) -> Iterator[Draft]:
    """Yields prompts without end, the numbers of shown words in turn.

    Right is the word that followed the last one before, wrong is every other word of the first half.

    Raises:
        PromptError: A tokenizer that leaves too few words in one piece.
    """
    n = parameters.length
    words = [word for word in parameters.words if is_one_token(tokenizer, "the", f" {word}")]
    if len(words) < 2 * n:
        raise PromptError(
            f"The generator 'induction' needs {2 * n} words that are one token behind a space (twice length = {n}); "
            f"this tokenizer leaves {len(words)} of the {len(parameters.words)}. Shorten length or give other words."
        )
    patterns = [_pattern(n, shown) for shown in parameters.shown]
    while True:
        for pattern in patterns:
            drawn = rng.sample(words, 2 * n)
            yield pattern.fill({f"{kind}{i}": drawn[2 * i + j] for i in range(n) for j, kind in enumerate("wx")})


def _pattern(n: int, shown: int) -> PairTemplate:
    """Slots w0, w1, ... are the repeated words, x0, x1, ... those in their place in the corrupt prompt.

    Spans: `match` is where the last word stood before, `answer` what followed it, `repeated` what was said again.
    """
    clean, corrupt = ("".join(f" {{{kind}{i}}}" for i in range(n)) for kind in "wx")
    repetition = "".join(f" {{w{i}}}" for i in range(shown))
    right, wrong = f" {{w{shown}}}", [f" {{w{i}}}" for i in range(n) if i != shown]
    spans = {f"w{i}": {shown - 1: "match", shown: "answer"}.get(i, "others") for i in range(n)}
    spans |= {f"w{i}.2": "repeated" for i in range(shown)}
    pattern = PairTemplate.parse(f"shown_{shown}", clean + repetition, corrupt + repetition, [right], wrong)
    return pattern.named(spans)
