"""The task card: what a behaviour is, in one readable TOML file.

A card names its word lists, its tables and the clean and corrupt templates, or a Python generator instead, or has
its pairs written out (which is what a pairs file becomes, pairs_file.py). All that can be checked without a tokenizer
is checked here, and every problem is listed, not just the first.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StrictInt,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from acdc_engine.errors import TaskError
from acdc_engine.prompts.card_problems import Location, card_problems, explain
from acdc_engine.prompts.template import PairTemplate
from acdc_engine.prompts.tokens import Tokenizer, adds_bos


def _cell(found: object) -> tuple[str, ...]:
    words = (found,) if isinstance(found, str) else found
    if not isinstance(words, list | tuple) or not words or not all(isinstance(word, str) for word in words):
        raise PydanticCustomError("cell", "A cell is a word, or a list of words that are all right answers")
    return tuple(words)


def _one_or_more(found: object) -> object:
    return (found,) if isinstance(found, str | int) else found


Cell = Annotated[tuple[str, ...], PlainValidator(_cell)]
"""A table's cell: one word, or several that are all right answers."""

_Texts = Annotated[tuple[str, ...], BeforeValidator(_one_or_more)]
"""Some texts; a single one may stand without the list around it."""

_TokenIds = Annotated[tuple[Annotated[StrictInt, Field(ge=0)], ...], BeforeValidator(_one_or_more)]
"""Some token ids, likewise."""


class _WordList(BaseModel):
    """Words for slots.

    Attributes:
        words: The words, without the space in front of them.
        only_single_token: Leave out words the tokenizer splits, instead of refusing the card because of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    words: tuple[str, ...] = Field(min_length=1)
    only_single_token: bool = False


class _Table(BaseModel):
    """Words that belong together, such as countries and their capitals: equally long columns, any number of them.

    Attributes:
        only_single_token: Leave out rows with a word that must be one token and is not, instead of refusing the card.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, tuple[Cell, ...]]

    only_single_token: bool = False

    @property
    def columns(self) -> dict[str, tuple[Cell, ...]]:
        """The cells of every column, from the first row to the last."""
        return self.__pydantic_extra__

    @property
    def n_rows(self) -> int:
        """Rows of the shortest column; 0 without columns."""
        return min((len(cells) for cells in self.columns.values()), default=0)


class _TemplateText(BaseModel):
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

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    clean: str = Field(min_length=1)
    corrupt: str = Field(min_length=1)
    answers: tuple[str, ...] = ()
    wrong_answers: tuple[str, ...] = ()
    read_at: StrictInt = -1

    def parse(self) -> PairTemplate:
        """Returns the parsed templates."""
        return PairTemplate.parse(
            self.name, self.clean, self.corrupt, self.answers, self.wrong_answers, read_at=self.read_at
        )


class PairText(BaseModel):
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
        where: The pair's place in its file, for errors; no part of the card's content.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    clean: str
    corrupt: str
    answers: _Texts = ()
    wrong_answers: _Texts = ()
    answer_ids: _TokenIds = ()
    wrong_answer_ids: _TokenIds = ()
    read_at: StrictInt = -1
    template: str = Field(default="pairs", min_length=1, coerce_numbers_to_str=True)
    where: str = Field(default="", exclude=True)


class TaskCard(BaseModel):
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
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

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

    @model_validator(mode="after")
    def _consistent(self) -> TaskCard:
        problems = card_problems(self)
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def fingerprint(self) -> str:
        """Returns the sha256 (hex) of the card's content; comments, layout of its file and `known_in` do not count."""
        content = self.model_dump(mode="json", exclude={"known_in", "tables"})
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
        data = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise TaskError(f"The task card {path} is not valid TOML: {error}.") from None
    except NotText as error:
        raise TaskError(f"The task card {path} cannot be read: {error.problems[0]}") from None
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
    tables: dict[str, type[BaseModel]] = {"words": _WordList, "templates": _TemplateText, "pairs": PairText}
    fields = (tables[str(location[0])] if location else TaskCard).model_fields
    return [name for name, field in fields.items() if not field.exclude]


def settled(card: TaskCard, tokenizer: Tokenizer, asked: bool | None = None) -> TaskCard:
    """Returns the card with `prepend_bos` decided: by what is asked for, else by the card, else by the tokenizer."""
    chosen = card.prepend_bos if asked is None else asked
    return card.model_copy(update={"prepend_bos": adds_bos(tokenizer) if chosen is None else chosen})


def as_hashed(card: TaskCard, card_hash: str) -> TaskCard | None:
    """Returns the card with the `prepend_bos` that gives a hash, as a run decides what a card leaves open."""
    cards = (card.model_copy(update={"prepend_bos": setting}) for setting in (card.prepend_bos, False, True))
    return next((variant for variant in cards if variant.fingerprint() == card_hash), None)


class NotText(Exception):
    """A file that is not UTF-8 text, with a line for each place."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def read_text(path: Path) -> str:
    """Reads UTF-8 with or without a byte order mark, or UTF-16 with one; lines end in line feeds or both characters.

    Raises:
        OSError: It cannot be read.
        NotText: It is in another encoding.
    """
    data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = data.decode("utf-16", errors="replace")
    else:
        data = data.removeprefix(codecs.BOM_UTF8)
        lines = enumerate(data.split(b"\n"), start=1)
        problems = [f"line {number}: {fault}" for number, line in lines if (fault := _fault(line))]
        if problems:
            raise NotText(problems)
        text = data.decode()
    return text if "\n" in text else text.replace("\r", "\n")  # as old Macs and some spreadsheets write them


def _fault(line: bytes) -> str | None:
    """What is not UTF-8 in a line, if anything; most such files are in Windows' western encoding."""
    try:
        line.decode()
    except UnicodeDecodeError as error:
        before = line[: error.start].decode()[-20:]
        byte = line[error.start : error.start + 1]
        meant = byte.decode("cp1252", errors="replace")
        return (
            f"not UTF-8 text: the byte 0x{byte.hex()} after {before!r} (in Windows-1252 and Latin-1 files it is "
            f"{meant!r}). Save the file as UTF-8."
        )
    return None
