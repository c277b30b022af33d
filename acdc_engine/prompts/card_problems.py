"""What can be wrong with a card whose keys and types are right, found without a tokenizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

from pydantic import ValidationError

from acdc_engine.errors import TaskError, nearest
from acdc_engine.prompts.generators import get_generator
from acdc_engine.prompts.schema_errors import explain
from acdc_engine.prompts.template import PairTemplate, Template

if TYPE_CHECKING:
    from acdc_engine.prompts.card import TaskCard

_NEED_WRONG_ANSWERS = ("logit_diff", "prob_diff")


def card_problems(card: TaskCard) -> list[str]:
    """Returns one line per problem, each with the path of its key; empty if the card is sound."""
    if card.generator is not None:
        return list(_generator_problems(card))
    if not card.templates:
        return ["templates: missing: a card needs [[templates]] or a generator."]
    patterns, problems = _parse_templates(card)
    return [
        *(["parameters: only a card with a generator has parameters."] if card.parameters else []),
        *problems,
        *_word_problems(card),
        *_slot_problems(card, patterns if not problems else {}),
        *chain.from_iterable(_template_problems(card, where, pattern) for where, pattern in patterns.items()),
    ]


def _generator_problems(card: TaskCard) -> Iterator[str]:
    for key in ("templates", "words", "slots", "distinct"):
        if getattr(card, key):
            yield f"{key}: a card with a generator makes its prompts in Python and has no {key}."
    assert card.generator is not None
    try:
        parameters = get_generator(card.generator).parameters
    except TaskError as error:
        yield f"generator: {error}"
        return
    try:
        parameters.model_validate(card.parameters)
    except ValidationError as error:
        yield from explain(error, lambda _: list(parameters.model_fields), prefix=("parameters",))


def _parse_templates(card: TaskCard) -> tuple[dict[str, PairTemplate], list[str]]:
    """The templates that can be parsed, by key path, and the problems of the others."""
    patterns, problems = {}, []
    for i, text in enumerate(card.templates):
        where = f"templates[{i}]"
        keys = {"clean": text.clean, "corrupt": text.corrupt}
        keys |= {f"answers[{j}]": answer for j, answer in enumerate(text.answers)}
        keys |= {f"wrong_answers[{j}]": answer for j, answer in enumerate(text.wrong_answers)}
        broken = [f"{where}.{key}: {error}" for key, error in _syntax_errors(keys)]
        problems += broken
        if not broken:
            patterns[where] = text.parse()
    return patterns, problems


def _syntax_errors(texts: dict[str, str]) -> Iterator[tuple[str, TaskError]]:
    for key, text in texts.items():
        try:
            Template.parse(text)
        except TaskError as error:
            yield key, error


def _word_problems(card: TaskCard) -> Iterator[str]:
    used = set(card.slots.values())
    for name, listed in card.words.items():
        if name not in used:
            yield f"words.{name}: no slot is filled from it."
        for word, count in Counter(listed.words).items():
            if count > 1:
                yield f"words.{name}.words: {word!r} is in it {count} times."
            if not word or word != word.strip():
                yield f"words.{name}.words: {word!r} is empty or has spaces around it."


def _slot_problems(card: TaskCard, patterns: dict[str, PairTemplate]) -> Iterator[str]:
    for slot, listed in card.slots.items():
        if listed not in card.words:
            yield f"slots.{slot}: there is no word list {listed!r}.{nearest(listed, card.words)}"
    used = {slot for pattern in patterns.values() for slot in pattern.all_slots}
    for slot in card.slots:
        if patterns and slot not in used:
            yield f"slots.{slot}: no template uses it."
    for i, group in enumerate(card.distinct):
        if len(set(group)) < max(2, len(group)):
            yield f"distinct[{i}]: needs at least two slots, each once; it has {list(group)}."
        for slot in group:
            if slot not in card.slots:
                yield f"distinct[{i}]: there is no slot {slot!r}.{nearest(slot, card.slots)}"


def _template_problems(card: TaskCard, where: str, pattern: PairTemplate) -> Iterator[str]:
    if sum(t.name == pattern.name for t in card.templates) > 1:
        yield f"{where}.name: more than one template is called {pattern.name!r}."
    if card.metric in _NEED_WRONG_ANSWERS and not pattern.wrong_answers:
        yield f"{where}.wrong_answers: missing, and the metric {card.metric} needs them (nll and kl do not)."
    for answer in pattern.answers:
        if answer in pattern.wrong_answers:
            yield f"{where}.wrong_answers: the same answer is right and wrong."
    for slot in pattern.all_slots:
        if slot not in card.slots:
            yield f"{where}: the slot {{{slot}}} is not in [slots].{nearest(slot, card.slots)}"
    if pattern.clean.texts != pattern.corrupt.texts:
        yield f"{where}.corrupt: {_difference(pattern)}"
        return
    if not pattern.replaced:
        yield f"{where}.corrupt: it has the same slots as clean, so nothing would be corrupted."
    for a, b in pattern.replaced:
        if _can_be_equal(card, a, b):
            yield (
                f"{where}.corrupt: {{{a}}} is replaced by {{{b}}}, and both can be the same word: "
                f"put them in one distinct group."
            )


def _difference(pattern: PairTemplate) -> str:
    rule = "clean and corrupt must have the same fixed text and differ only in slots, in the same places"
    pairs = zip(pattern.clean.texts, pattern.corrupt.texts, strict=False)
    first = next(((a, b) for a, b in pairs if a != b), None)
    if first is None:
        return f"{rule}; clean has {len(pattern.clean.slots)} slots and corrupt {len(pattern.corrupt.slots)}."
    return f"{rule}; clean has {first[0]!r} where corrupt has {first[1]!r}: make a slot of what differs."


def _can_be_equal(card: TaskCard, a: str, b: str) -> bool:
    if any(a in group and b in group for group in card.distinct):
        return False
    first, second = (card.words.get(card.slots.get(slot, "")) for slot in (a, b))
    return first is not None and second is not None and bool(set(first.words) & set(second.words))
