"""From a card to its discovery and held-out prompts: seeded, disjoint, balanced over the templates.

Disjoint means that no text is in both, be it clean or corrupt. Pairs that share one therefore stay together: they
are joined into groups first, and whole groups are dealt out.
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

from acdc_engine.errors import PromptError
from acdc_engine.prompts.card import TaskCard
from acdc_engine.prompts.check import encode
from acdc_engine.prompts.drafts import drafts
from acdc_engine.prompts.pair import Draft
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.prompts.tokenizer import Tokenizer

_POOL_FACTORS = (2, 8, 32)
"""Pool sizes tried, as multiples of the pairs asked for. Few are enough unless many pairs share a prompt."""

_DRAWS_PER_PAIR = 10
"""Draws from an endless stream for one new pair in the pool, before it counts as used up."""


def build_splits(
    card: TaskCard, tokenizer: Tokenizer, n_discovery: int, n_held_out: int, seed: int
) -> tuple[PromptSet, PromptSet]:
    """Makes the discovery and the held-out prompts of a task.

    Args:
        card: The task.
        tokenizer: The model's tokenizer.
        n_discovery: Pairs the search may see.
        n_held_out: Pairs kept for judging what it found; may be 0.
        seed: The same seed gives the same prompts.

    Returns:
        Discovery and held-out prompts, on the CPU.

    Raises:
        PromptError: Prompts that do not fit the tokenizer, or a card that cannot give that many pairs.
    """
    if n_discovery < 1 or n_held_out < 0:
        raise PromptError(
            "At least 1 discovery prompt and no fewer than 0 held-out prompts are needed, "
            f"not {n_discovery} and {n_held_out}."
        )
    stream = _Unique(drafts(card, tokenizer, random.Random(seed)))
    sizes = (n_discovery, n_held_out)
    for factor in _POOL_FACTORS:
        stream.read(factor * sum(sizes))
        splits = _deal(stream.pool, sizes, [text.name for text in card.templates])
        if [len(split) for split in splits] == list(sizes):
            both = encode([*splits[0], *splits[1]], tokenizer, card.name, card.prepend_bos)
            return both.select(range(n_discovery)), both.select(range(n_discovery, len(both)))
        if stream.exhausted:
            break
    raise PromptError(_too_few(card, stream.pool, splits, sizes))


class _Unique:
    """Collects pairs from a stream, each clean prompt once."""

    def __init__(self, stream: Iterator[Draft]) -> None:
        self.pool: list[Draft] = []
        self.exhausted = False
        self._stream = stream
        self._seen: set[str] = set()

    def read(self, size: int) -> None:
        """Reads until the pool has `size` pairs or the stream has no new ones."""
        draws = _DRAWS_PER_PAIR * size
        for draft in islice(self._stream, draws):
            if draft.pair.clean not in self._seen:
                self._seen.add(draft.pair.clean)
                self.pool.append(draft)
            if len(self.pool) >= size:
                return
        self.exhausted = True


def _deal(pool: Sequence[Draft], sizes: tuple[int, int], templates: Sequence[str]) -> list[list[Draft]]:
    """Deals whole groups of pairs to the split that lacks the larger share, up to each template's quota."""
    names = list(templates) or list(dict.fromkeys(draft.pair.template for draft in pool))
    missing = [Counter({name: _share(size, i, len(names)) for i, name in enumerate(names)}) for size in sizes]
    splits: list[list[Draft]] = [[], []]
    for group in _groups(pool):
        counts = Counter(draft.pair.template for draft in group)
        useful = [side for side in (0, 1) if (counts & missing[side]).total()]
        if not useful:
            continue
        side = max(useful, key=lambda s: missing[s].total() / sizes[s])
        for draft in group:
            if missing[side][draft.pair.template] > 0:
                missing[side][draft.pair.template] -= 1
                splits[side].append(draft)
    return splits


def _share(size: int, index: int, of: int) -> int:
    return size // of + (index < size % of)


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


def _too_few(card: TaskCard, pool: Sequence[Draft], splits: Sequence[Sequence[Draft]], sizes: tuple[int, int]) -> str:
    made = [len(split) for split in splits]
    remedy = "add nouns or other parameters" if card.generator else "add words to its lists or templates"
    return (
        f"Task {card.name!r} was asked for {sizes[0]} discovery and {sizes[1]} held-out pairs and can give "
        f"{made[0]} and {made[1]}: it has {len(pool)} different clean prompts in {len(_groups(pool))} groups "
        "that share no text, and the splits are spread evenly over the templates. "
        f"Ask for at most that many, or {remedy}."
    )
