"""The formats of a pairs file, as entries that know their line: JSON lines and lists, auto-circuit's JSON, tables."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from acdc_engine.prompts.pairs_fields import column_problems, field_problems, holds_lists, holds_numbers, is_field

_PAIR = '{"clean": ..., "corrupt": ..., "answers": [...], "wrong_answers": [...]}'
_SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a vertical bar"}


@dataclass(frozen=True)
class Entry:
    """One pair of a file.

    Attributes:
        where: Its place: `line 7`.
        fields: What the file says about it, under the file's own names.
        problems: What is wrong with it so far.
    """

    where: str
    fields: dict[str, Any]
    problems: tuple[str, ...] = ()


def read_pairs(text: str, ending: str) -> Iterator[Entry]:
    """Yields one entry per pair; what the text begins with says more than the ending of its file's name."""
    if text.lstrip()[:1] in ("{", "["):
        return read_jsonl(text) if _is_one_a_line(text, ending) else read_json(text)
    return read_jsonl(text) if ending in (".jsonl", ".json") else read_csv(text)


def _is_one_a_line(text: str, ending: str) -> bool:
    """Whether JSON has one pair a line; of a text that is no sound JSON at all its name says so."""
    lines = text.strip().split("\n", 1)
    try:
        first = json.loads(lines[0])
    except ValueError:
        return ending == ".jsonl" and not _is_json(text)
    return isinstance(first, dict) and (len(lines) > 1 or "prompts" not in first)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _fault(error: ValueError) -> str:
    """In words; numbers of thousands of digits are no JSONDecodeError."""
    return f"{error.msg} (column {error.colno})" if isinstance(error, json.JSONDecodeError) else str(error)


def read_jsonl(text: str) -> Iterator[Entry]:
    """Yields one entry per line; empty lines are skipped."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"line {number}"
            try:
                found = json.loads(line)
            except ValueError as error:
                yield Entry(where, {}, (f"{where}: not JSON: {_fault(error)}.",))
            else:
                yield _of_json(where, found)


def read_json(text: str) -> Iterator[Entry]:
    """Yields one entry per pair of a list, or of auto-circuit's `prompts`; what else stands there is not needed."""
    try:
        found = json.loads(text)
    except ValueError as error:
        where = f"line {getattr(error, 'lineno', 1)}"
        yield Entry(where, {}, (f"{where}: not JSON: {_fault(error)}.",))
        return
    pairs = found.get("prompts") if isinstance(found, dict) else found
    if not isinstance(pairs, list):
        rule = f'it is no list of pairs: give [{_PAIR}, ...], the same as "prompts" of an object, or one pair a line.'
        yield Entry("", {}, (rule,))
        return
    lines = _lines_of_pairs(text)
    shared = Counter(lines)
    name = "prompts" if isinstance(found, dict) else ""
    for i, (line, fields) in enumerate(zip(lines, pairs, strict=True)):
        yield _of_json(f"line {line}" if shared[line] == 1 else f"line {line}, {name}[{i}]", fields)


def read_csv(text: str) -> Iterator[Entry]:
    """Yields one entry per row below the header; empty cells count as left out, lists are written `[' a', ' b']`.

    Cells are separated by commas, semicolons, tabs or bars: by what parts the header into most columns that are known.
    """
    separator = _separator(text)
    rows = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    start, header = 1, list[str]()
    try:
        for row in rows:
            where, start = f"line {start}", rows.line_num + 1
            if not any(cell.strip() for cell in row):
                continue
            if not header:
                header = [name.strip() for name in row]
                problems = tuple(f"{where}: {problem}" for problem in column_problems(header))
                if problems:
                    shown = ", ".join(map(repr, header))
                    found = f"{where}: the columns, with {_SEPARATORS[separator]} between them, are {shown}."
                    yield Entry(where, {}, (*problems, found))
                    return
            elif len(row) != len(header):
                problem = (
                    f"{where}: it has {len(row)} cells, and the header has {len(header)}. A cell with "
                    f"{_SEPARATORS[separator]} in it stands in double quotes."
                )
                yield Entry(where, {}, (problem,))
            else:
                cells = zip(header, row, strict=True)
                yield Entry(where, {name: _value(name, cell) for name, cell in cells if cell and is_field(name)})
    except csv.Error as error:
        yield Entry(f"line {start}", {}, (f"line {start}: not CSV: {error}.",))


def _separator(text: str) -> str:
    header = text.lstrip().split("\n", 1)[0]

    def known(separator: str) -> int:
        return sum(is_field(name.strip().strip('"')) for name in header.split(separator))

    return max(_SEPARATORS, key=known)


def _of_json(where: str, found: Any) -> Entry:
    if not isinstance(found, dict):
        shown = "a list" if isinstance(found, list) else repr(found)
        return Entry(where, {}, (f'{where}: a pair is an object such as {{"clean": "...", ...}}, not {shown}.',))
    fields = {name: value for name, value in found.items() if value is not None}
    return Entry(where, fields, tuple(f"{where}: {problem}" for problem in field_problems(fields)))


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
    if holds_numbers(name) and re.fullmatch(r"-?\d+", cell):
        return int(cell)
    if holds_lists(name) and cell.startswith("[") and cell.endswith("]"):
        try:
            return ast.literal_eval(cell)
        except (SyntaxError, ValueError):  # a text that happens to stand in brackets
            return cell
    return cell
