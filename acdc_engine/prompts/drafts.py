"""From a card to a stream of pairs in random order: word lists under a tokenizer, templates filled, some pairs."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice, product, zip_longest
from typing import Any

from acdc_engine.errors import PromptError
from acdc_engine.prompts.card import Cell, PairText, TaskCard
from acdc_engine.prompts.generators import generator_parameters, get_generator
from acdc_engine.prompts.template import Draft, PairTemplate, PromptPair
from acdc_engine.prompts.tokens import Tokenizer, continuation, show_tokens, token_ids

_ENUMERATE_UP_TO = 20_000
"""Templates with at most this many fillings are gone through completely, so that no pair is missed."""

_DEAD_ENDS = 1_000


def drafts(card: TaskCard, tokenizer: Tokenizer, rng: random.Random) -> Iterator[Draft]:
    """Yields pairs of a card in random order, the templates in turn.

    A template with few fillings yields each once; one with many yields draws without end, some repeated.

    Raises:
        PromptError: Word lists that do not fit the tokenizer, or a generator that cannot work with it.
    """
    if card.generator is not None:
        parameters = generator_parameters(card.generator, card.parameters)
        yield from get_generator(card.generator).value(rng, tokenizer, parameters)
        return
    streams: list[Iterator[Draft]]
    if card.pairs:
        by_name: dict[str, list[PairText]] = {}
        for pair in card.pairs:
            by_name.setdefault(pair.template, []).append(pair)
        for pairs in by_name.values():
            rng.shuffle(pairs)
        streams = [map(written, pairs) for pairs in by_name.values()]
    else:
        usable = _usable_rows(card, tokenizer)
        renamed = {name: new for new, names in card.spans.items() for name in names}
        streams = [_fillings(card, text.parse().named(renamed), usable, rng) for text in card.templates]
    while streams:
        for stream in list(streams):
            draft = next(stream, None)
            if draft is None:
                streams.remove(stream)
            else:
                yield draft


def written(text: PairText) -> Draft:
    """Returns a pair that a card has written out, as a draft."""
    pair = PromptPair(text.clean, text.corrupt, text.answers, text.wrong_answers, text.template, text.read_at)
    # Nobody said which words are meant to differ: all may.
    ranges = ((0, len(text.clean)),), ((0, len(text.corrupt)),)
    spans = tuple(span.as_range() for span in text.spans)
    return Draft(pair, *ranges, text.where, text.answer_ids, text.wrong_answer_ids, spans)


_Values = dict[str, Cell]
"""What stands for some slots and cells; a row variable stands for its own number, which `distinct` compares."""

_Usable = Mapping[str, Sequence[Mapping[str, Cell]]]
"""The rows of every `words.NAME` and `tables.NAME` that can be used; a word list has one column, which is called ""."""


def _fillings(card: TaskCard, pattern: PairTemplate, usable: _Usable, rng: random.Random) -> Iterator[Draft]:
    rivals = {
        name: {other for group in card.distinct if name in group for other in group} - {name}
        for name in chain.from_iterable(card.distinct)
    }
    choices = _choices(card, pattern, usable, rivals)
    if math.prod(map(len, choices)) <= _ENUMERATE_UP_TO:
        every = [{name: word for part in filling for name, word in part.items()} for filling in product(*choices)]
        every = [values for values in every if _free(values, _taken(values, values, rivals))]
        rng.shuffle(every)
        yield from (pattern.fill(values) for values in every)
        return
    dead_ends, drawn_before = 0, [[0] * len(listed) for listed in choices]
    while dead_ends < _DEAD_ENDS:
        drawn = _draw(choices, drawn_before, rivals, rng)
        if drawn is None:
            dead_ends += 1
        else:
            dead_ends = 0
            yield pattern.fill(drawn)


def _choices(
    card: TaskCard, pattern: PairTemplate, usable: _Usable, rivals: Mapping[str, set[str]]
) -> list[list[_Values]]:
    """For every slot and row of a template, in order of appearance, what it can be."""
    choices: list[list[_Values]] = []
    for name in dict.fromkeys(name.partition(".")[0] for name in pattern.all_slots):
        every = list[_Values]()
        for i, row in enumerate(usable[_source(card, name)]):
            number = {name: (str(i),)} if name in card.rows else {}
            every.append({**number, **{f"{name}.{column}".removesuffix("."): cell for column, cell in row.items()}})
        choices.append([values for values in every if _free(values, _taken(values, values, rivals))])
    return choices


def _draw(
    choices: list[list[_Values]], before: list[list[int]], rivals: Mapping[str, set[str]], rng: random.Random
) -> _Values | None:
    """One random filling, or None where what was chosen first leaves nothing for a later slot.

    Every word comes into a slot as often as the others (one drawn least `before`, which is counted on): how far a mean
    over some prompts strays is then not up to which words they happen to have (a Latin hypercube; McKay, Beckman and
    Conover 1979). Words that lead nowhere count, too: they would be drawn again and again.
    """
    drawn: _Values = {}
    for listed, counts in zip(choices, before, strict=True):
        taken = _taken(listed[0], drawn, rivals)
        free = [i for i, values in enumerate(listed) if _free(values, taken)]
        if not free:
            return None
        least = min(counts[i] for i in free)
        chosen = rng.choice([i for i in free if counts[i] == least])
        counts[chosen] += 1
        drawn |= listed[chosen]
    return drawn


def _taken(values: _Values, others: _Values, rivals: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """For the slots and cells of `values`, the words that they cannot have, as a rival among `others` has them."""
    return {
        name: {word for rival in rivals[name] & others.keys() for word in others[rival]}
        for name in values.keys() & rivals.keys()
    }


def _free(values: _Values, taken: Mapping[str, set[str]]) -> bool:
    return all(words.isdisjoint(values[name]) for name, words in taken.items())


_LOOKED_AT = 2_000
"""Pairs gone through, at least, for some of every template."""

_IDLE = 1_000
_IDLE_PER_PAIR = 5
"""Draws without a new pair, per pair found, after which an endless stream counts as used up: a pair drawn as often as
the others is then missed with probability exp(-5)."""


def _different_pairs(card: TaskCard, tokenizer: Tokenizer, seed: int = 0) -> Iterator[Draft]:
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

    Pairs that `fits` refuses are passed over, where it is given. Errors are those of `_different_pairs`.
    """
    by_template = some_of_each_template(card, tokenizer, n, seed, fits).values()
    in_turn = (pair for pairs in zip_longest(*by_template) for pair in pairs if pair is not None)
    return list(islice(in_turn, n))


def count_pairs(card: TaskCard, tokenizer: Tokenizer, limit: int) -> int:
    """Returns the number of different clean prompts, counted up to `limit`; errors are those of `_different_pairs`."""
    return sum(1 for _ in islice(_different_pairs(card, tokenizer), limit))


def template_names(card: TaskCard) -> list[str]:
    """Returns the names of a card's templates or of its written-out pairs'; none for a generator, which alone knows."""
    return list(dict.fromkeys(text.name for text in card.templates) or dict.fromkeys(p.template for p in card.pairs))


def some_of_each_template(
    card: TaskCard, tokenizer: Tokenizer, n: int, seed: int, fits: Callable[[Draft], bool] | None = None
) -> dict[str, list[Draft]]:
    """Returns up to `n` pairs of every template, by its name, in the card's order (a generator's by name).

    Errors are those of `_different_pairs`.
    """
    found: dict[str, list[Draft]] = {name: [] for name in template_names(card)}
    for draft in islice(_different_pairs(card, tokenizer, seed), max(_LOOKED_AT, 2 * n)):
        of_template = found.setdefault(draft.pair.template, [])
        if len(of_template) < n:
            if fits is None or fits(draft):
                of_template.append(draft)
        elif not card.generator and all(len(pairs) == n for pairs in found.values()):
            break
    in_order = found if template_names(card) else sorted(found)
    return {name: found[name] for name in in_order if found[name]}


def _source(card: TaskCard, variable: str) -> str:
    """The list or table of a slot or row."""
    return f"tables.{card.rows[variable]}" if variable in card.rows else f"words.{card.slots[variable]}"


def _usable_rows(card: TaskCard, tokenizer: Tokenizer) -> _Usable:
    """Finds the words and rows that can be used with this tokenizer.

    A word must be one token where a slot or cell is replaced by another or is part of an answer: there clean and
    corrupt prompts would fall out of step, or the answer could not be read off one position. Elsewhere any
    word will do.

    Raises:
        PromptError: Words that are split where they must not be, all of them listed with their tokens; or a
            list or table of which `only_single_token` leaves too few.
    """
    sources: dict[str, tuple[Mapping[str, Sequence[Cell]], Any]]
    sources = {f"words.{name}": ({"": [(w,) for w in it.words]}, it) for name, it in card.words.items()}
    sources |= {f"tables.{name}": (table.columns, table) for name, table in card.tables.items()}
    usable, problems, contexts = dict[str, list[dict[str, Cell]]](), list[str](), _contexts(card)
    for source, (columns, given) in sources.items():
        split = {}
        for column, cells in columns.items():
            words = dict.fromkeys(chain.from_iterable(cells))
            split[column] = {w: tokens for w in words if (tokens := _split(tokenizer, w, contexts[source, column]))}
        every = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
        usable[source] = [r for r in every if not any(w in split[column] for column, cell in r.items() for w in cell)]
        if given.only_single_token:
            names = {name for name in (*card.slots, *card.rows) if _source(card, name) == source}
            needed, there = max([1, *(len(names.intersection(group)) for group in card.distinct)]), len(usable[source])
            if there < needed:
                lacking = f"only {there} of its {len(every)} are a single token and at least {needed} are needed"
                problems.append(f"{source}: {lacking}: add some.")
        else:
            for column, found in split.items():
                where = f"{source}.{column}".removesuffix(".")
                problems += [f"{where}: {word!r} is not a single token: {found[word]}" for word in found]
    if problems:
        lines = "\n  ".join([f"The word lists of task {card.name!r} do not fit this tokenizer:", *problems])
        raise PromptError(
            f"{lines}\nWords in slots that differ between clean and corrupt, or that are part of an answer, must be "
            "one token. Take such words out, or set only_single_token = true for the list or table to leave them out."
        )
    return usable


def _contexts(card: TaskCard) -> Mapping[tuple[str, str], set[str]]:
    """By source and column, the characters in front of the places where words must be one token ('' at a text's start).

    That is where they decide; for a list that is to hold single tokens only, wherever they stand.
    """
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for pattern in (text.parse() for text in card.templates):
        answers = (*pattern.answers, *pattern.wrong_answers)
        must = {*chain.from_iterable(pattern.replaced), *chain.from_iterable(answer.slots for answer in answers)}
        for template in (pattern.clean, pattern.corrupt, *answers):
            for slot, before in zip(template.slots, template.texts, strict=False):
                name, _, column = slot.partition(".")
                if slot in must or (not column and card.words[card.slots[name]].only_single_token):
                    found[_source(card, name), column].add(before[-1:])
    return found


def _split(tokenizer: Tokenizer, word: str, contexts: set[str]) -> str:
    """The word's tokens where it is not one token in one of the contexts; '' if it always is."""
    for before in sorted(contexts):
        # After a space the tokenizer sees a word that follows another; the space is part of the word's token.
        # A cell can bring that space itself.
        head, text = ("the", f" {word}") if before == " " else ("the" if word.startswith(" ") else before, word)
        added = continuation(tokenizer, head, text)
        if added is None or len(added) != 1:
            return show_tokens(tokenizer, added or token_ids(tokenizer, head + text))
    return ""
