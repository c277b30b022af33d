"""The task card: what a behaviour is, in one readable TOML file.

A card names its word lists, its tables and the clean and corrupt templates, or a Python generator instead, or has
its pairs written out (which is what a pairs file becomes, pairs_file.py). All that can be checked without a tokenizer
is checked when it is read: each part by itself here, how parts fit together in card_problems.py.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    ValidationError,
    model_validator,
)

from acdc_engine.errors import TaskError
from acdc_engine.prompts.card_problems import card_problems, explain, given_spans, span_name
from acdc_engine.prompts.template import NamedRange, PairTemplate, Template
from acdc_engine.prompts.tokens import Tokenizer, adds_bos


def _one_or_more(found: object) -> object:
    return (found,) if isinstance(found, str | int) else found


def _parsed(text: str) -> str:
    try:
        Template.parse(text)
    except TaskError as error:
        raise ValueError(error) from None
    return text


def _whole(found: object) -> object:
    """JSON can write half of a character that needs two of UTF-16; no tokenizer takes it."""
    if isinstance(found, str) and (half := re.search("[\ud800-\udfff]", found)):
        raise ValueError(
            f"its character {half.start() + 1} is half of a surrogate pair, {ascii(half.group())[1:-1]}, which is no "
            "text: write the whole character or take it out."
        )
    return found


def _sound(words: tuple[str, ...]) -> tuple[str, ...]:
    problems = [f"{word!r} is in it {count} times." for word, count in Counter(words).items() if count > 1]
    problems += [] if words else ["give at least one word."]
    problems += [f"{word!r} is empty or ends in a space." for word in words if not word or word != word.rstrip()]
    if problems:
        raise ValueError("\n".join(problems))
    return words


def _bare(words: tuple[str, ...]) -> tuple[str, ...]:
    if spaced := [word for word in words if word[:1].isspace()]:
        raise ValueError(f"words stand without the space in front: {', '.join(map(repr, spaced))}.")
    return words


_Words = Annotated[tuple[str, ...], AfterValidator(_sound)]

Cell = Annotated[_Words, BeforeValidator(_one_or_more)]
"""A table's cell: one word, or several that are all right answers."""

_Pattern = Annotated[str, Field(min_length=1), AfterValidator(_parsed)]
_Text = Annotated[str, Field(min_length=1), BeforeValidator(_whole)]

_Texts = Annotated[tuple[_Text, ...], BeforeValidator(_one_or_more)]
"""Some texts; a single one may stand without the list around it."""

_Place = Annotated[StrictInt | None, Field(ge=0)]

_SpanNames = Annotated[tuple[str, ...], Field(min_length=1), BeforeValidator(_one_or_more)]

_TokenIds = Annotated[tuple[Annotated[StrictInt, Field(ge=0)], ...], BeforeValidator(_one_or_more)]
"""Some token ids, likewise."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _WordList(_Part):
    """Words for slots.

    Attributes:
        words: The words, without the space in front of them.
        only_single_token: Leave out words the tokenizer splits, instead of refusing the card because of them.
    """

    words: Annotated[_Words, AfterValidator(_bare)]
    only_single_token: bool = False


class _Table(_Part):
    """Words that belong together, such as countries and their capitals: equally long columns, any number of them.

    Attributes:
        only_single_token: Leave out rows with a word that must be one token and is not, instead of refusing the card.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, tuple[Cell, ...]]

    only_single_token: bool = False

    @model_validator(mode="after")
    def _equally_long(self) -> _Table:
        lengths = {column: len(cells) for column, cells in self.columns.items()}
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            shown = ", ".join(f"{column} {length}" for column, length in lengths.items()) or "none"
            raise ValueError(f"its columns must be equally long, one word per row, and are not: {shown}.")
        return self

    @property
    def columns(self) -> dict[str, tuple[Cell, ...]]:
        """The cells of every column, from the first row to the last."""
        return self.__pydantic_extra__


class _TemplateText(_Part):
    """One pattern of a task; the language is described in template.py.

    Attributes:
        name: Such as `ABBA`.
        clean: The prompt that shows the behaviour.
        corrupt: The same fixed text with at least one slot or cell replaced by another.
        answers: The right continuations, exactly as they follow the clean prompt: `[" {A}"]`. The metric kl does
            without.
        wrong_answers: The wrong ones. The metrics nll and kl do without.
        read_at: Position whose logits are read: a negative number counts from the prompt's end, any other from its
            first token, a beginning-of-sequence token not counted. Answers follow the prompt up to there.
    """

    name: str = Field(min_length=1)
    clean: _Pattern
    corrupt: _Pattern
    answers: tuple[_Pattern, ...] = ()
    wrong_answers: tuple[_Pattern, ...] = ()
    read_at: StrictInt = -1

    @model_validator(mode="after")
    def _parallel(self) -> _TemplateText:
        clean, corrupt = Template.parse(self.clean), Template.parse(self.corrupt)
        if clean == corrupt:
            raise ValueError("corrupt: it has the same slots as clean, so nothing would be corrupted.")
        if clean.texts != corrupt.texts:
            here, there = ("{}".join(template.texts) for template in (clean, corrupt))
            raise ValueError(
                "clean and corrupt must have the same fixed text and differ only in slots, in the same places; clean "
                f"is {here!r} and corrupt {there!r}: make a slot of what differs."
            )
        return self

    def parse(self) -> PairTemplate:
        """Returns the parsed templates."""
        return PairTemplate.parse(
            self.name, self.clean, self.corrupt, self.answers, self.wrong_answers, read_at=self.read_at
        )


class SpanText(_Part):
    """A place in a prompt that is written out, by its tokens or by its characters.

    Attributes:
        name: What it is called.
        first: Its first token, counted from 0; a beginning-of-sequence token does not count.
        last: Its last token.
        start: Or its first character in the clean prompt, counted from 0.
        stop: And the character behind its last one.
    """

    name: Annotated[str, AfterValidator(span_name)]
    first: _Place = None
    last: _Place = None
    start: _Place = None
    stop: _Place = None

    @model_validator(mode="after")
    def _one_range(self) -> SpanText:
        given = {name for name in ("first", "last", "start", "stop") if getattr(self, name) is not None}
        if given not in ({"first", "last"}, {"start", "stop"}):
            raise ValueError("give its first and last token, or start and stop, which count characters.")
        made = self.as_range()
        if made.start >= made.stop:
            here, there = ("first", "last") if made.in_tokens else ("start", "stop")
            raise ValueError(f"it is empty: {here} is {getattr(self, here)} and {there} {getattr(self, there)}.")
        return self

    def as_range(self) -> NamedRange:
        """Returns the same with its end behind the last token or character."""
        if self.first is not None and self.last is not None:
            return NamedRange(self.name, self.first, self.last + 1, in_tokens=True)
        return NamedRange(self.name, self.start or 0, self.stop or 0)


class PairText(_Part):
    """A pair written out.

    Attributes:
        clean: The prompt that shows the behaviour.
        corrupt: The prompt that does not; as many tokens.
        answers: The right continuations; one may stand without a list.
        wrong_answers: The wrong ones, likewise.
        answer_ids: The right answers as token ids, instead of texts. They belong to one tokenizer.
        wrong_answer_ids: The wrong ones, likewise.
        read_at: As in a template.
        template: Its group. Pairs are spread evenly over the names there are, and figures are given for each.
        spans: Places in the clean prompt with their names; no part of the card's content.
        where: The pair's place in its file, for errors; no part of the card's content.
    """

    clean: _Text
    corrupt: _Text
    answers: _Texts = ()
    wrong_answers: _Texts = ()
    answer_ids: _TokenIds = ()
    wrong_answer_ids: _TokenIds = ()
    read_at: StrictInt = -1
    template: str = Field(default="pairs", min_length=1, coerce_numbers_to_str=True)
    spans: Annotated[tuple[SpanText, ...], Field(exclude=True)] = ()
    where: str = Field(default="", exclude=True)

    @model_validator(mode="after")
    def _apart(self) -> PairText:
        if problems := list(given_spans([span.as_range() for span in self.spans], self.clean)):
            raise ValueError("\n".join(problems))
        return self


class TaskCard(_Part):
    """A behaviour: one of `templates`, `generator` and `pairs`, with what belongs to it.

    Attributes:
        name: What the command line calls it.
        description: What the model does when it shows the behaviour.
        source: The paper it comes from.
        known_in: The model it is known in, for listings.
        metric: The metric it is measured by unless told otherwise.
        prepend_bos: Whether prompts start with the tokenizer's beginning-of-sequence token; None for what the tokenizer
            does by itself.
        words: The word lists, by name.
        slots: For every slot the word list it is filled from.
        tables: The tables, by name.
        rows: For every row variable the table it is a row of.
        distinct: Groups of slots and cells whose words must all differ, or of row variables whose rows must.
        templates: The patterns. Prompts are spread evenly over them.
        generator: Name of a Python generator.
        parameters: The generator's parameters.
        pairs: The pairs, written out.
        spans: Other names for the spans of the templates (`Template.span_names`): for each the names that it stands
            for. They say nothing of the prompts and are no part of the card's content.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    description: str = Field(min_length=1)
    source: str = ""
    known_in: str = ""
    metric: str = "logit_diff"
    prepend_bos: bool | None = None
    words: dict[str, _WordList] = {}
    slots: dict[str, str] = {}
    tables: dict[str, _Table] = {}
    rows: dict[str, str] = {}
    distinct: tuple[tuple[str, ...], ...] = ()
    templates: tuple[_TemplateText, ...] = ()
    generator: str | None = None
    parameters: dict[str, Any] = {}
    pairs: tuple[PairText, ...] = ()
    spans: dict[str, _SpanNames] = {}

    @model_validator(mode="after")
    def _consistent(self) -> TaskCard:
        if problems := list(card_problems(self)):
            raise ValueError("\n".join(problems))
        return self

    def fingerprint(self) -> str:
        """Returns the sha256 (hex) of the card's content.

        Comments, layout of its file, `known_in` and the names of spans do not count.
        """
        content = self.model_dump(mode="json", exclude={"known_in", "tables", "spans"})
        # What cards could not say from the beginning counts where it is said: the hashes of older cards stay.
        for key in ("rows", "pairs"):
            if not content[key]:
                del content[key]
        if self.tables:
            content["tables"] = {name: [table.only_single_token, table.columns] for name, table in self.tables.items()}
        for template in content["templates"]:
            if template["read_at"] == -1:
                del template["read_at"]
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def load_card(path: Path) -> TaskCard:
    """Reads a card from a TOML file.

    Raises:
        TaskError: The file cannot be read, is not TOML, or has problems; all of them are listed.
    """
    try:
        data = tomllib.loads(read_text(path, "task card"))
    except tomllib.TOMLDecodeError as error:
        raise TaskError(f"The task card {path} is not valid TOML: {error}.") from None
    return parse_card(data, where=str(path))


def parse_card(data: dict[str, Any], where: str) -> TaskCard:
    """Turns the content of a TOML file into a card.

    Raises:
        TaskError: Lists every problem with the path of its key; calls the content `where`.
    """
    try:
        return TaskCard.model_validate(data)
    except ValidationError as error:
        problems = explain(error, _KEYS)
    count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise TaskError("\n".join([f"The task card {where} has {count}:", *(f"  {p}" for p in problems)]))


_KEYS = {"": [*TaskCard.model_fields], "words": [*_WordList.model_fields], "templates": [*_TemplateText.model_fields]}
_KEYS["pairs"] = [name for name in PairText.model_fields if name != "where"]


def settled(card: TaskCard, tokenizer: Tokenizer, asked: bool | None = None) -> TaskCard:
    """Returns the card with `prepend_bos` decided: by what is asked for, else by the card, else by the tokenizer."""
    chosen = card.prepend_bos if asked is None else asked
    return card.model_copy(update={"prepend_bos": adds_bos(tokenizer) if chosen is None else chosen})


def as_hashed(card: TaskCard, card_hash: str) -> TaskCard | None:
    """Returns the card with the `prepend_bos` that gives a hash, as a run decides what a card leaves open."""
    cards = (card.model_copy(update={"prepend_bos": setting}) for setting in (card.prepend_bos, False, True))
    return next((variant for variant in cards if variant.fingerprint() == card_hash), None)


def read_text(path: Path, what: str) -> str:
    """Reads UTF-8 with or without a byte order mark, or UTF-16 with one; lines end in line feeds or both characters.

    Raises:
        TaskError: It cannot be read, or is in another encoding; the file is called a `what`.
    """
    try:
        data = path.read_bytes()
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            text = data.decode("utf-16", errors="replace")
        else:
            text = data.decode("utf-8-sig")
    except OSError as error:
        raise TaskError(f"The {what} {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        line, byte = error.object.count(b"\n", 0, error.start) + 1, error.object[error.start : error.start + 1]
        before = error.object[: error.start].decode().split("\n")[-1][-20:]
        raise TaskError(
            f"The {what} {path} cannot be read: line {line}: not UTF-8 text: the byte 0x{byte.hex()} after {before!r} "
            f"(in Windows-1252 and Latin-1 files it is {byte.decode('cp1252', errors='replace')!r}). Save the file as "
            "UTF-8."
        ) from None
    return text if "\n" in text else text.replace("\r", "\n")  # as old Macs and some spreadsheets write them
