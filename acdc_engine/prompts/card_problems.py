"""What can be wrong with a card, found without a tokenizer: keys and types, words, rows, templates, pairs."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from acdc_engine.errors import MetricError, TaskError, nearest
from acdc_engine.prompts.generators import generator_parameters, get_generator
from acdc_engine.prompts.template import PairTemplate, Template, is_name

if TYPE_CHECKING:
    from acdc_engine.prompts.card import Cell, PairText, TaskCard

_NAME_RULE = "a name has letters, digits and underscores, a letter first."
_LONGEST = 100
"""Characters shown of what was found."""
_NEEDED = {"logit_diff": (True, True), "prob_diff": (True, True), "nll": (True, False), "kl": (False, False)}
"""Whether the engine's metrics need right and wrong answers, as metrics.py says; that needs torch, and cards do not."""

Location = tuple[int | str, ...]


def explain(error: ValidationError, known_keys: Callable[[Location], list[str]], prefix: Location = ()) -> list[str]:
    """Returns one line per problem: `templates[0].clen: unknown key. Did you mean 'clean'? Known: ...`.

    `known_keys` tells the keys in the table at a location (without `prefix`, where the validated table lies in the
    file).
    """
    lines: list[str] = []
    for item in error.errors():
        path = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in (*prefix, *item["loc"]))
        where, kind = "".join(path).removeprefix("."), item["type"]
        if kind == "value_error":  # our own validator's: has the key paths in it already
            lines += str(item["ctx"]["error"]).split("\n")
        elif kind == "extra_forbidden":
            *table, key = item["loc"]
            lines.append(f"{where}: unknown key.{nearest(str(key), known_keys(tuple(table)))}")
        elif kind == "missing":
            lines.append(f"{where}: missing.")
        else:
            found = repr(item["input"])
            shown = found if len(found) <= _LONGEST else f"{found[: _LONGEST - 3]}..."
            lines.append(f"{where}: {item['msg']} (found {shown}).")
    return lines


def card_problems(card: TaskCard) -> list[str]:
    """Returns one line per problem, each with the path of its key; empty if the card is sound."""
    try:
        answers_needed(card.metric)
    except MetricError as error:
        return [f"metric: {error}"]
    if card.generator is not None:
        return list(_generator_problems(card))
    if card.pairs and not card.templates:
        return [*_written_out_problems(card), *pair_problems(card.pairs, card.metric)]
    if not card.templates:
        return ["templates: missing: a card needs [[templates]], [[pairs]] or a generator."]
    patterns, problems = _parse_templates(card)
    sound = {} if problems else patterns
    return [
        *(["parameters: only a card with a generator has parameters."] if card.parameters else []),
        *(["pairs: a card has [[templates]] or [[pairs]], not both."] if card.pairs else []),
        *problems,
        *_word_problems(card),
        *_slot_problems(card, sound),
        *_row_problems(card, sound.values()),
        *_distinct_problems(card),
        *chain.from_iterable(_template_problems(card, where, pattern) for where, pattern in patterns.items()),
        *_missing_answers(card),
    ]


def answers_needed(metric: str) -> tuple[bool, bool]:
    """Returns whether a metric needs right answers, and wrong ones.

    Raises:
        MetricError: There is none of that name.
    """
    if metric in _NEEDED:
        return _NEEDED[metric]
    from acdc_engine.prompts.metrics import get_metric  # one of a plug-in's; needs torch

    found = get_metric(metric)
    return found.needs_answers, found.needs_wrong_answers


def _written_out_problems(card: TaskCard) -> Iterator[str]:
    for key in ("words", "slots", "tables", "rows", "distinct", "parameters"):
        if getattr(card, key):
            yield f"{key}: a card with [[pairs]] has its prompts written out and no {key}."


def _generator_problems(card: TaskCard) -> Iterator[str]:
    for key in ("templates", "words", "slots", "tables", "rows", "distinct", "pairs"):
        if getattr(card, key):
            yield f"{key}: a card with a generator makes its prompts in Python and has no {key}."
    assert card.generator is not None
    try:
        generator_parameters(card.generator, card.parameters)
    except ValidationError as error:
        model: Any = get_generator(card.generator).parameters
        yield from explain(error, lambda _: list(model.model_fields), prefix=("parameters",))
    except TaskError as error:
        yield f"generator: {error} A generator of your own comes in a plug-in (docs/tasks.md)."


def _parse_templates(card: TaskCard) -> tuple[dict[str, PairTemplate], list[str]]:
    """The templates that can be parsed, by key path, and the problems of the others."""
    patterns, problems = {}, list[str]()
    for i, pattern in enumerate(card.templates):
        where, n = f"templates[{i}]", len(problems)
        keys = {"clean": pattern.clean, "corrupt": pattern.corrupt}
        keys |= {f"answers[{j}]": answer for j, answer in enumerate(pattern.answers)}
        keys |= {f"wrong_answers[{j}]": answer for j, answer in enumerate(pattern.wrong_answers)}
        for key, text in keys.items():
            try:
                Template.parse(text)
            except TaskError as error:
                problems.append(f"{where}.{key}: {error}")
        if len(problems) == n:
            patterns[where] = pattern.parse()
    return patterns, problems


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
    used = {slot for pattern in patterns.values() for slot in pattern.all_slots}
    for slot, listed in card.slots.items():
        if listed not in card.words:
            yield f"slots.{slot}: there is no word list {listed!r}.{nearest(listed, card.words)}"
        if patterns and slot not in used:
            yield f"slots.{slot}: no template uses it."


def _distinct_problems(card: TaskCard) -> Iterator[str]:
    for i, group in enumerate(card.distinct):
        if len(set(group)) < max(2, len(group)):
            yield f"distinct[{i}]: needs at least two slots, each once; it has {list(group)}."
        rows = [name for name in group if name in card.rows]
        if rows and len(rows) < len(group):
            yield f"distinct[{i}]: rows and slots cannot differ from each other; it has {list(group)}. Name columns."
        elif len({card.rows[row] for row in rows}) > 1:
            yield f"distinct[{i}]: rows of different tables differ anyway; it has {list(group)}."
        for name in group:
            if name in card.rows:
                continue
            if "." not in name and name not in card.slots:
                yield f"distinct[{i}]: there is no slot {name!r}.{nearest(name, [*card.slots, *card.rows])}"
            elif problem := _unknown(card, name):
                yield f"distinct[{i}]: {problem}"


def _template_problems(card: TaskCard, where: str, pattern: PairTemplate) -> Iterator[str]:
    if sum(t.name == pattern.name for t in card.templates) > 1:
        yield f"{where}.name: more than one template is called {pattern.name!r}."
    for right in pattern.answers:
        for wrong in pattern.wrong_answers:
            yield from (f"{where}.wrong_answers: {problem}" for problem in _both_right_and_wrong(card, right, wrong))
    for slot in pattern.all_slots:
        if problem := _unknown(card, slot):
            yield f"{where}: {problem}"
    if pattern.clean.texts != pattern.corrupt.texts:
        yield f"{where}.corrupt: {_difference(pattern)}"
        return
    if not pattern.replaced:
        yield f"{where}.corrupt: it has the same slots as clean, so nothing would be corrupted."
    for a, b in pattern.replaced:
        if _can_be_equal(card, a, b):
            yield (
                f"{where}.corrupt: {{{a}}} is replaced by {{{b}}}, and both can be the same word: "
                f"{_how_to_part(card, a, b)}"
            )


def _both_right_and_wrong(card: TaskCard, right: Template, wrong: Template) -> Iterator[str]:
    if right == wrong:
        yield "the same answer is right and wrong."
        return
    differ = [(a, b) for a, b in zip(right.slots, wrong.slots, strict=False) if a != b]
    # With several differing cells one that differs is enough.
    if right.texts == wrong.texts and all(_can_be_equal(card, a, b) for a, b in differ):
        a, b = differ[0]
        yield f"{{{a}}} is right and {{{b}}} wrong, and both can be the same word: {_how_to_part(card, a, b)}"


def _missing_answers(card: TaskCard) -> Iterator[str]:
    """Answers that the metric needs, or that only some templates have."""
    right, wrong = answers_needed(card.metric)
    for key, needed, hint in (("answers", right, "kl does"), ("wrong_answers", wrong, "nll and kl do")):
        given = [bool(getattr(text, key)) for text in card.templates]
        for i, there in enumerate(given):
            if not there and needed:
                yield f"templates[{i}].{key}: missing, and the metric {card.metric} needs them ({hint} not)."
            elif not there and any(given):
                yield f"templates[{i}].{key}: missing, and other templates have them: give them in all or in none."
    for i, text in enumerate(card.templates):
        if text.wrong_answers and not text.answers and not right:
            yield f"templates[{i}].wrong_answers: wrong answers without right ones."


def _difference(pattern: PairTemplate) -> str:
    rule = "clean and corrupt must have the same fixed text and differ only in slots, in the same places"
    pairs = zip(pattern.clean.texts, pattern.corrupt.texts, strict=False)
    first = next(((a, b) for a, b in pairs if a != b), None)
    if first is None:
        return f"{rule}; clean has {len(pattern.clean.slots)} slots and corrupt {len(pattern.corrupt.slots)}."
    return f"{rule}; clean has {first[0]!r} where corrupt has {first[1]!r}: make a slot of what differs."


def _row_problems(card: TaskCard, patterns: Iterable[PairTemplate]) -> Iterator[str]:
    """Yields one line per problem of the tables and rows; of no patterns if some cannot be parsed."""
    asked, answered = _columns_used(card, patterns)
    for row, table in card.rows.items():
        if not is_name(row):
            yield f"rows.{row}: {_NAME_RULE}"
        if row in card.slots:
            yield f"rows.{row}: there is a slot of that name too: rename one."
        if table not in card.tables:
            yield f"rows.{row}: there is no table {table!r}.{nearest(table, card.tables)}"
    for name in card.tables:
        yield from _table_problems(card, name, asked)
        if name not in card.rows.values():
            yield f"tables.{name}: no row is taken from it."
        elif patterns:
            for column in card.tables[name].columns:
                if (name, column) not in asked | answered:
                    yield f"tables.{name}.{column}: nothing uses it."
    used = {name.partition(".")[0] for pattern in patterns for name in pattern.all_slots}
    for row in card.rows:
        if patterns and row not in used:
            yield f"rows.{row}: no template uses it."


def _table_problems(card: TaskCard, name: str, asked: set[tuple[str, str]]) -> Iterator[str]:
    table = card.tables[name]
    lengths = {column: len(cells) for column, cells in table.columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{column} {length}" for column, length in lengths.items())
        yield f"tables.{name}: its columns must be equally long, one word per row, and are not: {shown}."
    if not table.n_rows and len(set(lengths.values())) < 2:
        yield f"tables.{name}: it has no {'rows' if lengths else 'columns'}."
    for column, cells in table.columns.items():
        if not is_name(column):
            yield f"tables.{name}.{column}: {_NAME_RULE}"
        for i, cell in enumerate(cells):
            where = f"tables.{name}.{column}[{i}]"
            yield from (f"{where}: {word!r} is in it {n} times." for word, n in Counter(cell).items() if n > 1)
            if (name, column) not in asked:  # an answer may bring the space in front of it
                yield from (f"{where}: {w!r} is empty or ends in a space." for w in cell if not w or w != w.rstrip())
                continue
            if len(cell) > 1:
                yield f"{where}: {list(cell)} are several words, and the column stands in a prompt: give one."
            yield from (f"{where}: {w!r} is empty or has spaces around it." for w in cell if not w or w != w.strip())


def _columns_used(
    card: TaskCard, patterns: Iterable[PairTemplate]
) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """The (table, column) that stand in prompts, and those that stand in answers or distinct groups."""
    in_prompts = chain.from_iterable((*p.clean.slots, *p.corrupt.slots) for p in patterns)
    in_answers = chain.from_iterable(a.slots for p in patterns for a in (*p.answers, *p.wrong_answers))
    return _columns(card, in_prompts), _columns(card, chain(in_answers, chain.from_iterable(card.distinct)))


def _columns(card: TaskCard, names: Iterable[str]) -> set[tuple[str, str]]:
    cells = (name.partition(".") for name in names if "." in name)
    return {(card.rows[row], column) for row, _, column in cells if row in card.rows}


def _unknown(card: TaskCard, name: str) -> str | None:
    """Says what is wrong with a slot `A` or cell `X.capital` that the card does not have; None for one it has."""
    variable, dot, column = name.partition(".")
    if not dot:
        if name in card.slots:
            return None
        if name in card.rows:
            table = card.tables.get(card.rows[name])
            example = next(iter(table.columns), "column") if table is not None else "column"
            return f"{{{name}}} is a row; name one of its columns too, as in {{{name}.{example}}}."
        return f"the slot {{{name}}} is not in [slots].{nearest(name, card.slots)}"
    if variable in card.rows:
        table = card.tables.get(card.rows[variable])
        if table is None or column in table.columns:  # a table that does not exist is a problem of [rows]
            return None
        return (
            f"the table {card.rows[variable]} of {{{name}}} has no column {column!r}.{nearest(column, table.columns)}"
        )
    if variable in card.slots:
        return f"{{{name}}}: {variable} is a slot, which has no columns: write {{{variable}}}."
    return f"the row {variable} of {{{name}}} is not in [rows].{nearest(variable, card.rows)}"


def _cells_of(card: TaskCard, name: str) -> tuple[Cell, ...]:
    """The words a slot or cell can be, in the order of its list or column; empty for one the card does not have."""
    variable, dot, column = name.partition(".")
    if dot:
        table = card.tables.get(card.rows.get(variable, ""))
        return () if table is None else table.columns.get(column, ())
    listed = card.words.get(card.slots.get(name, ""))
    return () if listed is None else tuple((word,) for word in listed.words)


def _can_be_equal(card: TaskCard, a: str, b: str) -> bool:
    """Whether two different slots or cells can have a word in common, for all that the card's `distinct` groups say."""
    if _apart(card, a, b):
        return False
    first, second = _places(_cells_of(card, a)), _places(_cells_of(card, b))
    row_a, row_b = (name.partition(".")[0] for name in (a, b))
    for word in first.keys() & second.keys():
        if row_a == row_b:
            if first[word] & second[word]:
                return True
        elif not _apart(card, row_a, row_b) or len(first[word] | second[word]) > 1:
            return True
    return False


def _how_to_part(card: TaskCard, a: str, b: str) -> str:
    """What to write so that two slots or cells cannot be the same word: the end of an error's sentence."""
    row_a, row_b = (name.partition(".")[0] for name in (a, b))
    together = {row_a, row_b} <= set(card.rows) and row_a != row_b and card.rows[row_a] == card.rows[row_b]
    if together and not _apart(card, row_a, row_b):
        return f"put {row_a} and {row_b} in one distinct group."
    return "put them in one distinct group."


def _apart(card: TaskCard, a: str, b: str) -> bool:
    return any(a in group and b in group for group in card.distinct)


def _places(cells: tuple[Cell, ...]) -> dict[str, set[int]]:
    """In which rows each word stands."""
    found: dict[str, set[int]] = defaultdict(set)
    for row, cell in enumerate(cells):
        for word in cell:
            found[word].add(row)
    return found


def pair_problems(pairs: Sequence[PairText], metric: str) -> Iterator[str]:
    """Yields one line per problem of a task's pairs, each with the pair's place."""
    need_right, need_wrong = answers_needed(metric)
    seen: dict[tuple[str, str], PairText] = {}
    any_right, any_wrong = (any(answers) for answers in zip(*map(_answers, pairs), strict=True)) if pairs else (0, 0)
    for i, pair in enumerate(pairs):
        where = pair.where or f"pairs[{i}]"
        yield from (f"{where}: {problem}" for problem in _problems_of(pair))
        first = seen.setdefault((pair.clean, pair.corrupt), pair)
        if first.model_copy(update={"where": pair.where}) != pair:  # where they stand does not count
            yield (
                f"{where}: the same prompts as {first.where or f'pairs[{pairs.index(first)}]'} with other answers, "
                "reading position or group: keep one of the two, with all its answers."
            )
        right, wrong = _answers(pair)
        if not right:
            if any_right:
                yield f"{where}: answers: missing, and other pairs have them: give them in every pair or in none."
            elif need_right:
                yield f"{where}: answers: missing, and the metric {metric} needs them (kl does not)."
        if not wrong and any_wrong:
            yield f"{where}: wrong_answers: missing, and other pairs have them: give them in every pair or in none."
        elif not wrong and need_wrong:
            yield f"{where}: wrong_answers: missing, and the metric {metric} needs them (nll and kl do not)."


def _answers(pair: PairText) -> tuple[tuple[object, ...], tuple[object, ...]]:
    return pair.answers or pair.answer_ids, pair.wrong_answers or pair.wrong_answer_ids


def _problems_of(pair: PairText) -> Iterator[str]:
    yield from (f"{key}: the prompt is empty." for key in ("clean", "corrupt") if not getattr(pair, key).strip())
    yield from _half_characters(pair)
    if pair.clean == pair.corrupt:
        yield "corrupt: it is the same prompt as clean."
    right, wrong = _answers(pair)
    for key, texts, found in (("answers", pair.answers, right), ("wrong_answers", pair.wrong_answers, wrong)):
        if "" in texts:
            yield f"{key}: an answer is empty."
        if len(set(found)) < len(found):
            yield f"{key}: an answer is listed twice."
    both = sorted(repr(answer) for answer in set(right) & set(wrong))
    if both:
        yield f"wrong_answers: right and wrong at the same time: {', '.join(both)}."
    if wrong and not right:
        yield "wrong_answers: wrong answers without right ones."


def _half_characters(pair: PairText) -> Iterator[str]:
    """JSON can write half of a character that needs two of UTF-16; no tokenizer takes it."""
    for key in ("clean", "corrupt", "answers", "wrong_answers"):
        found = getattr(pair, key)
        for text in (found,) if isinstance(found, str) else found:
            if not text.isascii() and (half := re.search("[\ud800-\udfff]", text)):
                yield (
                    f"{key}: its character {half.start() + 1} is half of a surrogate pair, {ascii(half.group())[1:-1]}"
                    ", which is no text: write the whole character or take it out."
                )
