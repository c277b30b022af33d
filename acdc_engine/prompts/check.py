"""The last check before anything runs: do the pairs, as this tokenizer splits them, line up and fit the model?

A pair is right when clean and corrupt have the same number of tokens and differ only where a slot was
replaced, when the position to read is one of the prompt's, when every answer is exactly one token after the clean
prompt up to there, and when no answer is both right and wrong.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from torch import Tensor

from acdc_engine.errors import PromptError
from acdc_engine.prompts.card import TaskCard, settled
from acdc_engine.prompts.drafts import some_of_each_template
from acdc_engine.prompts.prompt_set import NO_ANSWER, PromptSet
from acdc_engine.prompts.template import Draft, PromptPair
from acdc_engine.prompts.tokens import (
    Tokenizer,
    continuation,
    of_answers,
    one_token,
    show_tokens,
    token_ids,
    token_ranges,
    token_text,
)

_SHOWN = 10
"""How many failing prompts an error lists; the rest are counted."""
_ENDS = 30
"""Tokens shown of a long prompt's beginning and of its end."""

_Problem = tuple[str, str]
"""What is wrong with a pair: the rule that is broken, and the same with the values found."""

WHERE = ("none", "spans", "tokens")
"""Which places in a prompt circuits tell apart: none, named ones, every position."""


@dataclass(frozen=True)
class Limits:
    """What a model takes.

    Attributes:
        positions: Tokens of its longest prompt; None where it does not say.
        embedded: Token ids that its embedding has.
        logits: Token ids that it gives a logit.
    """

    positions: int | None
    embedded: int
    logits: int


@dataclass(frozen=True)
class Checked:
    """A pair as token ids, a beginning-of-sequence token included, and what is wrong with it.

    The answers of `pair` are as the tokenizer has them, and only those that are one token have ids; `read_at` counts
    from the first token, and is 0 where it is outside the prompt. `spans` has the names of the places of the clean
    tokens, where they are told apart.
    """

    draft: Draft
    pair: PromptPair
    clean: list[int]
    corrupt: list[int]
    answers: list[int]
    wrong_answers: list[int]
    read_at: int
    problems: list[_Problem]
    spans: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Rules:
    """What pairs are checked against.

    Attributes:
        tokenizer: The model's tokenizer.
        task: The task's name, for errors.
        prepend_bos: Whether to put the beginning-of-sequence token in front of every prompt.
        limits: What the model takes; None where it is not known yet.
        where: Which places in a prompt are told apart, one of `WHERE`.
    """

    tokenizer: Tokenizer
    task: str
    prepend_bos: bool = False
    limits: Limits | None = None
    where: str = "none"

    def __post_init__(self) -> None:
        check_where(self.where)


def check_where(where: str) -> None:
    """Refuses places that there are not.

    Raises:
        PromptError: It is none of `WHERE`.
    """
    if where not in WHERE:
        raise PromptError(f"where must be {', '.join(WHERE[:-1])} or {WHERE[-1]}, not {where!r}.")


def encode(drafts: Sequence[Draft], rules: Rules) -> PromptSet:
    """Tokenizes pairs, checks every one of them and returns the aligned batch, in their order.

    Raises:
        PromptError: Pairs that do not fit or appear twice, the first ten with their tokens; `prepend_bos` for a
            tokenizer that has no such token; or places that are to be told apart and cannot be.
    """
    rows = check(drafts, rules)
    seen: dict[tuple[str, str], int] = {}
    for i, draft in enumerate(drafts):
        first = seen.setdefault((draft.pair.clean, draft.pair.corrupt), i)
        if first != i:
            name = drafts[first].where or f"prompt {first}"
            rows[i].problems.append(("a pair appears twice", f"the same pair as {name}"))
    refuse_misfits(rows, rules)
    if rules.where != "none":
        from acdc_engine.prompts.spans import refuse_unplaced

        refuse_unplaced(rows, rules.where, rules.task)
    clean, corrupt, answers, wrong_answers = (
        [getattr(row, name) for row in rows] for name in ("clean", "corrupt", "answers", "wrong_answers")
    )
    read_at, pairs = [row.read_at for row in rows], [row.pair for row in rows]
    spans = None if rules.where == "none" else [row.spans for row in rows]
    return PromptSet.from_tokens(clean, corrupt, answers, wrong_answers, read_at=read_at, pairs=pairs, spans=spans)


def check(drafts: Sequence[Draft], rules: Rules) -> list[Checked]:
    """Tokenizes pairs and says of each what is wrong with it.

    Raises:
        PromptError: `prepend_bos` for a tokenizer that has no such token.
    """
    front = []
    if rules.prepend_bos:
        if rules.tokenizer.bos_token_id is None:
            raise PromptError(
                f"Prompts of task {rules.task!r} are to begin with a beginning-of-sequence token (prepend_bos = true "
                "in the card, or --bos), and this tokenizer has none: set prepend_bos = false, or give --no-bos."
            )
        front = [rules.tokenizer.bos_token_id]
    prompts = (text for draft in drafts for text in (draft.pair.clean, draft.pair.corrupt))
    continued = (f"{d.pair.clean}{text}" for d in drafts for text in (*d.pair.answers, *d.pair.wrong_answers))
    tokenizer = _Remembered(rules.tokenizer, [*prompts, *continued])
    rows = [_check_one(draft, replace(rules, tokenizer=tokenizer), front) for draft in drafts]
    if rules.where != "none":
        from acdc_engine.prompts.spans import name_tokens

        # Of a tokenizer that knows where its tokens stand, every text is asked once; others are to remember.
        own: Tokenizer = rules.tokenizer if getattr(rules.tokenizer, "is_fast", False) else tokenizer
        for row, problems in zip(rows, name_tokens(rows, rules.where, own, len(front)), strict=True):
            row.problems.extend(problems)
    return rows


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


def refuse_misfits(rows: Sequence[Checked], rules: Rules) -> None:
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
        lines += [f"  {name}:", *(f"    {text}" for _, text in row.problems)]
        lines.append(f"    clean   [{len(row.clean)}] {_both_ends(row.clean, rules.tokenizer)}")
        lines.append(f"    corrupt [{len(row.corrupt)}] {_both_ends(row.corrupt, rules.tokenizer)}")
    if len(failures) > _SHOWN:
        names = f": {', '.join(list(failures)[_SHOWN:])}" if written_out else ""
        lines.append(f"  ... and {len(failures) - _SHOWN} more{names}.")
    what = "Correct these pairs or take them out" if written_out else "Change the words, the answers or the fixed text"
    lines.append(f"{what} of the {'file' if written_out else 'card'}; or go on without them: --drop-misfits.")
    raise PromptError("\n".join(lines))


def _check_one(draft: Draft, rules: Rules, front: list[int]) -> Checked:
    pair, tokenizer, limits = draft.pair, rules.tokenizer, rules.limits
    own, other = token_ids(tokenizer, pair.clean), token_ids(tokenizer, pair.corrupt)
    clean, corrupt = [*front, *own], [*front, *other]
    problems = list(_not_parallel(draft, own, other, tokenizer))
    if limits is not None:
        longest = max(len(clean), len(corrupt))
        if limits.positions is not None and longest > limits.positions:
            text = f"the prompt has {longest:,} tokens, and the model takes up to {limits.positions:,}"
            problems.append(("longer than the model takes", text))
        if shown := _beyond([*clean, *corrupt], limits.embedded, tokenizer):
            text = f"the model's embedding ends at token {limits.embedded - 1:,}, and the prompts hold {shown}"
            problems.append(("a token that the model has no embedding for", text))
    at = pair.read_at if pair.read_at >= 0 else len(own) + pair.read_at
    if not 0 <= at < len(own):
        text = f"read_at is {pair.read_at}, and the prompt has {len(own)} tokens"
        problems.append(("read_at is outside the prompt", text))
        return Checked(draft, pair, clean, corrupt, [], [], 0, problems)
    texts, answers = list[tuple[str, ...]](), list[list[int]]()
    for said, ids in ((pair.answers, draft.answer_ids), (pair.wrong_answers, draft.wrong_answer_ids)):
        if ids:
            known = _known_answers(said, ids, of_answers(tokenizer), problems)
            said, found = tuple(known[token] for token in ids if token in known), [t for t in ids if t in known]
        else:
            found = _read_answers(said, tokenizer, pair.clean, own, at, problems)
        texts.append(said)
        answers.append(found)
    right, wrong = answers
    if limits is not None and (shown := _beyond([*right, *wrong], limits.logits, of_answers(tokenizer))):
        text = f"the model's logits end at token {limits.logits - 1:,}, and the answers hold {shown}"
        problems.append(("an answer that the model has no logit for", text))
    if both := sorted(set(right) & set(wrong)):
        text = f"right and wrong at the same time: {show_tokens(of_answers(tokenizer), both)}"
        problems.append(("an answer is right and wrong", text))
    if any(len(set(ids)) < len(ids) for ids in answers):
        problems.append(("an answer is listed twice", "an answer is listed twice"))
    with_texts = replace(pair, answers=texts[0], wrong_answers=texts[1])
    return Checked(draft, with_texts, clean, corrupt, right, wrong, at + len(front), problems)


def _read_answers(
    answers: tuple[str, ...], tokenizer: Tokenizer, prompt: str, ids: list[int], at: int, problems: list[_Problem]
) -> list[int]:
    """The tokens of a clean prompt's answers, and what is wrong with those that are not one.

    At a prompt's end an answer is the token that its text adds to the prompt; tokenizing it alone would not do
    (see `continuation`). Inside the prompt it is what the text adds to the tokens up to there; where they are not what
    their own text is split into, or the answer changes how they are split, the answer is tokenized alone. So are all
    answers of models that answer in words of their own.
    """
    own, inside = of_answers(tokenizer), at < len(ids) - 1
    before = tokenizer.decode(ids[: at + 1]) if inside else prompt
    alone = own is not tokenizer or (inside and token_ids(tokenizer, before) != ids[: at + 1])
    tokens = []
    for answer in answers:
        added = None if alone else continuation(tokenizer, before, answer)
        if added is None and (alone or inside):
            added = token_ids(own, answer)
        if added is None:
            ask = "is a space in front missing?"
            if before.endswith(" "):
                ask = "the prompt ends in a space, with which the answer is to begin instead"
            text = f"the answer {answer!r} changes how the prompt before it is split: {ask}"
            problems.append(("an answer is not one token", text))
        elif len(added) != 1:
            text = f"the answer {answer!r} is not one token: {show_tokens(own, added) or 'nothing'}"
            problems.append(("an answer is not one token", text))
        tokens += (added or [])[:1]
    return tokens


def _known_answers(
    texts: tuple[str, ...], ids: tuple[int, ...], tokenizer: Tokenizer, problems: list[_Problem]
) -> dict[int, str]:
    """The texts of answers that are given as ids.

    Ids count before the texts given beside them, if they name the same words: files with both often write texts without
    the space in front.
    """
    known = {token: text for token in ids if (text := token_text(tokenizer, token)) is not None}
    words = [text.strip() for text in texts]
    if texts and not all(token in known and known[token].strip() in words for token in ids):
        shown = ", ".join(f"{token} is {known[token]!r}" for token in ids if token in known) or "no token"
        text = (
            f"the answer ids and the answers {', '.join(map(repr, texts))} name different words ({shown} here): the "
            "ids are another tokenizer's. Take their column out, and write the answers as they follow the prompt, with "
            "the space in front"
        )
        problems.append(("answer ids of another tokenizer", text))
    for token in ids:
        if token not in known:
            problems.append(("an answer is no token of the tokenizer", f"the tokenizer has no token {token}"))
    return known


def _beyond(ids: Sequence[int], size: int, tokenizer: Tokenizer) -> str:
    """The tokens that do not lie below a size, as text."""
    found = dict.fromkeys(token for token in ids if token >= size)
    return ", ".join(f"{token:,} ({one_token(tokenizer, token)!r})" for token in found)


def _not_parallel(draft: Draft, clean: list[int], corrupt: list[int], tokenizer: Tokenizer) -> Iterator[_Problem]:
    """Whether clean and corrupt have as many tokens and differ where they are meant to."""
    pair, kind = draft.pair, "clean and corrupt do not line up"
    if pair.clean == pair.corrupt:
        yield "nothing is corrupted", "clean and corrupt are the same prompt"
        return
    if len(clean) != len(corrupt):
        text = f"clean has {len(clean)} tokens and corrupt {len(corrupt)}: both must have as many"
        yield "clean and corrupt differ in their number of tokens", text
        return
    if draft.clean_ranges == ((0, len(pair.clean)),) and draft.corrupt_ranges == ((0, len(pair.corrupt)),):
        return  # all may differ
    meant = token_ranges(tokenizer, pair.clean, draft.clean_ranges, clean)
    if meant != token_ranges(tokenizer, pair.corrupt, draft.corrupt_ranges, corrupt):
        yield kind, "the replaced words do not stand at the same positions in clean and corrupt"
        return
    allowed = {position for start, end in meant for position in range(start, end)}
    stray = [i for i, (a, b) in enumerate(zip(clean, corrupt, strict=True)) if a != b and i not in allowed]
    if stray:
        yield kind, f"clean and corrupt differ at positions {stray}, where no slot was replaced"


def _both_ends(ids: list[int], tokenizer: Tokenizer) -> str:
    if len(ids) <= 2 * _ENDS:
        return show_tokens(tokenizer, ids)
    return f"{show_tokens(tokenizer, ids[:_ENDS])} ... {show_tokens(tokenizer, ids[-_ENDS:])}"


@dataclass(frozen=True)
class Example:
    """The texts of a pair's tokens, the beginning-of-sequence token included; `read_at` is an index into them.

    `spans` has the names of their places, where these are told apart.
    """

    template: str
    clean: tuple[str, ...]
    corrupt: tuple[str, ...]
    read_at: int
    answers: tuple[str, ...]
    wrong_answers: tuple[str, ...]
    spans: tuple[str, ...] = ()


def examples(card: TaskCard, tokenizer: Tokenizer, n: int, seed: int, where: str = "none") -> list[Example]:
    """Makes up to `n` pairs of every template; they pass the checks that any prompts pass.

    Raises:
        PromptError: The task does not fit the tokenizer, or its places cannot be told apart as `where` says.
    """
    drafts = [draft for pairs in some_of_each_template(card, tokenizer, n, seed).values() for draft in pairs]
    prompts = encode(drafts, Rules(tokenizer, card.name, bool(settled(card, tokenizer).prepend_bos), where=where))

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
            spans=tuple(spans),
        )
        for row, (draft, spans) in enumerate(zip(drafts, prompts.span_names(), strict=True))
    ]
