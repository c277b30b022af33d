"""From a card to its discovery and held-out prompts: checked against the model, seeded, as many as can be had."""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from acdc_engine.errors import PromptError, TooFewPairsError
from acdc_engine.prompts.bos import settled
from acdc_engine.prompts.card import TaskCard
from acdc_engine.prompts.check import Rules, check, encode, refuse_misfits
from acdc_engine.prompts.deal import Sizes, both_texts, clean_text, counts_of, deal, extent
from acdc_engine.prompts.drafts import drafts, written
from acdc_engine.prompts.misfits import LeftOut, Limits, Problem
from acdc_engine.prompts.pair import Draft
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.prompts.tokenizer import Tokenizer

DEFAULT_SIZES = (32, 64)
"""Discovery and held-out pairs where the user names no numbers; as many as there are where a task has fewer."""

LOOKED_AT = 10_000
"""Pairs of a file that are drawn and checked; of a larger file the others are not used."""

_CHUNK, _HOPELESS = 200, 10
"""Pairs of a stream that are checked at once, and how many such chunks without a pair that fits end it."""

_LISTED = 10
"""Places named in a note."""


@dataclass(frozen=True)
class Splits:
    """The prompts of a run.

    Attributes:
        discovery: Prompts that the search sees, on the CPU.
        held_out: Prompts that it does not see.
        left_out: Pairs that do not fit the model, if any; only where the user asked to go on without them.
        notes: What a reader should know, in sentences.
    """

    discovery: PromptSet
    held_out: PromptSet
    left_out: LeftOut | None = None
    notes: tuple[str, ...] = ()


def build_splits(
    card: TaskCard, tokenizer: Tokenizer, n_discovery: int, n_held_out: int, seed: int
) -> tuple[PromptSet, PromptSet]:
    """Makes as many discovery and held-out prompts of a task as asked for; see `split_prompts`."""
    splits = split_prompts(card, tokenizer, n_discovery, n_held_out, seed)
    return splits.discovery, splits.held_out


def split_prompts(
    card: TaskCard,
    tokenizer: Tokenizer,
    n_discovery: int | None,
    n_held_out: int | None,
    seed: int,
    *,
    drop_misfits: bool = False,
    limits: Limits | None = None,
) -> Splits:
    """Makes the discovery and the held-out prompts of a task.

    Args:
        card: The task.
        tokenizer: The model's tokenizer.
        n_discovery: Pairs the search may see; None for `DEFAULT_SIZES`, or as many as the task can give.
        n_held_out: Pairs kept for judging what it found, likewise; may be 0.
        seed: The same seed gives the same prompts.
        drop_misfits: Leave out pairs that do not fit the model, instead of refusing the task.
        limits: What the model takes, where it is known.

    Raises:
        PromptError: Prompts that do not fit the model; a TooFewPairsError: a card that cannot give that many pairs.
    """
    asked = (n_discovery, n_held_out)
    if n_discovery == 0 or any(size is not None and size < 0 for size in asked):
        raise PromptError(
            "At least 1 discovery prompt and no fewer than 0 held-out prompts are needed, "
            f"not {n_discovery} and {n_held_out}."
        )
    rules = Rules(tokenizer, card.name, bool(settled(card, tokenizer).prepend_bos), limits)
    source = _Source(card, rules, seed, drop_misfits)
    splits = _fitting_splits(source, asked)
    both = encode([*splits[0], *splits[1]], rules)
    n = len(splits[0])
    return Splits(
        both.select(range(n)), both.select(range(n, len(both))), source.left_out, _notes(source, asked, splits)
    )


class _Source:
    """The pairs of a task, in their random order, as often as they are asked for.

    Attributes:
        card: The task.
        key: What tells pairs apart.
        names: Of the templates, where the card knows them.
        notes: What a reader should know of the pairs.
    """

    def __init__(self, card: TaskCard, rules: Rules, seed: int, drop_misfits: bool) -> None:
        """Checks pairs that are written out, all of them: whoever wrote them wants to know of every problem.

        Raises:
            PromptError: Some of them do not fit, and are not to be left out.
        """
        self.card = card
        self.key = both_texts if card.pairs else clean_text
        self.names = [text.name for text in card.templates]
        self.notes: list[str] = []
        self._rules = rules
        self._problems: list[list[Problem]] = []
        self._read: list[Draft] = []
        stream = drafts(card, rules.tokenizer, random.Random(seed))
        if card.pairs:
            self._stream = self._written_out(list(islice(stream, LOOKED_AT)), drop_misfits)
        else:
            self._stream = self._fitting(stream) if drop_misfits else stream

    def __iter__(self) -> Iterator[Draft]:
        """The pairs from the first on."""
        yield from self._read
        for draft in self._stream:
            self._read.append(draft)
            yield draft

    @property
    def left_out(self) -> LeftOut | None:
        """What did not fit of all that was read."""
        return LeftOut.from_problems(self._problems)

    def _written_out(self, drawn: list[Draft], drop_misfits: bool) -> Iterator[Draft]:
        pairs = self.card.pairs
        if len(drawn) < len(pairs):
            self.notes.append(f"{len(drawn):,} of the {len(pairs):,} pairs were drawn; the others are not used.")
        chosen, different, again = set(drawn), dict[tuple[str, ...], Draft](), list[str]()
        for draft in (draft for draft in map(written, pairs) if draft in chosen):
            if different.setdefault(both_texts(draft), draft) is not draft:
                again.append(draft.where or repr(draft.pair.clean))
        if again:
            self.notes.append(
                f"{len(again)} of the {len(drawn):,} pairs say the same as others and count once: {_listed(again)}."
            )
        rows = check(list(different.values()), self._rules)
        if not drop_misfits:
            refuse_misfits(rows, self._rules)
        self._problems = [row.problems for row in rows]
        fitting = {both_texts(row.draft) for row in rows if not row.problems}
        return iter([draft for draft in drawn if both_texts(draft) in fitting])

    def _fitting(self, stream: Iterator[Draft]) -> Iterator[Draft]:
        in_vain = 0
        while in_vain < _HOPELESS and (chunk := list(islice(stream, _CHUNK))):
            rows = check(chunk, self._rules)
            self._problems += [row.problems for row in rows]
            fitting = [row.draft for row in rows if not row.problems]
            in_vain = 0 if fitting else in_vain + 1
            yield from fitting


def _fitting_splits(source: _Source, asked: tuple[int | None, int | None]) -> list[list[Draft]]:
    """The pairs of both splits.

    Raises:
        TooFewPairsError: The sizes asked for cannot be had.
    """
    wanted = _or_default(asked)
    splits = _largest(source, wanted, (asked[0] is None, asked[1] is None))
    if splits is None:
        possible = _largest(source, wanted, (True, wanted[1] > 0))
        raise TooFewPairsError(_too_few(source, wanted, None if possible is None else counts_of(possible)))
    return splits


def _or_default(asked: tuple[int | None, int | None]) -> Sizes:
    n, n_held_out = (default if size is None else size for size, default in zip(asked, DEFAULT_SIZES, strict=True))
    return n, n_held_out


def _largest(source: _Source, sizes: Sizes, may_shrink: tuple[bool, bool]) -> list[list[Draft]] | None:
    """Deals splits of the sizes, or of the largest found below where they may shrink; None if there are none.

    Sizes shrink to what was dealt until exactly that many are dealt: whoever asks for these gets the same prompts.
    """
    while True:
        splits = deal(source, source.key, source.names, sizes)
        found = counts_of(splits)
        if found == sizes:
            return splits
        smaller = [got if may else size for got, size, may in zip(found, sizes, may_shrink, strict=True)]
        if tuple(smaller) == sizes:  # the side that may not shrink is short: the other one gives way
            smaller = [size - may for size, may in zip(sizes, may_shrink, strict=True)]
        if not any(may_shrink) or any(may and size < 1 for size, may in zip(smaller, may_shrink, strict=True)):
            return None
        sizes = smaller[0], smaller[1]


def _too_few(source: _Source, sizes: Sizes, possible: Sizes | None) -> str:
    card = source.card
    what, remedy = "different clean prompts", "add words to its lists or templates"
    if card.generator:
        remedy = "add nouns or other parameters"
    elif card.pairs:
        what, remedy = "pairs", "add pairs, with texts of their own"
    n_pairs, n_groups = extent(source, source.key, sizes)
    has = f"it has {n_pairs} {what} in {n_groups} group{'s' * (n_groups != 1)} that share no text"
    asked = f"Task {card.name!r} was asked for {sizes[0]} discovery and {sizes[1]} held-out pairs and can give"
    if possible is None:
        return f"{asked} none that are kept apart: {has}. A text that is in one split cannot be in the other: {remedy}."
    return f"{asked} {possible[0]} and {possible[1]}: {has}. Ask for at most that many, or {remedy}."


def _notes(source: _Source, asked: tuple[int | None, int | None], splits: Sequence[Sequence[Draft]]) -> tuple[str, ...]:
    left_out, sizes = source.left_out, counts_of(splits)
    notes = [*source.notes, *([] if left_out is None else [str(left_out)]), *_about_spaces([*splits[0], *splits[1]])]
    if sizes != _or_default(asked):
        notes.append(
            f"The task can give {sizes[0]} discovery and {sizes[1]} held-out pairs that share no text, and these are "
            f"used instead of the usual {DEFAULT_SIZES[0]} and {DEFAULT_SIZES[1]}."
        )
    return tuple(notes)


def _about_spaces(chosen: Sequence[Draft]) -> Iterator[str]:
    """What is often meant otherwise: answers that lack the space in front."""
    joined = [
        f"{draft.pair.clean[-20:]}{answer}"
        for draft in chosen
        for answer in draft.pair.answers[:1]
        if draft.pair.read_at == -1 and re.fullmatch("[A-Za-z]{2}", draft.pair.clean[-1:] + answer[:1])
    ]
    if joined:
        yield f"{len(joined)} answers follow their prompts without a space: {joined[0]!r}. Is it missing in the file?"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_LISTED])
    return shown if len(names) <= _LISTED else f"{shown} and {len(names) - _LISTED} more"
