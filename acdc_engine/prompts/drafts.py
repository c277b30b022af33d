"""From a card to a stream of pairs in random order: word lists under a tokenizer, templates filled, some pairs."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product, zip_longest

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
    if card.pairs:
        streams = _written_out(card, rng)
    else:
        usable = _usable_words(card, tokenizer)
        streams = [_fillings(card, text.parse(), usable, rng) for text in card.templates]
    while streams:
        for stream in list(streams):
            draft = next(stream, None)
            if draft is None:
                streams.remove(stream)
            else:
                yield draft


def _written_out(card: TaskCard, rng: random.Random) -> list[Iterator[Draft]]:
    """The pairs of each template name, shuffled."""
    by_name: dict[str, list[PairText]] = {}
    for pair in card.pairs:
        by_name.setdefault(pair.template, []).append(pair)
    for pairs in by_name.values():
        rng.shuffle(pairs)
    return [map(written, pairs) for pairs in by_name.values()]


def written(text: PairText) -> Draft:
    """Returns a pair that a card has written out, as a draft."""
    pair = PromptPair(text.clean, text.corrupt, text.answers, text.wrong_answers, text.template, text.read_at)
    # Nobody said which words are meant to differ: all may.
    spans = ((0, len(text.clean)),), ((0, len(text.corrupt)),)
    return Draft(pair, *spans, text.where, text.answer_ids, text.wrong_answer_ids)


_Values = dict[str, str | tuple[str, ...]]
"""What stands for some slots and cells; a row variable stands for its own number, which `distinct` compares."""


def _fillings(card: TaskCard, pattern: PairTemplate, usable: _UsableWords, rng: random.Random) -> Iterator[Draft]:
    rivals = {
        name: {other for group in card.distinct if name in group for other in group if other != name}
        for name in (name for group in card.distinct for name in group)
    }
    choices = _choices(card, pattern, usable, rivals)
    if math.prod(map(len, choices)) <= _ENUMERATE_UP_TO:
        every = [{name: word for part in filling for name, word in part.items()} for filling in product(*choices)]
        every = [values for values in every if not _clash(values, values, rivals)]
        rng.shuffle(every)
        yield from (pattern.fill(values) for values in every)
        return
    dead_ends = 0
    while dead_ends < _DEAD_ENDS:
        drawn = _draw(choices, rivals, rng)
        if drawn is None:
            dead_ends += 1
        else:
            dead_ends = 0
            yield pattern.fill(drawn)


def _choices(
    card: TaskCard, pattern: PairTemplate, usable: _UsableWords, rivals: Mapping[str, set[str]]
) -> list[list[_Values]]:
    """For every slot and row of a template, in order of appearance, what it can be."""
    choices: list[list[_Values]] = []
    for name in dict.fromkeys(name.partition(".")[0] for name in pattern.all_slots):
        if name in card.rows:
            every: list[_Values] = []
            for i, row in enumerate(usable.rows[card.rows[name]]):
                words = {column: cell[0] if len(cell) == 1 else cell for column, cell in row.items()}
                every.append({name: str(i), **{f"{name}.{column}": word for column, word in words.items()}})
            choices.append([values for values in every if not _clash(values, values, rivals)])
        else:
            choices.append([{name: word} for word in usable.words[card.slots[name]]])
    return choices


def _draw(choices: list[list[_Values]], rivals: Mapping[str, set[str]], rng: random.Random) -> _Values | None:
    """One random filling, or None where what was chosen first leaves nothing for a later slot."""
    drawn: _Values = {}
    for listed in choices:
        free = listed
        for name, words in (_taken(listed[0], drawn, rivals) if listed else {}).items():
            free = [values for values in free if words.isdisjoint(_words(values[name]))]
        if not free:
            return None
        drawn |= rng.choice(free)
    return drawn


def _taken(values: _Values, drawn: _Values, rivals: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """For every slot and cell of `values` with rivals among what is drawn, the words that it cannot have."""
    there = {name: [drawn[rival] for rival in rivals[name] if rival in drawn] for name in values if name in rivals}
    return {name: set().union(*map(_words, words)) for name, words in there.items() if words}


def _words(found: str | tuple[str, ...]) -> tuple[str, ...]:
    return (found,) if isinstance(found, str) else found


def _clash(values: _Values, others: _Values, rivals: Mapping[str, set[str]]) -> bool:
    """Whether something of `values` has a word in common with a rival in `others`."""
    pairs = ((values[name], others[rival]) for name in values.keys() & rivals for rival in rivals[name] & others.keys())
    return any(not set(_words(one)).isdisjoint(_words(other)) for one, other in pairs)


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


@dataclass(frozen=True)
class _UsableWords:
    """The words prompts can be made of: of each list, in the card's order, and each table's rows, by column."""

    words: Mapping[str, Sequence[str]]
    rows: Mapping[str, Sequence[Mapping[str, Cell]]]


def _usable_words(card: TaskCard, tokenizer: Tokenizer) -> _UsableWords:
    """Finds the words and rows that can be used with this tokenizer.

    A word must be one token where a slot or cell is replaced by another or is part of an answer: there clean and
    corrupt prompts would fall out of step, or the answer could not be read off one position. Elsewhere any
    word will do.

    Raises:
        PromptError: Words that are split where they must not be, all of them listed with their tokens; or a
            list or table of which `only_single_token` leaves too few.
    """
    words, rows, problems = dict[str, Sequence[str]](), dict[str, Sequence[Mapping[str, Cell]]](), list[str]()
    for name, listed in card.words.items():
        contexts = _contexts(card, f"words.{name}", everywhere=listed.only_single_token)
        split = {w: tokens for w in listed.words if (tokens := _split(tokenizer, w, contexts))}
        words[name] = [word for word in listed.words if word not in split]
        if listed.only_single_token:
            slots = [slot for slot, of in card.slots.items() if of == name]
            problems += _too_few(card, f"words.{name}", "words", len(words[name]), len(listed.words), slots)
        else:
            problems += [f"words.{name}: {word!r} is not a single token: {split[word]}" for word in split]
    for name, table in card.tables.items():
        rows[name], by_column = _usable_rows(card, name, tokenizer)
        if table.only_single_token:
            variables = [row for row, of in card.rows.items() if of == name]
            problems += _too_few(card, f"tables.{name}", "rows", len(rows[name]), table.n_rows, variables)
        else:
            for column, split in by_column.items():
                problems += [f"tables.{name}.{column}: {w!r} is not a single token: {split[w]}" for w in split]
    if problems:
        lines = "\n  ".join([f"The word lists of task {card.name!r} do not fit this tokenizer:", *problems])
        raise PromptError(
            f"{lines}\nWords in slots that differ between clean and corrupt, or that are part of an answer, must be "
            "one token. Take such words out, or set only_single_token = true for the "
            f"{'list or table' if card.tables else 'list'} to leave them out."
        )
    return _UsableWords(words, rows)


def _usable_rows(
    card: TaskCard, name: str, tokenizer: Tokenizer
) -> tuple[list[dict[str, Cell]], dict[str, dict[str, str]]]:
    """The rows without a word that is split and must not be, and for each column such words with their tokens."""
    table = card.tables[name]
    split = {}
    for column, cells in table.columns.items():
        contexts = _contexts(card, f"tables.{name}.{column}", everywhere=False)
        words = dict.fromkeys(word for cell in cells for word in cell)
        split[column] = {w: tokens for w in words if (tokens := _split(tokenizer, w, contexts))}
    every = [{column: cells[i] for column, cells in table.columns.items()} for i in range(table.n_rows)]
    return [r for r in every if not any(w in split[column] for column, cell in r.items() for w in cell)], split


def _too_few(card: TaskCard, where: str, what: str, n: int, of: int, names: Sequence[str]) -> Iterator[str]:
    """Says so where there are fewer words or rows than slots or variables of one group need."""
    needed = max([1, *(sum(name in names for name in group) for group in card.distinct)])
    if n < needed:
        many = f"only {n} of its {of} {what} are a single token and at least {needed} are needed"
        yield f"{where}: {many}: add {what} to it."


def _contexts(card: TaskCard, source: str, everywhere: bool) -> set[str]:
    """The characters in front of the places where words must be one token ('' at a text's start).

    Words of a source, `words.names` or `tables.capitals.country`, must be one where they decide, or everywhere.
    """
    found: set[str] = set()
    for pattern in (text.parse() for text in card.templates):
        must = {slot for pair in pattern.replaced for slot in pair}
        must |= {slot for answer in (*pattern.answers, *pattern.wrong_answers) for slot in answer.slots}
        for template in (pattern.clean, pattern.corrupt, *pattern.answers, *pattern.wrong_answers):
            for slot, before in zip(template.slots, template.texts, strict=False):
                if _source(card, slot) == source and (everywhere or slot in must):
                    found.add(before[-1:])
    return found


def _source(card: TaskCard, name: str) -> str:
    row, dot, column = name.partition(".")
    return f"tables.{card.rows[row]}.{column}" if dot else f"words.{card.slots[name]}"


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
