"""What can be wrong with pairs that are written out, found without a tokenizer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from acdc_engine.prompts.card import PairText


def pair_problems(pairs: Sequence[PairText], metric: str) -> Iterator[str]:
    """Yields one line per problem, each with the pair's place.

    Args:
        pairs: The pairs.
        metric: The task's; all but kl need right answers, and two of them wrong ones too.
    """
    seen: dict[tuple[str, str], PairText] = {}
    any_right, any_wrong = (any(answers) for answers in zip(*map(_answers, pairs), strict=True)) if pairs else (0, 0)
    for i, pair in enumerate(pairs):
        where = pair.where or f"pairs[{i}]"
        yield from (f"{where}: {problem}" for problem in _problems_of(pair))
        first = seen.setdefault((pair.clean, pair.corrupt), pair)
        if first is not pair and not same_pair(first, pair):
            yield (
                f"{where}: the same prompts as {first.where or f'pairs[{pairs.index(first)}]'} with other answers, "
                "reading position or group: keep one of the two, with all its answers."
            )
        right, wrong = _answers(pair)
        if not right:
            if any_right:
                yield f"{where}: answers: missing, and other pairs have them: give them in every pair or in none."
            elif metric != "kl":
                yield f"{where}: answers: missing, and the metric {metric} needs them (kl does not)."
        if not wrong and any_wrong:
            yield f"{where}: wrong_answers: missing, and other pairs have them: give them in every pair or in none."
        elif not wrong and metric in ("logit_diff", "prob_diff"):
            yield f"{where}: wrong_answers: missing, and the metric {metric} needs them (nll and kl do not)."


def same_pair(one: PairText, other: PairText) -> bool:
    """Whether two pairs say the same; where they stand does not count."""
    return one.model_copy(update={"where": other.where}) == other


def _answers(pair: PairText) -> tuple[tuple[object, ...], tuple[object, ...]]:
    return pair.answers or pair.answer_ids, pair.wrong_answers or pair.wrong_answer_ids


def _problems_of(pair: PairText) -> Iterator[str]:
    for key, text in (("clean", pair.clean), ("corrupt", pair.corrupt)):
        if not text.strip():
            yield f"{key}: the prompt is empty."
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
