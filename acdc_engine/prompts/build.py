"""From a card to its discovery and held-out prompts: checked against the model, seeded, as many as can be had."""

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice, pairwise, zip_longest
from typing import Any

from acdc_engine.errors import PromptError, TooFewPairsError
from acdc_engine.graph.records import LeftOutRecord
from acdc_engine.prompts.card import TaskCard, settled
from acdc_engine.prompts.check import Limits, Rules, check, encode, refuse_misfits
from acdc_engine.prompts.drafts import drafts, written
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.prompts.template import Draft
from acdc_engine.prompts.tokens import Tokenizer

DEFAULT_SIZES = (32, 64)
"""Discovery and held-out pairs where the user names no numbers; as many as there are where a task has fewer."""
DEFAULT_MORE, DEFAULT_VALIDATION = 32, 512
"""More discovery pairs, and validation pairs, where validation says how many discovery pairs it takes."""

_LOOKED_AT = 10_000
"""Pairs of a file that are drawn and checked; of a larger file the others are not used."""

_CHUNK, _HOPELESS = 200, 10
"""Pairs of a stream that are checked at once, and how many such chunks without a pair that fits end it."""

_LISTED = 10
"""Places named in a note."""

_POOL_FACTORS = (2, 8, 32)
"""Pool sizes tried, as multiples of the pairs asked for. Few are enough unless many pairs share a prompt."""

_DRAWS_PER_PAIR = 10
"""Draws from an endless stream for one new pair in the pool, before it counts as used up."""

_Sizes = tuple[int, int]
"""Discovery and held-out pairs."""

_Key = Callable[[Draft], tuple[str, ...]]
"""What tells pairs apart."""


@dataclass(frozen=True)
class Splits:
    """The prompts of a run.

    Attributes:
        discovery: Prompts that the search sees, on the CPU.
        held_out: Prompts that judge what it found.
        validation: Prompts that it does not see, and that decide when it ends; None where none were asked for.
        left_out: Pairs that do not fit the model, if any; only where the user asked to go on without them.
        notes: What a reader should know, in sentences.
    """

    discovery: PromptSet
    held_out: PromptSet
    validation: PromptSet | None = None
    left_out: LeftOutRecord | None = None
    notes: tuple[str, ...] = ()


def build_splits(
    card: TaskCard, tokenizer: Tokenizer, n_discovery: int, n_held_out: int, seed: int, where: str = "none"
) -> tuple[PromptSet, PromptSet]:
    """Makes as many discovery and held-out prompts of a task as asked for; see `split_prompts`."""
    splits = split_prompts(card, tokenizer, n_discovery, n_held_out, seed, where=where)
    return splits.discovery, splits.held_out


def split_prompts(
    card: TaskCard,
    tokenizer: Tokenizer,
    n_discovery: int | None,
    n_held_out: int | None,
    seed: int,
    *,
    n_validation: int | None = 0,
    drop_misfits: bool = False,
    limits: Limits | None = None,
    where: str = "none",
) -> Splits:
    """Makes the discovery, the validation and the held-out prompts of a task.

    The search may see `n_discovery` pairs; `n_validation` others say when it may end, and share no clean prompt with
    them; `n_held_out`, which may be 0, are kept for judging what it found, and share no text with either. None is the
    usual number (`DEFAULT_SIZES`, `DEFAULT_VALIDATION`), or as many as the task can give. With validation pairs the
    first 32 discovery pairs do not depend on how many there are, and None is up to `DEFAULT_MORE` more. The same seed
    gives the same prompts. With `drop_misfits` pairs that do not fit the model are left out, instead of refusing the
    task. `where` says which places in a prompt are told apart (`WHERE`); all three have the same spans then.

    Raises:
        PromptError: Prompts that do not fit the model; a TooFewPairsError: a card that cannot give that many pairs.
    """
    if n_discovery == 0 or any(size is not None and size < 0 for size in (n_discovery, n_validation, n_held_out)):
        raise PromptError(
            "At least 1 discovery prompt and no fewer than 0 held-out and validation prompts are needed, "
            f"not {n_discovery}, {n_held_out} and {n_validation}."
        )
    asked = (n_discovery, n_held_out)
    rules = Rules(tokenizer, card.name, bool(settled(card, tokenizer).prepend_bos), limits, where)
    source = _Source(card, rules, seed, drop_misfits)
    wanted, more, grows = _or_default(asked), list[Draft](), n_validation != 0
    splits = None
    if grows and (n_discovery is None or n_discovery > DEFAULT_SIZES[0]):
        splits = _largest(source, (DEFAULT_SIZES[0], wanted[1]), (False, n_held_out is None))
        n_more = DEFAULT_MORE if n_discovery is None else n_discovery - DEFAULT_SIZES[0]
        more = [] if splits is None else _others(source, splits, n_more)
        if n_discovery is not None and len(more) < n_more:  # dealt at once there may be enough
            splits, more = None, []
    splits = splits or _largest(source, wanted, (n_discovery is None, n_held_out is None))
    if splits is None:
        possible = _largest(source, wanted, (True, wanted[1] > 0))
        raise TooFewPairsError(_too_few(source, wanted, None if possible is None else _counts_of(possible)))
    notes, splits = _notes(source, asked, splits), [[*splits[0], *more], splits[1]]
    others = _others(source, splits, DEFAULT_VALIDATION if n_validation is None else n_validation)
    if n_validation is not None and len(others) < n_validation:
        raise TooFewPairsError(
            f"Task {card.name!r} was asked for {n_validation} validation pairs and can give {len(others)} beside "
            f"{len(splits[0])} discovery and {len(splits[1])} held-out pairs. Ask for fewer."
        )
    whole = encode([*splits[0], *splits[1], *others], rules)
    ends = [0, *accumulate(map(len, (*splits, others)))]
    discovery, held_out, validation = (whole.select(range(*part)) for part in pairwise(ends))
    return Splits(discovery, held_out, validation if others else None, source.left_out, notes)


class _Source:
    """The pairs of a task, in their random order, as often as they are asked for; with notes for a reader."""

    def __init__(self, card: TaskCard, rules: Rules, seed: int, drop_misfits: bool) -> None:
        """Checks pairs that are written out, all of them: whoever wrote them wants to know of every problem."""
        self.card, self._rules = card, rules
        self.key: _Key = _both_texts if card.pairs else lambda draft: (draft.pair.clean,)
        self.names = [text.name for text in card.templates]
        self.notes, self._looked_at, self._reasons, self._read = list[str](), 0, Counter[str](), list[Draft]()
        stream = drafts(card, rules.tokenizer, random.Random(seed))
        if card.pairs:
            self._stream = self._written_out(list(islice(stream, _LOOKED_AT)), drop_misfits)
        else:
            self._stream = self._fitting(stream) if drop_misfits else stream

    def __iter__(self) -> Iterator[Draft]:
        yield from self._read
        for draft in self._stream:
            self._read.append(draft)
            yield draft

    @property
    def left_out(self) -> LeftOutRecord | None:
        reasons = self._reasons
        kinds, of = dict(reasons.most_common()), self._looked_at
        return LeftOutRecord(count=reasons.total(), of=of, reasons=kinds) if reasons else None

    def _fit(self, rows: Sequence[Any]) -> list[Draft]:
        """The pairs without problems; each of the others counts under its first."""
        self._looked_at += len(rows)
        self._reasons.update(row.problems[0][0] for row in rows if row.problems)
        return [row.draft for row in rows if not row.problems]

    def _written_out(self, drawn: list[Draft], drop_misfits: bool) -> Iterator[Draft]:
        pairs = self.card.pairs
        if len(drawn) < len(pairs):
            self.notes.append(f"{len(drawn):,} of the {len(pairs):,} pairs were drawn; the others are not used.")
        chosen, different, again = set(drawn), dict[tuple[str, ...], Draft](), list[str]()
        for draft in (draft for draft in map(written, pairs) if draft in chosen):
            if different.setdefault(_both_texts(draft), draft) is not draft:
                again.append(draft.where or repr(draft.pair.clean))
        if again:
            more = f" and {len(again) - _LISTED} more" if len(again) > _LISTED else ""
            self.notes.append(
                f"{len(again)} of the {len(drawn):,} pairs say the same as others and count once: "
                f"{', '.join(again[:_LISTED])}{more}."
            )
        rows = check(list(different.values()), self._rules)
        if not drop_misfits:
            refuse_misfits(rows, self._rules)
        fitting = set(map(_both_texts, self._fit(rows)))
        return iter([draft for draft in drawn if _both_texts(draft) in fitting])

    def _fitting(self, stream: Iterator[Draft]) -> Iterator[Draft]:
        in_vain = 0
        while in_vain < _HOPELESS and (chunk := list(islice(stream, _CHUNK))):
            fitting = self._fit(check(chunk, self._rules))
            in_vain = 0 if fitting else in_vain + 1
            yield from fitting


def _or_default(asked: tuple[int | None, int | None]) -> _Sizes:
    n, n_held_out = (default if size is None else size for size, default in zip(asked, DEFAULT_SIZES, strict=True))
    return n, n_held_out


def _largest(source: _Source, sizes: _Sizes, may_shrink: tuple[bool, bool]) -> list[list[Draft]] | None:
    """Deals splits of the sizes, or of the largest found below where they may shrink; None if there are none.

    Sizes shrink to what was dealt until exactly that many are dealt: whoever asks for these gets the same prompts.
    """
    while True:
        splits = _dealt(source, sizes)
        found = _counts_of(splits)
        if found == sizes:
            return splits
        smaller = [got if may else size for got, size, may in zip(found, sizes, may_shrink, strict=True)]
        if tuple(smaller) == sizes:  # the side that may not shrink is short: the other one gives way
            smaller = [size - may for size, may in zip(sizes, may_shrink, strict=True)]
        if not any(may_shrink) or any(may and size < 1 for size, may in zip(smaller, may_shrink, strict=True)):
            return None
        sizes = smaller[0], smaller[1]


def _too_few(source: _Source, sizes: _Sizes, possible: _Sizes | None) -> str:
    card = source.card
    what, remedy = "different clean prompts", "add words to its lists or templates"
    if card.generator:
        remedy = "add nouns or other parameters"
    elif card.pairs:
        what, remedy = "pairs", "add pairs, with texts of their own"
    found = _Unique(source)
    found.read(_POOL_FACTORS[-1] * sum(sizes))
    n_groups = len(_groups(found.pool))
    has = f"it has {len(found.pool)} {what} in {n_groups} group{'s' * (n_groups != 1)} that share no text"
    asked = f"Task {card.name!r} was asked for {sizes[0]} discovery and {sizes[1]} held-out pairs and can give"
    if possible is None:
        return f"{asked} none that are kept apart: {has}. A text that is in one split cannot be in the other: {remedy}."
    return f"{asked} {possible[0]} and {possible[1]}: {has}. Ask for at most that many, or {remedy}."


def _notes(source: _Source, asked: tuple[int | None, int | None], splits: Sequence[Sequence[Draft]]) -> tuple[str, ...]:
    left_out, sizes = source.left_out, _counts_of(splits)
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


def _dealt(source: _Source, sizes: _Sizes) -> list[list[Draft]]:
    """Deals splits of the sizes, evenly over the templates as far as they have pairs, or smaller ones.

    No text is in both. Pairs that share a text stay together: they are joined into groups first, and whole groups are
    dealt out. Where that does not give enough (a corruption that replaces a country by any other ties all countries
    together), pairs are dealt one by one, and those that would put a text into both splits are left out.
    """
    found = _Unique(source)
    for factor in _POOL_FACTORS:
        found.read(factor * sum(sizes))
        names = source.names or list(dict.fromkeys(draft.pair.template for draft in found.pool))
        quotas = [Counter({name: _share(size, i, len(names)) for i, name in enumerate(names)}) for size in sizes]
        splits = _deal_groups(found, quotas)
        if found.exhausted or _counts_of(splits) == sizes:
            break
    best = splits
    while _counts_of(best) != sizes:
        splits = max(splits, _deal_pairs(found, quotas), key=lambda dealt: _worth(dealt, sizes))
        if splits is not best and _worth(splits, sizes) <= _worth(best, sizes):
            break
        best, quotas = splits, [_spread(*each) for each in zip(quotas, splits, sizes, strict=True)]
        splits = _deal_groups(found, quotas)
    return best


def _others(source: _Source, splits: Sequence[Sequence[Draft]], size: int) -> list[Draft]:
    """So many more pairs, or as many as there are, evenly over the templates.

    Their clean prompts are in neither split, and none of their texts is in the second.
    """
    taken = {draft.pair.clean for draft in splits[0]} | {text for draft in splits[1] for text in _both_texts(draft)}
    used = {source.key(draft) for split in splits for draft in split}
    found, by_template = _Unique(source), dict[str, list[Draft]]()
    for factor in _POOL_FACTORS if size else ():
        found.read(factor * (size + sum(map(len, splits))))
        by_template = {}
        for draft in found.pool:
            if source.key(draft) not in used and taken.isdisjoint(_both_texts(draft)):
                by_template.setdefault(draft.pair.template, []).append(draft)
        enough = all(len(some) >= -(-size // len(by_template)) for some in by_template.values())
        if found.exhausted or (by_template and enough):
            break
    turns = zip_longest(*by_template.values())
    return [draft for turn in turns for draft in turn if draft is not None][:size]


def _counts_of(splits: Sequence[Sequence[Draft]]) -> _Sizes:
    return len(splits[0]), len(splits[1])


def _share(size: int, index: int, of: int) -> int:
    return size // of + (index < size % of)


def _worth(splits: Sequence[Sequence[Draft]], sizes: _Sizes) -> tuple[int, int]:
    """How good splits are: nothing if one is empty that should not be, better the more pairs and the more even."""
    counts = [len(split) for split, size in zip(splits, sizes, strict=True) if size]
    return math.prod(counts), sum(counts)


def _spread(quota: Counter[str], dealt: Sequence[Draft], size: int) -> Counter[str]:
    """Quotas for another try: what templates with too few pairs lack is shared out over the others."""
    found = Counter(draft.pair.template for draft in dealt)
    full = [name for name in quota if found[name] >= quota[name]]
    missing = size - len(dealt)
    more = {name: _share(missing, i, len(full)) for i, name in enumerate(full)}
    return Counter({name: found[name] + more.get(name, 0) for name in quota})


def _both_texts(draft: Draft) -> tuple[str, ...]:
    return (draft.pair.clean, draft.pair.corrupt)


class _Unique:
    """Collects different pairs of a task."""

    def __init__(self, source: _Source) -> None:
        self.pool: list[Draft] = []  # with different keys
        self.others: list[Draft] = []  # each has the key of one in the pool, and another corrupt prompt
        self.exhausted = False  # reading on would give nothing new
        self.key, self._stream = source.key, iter(source)
        self._keys, self._seen = set[tuple[str, ...]](), set[tuple[str, ...]]()

    def read(self, size: int) -> None:
        """Reads until the pool has `size` pairs or the stream has no new ones."""
        for draft in islice(self._stream, _DRAWS_PER_PAIR * size):
            if self.key(draft) not in self._keys:
                self.pool.append(draft)
            elif _both_texts(draft) not in self._seen:
                self.others.append(draft)
            self._keys.add(self.key(draft))
            self._seen.add(_both_texts(draft))
            if len(self.pool) >= size:
                return
        self.exhausted = True


class _Deal:
    """Two splits being filled, from how many pairs of each template each is to have."""

    def __init__(self, quotas: Sequence[Counter[str]]) -> None:
        self.splits: list[list[Draft]] = [[], []]
        self._sizes = [quota.total() for quota in quotas]
        self._missing = [quota.copy() for quota in quotas]

    def neediest(self, pairs: Sequence[Draft]) -> int | None:
        """The split that lacks the larger share, of those that have room for one of the pairs."""
        counts = Counter(draft.pair.template for draft in pairs)
        useful = [side for side in (0, 1) if (counts & self._missing[side]).total()]
        return max(useful, key=lambda side: self._missing[side].total() / self._sizes[side], default=None)

    def add(self, side: int, draft: Draft) -> bool:
        """Puts a pair into a split if there is room for it."""
        if self._missing[side][draft.pair.template] <= 0:
            return False
        self._missing[side][draft.pair.template] -= 1
        self.splits[side].append(draft)
        return True


def _deal_groups(found: _Unique, quotas: Sequence[Counter[str]]) -> list[list[Draft]]:
    """Deals whole groups of pairs to the split that lacks the larger share, up to each template's quota."""
    deal = _Deal(quotas)
    for group in _groups(found.pool):
        side = deal.neediest(group)
        if side is not None:
            for draft in group:
                deal.add(side, draft)
    return deal.splits


def _deal_pairs(found: _Unique, quotas: Sequence[Counter[str]]) -> list[list[Draft]]:
    """Deals pairs one by one: each to where its texts are already, and none that would join the two splits."""
    deal = _Deal(quotas)
    side_of: dict[str, int] = {}
    used: set[tuple[str, ...]] = set()
    # First pairs whose texts are both new, which spreads the texts evenly over the splits; then the others.
    for fresh in (True, False):
        for draft in (*found.pool, *found.others):
            taken = {side_of[text] for text in _both_texts(draft) if text in side_of}
            if found.key(draft) in used or len(taken) > 1 or (taken and fresh):
                continue
            side = taken.pop() if taken else deal.neediest([draft])
            if side is not None and deal.add(side, draft):
                used.add(found.key(draft))
                side_of |= dict.fromkeys(_both_texts(draft), side)
    return deal.splits


def _groups(pool: Sequence[Draft]) -> list[list[Draft]]:
    """Groups of pairs connected through shared texts, clean or corrupt (union-find), in pool order."""
    parent: dict[str, str] = {}

    def root(text: str) -> str:
        parent.setdefault(text, text)
        while parent[text] != text:
            parent[text] = parent[parent[text]]
            text = parent[text]
        return text

    for draft in pool:
        parent[root(draft.pair.corrupt)] = root(draft.pair.clean)
    groups: dict[str, list[Draft]] = {}
    for draft in pool:
        groups.setdefault(root(draft.pair.clean), []).append(draft)
    return list(groups.values())
