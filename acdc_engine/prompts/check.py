"""The last check before anything runs: do the pairs, as this tokenizer splits them, line up?

A pair is right when clean and corrupt have the same number of tokens and differ only where a slot was
replaced, when every answer is exactly one token after the clean prompt, and when no answer is both right and
wrong.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from acdc_engine.errors import PromptError
from acdc_engine.prompts.pair import Draft
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.prompts.tokenizer import Tokenizer, continuation, show_tokens, token_ids

SHOWN = 10
"""How many failing prompts an error lists; the rest are counted."""


@dataclass(frozen=True)
class _Encoded:
    clean: list[int]
    corrupt: list[int]
    answers: list[int]
    wrong_answers: list[int]


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
        PromptError: Pairs that do not line up or appear twice, the first ten with their tokens; or
            `prepend_bos` for a tokenizer that has no such token.
    """
    front = _front(tokenizer, task) if prepend_bos else []
    rows, failures = [], []
    seen: dict[tuple[str, str], int] = {}
    for i, draft in enumerate(drafts):
        row, problems = _encode_one(draft, tokenizer)
        first = seen.setdefault((draft.pair.clean, draft.pair.corrupt), i)
        if first != i:
            problems.append(f"the same pair as prompt {first}")
        rows.append(row)
        if problems:
            failures.append(_describe(i, draft, row, problems, tokenizer))
    if failures:
        raise PromptError(_message(task, failures, len(rows)))
    return PromptSet.from_tokens(
        clean=[front + row.clean for row in rows],
        corrupt=[front + row.corrupt for row in rows],
        answers=[row.answers for row in rows],
        wrong_answers=[row.wrong_answers for row in rows],
        pairs=[draft.pair for draft in drafts],
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
    sets: list[list[int]] = []
    for texts in (pair.answers, pair.wrong_answers):
        added = [(text, continuation(tokenizer, pair.clean, text)) for text in texts]
        problems += [_not_one_token(tokenizer, t, ids) for t, ids in added if ids is None or len(ids) != 1]
        sets.append([ids[0] for _, ids in added if ids])
    right, wrong = sets
    both = sorted(set(right) & set(wrong))
    if both:
        problems.append(f"right and wrong at the same time: {show_tokens(tokenizer, both)}")
    if any(len(set(ids)) < len(ids) for ids in sets):
        problems.append("an answer is listed twice")
    return _Encoded(clean, corrupt, right, wrong), problems


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


def _not_one_token(tokenizer: Tokenizer, answer: str, ids: list[int] | None) -> str:
    if ids is None:
        return f"the answer {answer!r} changes how the prompt before it is split: is a space in front missing?"
    return f"the answer {answer!r} is not one token: {show_tokens(tokenizer, ids) or 'nothing'}"


def _describe(index: int, draft: Draft, row: _Encoded, problems: list[str], tokenizer: Tokenizer) -> str:
    return "\n".join(
        [
            f"  prompt {index} (template {draft.pair.template}):",
            *(f"    {problem}" for problem in problems),
            f"    clean   [{len(row.clean)}] {show_tokens(tokenizer, row.clean)}",
            f"    corrupt [{len(row.corrupt)}] {show_tokens(tokenizer, row.corrupt)}",
        ]
    )


def _message(task: str, failures: list[str], n: int) -> str:
    lines = [f"{len(failures)} of the {n} prompts of task {task!r} do not fit this tokenizer:"]
    lines += failures[:SHOWN]
    if len(failures) > SHOWN:
        lines.append(f"  ... and {len(failures) - SHOWN} more.")
    lines.append("Change the words, the answers or the fixed text of the card.")
    return "\n".join(lines)
