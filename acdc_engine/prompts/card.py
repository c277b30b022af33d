"""The task card: what a behaviour is, in one readable TOML file.

A card names its word lists, its slots and the clean and corrupt templates, or a Python generator instead. All
that can be checked without a tokenizer is checked here, and every problem is listed, not just the first.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from acdc_engine.errors import TaskError
from acdc_engine.prompts.card_problems import card_problems
from acdc_engine.prompts.schema_errors import Location, explain
from acdc_engine.prompts.template import PairTemplate

MetricName = Literal["logit_diff", "prob_diff", "kl", "nll"]


class WordList(BaseModel):
    """Words for slots.

    Attributes:
        words: The words, without the space in front of them.
        only_single_token: Leave out words the tokenizer splits, instead of refusing the card because of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    words: tuple[str, ...] = Field(min_length=1)
    only_single_token: bool = False


class TemplateText(BaseModel):
    """One pattern of a task; the language is described in template.py.

    Attributes:
        name: Such as `ABBA`.
        clean: The prompt that shows the behaviour.
        corrupt: The same fixed text with at least one slot replaced by another.
        answers: The right continuations, exactly as they follow the clean prompt: `[" {A}"]`.
        wrong_answers: The wrong ones. The metrics nll and kl do without.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    clean: str = Field(min_length=1)
    corrupt: str = Field(min_length=1)
    answers: tuple[str, ...] = Field(min_length=1)
    wrong_answers: tuple[str, ...] = ()

    def parse(self) -> PairTemplate:
        """Returns the parsed templates."""
        return PairTemplate.parse(self.name, self.clean, self.corrupt, self.answers, self.wrong_answers)


class TaskCard(BaseModel):
    """A behaviour. Either `templates` (with `words`, `slots`, `distinct`) or `generator` (with `parameters`).

    Attributes:
        name: What the command line calls it.
        description: What the model does when it shows the behaviour.
        source: The paper it comes from.
        metric: The metric it is measured by unless told otherwise.
        prepend_bos: Whether prompts start with the tokenizer's beginning-of-sequence token.
        words: The word lists, by name.
        slots: For every slot the word list it is filled from.
        distinct: Groups of slots whose words must all differ.
        templates: The patterns. Prompts are spread evenly over them.
        generator: Name of a Python generator.
        parameters: The generator's parameters.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    description: str = Field(min_length=1)
    source: str = ""
    metric: MetricName = "logit_diff"
    prepend_bos: bool = False
    words: dict[str, WordList] = {}
    slots: dict[str, str] = {}
    distinct: tuple[tuple[str, ...], ...] = ()
    templates: tuple[TemplateText, ...] = ()
    generator: str | None = None
    parameters: dict[str, Any] = {}

    @model_validator(mode="after")
    def _consistent(self) -> TaskCard:
        problems = card_problems(self)
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def fingerprint(self) -> str:
        """Returns the sha256 (hex) of the card's content; comments and layout of its file do not count."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()


def load_card(path: Path) -> TaskCard:
    """Reads a card from a TOML file.

    Raises:
        TaskError: The file cannot be read, is not TOML, or has problems; all of them are listed.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise TaskError(f"The task card {path} is not valid TOML: {error}.") from None
    except UnicodeDecodeError as error:
        raise TaskError(f"The task card {path} is not UTF-8 text: {error}.") from None
    except OSError as error:
        raise TaskError(f"The task card {path} cannot be read: {error.strerror}.") from None
    return parse_card(data, where=str(path))


def parse_card(data: dict[str, Any], where: str) -> TaskCard:
    """Turns the content of a TOML file into a card.

    Args:
        data: The content.
        where: What to call it in an error's text.

    Raises:
        TaskError: Lists every problem with the path of its key.
    """
    try:
        return TaskCard.model_validate(data)
    except ValidationError as error:
        problems = explain(error, _known_keys)
    count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise TaskError("\n".join([f"The task card {where} has {count}:", *(f"  {p}" for p in problems)]))


def _known_keys(location: Location) -> list[str]:
    tables: dict[str, type[BaseModel]] = {"words": WordList, "templates": TemplateText}
    return list((tables[str(location[0])] if location else TaskCard).model_fields)
