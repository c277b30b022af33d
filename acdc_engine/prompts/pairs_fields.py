"""What the fields and columns of a pairs file are called, here and in the files of other tools."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from acdc_engine.errors import nearest

CLEAN, CORRUPT, RIGHT, WRONG = "clean", "corrupt", "answers", "wrong_answers"
RIGHT_IDS, WRONG_IDS = "answer_ids", "wrong_answer_ids"
TEMPLATE = "template"

_FIELDS = {
    "clean": CLEAN,
    "corrupt": CORRUPT,
    "answers": RIGHT,
    "wrong_answers": WRONG,
    "read_at": "read_at",
    "template": TEMPLATE,
    # Other names for the same, as texts.
    "group": TEMPLATE,
    "corrupted": CORRUPT,
    "answer": RIGHT,
    "correct": RIGHT,
    "wrong_answer": WRONG,
    "incorrect": WRONG,
    # Token ids: the columns that EAP-IG and the MIB circuit track read, for IOI and coloured objects, hypernymy,
    # capitals and gendered pronouns.
    "answer_ids": RIGHT_IDS,
    "wrong_answer_ids": WRONG_IDS,
    "correct_idx": RIGHT_IDS,
    "incorrect_idx": WRONG_IDS,
    "answers_idx": RIGHT_IDS,
    "corrupted_answers": WRONG,
    "corrupted_answers_idx": WRONG_IDS,
    "country_idx": RIGHT_IDS,
    "corrupted_country_idx": WRONG_IDS,
    "clean_answer_idx": RIGHT_IDS,
    "corrupted_answer_idx": WRONG_IDS,
}
_ONCE = {
    RIGHT: "right answers",
    RIGHT_IDS: "right answers' token ids",
    WRONG: "wrong answers",
    WRONG_IDS: "wrong answers' token ids",
    CORRUPT: "corrupt prompt",
    TEMPLATE: "group of the pair",
}
"""What one field can say; texts of answers may stand beside their token ids."""
_SIMILAR = 0.8


def is_field(name: str) -> bool:
    """Whether the engine understands a field or column of that name."""
    return name in _FIELDS


def holds_numbers(name: str) -> bool:
    """Whether what stands in a field is a number."""
    return _FIELDS[name] in (RIGHT_IDS, WRONG_IDS, "read_at")


def holds_lists(name: str) -> bool:
    """Whether several things can stand in a field."""
    return _FIELDS[name] in (RIGHT, WRONG, RIGHT_IDS, WRONG_IDS)


def renamed(fields: dict[str, object]) -> dict[str, object]:
    """Returns what the engine understands of an entry, under its own names."""
    return {_FIELDS[name]: value for name, value in fields.items() if name in _FIELDS}


def field_problems(names: Collection[str]) -> Iterator[str]:
    """Yields what is wrong with the names of a JSON object: unknown ones, two for the same thing, missing prompts."""
    for name in names:
        if name not in _FIELDS:
            yield f"{name}: unknown field.{nearest(name, _FIELDS)}"
    yield from _combination_problems(names)


def column_problems(header: Sequence[str]) -> Iterator[str]:
    """Yields what is wrong with a CSV file's header.

    Columns the engine has no use for are allowed there, other tools' files being full of them, unless one of them is
    likely to be meant for one it has a use for.
    """
    for name, count in Counter(header).items():
        if count > 1 and name in _FIELDS:
            yield f"{name}: the header has this column {count} times."
    unknown = [name for name in header if name not in _FIELDS]
    for name in unknown:
        close = difflib.get_close_matches(name, _FIELDS, n=1, cutoff=_SIMILAR)
        if close and close[0] not in header:
            yield f"{name}: unknown column. Did you mean {close[0]!r}?"
    yield from _combination_problems(header)
    if unknown and not {_FIELDS[name] for name in header if name in _FIELDS} & {RIGHT, RIGHT_IDS}:
        yield (
            f"no column is known to hold right answers; {', '.join(map(repr, unknown))} cannot be used. Columns with "
            f"answers are called {_names_of(RIGHT)} (texts) or {_names_of(RIGHT_IDS)} (token ids)."
        )


def _combination_problems(names: Collection[str]) -> Iterator[str]:
    by_meaning: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        if name in _FIELDS:
            by_meaning.setdefault(_FIELDS[name], []).append(name)
    for field in (CLEAN, CORRUPT):
        if field not in by_meaning:
            yield f"{field}: missing."
    for meaning, what in _ONCE.items():
        given = by_meaning.get(meaning, [])
        if len(given) > 1:
            yield f"{' and '.join(given)} both hold the {what}: keep one of them."
    if "correct_idx" in names and not {WRONG, WRONG_IDS} & by_meaning.keys():
        yield (
            "correct_idx without incorrect_idx is, in EAP-IG's greater-than files, a year and no token: use the task "
            "greater_than, or write answers and wrong_answers."
        )


def _names_of(field: str) -> str:
    return ", ".join(name for name, meaning in _FIELDS.items() if meaning == field)
