"""The last check before anything runs: do the pairs, as this tokenizer splits them, line up and fit the model?

A pair is right when clean and corrupt have the same number of tokens and differ only where a slot was
replaced, when the position to read is one of the prompt's, when every answer is exactly one token after the clean
prompt up to there, and when no answer is both right and wrong.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from torch import Tensor

from acdc_engine.errors import PromptError
from acdc_engine.prompts.card import TaskCard, settled
from acdc_engine.prompts.drafts import some_of_each_template
from acdc_engine.prompts.prompt_set import NO_ANSWER, PromptSet
from acdc_engine.prompts.template import Draft, PromptPair
from acdc_engine.prompts.tokens import (
    AnswerReader,
    Limits,
    Problem,
    Tokenizer,
    of_answers,
    one_token,
    show_tokens,
    token_ids,
)

_SHOWN = 10
"""How many failing prompts an error lists; the rest are counted."""
_ENDS = 30
"""Tokens shown of a long prompt's beginning and of its end."""


@dataclass(frozen=True)
class _Checked:
    """A pair as token ids, a beginning-of-sequence token included, and what is wrong with it.

    The answers of `pair` are as the tokenizer has them, and only those that are one token have ids; `read_at` counts
    from the first token, and is 0 where it is outside the prompt.
    """

    draft: Draft
    pair: PromptPair
    clean: list[int]
    corrupt: list[int]
    answers: list[int]
    wrong_answers: list[int]
    read_at: int
    problems: list[Problem]


@dataclass(frozen=True)
class Rules:
    """What pairs are checked against.

    Attributes:
        tokenizer: The model's tokenizer.
        task: The task's name, for errors.
        prepend_bos: Whether to put the beginning-of-sequence token in front of every prompt.
        limits: What the model takes; None where it is not known yet.
    """

    tokenizer: Tokenizer
    task: str
    prepend_bos: bool = False
    limits: Limits | None = None


def encode(drafts: Sequence[Draft], rules: Rules) -> PromptSet:
    """Tokenizes pairs, checks every one of them and returns the aligned batch, in their order.

    Raises:
        PromptError: Pairs that do not fit or appear twice, the first ten with their tokens; or `prepend_bos` for a
            tokenizer that has no such token.
    """
    rows = check(drafts, rules)
    seen: dict[tuple[str, str], int] = {}
    for i, draft in enumerate(drafts):
        first = seen.setdefault((draft.pair.clean, draft.pair.corrupt), i)
        if first != i:
            name = drafts[first].where or f"prompt {first}"
            rows[i].problems.append(Problem("a pair appears twice", f"the same pair as {name}"))
    refuse_misfits(rows, rules)
    clean, corrupt, answers, wrong_answers = (
        [getattr(row, name) for row in rows] for name in ("clean", "corrupt", "answers", "wrong_answers")
    )
    read_at, pairs = [row.read_at for row in rows], [row.pair for row in rows]
    return PromptSet.from_tokens(clean, corrupt, answers, wrong_answers, read_at=read_at, pairs=pairs)


def check(drafts: Sequence[Draft], rules: Rules) -> list[_Checked]:
    """Tokenizes pairs and says of each what is wrong with it.

    Raises:
        PromptError: `prepend_bos` for a tokenizer that has no such token.
    """
    front = _front(rules) if rules.prepend_bos else []
    prompts = (text for draft in drafts for text in (draft.pair.clean, draft.pair.corrupt))
    continued = (f"{d.pair.clean}{text}" for d in drafts for text in (*d.pair.answers, *d.pair.wrong_answers))
    tokenizer = _Remembered(rules.tokenizer, [*prompts, *continued])
    return [_check_one(draft, replace(rules, tokenizer=tokenizer), front) for draft in drafts]


class _Remembered:
    """A tokenizer that has split texts beforehand, all at once where that is faster, and splits none twice."""

    def __init__(self, tokenizer: Tokenizer, texts: Iterable[str]) -> None:
        self._tokenizer, self._known = tokenizer, dict[str, list[int]]()
        self.bos_token_id, own = tokenizer.bos_token_id, of_answers(tokenizer)
        self.answers = self if own is tokenizer else own
        self.decode, self.convert_ids_to_tokens = tokenizer.decode, tokenizer.convert_ids_to_tokens
        different = list(dict.fromkeys(texts))
        if different and getattr(tokenizer, "is_fast", False):  # Hugging Face's fast ones take lists
            split: Any = tokenizer
            found = split(different, add_special_tokens=False, return_attention_mask=False)["input_ids"]
            self._known = dict(zip(different, found, strict=True))

    def __call__(self, text: str, *, add_special_tokens: bool) -> Any:
        if add_special_tokens:
            return self._tokenizer(text, add_special_tokens=True)
        if text not in self._known:
            self._known[text] = token_ids(self._tokenizer, text)
        return {"input_ids": self._known[text]}


def refuse_misfits(rows: Sequence[_Checked], rules: Rules) -> None:
    """Refuses pairs with problems.

    Raises:
        PromptError: Some have; the first ten are shown with their tokens.
    """
    failures = {
        row.draft.where or f"prompt {i} (template {row.pair.template})": row
        for i, row in enumerate(rows)
        if row.problems
    }
    if not failures:
        return
    written_out = bool(rows[0].draft.where)
    lines = [f"{len(failures)} of the {len(rows)} prompts of task {rules.task!r} do not fit this model:"]
    for name, row in islice(failures.items(), _SHOWN):
        lines += [f"  {name}:", *(f"    {problem.text}" for problem in row.problems)]
        lines.append(f"    clean   [{len(row.clean)}] {_both_ends(row.clean, rules.tokenizer)}")
        lines.append(f"    corrupt [{len(row.corrupt)}] {_both_ends(row.corrupt, rules.tokenizer)}")
    if len(failures) > _SHOWN:
        names = f": {', '.join(list(failures)[_SHOWN:])}" if written_out else ""
        lines.append(f"  ... and {len(failures) - _SHOWN} more{names}.")
    what = "Correct these pairs or take them out" if written_out else "Change the words, the answers or the fixed text"
    lines.append(f"{what} of the {'file' if written_out else 'card'}; or go on without them: --drop-misfits.")
    raise PromptError("\n".join(lines))


def _front(rules: Rules) -> list[int]:
    if rules.tokenizer.bos_token_id is None:
        raise PromptError(
            f"Prompts of task {rules.task!r} are to begin with a beginning-of-sequence token (prepend_bos = true in "
            "the card, or --bos), and this tokenizer has none: set prepend_bos = false, or give --no-bos."
        )
    return [rules.tokenizer.bos_token_id]


def _check_one(draft: Draft, rules: Rules, front: list[int]) -> _Checked:
    pair, tokenizer = draft.pair, rules.tokenizer
    own, other = token_ids(tokenizer, pair.clean), token_ids(tokenizer, pair.corrupt)
    clean, corrupt = [*front, *own], [*front, *other]
    problems = [*_not_parallel(draft, own, other, tokenizer), *_too_much(clean, corrupt, rules)]
    at = pair.read_at if pair.read_at >= 0 else len(own) + pair.read_at
    if not 0 <= at < len(own):
        text = f"read_at is {pair.read_at}, and the prompt has {len(own)} tokens"
        problems.append(Problem("read_at is outside the prompt", text))
        return _Checked(draft, pair, clean, corrupt, [], [], 0, problems)
    reader = AnswerReader(tokenizer, pair.clean, own, at)
    right, right_texts = reader.read(pair.answers, draft.answer_ids)
    wrong, wrong_texts = reader.read(pair.wrong_answers, draft.wrong_answer_ids)
    problems += [*reader.problems, *_no_logits([*right, *wrong], rules)]
    both = sorted(set(right) & set(wrong))
    if both:
        text = f"right and wrong at the same time: {show_tokens(of_answers(tokenizer), both)}"
        problems.append(Problem("an answer is right and wrong", text))
    if any(len(set(ids)) < len(ids) for ids in (right, wrong)):
        problems.append(Problem("an answer is listed twice", "an answer is listed twice"))
    with_texts = replace(pair, answers=right_texts, wrong_answers=wrong_texts)
    return _Checked(draft, with_texts, clean, corrupt, right, wrong, at + len(front), problems)


def _not_parallel(draft: Draft, clean: list[int], corrupt: list[int], tokenizer: Tokenizer) -> Iterator[Problem]:
    """Whether clean and corrupt have as many tokens and differ where they are meant to."""
    pair, kind = draft.pair, "clean and corrupt do not line up"
    if pair.clean == pair.corrupt:
        yield Problem("nothing is corrupted", "clean and corrupt are the same prompt")
        return
    if len(clean) != len(corrupt):
        text = f"clean has {len(clean)} tokens and corrupt {len(corrupt)}: both must have as many"
        yield Problem("clean and corrupt differ in their number of tokens", text)
        return
    if draft.clean_spans == ((0, len(pair.clean)),) and draft.corrupt_spans == ((0, len(pair.corrupt)),):
        return  # all may differ
    meant = _token_ranges(tokenizer, pair.clean, draft.clean_spans, clean)
    if meant != _token_ranges(tokenizer, pair.corrupt, draft.corrupt_spans, corrupt):
        yield Problem(kind, "the replaced words do not stand at the same positions in clean and corrupt")
        return
    allowed = {position for start, end in meant for position in range(start, end)}
    stray = [i for i, (a, b) in enumerate(zip(clean, corrupt, strict=True)) if a != b and i not in allowed]
    if stray:
        yield Problem(kind, f"clean and corrupt differ at positions {stray}, where no slot was replaced")


def _too_much(clean: list[int], corrupt: list[int], rules: Rules) -> Iterator[Problem]:
    """What of the prompts the model cannot read."""
    limits = rules.limits
    if limits is None:
        return
    longest = max(len(clean), len(corrupt))
    if limits.positions is not None and longest > limits.positions:
        text = f"the prompt has {longest:,} tokens, and the model takes up to {limits.positions:,}"
        yield Problem("longer than the model takes", text)
    beyond = dict.fromkeys(token for token in (*clean, *corrupt) if token >= limits.embedded)
    if beyond:
        shown = _shown(beyond, rules.tokenizer)
        text = f"the model's embedding ends at token {limits.embedded - 1:,}, and the prompts hold {shown}"
        yield Problem("a token that the model has no embedding for", text)


def _no_logits(answers: list[int], rules: Rules) -> Iterator[Problem]:
    if rules.limits is None:
        return
    last = rules.limits.logits - 1
    if beyond := dict.fromkeys(token for token in answers if token > last):
        shown = _shown(beyond, of_answers(rules.tokenizer))
        text = f"the model's logits end at token {last:,}, and the answers hold {shown}"
        yield Problem("an answer that the model has no logit for", text)


def _shown(ids: dict[int, None], tokenizer: Tokenizer) -> str:
    return ", ".join(f"{token:,} ({one_token(tokenizer, token)!r})" for token in ids)


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


def _both_ends(ids: list[int], tokenizer: Tokenizer) -> str:
    if len(ids) <= 2 * _ENDS:
        return show_tokens(tokenizer, ids)
    return f"{show_tokens(tokenizer, ids[:_ENDS])} ... {show_tokens(tokenizer, ids[-_ENDS:])}"


@dataclass(frozen=True)
class Example:
    """The texts of a pair's tokens, the beginning-of-sequence token included; `read_at` is an index into them."""

    template: str
    clean: tuple[str, ...]
    corrupt: tuple[str, ...]
    read_at: int
    answers: tuple[str, ...]
    wrong_answers: tuple[str, ...]


def examples(card: TaskCard, tokenizer: Tokenizer, n: int, seed: int) -> list[Example]:
    """Makes up to `n` pairs of every template; they pass the checks that any prompts pass.

    Raises:
        PromptError: The task does not fit the tokenizer.
    """
    drafts = [draft for pairs in some_of_each_template(card, tokenizer, n, seed).values() for draft in pairs]
    prompts = encode(drafts, Rules(tokenizer, card.name, bool(settled(card, tokenizer).prepend_bos)))

    def texts(ids: Tensor) -> tuple[str, ...]:
        return tuple(one_token(tokenizer, token) for token in ids.tolist() if token != NO_ANSWER)

    return [
        Example(
            template=draft.pair.template,
            clean=texts(prompts.clean[row, : prompts.lengths[row]]),
            corrupt=texts(prompts.corrupt[row, : prompts.lengths[row]]),
            read_at=int(prompts.read_at[row]),
            answers=texts(prompts.answers[row]),
            wrong_answers=texts(prompts.wrong_answers[row]),
        )
        for row, draft in enumerate(drafts)
    ]
