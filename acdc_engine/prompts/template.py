"""A clean and a corrupt prompt as text, and the template language in which cards say many of them.

A template is fixed text with slots in braces: `When {A} and {B} went to the {place}`. `{X.capital}` is a cell: the
column `capital` of the row X of a table. `{{` and `}}` stand for the braces themselves. There is nothing else in it: no
conditions, no loops. What it cannot say is said by a Python generator (generators.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, NamedTuple

from acdc_engine.errors import TaskError

READ, BOS, REST = "end", "bos", "rest"
"""The spans of the position that is read, of the beginning-of-sequence token, and of what lies in no other."""

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")
_NAME = r"[A-Za-z][A-Za-z0-9_]*"
_SLOT_NAME = re.compile(rf"{_NAME}(\.{_NAME})?")
_WORD = re.compile(r"\w+(?:['\u2019-]\w+)*")
_WORDS_OF_A_NAME, _SIGNS_OF_A_NAME = 6, 8
_SPELLED = str.maketrans({"@": "at", "<": "lt", ">": "gt"})
"""Signs that no span can have in its name (graph/spans.py)."""

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


class NamedRange(NamedTuple):
    """A part of a clean prompt that is of a span, a place with a name. Several parts may be of one.

    Attributes:
        name: The span's.
        start: Its first character.
        stop: The character behind its last one.
        kind: "given" by whoever wrote the prompt; a "slot"; or "text" between slots, which leaves a token that reaches
            into a slot to the slot.
        in_tokens: Whether start and stop count tokens instead, a beginning-of-sequence token not counted.
    """

    name: str
    start: int
    stop: int
    kind: Literal["given", "slot", "text"] = "given"
    in_tokens: bool = False


@dataclass(frozen=True)
class Draft:
    """A pair before it meets a tokenizer: also knows which characters are meant to differ.

    Attributes:
        pair: The texts.
        clean_ranges: Character ranges (start, end) of `pair.clean` that may differ from the corrupt prompt.
        corrupt_ranges: The same ranges in `pair.corrupt`, in the same order.
        where: The pair's place in its file, such as `line 7`, for errors; empty for a pair made from a template.
        answer_ids: The right answers as token ids, where the file gives ids instead of texts.
        wrong_answer_ids: The wrong ones, likewise.
        spans: The clean prompt's parts with their names, for circuits that say where in the prompt; empty where nobody
            names any. What lies in none is called `rest`, the position read `end`.
    """

    pair: PromptPair
    clean_ranges: tuple[tuple[int, int], ...]
    corrupt_ranges: tuple[tuple[int, int], ...]
    where: str = ""
    answer_ids: tuple[int, ...] = ()
    wrong_answer_ids: tuple[int, ...] = ()
    spans: tuple[NamedRange, ...] = ()


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

    def span_names(self) -> tuple[str, ...]:
        """Names its parts: text, slot, text, ..., text. A text that is empty or of spaces alone has none, ''.

        Slots and cells are called as they are, texts by their words; what would come twice is numbered: `B`, `B.2`.
        """
        taken = {READ, BOS, REST}
        slots = [_numbered(slot, taken) for slot in self.slots]
        texts = [name and _numbered(name, taken) for name in map(_in_words, self.texts)]
        return tuple(name for both in zip(texts, [*slots, ""], strict=True) for name in both)[:-1]

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

    The corrupt prompt has the same fixed texts, with at least one slot replaced by another. `spans` has the names of
    the clean prompt's parts, texts and slots in turn, where drafts are to have them (see `named`).
    """

    name: str
    clean: Template
    corrupt: Template
    answers: tuple[Template, ...]
    wrong_answers: tuple[Template, ...] = ()
    read_at: int = -1
    spans: tuple[str, ...] = ()

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

    def named(self, renamed: Mapping[str, str] | None = None) -> PairTemplate:
        """Returns the same with spans: called as in `Template.span_names`, or as `renamed` says of such a name."""
        other = renamed or {}
        return replace(self, spans=tuple(other.get(name, name) for name in self.clean.span_names()))

    def fill(self, values: _Values) -> Draft:
        """Makes a pair from words (one in a prompt), with the ranges in which the two prompts differ on purpose."""
        words = {name: found if isinstance(found, str) else found[0] for name, found in values.items()}
        clean, clean_ranges = self.clean.fill(words)
        corrupt, corrupt_ranges = self.corrupt.fill(words)
        both = zip(self.clean.slots, self.corrupt.slots, strict=True)
        differ = [i for i, (a, b) in enumerate(both) if values[a] != values[b]]
        right, wrong = (
            tuple(text for template in templates for text in template.fill_all(values))
            for templates in (self.answers, self.wrong_answers)
        )
        return Draft(
            PromptPair(clean, corrupt, right, wrong, self.name, self.read_at),
            tuple(clean_ranges[i] for i in differ),
            tuple(corrupt_ranges[i] for i in differ),
            spans=tuple(self._named_ranges(clean_ranges, len(clean))) if self.spans else (),
        )

    def _named_ranges(self, slots: Sequence[tuple[int, int]], length: int) -> Iterator[NamedRange]:
        """The parts of a filled clean prompt. Spaces in front of a slot are the slot's, as they are its word's."""
        at = 0
        for i, text in enumerate(self.clean.texts):
            start, stop = slots[i] if i < len(slots) else (length, length)
            if i < len(slots):
                start -= len(text) - len(text.rstrip(" "))
            if at < start and self.spans[2 * i]:
                yield NamedRange(self.spans[2 * i], at, start, "text")
            if i < len(slots):
                yield NamedRange(self.spans[2 * i + 1], start, stop, "slot")
            at = stop


def _numbered(name: str, taken: set[str]) -> str:
    """The name, or with a number behind it where it is taken, as it is from now on."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}.{number}"
    taken.add(free)
    return free


def _in_words(text: str) -> str:
    """What fixed text is called: by its first words, else by its signs."""
    if words := _WORD.findall(text):
        return " ".join(words[:_WORDS_OF_A_NAME])
    signs = "".join(text.split())[:_SIGNS_OF_A_NAME].translate(_SPELLED)
    return signs or ("blank" if text.strip(" ") else "")
