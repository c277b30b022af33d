"""A file of prompt pairs as a task: JSON lines, auto-circuit's JSON, or a table with the columns of EAP-IG and MIB."""

from __future__ import annotations

import ast
import codecs
import csv
import difflib
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from acdc_engine.errors import TaskError, nearest
from acdc_engine.prompts.card import PairText, TaskCard, read_text
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
    "spans": ("spans",),
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

_Entry = tuple[str, dict[str, Any], list[str]]
"""One pair of a file: its place (`line 7`), its fields under the file's own names, what is wrong with it so far."""


def load_pairs(path: Path) -> TaskCard:
    """Reads a task from a file of prompt pairs.

    Fields: `clean`, `corrupt`, `answers`, `wrong_answers` (a text or a list), and optionally `read_at`, `template`
    (or `group`) and `spans`; other tools' names for them, and token ids instead of texts, are understood as well.

    Args:
        path: JSON with one pair a line, a list of them or auto-circuit's object, or a table (.csv, .tsv). What the file
            begins with counts, not its name.

    Returns:
        The card: called like the file, with the pairs written out; its metric is logit_diff where there are wrong
        answers, nll where there are right ones only, kl where there are none.

    Raises:
        TaskError: The file cannot be read, or has problems; the first 40 are listed, each with its place.
    """
    pairs, problems, found = list[PairText](), list[str](), False
    for where, fields, wrong in _read_pairs(read_text(path, "pairs file"), path.suffix.lower()):
        found = True
        if not wrong:
            known = {_FIELDS[name]: value for name, value in fields.items() if name in _FIELDS}
            try:
                pairs.append(PairText.model_validate({**known, "where": where}))
            except ValidationError as error:
                wrong = explain(error, {})
        problems += [f"{where}: {problem}" for problem in wrong]
    metric = "kl"
    if any(pair.wrong_answers or pair.wrong_answer_ids for pair in pairs):
        metric = "logit_diff"
    elif any(pair.answers or pair.answer_ids for pair in pairs):
        metric = "nll"
    problems += pair_problems(pairs, metric)
    if not found:
        problems = ["it has no pairs."]
    if problems:
        raise TaskError(_message(path, sorted(problems, key=_number)))
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


def _name(stem: str) -> str:
    """A task's name made from a file's: `IOI-pairs v2` becomes `ioi_pairs_v2`."""
    name = re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_")
    return name if re.match("[a-z]", name) else f"pairs_{name}".rstrip("_")


def _number(problem: str) -> int:
    found = re.match(r"(?:line |pair )(\d+)", problem)
    return int(found.group(1)) if found else 0


def _message(path: Path, problems: Sequence[str]) -> str:
    count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = [f"The pairs file {path} has {count}:", *(f"  {problem}" for problem in problems[:_SHOWN])]
    if len(problems) > _SHOWN:
        lines.append(f"  ... and {len(problems) - _SHOWN} more.")
    return "\n".join(lines)


def _name_problems(names: Sequence[str], extra: bool) -> Iterator[str]:
    """What is wrong with the names of an object, or of a table's columns, which may be `extra` ones.

    Other tools' tables are full of columns the engine has no use for; one that is likely to be meant for one it has a
    use for is refused.
    """
    meant: dict[str, list[str]] = {}
    unknown = [name for name in names if name not in _FIELDS]
    for name in unknown:
        close = difflib.get_close_matches(name, _FIELDS, n=1, cutoff=0.8)
        if not extra or (close and close[0] not in names):
            yield f"{name}: unknown {'column' if extra else 'field'}.{nearest(name, _FIELDS)}"
    for name in names:
        if name in _FIELDS:
            meant.setdefault(_FIELDS[name], []).append(name)
    yield from (f"{field}: missing." for field in ("clean", "corrupt") if field not in meant)
    for field, given in meant.items():
        if len(given) > 1:
            yield f"{' and '.join(given)} are both {field}: keep one of them."
    if "correct_idx" in names and not {"wrong_answers", "wrong_answer_ids"} & meant.keys():
        yield (
            "correct_idx without incorrect_idx is, in EAP-IG's greater-than files, a year and no token: use the task "
            "greater_than, or write answers and wrong_answers."
        )
    if extra and unknown and not {"answers", "answer_ids"} & meant.keys():
        texts, ids = (", ".join(_NAMES[field]) for field in ("answers", "answer_ids"))
        yield (
            f"no column is known to hold right answers; {', '.join(map(repr, unknown))} cannot be used. Columns with "
            f"answers are called {texts} (texts) or {ids} (token ids)."
        )


def _read_pairs(text: str, ending: str) -> Iterator[_Entry]:
    """One entry per pair; what the text begins with says more than the ending of its file's name."""
    if text.lstrip()[:1] not in ("{", "[") and ending not in (".jsonl", ".json"):
        return _read_csv(text)
    first = text.strip().split("\n", 1)[0]
    try:
        whole = json.loads(text)
    except ValueError as error:
        if ending == ".jsonl" or not text.strip() or isinstance(_sound_json(first), dict):
            return _read_jsonl(text)
        return iter([(f"line {getattr(error, 'lineno', 1)}", {}, [_fault(error)])])
    if isinstance(whole, dict):
        whole = whole.get("prompts", [whole])
    pairs = whole if isinstance(whole, list) else [whole]
    return (_of_json(f"pair {number}", found) for number, found in enumerate(pairs, start=1))


def _sound_json(text: str) -> Any:
    """What JSON says, None for what is none."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _fault(error: ValueError) -> str:
    """In words; numbers of thousands of digits are no JSONDecodeError."""
    said = f"{error.msg} (column {error.colno})" if isinstance(error, json.JSONDecodeError) else str(error)
    return f"not JSON: {said}."


def _read_jsonl(text: str) -> Iterator[_Entry]:
    """Yields one entry per line; empty lines are skipped."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield _of_json(f"line {number}", json.loads(line))
            except ValueError as error:
                yield f"line {number}", {}, [_fault(error)]


def _of_json(where: str, found: Any) -> _Entry:
    if not isinstance(found, dict):
        shown = "a list" if isinstance(found, list) else repr(found)
        return where, {}, [f"a pair is an object such as {_PAIR}, not {shown}."]
    fields = {name: value for name, value in found.items() if value is not None}
    return where, fields, list(_name_problems([*fields], extra=False))


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
                if problems := list(_name_problems(header, extra=True)):
                    shown = ", ".join(map(repr, header))
                    yield (
                        where,
                        {},
                        [*problems, f"the columns, with {_SEPARATORS[separator]} between them, are {shown}."],
                    )
                    return
            elif len(row) != len(header):
                problem = f"it has {len(row)} cells, and the header has {len(header)}. A cell with "
                yield where, {}, [f"{problem}{_SEPARATORS[separator]} in it stands in double quotes."]
            else:
                cells = zip(header, row, strict=True)
                yield where, {name: _value(name, cell) for name, cell in cells if cell and name in _FIELDS}, []
    except csv.Error as error:
        yield f"line {start}", {}, [f"not CSV: {error}."]


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
