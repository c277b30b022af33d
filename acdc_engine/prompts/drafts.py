"""From a card to a stream of pairs in random order."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from itertools import product

from acdc_engine.prompts.card import TaskCard
from acdc_engine.prompts.generators import get_generator
from acdc_engine.prompts.pair import Draft
from acdc_engine.prompts.template import PairTemplate
from acdc_engine.prompts.tokenizer import Tokenizer
from acdc_engine.prompts.usable_words import usable_words

ENUMERATE_UP_TO = 20_000
"""Templates with at most this many fillings are gone through completely, so that no pair is missed."""

_DEAD_ENDS = 1_000


def drafts(card: TaskCard, tokenizer: Tokenizer, rng: random.Random) -> Iterator[Draft]:
    """Yields pairs of a card in random order, the templates in turn.

    A template with few fillings yields each once; one with many yields draws without end, some repeated.

    Raises:
        PromptError: Word lists that do not fit the tokenizer, or a generator that cannot work with it.
    """
    if card.generator is not None:
        found = get_generator(card.generator)
        yield from found.make(rng, tokenizer, found.parameters.model_validate(card.parameters))
        return
    words = usable_words(card, tokenizer).words
    streams = [_fillings(card, text.parse(), words, rng) for text in card.templates]
    while streams:
        for stream in list(streams):
            draft = next(stream, None)
            if draft is None:
                streams.remove(stream)
            else:
                yield draft


def _fillings(
    card: TaskCard, pattern: PairTemplate, words: Mapping[str, tuple[str, ...]], rng: random.Random
) -> Iterator[Draft]:
    choices = {slot: words[card.slots[slot]] for slot in pattern.all_slots}
    rivals = {
        slot: {other for group in card.distinct if slot in group for other in group if other != slot}
        for slot in choices
    }
    if math.prod(len(c) for c in choices.values()) <= ENUMERATE_UP_TO:
        every = [dict(zip(choices, filling, strict=True)) for filling in product(*choices.values())]
        every = [v for v in every if all(v[s] != v[r] for s in v for r in rivals[s] if r in v)]
        rng.shuffle(every)
        yield from (pattern.fill(values) for values in every)
        return
    dead_ends = 0
    while dead_ends < _DEAD_ENDS:
        values = _draw(choices, rivals, rng)
        if values is None:
            dead_ends += 1
        else:
            dead_ends = 0
            yield pattern.fill(values)


def _draw(
    choices: Mapping[str, tuple[str, ...]], rivals: Mapping[str, set[str]], rng: random.Random
) -> dict[str, str] | None:
    """One random filling, or None where the words chosen first leave none for a later slot."""
    values: dict[str, str] = {}
    for slot, listed in choices.items():
        taken = {values[r] for r in rivals[slot] if r in values}
        free = [word for word in listed if word not in taken]
        if not free:
            return None
        values[slot] = rng.choice(free)
    return values
