"""The last check before anything runs: do the pairs, as this tokenizer splits them, line up?

A pair is right when clean and corrupt have the same number of tokens and differ only where a slot was
replaced, when the position to read is one of the prompt's, when every answer is exactly one token after the clean
prompt up to there, and when no answer is both right and wrong.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from acdc_engine.errors import PromptError
from acdc_engine.prompts.answer_tokens import AnswerReader
from acdc_engine.prompts.pair import Draft, PromptPair
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.prompts.tokenizer import Tokenizer, of_answers, show_tokens, token_ids

SHOWN = 10
"""How many failing prompts an error lists; the rest are counted."""


@dataclass(frozen=True)
class _Encoded:
    """A pair as tokens, with its texts; `read_at` counts from the first token, 0 where it is outside the prompt."""

    pair: PromptPair
    clean: list[int]
    corrupt: list[int]
    answers: list[int]
    wrong_answers: list[int]
    read_at: int


def encode(drafts: Sequence[Draft], tokenizer: Tokenizer, task: str, prepend_bos: bool = False) -> PromptSet:
    """Tokenizes pairs and checks every one of them.

    Args:
        drafts: The pairs.
        tokenizer: The model's tokenizer.
        task: The task's name, for the error's text.
        prepend_bos: Whether to put the beginning-of-sequence token in front of every prompt.

    Returns:
        The aligned batch, in the order of `drafts`.

    Raises:
        PromptError: Pairs that do not line up, are read outside the prompt or appear twice, the first ten with their
            tokens; or `prepend_bos` for a tokenizer that has no such token.
    """
    front = _front(tokenizer, task) if prepend_bos else []
    rows, failures = [], dict[str, str]()
    seen: dict[tuple[str, str], int] = {}
    for i, draft in enumerate(drafts):
        row, problems = _encode_one(draft, tokenizer)
        first = seen.setdefault((draft.pair.clean, draft.pair.corrupt), i)
        if first != i:
            problems.append(f"the same pair as {_name(first, drafts[first])}")
        rows.append(row)
        if problems:
            name = draft.where or f"prompt {i} (template {draft.pair.template})"
            failures[name] = _describe(name, row, problems, tokenizer)
    if failures:
        raise PromptError(_message(task, failures, len(rows), written_out=bool(drafts[0].where)))
    return PromptSet.from_tokens(
        clean=[front + row.clean for row in rows],
        corrupt=[front + row.corrupt for row in rows],
        answers=[row.answers for row in rows],
        wrong_answers=[row.wrong_answers for row in rows],
        read_at=[len(front) + row.read_at for row in rows],
        pairs=[row.pair for row in rows],
    )


def _front(tokenizer: Tokenizer, task: str) -> list[int]:
    if tokenizer.bos_token_id is None:
        raise PromptError(
            f"The card of task {task!r} says prepend_bos = true and this tokenizer has no "
            "beginning-of-sequence token: set prepend_bos = false."
        )
    return [tokenizer.bos_token_id]


def _encode_one(draft: Draft, tokenizer: Tokenizer) -> tuple[_Encoded, list[str]]:
    pair, problems = draft.pair, list[str]()
    clean, corrupt = token_ids(tokenizer, pair.clean), token_ids(tokenizer, pair.corrupt)
    if pair.clean == pair.corrupt:
        problems.append("clean and corrupt are the same prompt")
    elif len(clean) != len(corrupt):
        problems.append(f"clean has {len(clean)} tokens and corrupt {len(corrupt)}: both must have as many")
    else:
        problems += _misaligned(draft, clean, corrupt, tokenizer)
    at = pair.read_at if pair.read_at >= 0 else len(clean) + pair.read_at
    if not 0 <= at < len(clean):
        problems.append(f"read_at is {pair.read_at}, and the prompt has {len(clean)} tokens")
        return _Encoded(pair, clean, corrupt, [], [], 0), problems
    reader = AnswerReader(tokenizer, pair.clean, clean, at)
    right, right_texts = reader.read(pair.answers, draft.answer_ids)
    wrong, wrong_texts = reader.read(pair.wrong_answers, draft.wrong_answer_ids)
    problems += reader.problems
    both = sorted(set(right) & set(wrong))
    if both:
        problems.append(f"right and wrong at the same time: {show_tokens(of_answers(tokenizer), both)}")
    if any(len(set(ids)) < len(ids) for ids in (right, wrong)):
        problems.append("an answer is listed twice")
    with_texts = replace(pair, answers=right_texts, wrong_answers=wrong_texts)
    return _Encoded(with_texts, clean, corrupt, right, wrong, at), problems


def _misaligned(draft: Draft, clean: list[int], corrupt: list[int], tokenizer: Tokenizer) -> Iterator[str]:
    meant = _token_ranges(tokenizer, draft.pair.clean, draft.clean_spans, clean)
    if meant != _token_ranges(tokenizer, draft.pair.corrupt, draft.corrupt_spans, corrupt):
        yield "the replaced words do not stand at the same positions in clean and corrupt"
        return
    allowed = {position for start, end in meant for position in range(start, end)}
    stray = [i for i, (a, b) in enumerate(zip(clean, corrupt, strict=True)) if a != b and i not in allowed]
    if stray:
        yield f"clean and corrupt differ at positions {stray}, where no slot was replaced"


def _token_ranges(
    tokenizer: Tokenizer, text: str, spans: Sequence[tuple[int, int]], ids: list[int]
) -> list[tuple[int, int]]:
    """The token positions (start, end) that character ranges cover, the space in front of a word included."""
    ranges = []
    for start, end in spans:
        before = _common_start(token_ids(tokenizer, text[:start].rstrip()), ids)
        through = token_ids(tokenizer, text[:end])
        common = _common_start(through, ids)
        # A word joined with what follows it ends inside the next token.
        ranges.append((before, common if common == len(through) else common + 1))
    return ranges


def _common_start(a: list[int], b: list[int]) -> int:
    same = (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    return next(same, min(len(a), len(b)))


def _name(index: int, draft: Draft) -> str:
    return draft.where or f"prompt {index}"


def _describe(name: str, row: _Encoded, problems: list[str], tokenizer: Tokenizer) -> str:
    return "\n".join(
        [
            f"  {name}:",
            *(f"    {problem}" for problem in problems),
            f"    clean   [{len(row.clean)}] {show_tokens(tokenizer, row.clean)}",
            f"    corrupt [{len(row.corrupt)}] {show_tokens(tokenizer, row.corrupt)}",
        ]
    )


def _message(task: str, failures: dict[str, str], n: int, written_out: bool) -> str:
    lines = [f"{len(failures)} of the {n} prompts of task {task!r} do not fit this tokenizer:"]
    lines += list(failures.values())[:SHOWN]
    if len(failures) > SHOWN:
        names = f": {', '.join(list(failures)[SHOWN:])}" if written_out else ""
        lines.append(f"  ... and {len(failures) - SHOWN} more{names}.")
    what = "Correct these pairs or take them out" if written_out else "Change the words, the answers or the fixed text"
    lines.append(f"{what} of the {'file' if written_out else 'card'}.")
    return "\n".join(lines)
