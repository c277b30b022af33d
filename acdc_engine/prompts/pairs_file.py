"""A file of prompt pairs as a task: JSON lines, auto-circuit's JSON, or a table with the columns of EAP-IG and MIB."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import ValidationError

from acdc_engine.errors import TaskError
from acdc_engine.prompts.card import MetricName, PairText, TaskCard
from acdc_engine.prompts.pair_problems import pair_problems
from acdc_engine.prompts.pairs_fields import renamed
from acdc_engine.prompts.pairs_formats import Entry, read_pairs
from acdc_engine.prompts.schema_errors import explain
from acdc_engine.prompts.text_file import NotText, read_text

SHOWN = 40
"""How many problems an error lists; the rest are counted."""
_START = 10_000
"""Bytes that tell what a file is."""


def load_pairs(path: Path) -> TaskCard:
    """Reads a task from a file of prompt pairs.

    Fields: `clean`, `corrupt`, `answers`, `wrong_answers` (a text or a list), and optionally `read_at` and `template`
    (or `group`); other tools' names for them, and token ids instead of texts, are understood as well
    (pairs_fields.py).

    Args:
        path: JSON with one pair a line, a list of them or auto-circuit's object, or a table (.csv, .tsv). What the file
            begins with counts, not its name.

    Returns:
        The card: called like the file, with the pairs written out; its metric is logit_diff where there are wrong
        answers, nll where there are right ones only, kl where there are none.

    Raises:
        TaskError: The file cannot be read, or has problems; each is listed with its line, the first 40 of them.
    """
    entries = list(read_pairs(_text(path), path.suffix.lower()))
    problems = [problem for entry in entries for problem in entry.problems]
    pairs = [pair for entry in entries if not entry.problems and (pair := _pair(entry, problems)) is not None]
    metric = _metric(pairs)
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


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except OSError as error:
        raise TaskError(f"The pairs file {path} cannot be read: {error.strerror}.") from None
    except NotText as error:
        raise TaskError(_message(path, error.problems)) from None


def _pair(entry: Entry, problems: list[str]) -> PairText | None:
    """The entry as a pair; or None, with what is wrong added to the problems."""
    try:
        return PairText.model_validate({**renamed(entry.fields), "where": entry.where})
    except ValidationError as error:
        problems += [f"{entry.where}: {line}" for line in explain(error, lambda _: [])]
        return None


def _metric(pairs: Iterable[PairText]) -> MetricName:
    if any(pair.wrong_answers or pair.wrong_answer_ids for pair in pairs):
        return "logit_diff"
    return "nll" if any(pair.answers or pair.answer_ids for pair in pairs) else "kl"


def _name(stem: str) -> str:
    """A task's name made from a file's: `IOI-pairs v2` becomes `ioi_pairs_v2`."""
    name = re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_")
    return name if re.match("[a-z]", name) else f"pairs_{name}".rstrip("_")


def _line(problem: str) -> int:
    found = re.match(r"line (\d+)", problem)
    return int(found.group(1)) if found else 0


def _message(path: Path, problems: Sequence[str]) -> str:
    count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = [f"The pairs file {path} has {count}:", *(f"  {problem}" for problem in problems[:SHOWN])]
    if len(problems) > SHOWN:
        lines.append(f"  ... and {len(problems) - SHOWN} more.")
    return "\n".join(lines)
