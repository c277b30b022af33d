"""What can be wrong between the parts of a card, found without a tokenizer; and pydantic's errors as lines."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from acdc_engine.errors import MetricError, PromptError, TaskError, did_you_mean, nearest
from acdc_engine.graph.spans import Spans
from acdc_engine.prompts.generators import generator_parameters, get_generator
from acdc_engine.prompts.template import BOS, READ, REST, NamedRange, PairTemplate

if TYPE_CHECKING:
    from acdc_engine.prompts.card import Cell, PairText, TaskCard

_OF = {
    BOS: "the beginning-of-sequence token",
    READ: "the position that is read",
    REST: "what lies in no span",
}
"""Spans that have their names already."""
_LONGEST = 100
"""Characters shown of what was found."""
_NEEDED = {"logit_diff": (True, True), "prob_diff": (True, True), "nll": (True, False), "kl": (False, False)}
"""Whether the engine's metrics need right and wrong answers, as metrics.py says; that needs torch, and cards do not."""
_GOES_WITH = {
    "templates": ("words", "slots", "tables", "rows", "distinct", "spans"),
    "pairs": (),
    "generator": ("parameters",),
}
"""Where a card's prompts come from, and the other keys that each of these sources takes."""


def explain(error: ValidationError, known: Mapping[str, Sequence[str]], prefix: tuple[str, ...] = ()) -> list[str]:
    """Returns one line per problem: `templates[0].clen: unknown key. Did you mean 'clean'? Known: ...`.

    `known` has the keys of the validated table, under "", and of the tables in it; `prefix` is where that table lies.
    """
    lines: list[str] = []
    for item in error.errors():
        path = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in (*prefix, *item["loc"]))
        where, kind = "".join(path).removeprefix("."), item["type"]
        if kind == "value_error":  # a validator's own
            said = str(item["ctx"]["error"]).split("\n")
        elif kind == "extra_forbidden":
            *table, key = item["loc"]
            said = [f"unknown key.{nearest(str(key), known.get(str(table[0]) if table else '', ()))}"]
        elif kind == "missing":
            said = ["missing."]
        else:
            found = repr(item["input"])
            shown = found if len(found) <= _LONGEST else f"{found[: _LONGEST - 3]}..."
            said = [f"{item['msg']} (found {shown})."]
        lines += [f"{where}: {line}" if where else line for line in said]
    return lines


def card_problems(card: TaskCard) -> Iterator[str]:
    """Yields one line per problem, each with the path of its key."""
    try:
        answers_needed(card.metric)
    except MetricError as error:
        yield f"metric: {error}"
        return
    sources = [key for key in _GOES_WITH if getattr(card, key)]
    if len(sources) != 1:
        there = " and ".join(sources) or "none of them"
        yield f"templates: a card has either [[templates]], [[pairs]] or a generator, and this one {there}."
        return
    for key in (key for source, keys in _GOES_WITH.items() if source not in sources for key in keys):
        if getattr(card, key):
            yield f"{key}: a card with {sources[0]} has no {key}."
    if card.generator:
        yield from _generator_problems(card.generator, card.parameters)
    elif card.pairs:
        yield from pair_problems(card.pairs, card.metric)
    else:
        yield from _template_problems(card)
        given = {f"templates[{i}].": (text.answers, text.wrong_answers) for i, text in enumerate(card.templates)}
        yield from _missing_answers(card.metric, given)


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


def pair_problems(pairs: Sequence[PairText], metric: str) -> Iterator[str]:
    """Yields one line per problem between a task's pairs, each with the pair's place."""
    places = [pair.where or f"pairs[{i}]" for i, pair in enumerate(pairs)]
    first: dict[tuple[str, str], int] = {}
    for i, pair in enumerate(pairs):
        j = first.setdefault((pair.clean, pair.corrupt), i)
        if pairs[j].model_copy(update={"where": pair.where}) != pair:  # where they stand does not count
            yield (
                f"{places[i]}: the same prompts as {places[j]} with other answers, reading position, group or spans: "
                "keep one of the two, with all its answers."
            )
    answers = [(pair.answers or pair.answer_ids, pair.wrong_answers or pair.wrong_answer_ids) for pair in pairs]
    yield from _missing_answers(metric, {f"{place}: ": each for place, each in zip(places, answers, strict=True)})


def _missing_answers(metric: str, given: Mapping[str, tuple[Sequence[Any], Sequence[Any]]]) -> Iterator[str]:
    """`given` has the right and the wrong answers, by where they stand."""
    for side, (key, others) in enumerate((("answers", "kl"), ("wrong_answers", "nll or kl"))):
        needed, any_given = answers_needed(metric)[side], any(both[side] for both in given.values())
        why = f"the metric {metric} needs them" if needed else "others have them"
        why += ": give them in all or in none" if any_given else f": add them, or use {others}"
        for where, both in given.items():
            if not both[side] and (needed or any_given):
                yield f"{where}{key}: missing, and {why}."
            elif side and both[1] and not both[0]:
                yield f"{where}{key}: wrong answers without right ones."


def _generator_problems(name: str, parameters: Mapping[str, Any]) -> Iterator[str]:
    try:
        generator_parameters(name, parameters)
    except ValidationError as error:
        model: Any = get_generator(name).parameters
        yield from explain(error, {"": list(model.model_fields)}, prefix=("parameters",))
    except TaskError as error:
        yield f"generator: {error} A generator of your own comes in a plug-in (docs/tasks.md)."


def _template_problems(card: TaskCard) -> Iterator[str]:
    patterns = {f"templates[{i}]": text.parse() for i, text in enumerate(card.templates)}
    yield from _unused(card, [name for pattern in patterns.values() for name in pattern.all_slots])
    cells = _cells(card)
    for slot, listed in card.slots.items():
        if listed not in card.words:
            yield f"slots.{slot}: there is no word list {listed!r}.{nearest(listed, card.words)}"
    for row, table in card.rows.items():
        if table not in card.tables:
            yield f"rows.{row}: there is no table {table!r}.{nearest(table, card.tables)}"
        if row in card.slots:
            yield f"rows.{row}: there is a slot of that name too: rename one."
    for i, group in enumerate(card.distinct):
        if len(set(group)) < max(2, len(group)) or len({card.rows.get(name) for name in group}) > 1:
            yield f"distinct[{i}]: needs two or more slots, cells or rows of one table, each once, not {list(group)}."
        for name in group:
            if name not in cells and name not in card.rows:
                yield f"distinct[{i}]: there is no slot, cell or row {name!r}.{nearest(name, [*cells, *card.rows])}"
    times = Counter(text.name for text in card.templates)
    for where, pattern in patterns.items():
        if times[pattern.name] > 1:
            yield f"{where}.name: more than one template is called {pattern.name!r}."
        for name in pattern.all_slots:
            if name not in cells:
                yield f"{where}: there is no slot or cell {{{name}}}.{nearest(name, cells)}"
            elif name in (*pattern.clean.slots, *pattern.corrupt.slots):
                odd = [list(cell) for cell in cells[name] if len(cell) > 1 or cell[0][:1].isspace()]
                if odd:
                    more = f" and {len(odd) - 1} more" if odd[1:] else ""
                    yield (
                        f"{where}: {{{name}}} stands in a prompt, where every cell of its column must be one word "
                        f"without a space in front, not {odd[0]}{more}."
                    )
        yield from (f"{where}.{problem}" for problem in _equal_words(card, pattern, cells))
    yield from _renaming(card.spans, [name for pattern in patterns.values() for name in pattern.clean.span_names()])


def span_name(name: str) -> str:
    """Returns a name that a span may have.

    Raises:
        ValueError: It may not: it cannot be written behind an edge, or other tokens have it.
    """
    try:
        Spans((name,), ((True,),), 0)
    except PromptError as error:
        raise ValueError(error) from None
    if name in (BOS, REST):
        raise ValueError(f"{name!r} is the name of {_OF[name]}: choose another one.")
    return name


def given_spans(spans: Sequence[NamedRange], text: str) -> Iterator[str]:
    """Yields one line per problem between the spans that are given for a text, as far as no tokens are needed."""
    for name, times in Counter(span.name for span in spans).items():
        if times > 1:
            yield f"spans: {times} of them are called {name!r}: each needs a name of its own."
    for unit, in_tokens in (("tokens", True), ("characters", False)):
        there = sorted((span for span in spans if span.in_tokens == in_tokens), key=lambda span: span[1:3])
        for one, other in pairwise(there):
            if other.start < one.stop:
                ranges = " and ".join(f"{span.start} to {span.stop - 1}" for span in (one, other))
                yield f"spans: {one.name!r} and {other.name!r} overlap: they are the {unit} {ranges}."
    for span in spans:
        if not span.in_tokens and span.stop > len(text):
            yield (
                f"spans: {span.name!r} runs past the prompt: its stop is {span.stop}, and the prompt has "
                f"{len(text)} characters."
            )


def _renaming(renamed: Mapping[str, Sequence[str]], names: Sequence[str]) -> Iterator[str]:
    """What is wrong with a card's other names for the spans that its templates have."""
    there = [name for name in dict.fromkeys(names) if name]
    times = Counter(name for given in renamed.values() for name in given)
    for new, given in renamed.items():
        try:
            span_name(new)
        except ValueError as error:
            yield f"spans.{new}: {error}"
        if new == READ:
            yield f"spans.{new}: {READ!r} is the name of {_OF[READ]}, alone: choose another one."
        elif new in there and not times[new]:
            yield f"spans.{new}: a span of the templates is called {new!r} already: list it here, or rename it."
        for name in dict.fromkeys(given):
            if name in (READ, BOS):
                yield f"spans.{new}: {name!r} keeps its name: it is {_OF[name]}."
            elif name not in there:
                listed = ", ".join(map(repr, there))
                meant = did_you_mean(name, there)
                yield f"spans.{new}: the templates have no span {name!r}.{meant} There are: {listed}."
            elif times[name] > 1:
                yield f"spans.{new}: {name!r} is listed {times[name]} times: a span has one name."


def _unused(card: TaskCard, named: Sequence[str]) -> Iterator[str]:
    used = {
        "slots": set(named),
        "rows": {name.partition(".")[0] for name in named},
        "words": set(card.slots.values()),
        "tables": set(card.rows.values()),
    }
    for key, names in used.items():
        yield from (f"{key}.{name}: nothing uses it." for name in getattr(card, key) if name not in names)


def _cells(card: TaskCard) -> dict[str, tuple[Cell, ...]]:
    """What each slot `A` and cell `X.capital` can be, in the order of its list or column."""
    found = dict[str, "tuple[Cell, ...]"]()
    for slot, name in card.slots.items():
        found[slot] = tuple((word,) for word in card.words[name].words) if name in card.words else ()
    for row, name in card.rows.items():
        if name in card.tables:
            found |= {f"{row}.{column}": cells for column, cells in card.tables[name].columns.items()}
    return found


def _equal_words(card: TaskCard, pattern: PairTemplate, cells: Mapping[str, tuple[Cell, ...]]) -> Iterator[str]:
    """What must differ and can be the same word: what is replaced, and right and wrong answers."""
    for a, b in pattern.replaced:
        if _can_be_equal(card, a, b, cells):
            yield (
                f"corrupt: {{{a}}} is replaced by {{{b}}}, and both can be the same word: put them, or their rows, in "
                "one distinct group."
            )
    for right, wrong in product(pattern.answers, pattern.wrong_answers):
        if right == wrong:
            yield "wrong_answers: the same answer is right and wrong."
        elif right.texts == wrong.texts:
            differ = [(a, b) for a, b in zip(right.slots, wrong.slots, strict=True) if a != b]
            if all(_can_be_equal(card, a, b, cells) for a, b in differ):  # of several cells one that differs is enough
                a, b = differ[0]
                yield (
                    f"wrong_answers: {{{a}}} is right and {{{b}}} wrong, and both can be the same word: put them in "
                    "one distinct group."
                )


def _can_be_equal(card: TaskCard, a: str, b: str, cells: Mapping[str, tuple[Cell, ...]]) -> bool:
    """Whether two slots or cells can have a word in common, for all that the card's `distinct` groups say."""

    def apart(one: str, other: str) -> bool:
        return any(one in group and other in group for group in card.distinct)

    def places(name: str) -> dict[str, set[int]]:  # the rows of each word
        found: dict[str, set[int]] = defaultdict(set)
        for row, cell in enumerate(cells.get(name, ())):
            for word in cell:
                found[word].add(row)
        return found

    if apart(a, b):
        return False
    first, second = places(a), places(b)
    row_a, row_b = (name.partition(".")[0] for name in (a, b))
    both = first.keys() & second.keys()
    if row_a == row_b:
        return any(first[word] & second[word] for word in both)
    return any(not apart(row_a, row_b) or len(first[word] | second[word]) > 1 for word in both)
