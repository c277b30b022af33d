"""A clean and a corrupt prompt as text, and the template language in which cards say many of them.

A template is fixed text with slots in braces: `When {A} and {B} went to the {place}`. `{X.capital}` is a cell: the
column `capital` of the row X of a table. `{{` and `}}` stand for the braces themselves. There is nothing else in it: no
conditions, no loops. What it cannot say is said by a Python generator (generators.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from acdc_engine.errors import TaskError

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")
_NAME = r"[A-Za-z][A-Za-z0-9_]*"
_SLOT_NAME = re.compile(rf"{_NAME}(\.{_NAME})?")

_Values = Mapping[str, str | tuple[str, ...]]
"""What stands for each slot and cell: a word, or several where a cell holds several right answers."""


@dataclass(frozen=True)
class PromptPair:
    """A clean prompt, a corrupt prompt of the same length in tokens, and what should and should not follow.

    Attributes:
        clean: The prompt that shows the behaviour.
        corrupt: The prompt that does not.
        answers: Right continuations of the clean prompt, exactly as they follow it (leading space included); of the
            prompt up to and including `read_at`, where that is not its end. Empty for a task measured by KL alone.
        wrong_answers: Wrong continuations, likewise. May be empty.
        template: Name of the template or pattern the pair comes from.
        read_at: Position whose logits are read, in tokens: a negative number counts from the prompt's end (-1 is its
            last token), any other from its first token, a beginning-of-sequence token not counted.
    """

    clean: str
    corrupt: str
    answers: tuple[str, ...]
    wrong_answers: tuple[str, ...]
    template: str
    read_at: int = -1


@dataclass(frozen=True)
class Draft:
    """A pair before it meets a tokenizer: also knows which characters are meant to differ.

    Attributes:
        pair: The texts.
        clean_spans: Character ranges (start, end) of `pair.clean` that may differ from the corrupt prompt.
        corrupt_spans: The same ranges in `pair.corrupt`, in the same order.
        where: The pair's place in its file, such as `line 7`, for errors; empty for a pair made from a template.
        answer_ids: The right answers as token ids, where the file gives ids instead of texts.
        wrong_answer_ids: The wrong ones, likewise.
    """

    pair: PromptPair
    clean_spans: tuple[tuple[int, int], ...]
    corrupt_spans: tuple[tuple[int, int], ...]
    where: str = ""
    answer_ids: tuple[int, ...] = ()
    wrong_answer_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Template:
    """A parsed template: fixed texts with slots between them.

    Attributes:
        texts: The fixed texts, one more than there are slots; may be empty strings.
        slots: The names of the slots (`A`) and cells (`X.capital`), in order of appearance, repeated as they are.
    """

    texts: tuple[str, ...]
    slots: tuple[str, ...]

    @staticmethod
    def parse(text: str) -> Template:
        """Parses a template.

        Raises:
            TaskError: A brace without its partner, or a slot name that is empty or has odd characters.
        """
        texts, slots = [""], []
        for match in _TOKEN.finditer(text):
            piece, column = match.group(), match.start() + 1
            if piece in ("{", "}"):
                raise TaskError(f"the brace {piece!r} at column {column} has no partner (as text write {piece * 2!r})")
            if match.group(1) is None:
                texts[-1] += {"{{": "{", "}}": "}"}.get(piece, piece)
            elif not _SLOT_NAME.fullmatch(match.group(1)):
                raise TaskError(
                    f"the slot {piece!r} at column {column} needs a name of letters, digits and underscores"
                )
            else:
                slots.append(match.group(1))
                texts.append("")
        return Template(tuple(texts), tuple(slots))

    def fill(self, values: Mapping[str, str]) -> tuple[str, tuple[tuple[int, int], ...]]:
        """Puts a word into each slot; returns the text, and the character range (start, end) of each slot in it."""
        out, spans = self.texts[0], []
        for slot, text in zip(self.slots, self.texts[1:], strict=True):
            spans.append((len(out), len(out) + len(values[slot])))
            out += values[slot] + text
        return out, tuple(spans)

    def fill_all(self, values: _Values) -> tuple[str, ...]:
        """Returns every text there is when a cell with several words is each of them in turn."""
        names = list(dict.fromkeys(self.slots))
        words = [(found,) if isinstance(found := values[name], str) else found for name in names]
        return tuple(self.fill(dict(zip(names, chosen, strict=True)))[0] for chosen in product(*words))


@dataclass(frozen=True)
class PairTemplate:
    """Everything one pattern of a task says: both prompts and both kinds of answers; see `PromptPair`.

    The corrupt prompt has the same fixed texts, with at least one slot replaced by another.
    """

    name: str
    clean: Template
    corrupt: Template
    answers: tuple[Template, ...]
    wrong_answers: tuple[Template, ...] = ()
    read_at: int = -1

    @staticmethod
    def parse(
        name: str, clean: str, corrupt: str, answers: Sequence[str], wrong_answers: Sequence[str], *, read_at: int = -1
    ) -> PairTemplate:
        """Parses all texts; see the attributes.

        Raises:
            TaskError: As `Template.parse`.
        """
        right, wrong = (tuple(Template.parse(a) for a in texts) for texts in (answers, wrong_answers))
        return PairTemplate(name, Template.parse(clean), Template.parse(corrupt), right, wrong, read_at)

    @property
    def all_slots(self) -> list[str]:
        """Every slot and cell in it, once, in order of first appearance."""
        templates = (self.clean, self.corrupt, *self.answers, *self.wrong_answers)
        return list(dict.fromkeys(slot for template in templates for slot in template.slots))

    @property
    def replaced(self) -> list[tuple[str, str]]:
        """Slot names at the places where clean and corrupt differ: (in clean, in corrupt)."""
        both = zip(self.clean.slots, self.corrupt.slots, strict=True)
        return list(dict.fromkeys((a, b) for a, b in both if a != b))

    def fill(self, values: _Values) -> Draft:
        """Makes a pair from words (one in a prompt), with the ranges in which the two prompts differ on purpose."""
        words = {name: found if isinstance(found, str) else found[0] for name, found in values.items()}
        clean, clean_spans = self.clean.fill(words)
        corrupt, corrupt_spans = self.corrupt.fill(words)
        both = zip(self.clean.slots, self.corrupt.slots, strict=True)
        differ = [i for i, (a, b) in enumerate(both) if values[a] != values[b]]
        right, wrong = (
            tuple(text for template in templates for text in template.fill_all(values))
            for templates in (self.answers, self.wrong_answers)
        )
        return Draft(
            PromptPair(clean, corrupt, right, wrong, self.name, self.read_at),
            tuple(clean_spans[i] for i in differ),
            tuple(corrupt_spans[i] for i in differ),
        )
