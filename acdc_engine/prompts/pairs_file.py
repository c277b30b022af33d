"""A file of prompt pairs as a task: JSON lines, auto-circuit's JSON, or a table with the columns of EAP-IG and MIB."""

from __future__ import annotations

import ast
import codecs
import csv
import difflib
import io
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from acdc_engine.errors import TaskError, nearest
from acdc_engine.prompts.card import NotText, PairText, TaskCard, read_text
from acdc_engine.prompts.card_problems import explain, pair_problems

_SHOWN = 40
"""How many problems an error lists; the rest are counted."""
_START = 10_000
"""Bytes that tell what a file is."""
_PAIR = '{"clean": ..., "corrupt": ..., "answers": [...], "wrong_answers": [...]}'
_SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a vertical bar"}
_NAMES = {
    "clean": ("clean",),
    "corrupt": ("corrupt", "corrupted"),
    "answers": ("answers", "answer", "correct"),
    "wrong_answers": ("wrong_answers", "wrong_answer", "incorrect", "corrupted_answers"),
    "read_at": ("read_at",),
    "template": ("template", "group"),
    # Token ids: the columns that EAP-IG and the MIB circuit track read, for IOI and coloured objects, hypernymy,
    # capitals and gendered pronouns.
    "answer_ids": ("answer_ids", "correct_idx", "answers_idx", "country_idx", "clean_answer_idx"),
    "wrong_answer_ids": (
        "wrong_answer_ids",
        *("incorrect_idx", "corrupted_answers_idx", "corrupted_country_idx", "corrupted_answer_idx"),
    ),
}
"""What a pair's fields are called here and in the files of other tools, as columns or keys."""
_FIELDS = {name: field for field, names in _NAMES.items() for name in names}
_ONCE = {
    "answers": "right answers",
    "answer_ids": "right answers' token ids",
    "wrong_answers": "wrong answers",
    "wrong_answer_ids": "wrong answers' token ids",
    "corrupt": "corrupt prompt",
    "template": "group of the pair",
}
"""What one field can say; texts of answers may stand beside their token ids."""


def load_pairs(path: Path) -> TaskCard:
    """Reads a task from a file of prompt pairs.

    Fields: `clean`, `corrupt`, `answers`, `wrong_answers` (a text or a list), and optionally `read_at` and `template`
    (or `group`); other tools' names for them, and token ids instead of texts, are understood as well.

    Args:
        path: JSON with one pair a line, a list of them or auto-circuit's object, or a table (.csv, .tsv). What the file
            begins with counts, not its name.

    Returns:
        The card: called like the file, with the pairs written out; its metric is logit_diff where there are wrong
        answers, nll where there are right ones only, kl where there are none.

    Raises:
        TaskError: The file cannot be read, or has problems; each is listed with its line, the first 40 of them.
    """
    try:
        text = read_text(path)
    except OSError as error:
        raise TaskError(f"The pairs file {path} cannot be read: {error.strerror}.") from None
    except NotText as error:
        raise TaskError(_message(path, error.problems)) from None
    entries = list(_read_pairs(text, path.suffix.lower()))
    problems = [problem for entry in entries for problem in entry.problems]
    pairs = [pair for entry in entries if not entry.problems and (pair := _pair(entry, problems)) is not None]
    metric = "kl"
    if any(pair.wrong_answers or pair.wrong_answer_ids for pair in pairs):
        metric = "logit_diff"
    elif any(pair.answers or pair.answer_ids for pair in pairs):
        metric = "nll"
    problems += pair_problems(pairs, metric)
    if not entries:
        problems = ["it has no pairs."]
    if problems:
        raise TaskError(_message(path, sorted(problems, key=_line)))
    return TaskCard(
        name=_name(path.stem),
        description=f"The {len(pairs)} prompt pairs of {path.name}.",
        metric=metric,
        pairs=tuple(pairs),
    )


def looks_like_pairs(path: Path) -> bool:
    """Whether a file of any name begins like prompt pairs: with JSON, or with a header that names the prompts."""
    try:
        with path.open("rb") as file:
            start = file.read(_START).removeprefix(codecs.BOM_UTF8).decode(errors="ignore").lstrip()
    except OSError:
        return False
    names = re.split(r"[,;\t|]", start.split("\n", 1)[0])
    return start[:1] in ("{", "[") or "clean" in (name.strip().strip('"') for name in names)


def _pair(entry: _Entry, problems: list[str]) -> PairText | None:
    """The entry as a pair; or None, with what is wrong added to the problems."""
    known = {_FIELDS[name]: value for name, value in entry.fields.items() if name in _FIELDS}
    try:
        return PairText.model_validate({**known, "where": entry.where})
    except ValidationError as error:
        problems += [f"{entry.where}: {line}" for line in explain(error, lambda _: [])]
        return None


def _name(stem: str) -> str:
    """A task's name made from a file's: `IOI-pairs v2` becomes `ioi_pairs_v2`."""
    name = re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_")
    return name if re.match("[a-z]", name) else f"pairs_{name}".rstrip("_")


def _line(problem: str) -> int:
    found = re.match(r"line (\d+)", problem)
    return int(found.group(1)) if found else 0


def _message(path: Path, problems: Sequence[str]) -> str:
    count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = [f"The pairs file {path} has {count}:", *(f"  {problem}" for problem in problems[:_SHOWN])]
    if len(problems) > _SHOWN:
        lines.append(f"  ... and {len(problems) - _SHOWN} more.")
    return "\n".join(lines)


def _field_problems(names: Collection[str]) -> Iterator[str]:
    """What is wrong with the names of a JSON object."""
    for name in names:
        if name not in _FIELDS:
            yield f"{name}: unknown field.{nearest(name, _FIELDS)}"
    yield from _combination_problems(names)


def _column_problems(header: Sequence[str]) -> Iterator[str]:
    """What is wrong with a table's header.

    Columns the engine has no use for are allowed there, other tools' files being full of them, unless one of them is
    likely to be meant for one it has a use for.
    """
    for name, count in Counter(header).items():
        if count > 1 and name in _FIELDS:
            yield f"{name}: the header has this column {count} times."
    unknown = [name for name in header if name not in _FIELDS]
    for name in unknown:
        close = difflib.get_close_matches(name, _FIELDS, n=1, cutoff=0.8)
        if close and close[0] not in header:
            yield f"{name}: unknown column. Did you mean {close[0]!r}?"
    yield from _combination_problems(header)
    if unknown and not {_FIELDS[name] for name in header if name in _FIELDS} & {"answers", "answer_ids"}:
        texts, ids = (", ".join(_NAMES[field]) for field in ("answers", "answer_ids"))
        yield (
            f"no column is known to hold right answers; {', '.join(map(repr, unknown))} cannot be used. Columns with "
            f"answers are called {texts} (texts) or {ids} (token ids)."
        )


def _combination_problems(names: Collection[str]) -> Iterator[str]:
    by_meaning: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        if name in _FIELDS:
            by_meaning.setdefault(_FIELDS[name], []).append(name)
    for field in ("clean", "corrupt"):
        if field not in by_meaning:
            yield f"{field}: missing."
    for meaning, what in _ONCE.items():
        given = by_meaning.get(meaning, [])
        if len(given) > 1:
            yield f"{' and '.join(given)} both hold the {what}: keep one of them."
    if "correct_idx" in names and not {"wrong_answers", "wrong_answer_ids"} & by_meaning.keys():
        yield (
            "correct_idx without incorrect_idx is, in EAP-IG's greater-than files, a year and no token: use the task "
            "greater_than, or write answers and wrong_answers."
        )


@dataclass(frozen=True)
class _Entry:
    """One pair of a file: its place (`line 7`), its fields under the file's own names, what is wrong with it so far."""

    where: str
    fields: dict[str, Any]
    problems: tuple[str, ...] = ()


def _read_pairs(text: str, ending: str) -> Iterator[_Entry]:
    """One entry per pair; what the text begins with says more than the ending of its file's name."""
    if text.lstrip()[:1] in ("{", "["):
        return _read_jsonl(text) if _is_one_a_line(text, ending) else _read_json(text)
    return _read_jsonl(text) if ending in (".jsonl", ".json") else _read_csv(text)


def _is_one_a_line(text: str, ending: str) -> bool:
    """Whether JSON has one pair a line; of a text that is no sound JSON at all its name says so."""
    lines = text.strip().split("\n", 1)
    try:
        first = json.loads(lines[0])
    except ValueError:
        try:
            json.loads(text)
        except ValueError:
            return ending == ".jsonl"
        return False
    return isinstance(first, dict) and (len(lines) > 1 or "prompts" not in first)


def _fault(error: ValueError) -> str:
    """In words; numbers of thousands of digits are no JSONDecodeError."""
    return f"{error.msg} (column {error.colno})" if isinstance(error, json.JSONDecodeError) else str(error)


def _read_jsonl(text: str) -> Iterator[_Entry]:
    """Yields one entry per line; empty lines are skipped."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"line {number}"
            try:
                found = json.loads(line)
            except ValueError as error:
                yield _Entry(where, {}, (f"{where}: not JSON: {_fault(error)}.",))
            else:
                yield _of_json(where, found)


def _read_json(text: str) -> Iterator[_Entry]:
    """Yields one entry per pair of a list, or of auto-circuit's `prompts`; what else stands there is not needed."""
    try:
        found = json.loads(text)
    except ValueError as error:
        where = f"line {getattr(error, 'lineno', 1)}"
        yield _Entry(where, {}, (f"{where}: not JSON: {_fault(error)}.",))
        return
    pairs = found.get("prompts") if isinstance(found, dict) else found
    if not isinstance(pairs, list):
        rule = f'it is no list of pairs: give [{_PAIR}, ...], the same as "prompts" of an object, or one pair a line.'
        yield _Entry("", {}, (rule,))
        return
    lines = _lines_of_pairs(text)
    shared = Counter(lines)
    name = "prompts" if isinstance(found, dict) else ""
    for i, (line, fields) in enumerate(zip(lines, pairs, strict=True)):
        yield _of_json(f"line {line}" if shared[line] == 1 else f"line {line}, {name}[{i}]", fields)


def _read_csv(text: str) -> Iterator[_Entry]:
    """Yields one entry per row below the header; empty cells count as left out, lists are written `[' a', ' b']`.

    Cells are separated by commas, semicolons, tabs or bars: by what parts the header into most columns that are known.
    """
    first = text.lstrip().split("\n", 1)[0]
    known = {each: sum(name.strip().strip('"') in _FIELDS for name in first.split(each)) for each in _SEPARATORS}
    separator = max(known, key=known.__getitem__)
    rows = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    start, header = 1, list[str]()
    try:
        for row in rows:
            where, start = f"line {start}", rows.line_num + 1
            if not any(cell.strip() for cell in row):
                continue
            if not header:
                header = [name.strip() for name in row]
                problems = tuple(f"{where}: {problem}" for problem in _column_problems(header))
                if problems:
                    shown = ", ".join(map(repr, header))
                    found = f"{where}: the columns, with {_SEPARATORS[separator]} between them, are {shown}."
                    yield _Entry(where, {}, (*problems, found))
                    return
            elif len(row) != len(header):
                problem = (
                    f"{where}: it has {len(row)} cells, and the header has {len(header)}. A cell with "
                    f"{_SEPARATORS[separator]} in it stands in double quotes."
                )
                yield _Entry(where, {}, (problem,))
            else:
                cells = zip(header, row, strict=True)
                yield _Entry(where, {name: _value(name, cell) for name, cell in cells if cell and name in _FIELDS})
    except csv.Error as error:
        yield _Entry(f"line {start}", {}, (f"line {start}: not CSV: {error}.",))


def _of_json(where: str, found: Any) -> _Entry:
    if not isinstance(found, dict):
        shown = "a list" if isinstance(found, list) else repr(found)
        return _Entry(where, {}, (f'{where}: a pair is an object such as {{"clean": "...", ...}}, not {shown}.',))
    fields = {name: value for name, value in found.items() if value is not None}
    return _Entry(where, fields, tuple(f"{where}: {problem}" for problem in _field_problems(fields)))


def _lines_of_pairs(text: str) -> list[int]:
    """The line on which each pair begins, in JSON that is known to be sound: a list, or an object with `prompts`."""
    decoder, blank = json.JSONDecoder(), re.compile(r"[\s,:]*")

    def skip(at: int) -> int:
        found = blank.match(text, at)
        return at if found is None else found.end()

    def lines_of_list(at: int) -> list[int]:
        lines, at = list[int](), skip(at + 1)
        line, counted = text.count("\n", 0, at) + 1, at
        while text[at] != "]":
            line, counted = line + text.count("\n", counted, at), at
            lines.append(line)
            _, at = decoder.raw_decode(text, at)
            at = skip(at)
        return lines

    at = skip(0)
    if text[at] == "[":
        return lines_of_list(at)
    lines, at = list[int](), skip(at + 1)
    while text[at] != "}":
        key, at = decoder.raw_decode(text, at)
        at = skip(at)
        if key == "prompts":
            lines = lines_of_list(at)  # of two lists of that name the last one counts, as in json.loads
        _, at = decoder.raw_decode(text, at)
        at = skip(at)
    return lines


def _value(name: str, cell: str) -> Any:
    """What a CSV cell says: numbers and lists where the column can hold them, else the text as it stands."""
    field = _FIELDS[name]
    if field in ("answer_ids", "wrong_answer_ids", "read_at") and re.fullmatch(r"-?\d+", cell):
        return int(cell)
    if field not in ("clean", "corrupt", "read_at", "template") and cell.startswith("[") and cell.endswith("]"):
        try:
            return ast.literal_eval(cell)
        except (SyntaxError, ValueError):  # a text that happens to stand in brackets
            return cell
    return cell
