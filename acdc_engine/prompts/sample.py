"""Different pairs of a task, for looking at them, counting them and trying a model on them.

Splits for a search are made by build.py; here nothing is kept apart.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import islice, zip_longest

from acdc_engine.prompts.card import TaskCard
from acdc_engine.prompts.drafts import drafts
from acdc_engine.prompts.pair import Draft
from acdc_engine.prompts.tokenizer import Tokenizer

LOOKED_AT = 2_000
"""Pairs gone through, at least, for some of every template."""

_IDLE = 1_000
_IDLE_PER_PAIR = 5
"""Draws without a new pair, per pair found, after which an endless stream counts as used up: a pair drawn as often as
the others is then missed with probability exp(-5)."""


def different_pairs(card: TaskCard, tokenizer: Tokenizer, seed: int = 0) -> Iterator[Draft]:
    """Yields pairs in random order, the templates in turn, each clean prompt once, until there are no more.

    Raises:
        PromptError: Word lists that do not fit the tokenizer, or a generator that cannot work with it.
    """
    seen: set[str] = set()
    idle = 0
    for draft in drafts(card, tokenizer, random.Random(seed)):
        if draft.pair.clean in seen:
            idle += 1
            if idle > max(_IDLE, _IDLE_PER_PAIR * len(seen)):
                return
            continue
        idle = 0
        seen.add(draft.pair.clean)
        yield draft


def sample_pairs(
    card: TaskCard, tokenizer: Tokenizer, n: int, seed: int, fits: Callable[[Draft], bool] | None = None
) -> list[Draft]:
    """Returns `n` pairs, or as many as there are, the templates in turn as long as each has any.

    Pairs that `fits` refuses are passed over, where it is given.

    Raises:
        PromptError: As `different_pairs`.
    """
    by_template = some_of_each_template(card, tokenizer, n, seed, fits).values()
    in_turn = (pair for pairs in zip_longest(*by_template) for pair in pairs if pair is not None)
    return list(islice(in_turn, n))


def count_pairs(card: TaskCard, tokenizer: Tokenizer, limit: int) -> int:
    """Returns the number of different clean prompts, counted up to `limit`.

    Raises:
        PromptError: As `different_pairs`.
    """
    return sum(1 for _ in islice(different_pairs(card, tokenizer), limit))


def template_names(card: TaskCard) -> list[str]:
    """Returns the names of a card's templates or of its written-out pairs'; none for a generator, which alone knows."""
    return list(dict.fromkeys(text.name for text in card.templates) or dict.fromkeys(p.template for p in card.pairs))


def some_of_each_template(
    card: TaskCard, tokenizer: Tokenizer, n: int, seed: int, fits: Callable[[Draft], bool] | None = None
) -> dict[str, list[Draft]]:
    """Returns up to `n` pairs of every template, by its name, in the card's order (a generator's by name).

    Raises:
        PromptError: As `different_pairs`.
    """
    found: dict[str, list[Draft]] = {name: [] for name in template_names(card)}
    for draft in islice(different_pairs(card, tokenizer, seed), max(LOOKED_AT, 2 * n)):
        of_template = found.setdefault(draft.pair.template, [])
        if len(of_template) < n:
            if fits is None or fits(draft):
                of_template.append(draft)
        elif not card.generator and all(len(pairs) == n for pairs in found.values()):
            break
    in_order = found if template_names(card) else sorted(found)
    return {name: found[name] for name in in_order if found[name]}
