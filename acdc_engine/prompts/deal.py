"""Dealing pairs into discovery and held-out ones: no text in both, evenly over the templates.

Pairs that share a text stay together: they are joined into groups first, and whole groups are dealt out. Where that
does not give enough (a corruption that replaces a country by any other ties all countries together), pairs are dealt
one by one, and those that would put a text into both splits are left out.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from acdc_engine.prompts.pair import Draft

_POOL_FACTORS = (2, 8, 32)
"""Pool sizes tried, as multiples of the pairs asked for. Few are enough unless many pairs share a prompt."""

_DRAWS_PER_PAIR = 10
"""Draws from an endless stream for one new pair in the pool, before it counts as used up."""

Sizes = tuple[int, int]
"""Discovery and held-out pairs."""

Key = Callable[[Draft], tuple[str, ...]]
"""What tells pairs apart."""


def deal(stream: Iterable[Draft], key: Key, templates: Sequence[str], sizes: Sizes) -> list[list[Draft]]:
    """Deals splits of the sizes, evenly over the templates as far as they have pairs, or smaller ones.

    Args:
        stream: The pairs, in random order.
        key: What tells them apart.
        templates: Names of all templates, where they are known; none for those of the pairs.
        sizes: Discovery and held-out pairs wanted.

    Returns:
        Discovery and held-out pairs.
    """
    found = _Unique(iter(stream), key)
    for factor in _POOL_FACTORS:
        found.read(factor * sum(sizes))
        names = templates or _templates_of(found.pool)
        quotas = [Counter({name: _share(size, i, len(names)) for i, name in enumerate(names)}) for size in sizes]
        splits = _deal_groups(found, quotas)
        if found.exhausted or counts_of(splits) == sizes:
            break
    best = splits
    while counts_of(best) != sizes:
        splits = max(splits, _deal_pairs(found, quotas), key=lambda dealt: _worth(dealt, sizes))
        if splits is not best and _worth(splits, sizes) <= _worth(best, sizes):
            break
        best, quotas = splits, [_spread(*each) for each in zip(quotas, splits, sizes, strict=True)]
        splits = _deal_groups(found, quotas)
    return best


def extent(stream: Iterable[Draft], key: Key, sizes: Sizes) -> tuple[int, int]:
    """Returns how many different pairs there are to deal splits of the sizes from, and in how many groups."""
    found = _Unique(iter(stream), key)
    found.read(_POOL_FACTORS[-1] * sum(sizes))
    return len(found.pool), len(_groups(found.pool))


def counts_of(splits: Sequence[Sequence[Draft]]) -> Sizes:
    """Returns how many pairs each split has."""
    return len(splits[0]), len(splits[1])


def _worth(splits: Sequence[Sequence[Draft]], sizes: Sizes) -> tuple[int, int]:
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


def clean_text(draft: Draft) -> tuple[str, ...]:
    """The clean prompt alone, as a key."""
    return (draft.pair.clean,)


def both_texts(draft: Draft) -> tuple[str, ...]:
    """Both prompts, as a key."""
    return (draft.pair.clean, draft.pair.corrupt)


class _Unique:
    """Collects pairs from a stream.

    Attributes:
        pool: Pairs with different keys.
        others: Further pairs: each has the key of one in the pool, and another corrupt prompt.
        exhausted: Whether reading on would give nothing new.
    """

    def __init__(self, stream: Iterator[Draft], key: Key) -> None:
        self.pool: list[Draft] = []
        self.others: list[Draft] = []
        self.exhausted = False
        self.key = key
        self._stream = stream
        self._keys: set[tuple[str, ...]] = set()
        self._seen: set[tuple[str, ...]] = set()

    def read(self, size: int) -> None:
        """Reads until the pool has `size` pairs or the stream has no new ones."""
        for draft in islice(self._stream, _DRAWS_PER_PAIR * size):
            if self.key(draft) not in self._keys:
                self.pool.append(draft)
            elif both_texts(draft) not in self._seen:
                self.others.append(draft)
            self._keys.add(self.key(draft))
            self._seen.add(both_texts(draft))
            if len(self.pool) >= size:
                return
        self.exhausted = True


class _Deal:
    """Two splits being filled.

    Attributes:
        splits: Discovery and held-out pairs so far.
    """

    def __init__(self, quotas: Sequence[Counter[str]]) -> None:
        """Takes how many pairs of each template each split is to have."""
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
            taken = {side_of[text] for text in both_texts(draft) if text in side_of}
            if found.key(draft) in used or len(taken) > 1 or (taken and fresh):
                continue
            side = taken.pop() if taken else deal.neediest([draft])
            if side is not None and deal.add(side, draft):
                used.add(found.key(draft))
                side_of |= dict.fromkeys(both_texts(draft), side)
    return deal.splits


def _templates_of(pool: Sequence[Draft]) -> list[str]:
    return list(dict.fromkeys(draft.pair.template for draft in pool))


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
