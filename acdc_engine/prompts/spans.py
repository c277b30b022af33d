"""Which place of its prompt every token is of, by name: from the parts of a text that are named to its tokens.

Names come from a card's templates (template.py), from whoever wrote a pair, or from a generator; a token that lies in
no named part is of the span `rest`. The position that is read is a span of its own, `end`, so that what only the logits
read can be told apart, and the beginning-of-sequence token is one, `bos`. All names are those of the clean prompt.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from acdc_engine.errors import PromptError
from acdc_engine.prompts.template import BOS, READ, REST, Draft, NamedRange
from acdc_engine.prompts.tokens import Tokenizer, one_token, token_ranges

if TYPE_CHECKING:
    from acdc_engine.prompts.check import Checked

_SHOWN = 3
"""Names or lengths that an error tells apart."""

_Reach = Callable[[int, int], tuple[int, int]]
"""From a range of characters (start, stop) to that of the tokens in it (the first, the one behind the last)."""

_Problem = tuple[str, str]
"""A broken rule, and the same with the values found, as in check.py."""


def name_tokens(rows: Sequence[Checked], where: str, tokenizer: Tokenizer, n_front: int) -> Iterator[list[_Problem]]:
    """Names the tokens of each row, in its `spans`, and yields what is wrong with its named parts.

    Args:
        rows: Pairs, split into tokens.
        where: "spans", or "tokens" for places that are called by their numbers.
        tokenizer: What split them.
        n_front: Tokens in front of every prompt that its text does not have: a beginning-of-sequence token.
    """
    offsets = _offsets(tokenizer, [row.pair.clean for row in rows]) if where == "spans" else None
    for i, row in enumerate(rows):
        ids, at, problems = row.clean[n_front:], row.read_at - n_front, list[_Problem]()
        if where == "tokens":
            names = [f"t{place}" for place in range(len(ids))]
            names[at : at + 1] = [READ] * (at >= 0)
        else:
            reach = _by_offsets(offsets[i]) if offsets else _by_beginnings(tokenizer, row.pair.clean, ids)
            names = _names(row.draft, ids, at, reach, tokenizer, problems)
        row.spans.extend([*[BOS] * n_front, *names])
        yield problems


def refuse_unplaced(rows: Sequence[Checked], where: str, task: str) -> None:
    """Refuses prompts whose places cannot be told apart together.

    Raises:
        PromptError: Nothing names their places, the position read has several names, or places are to be called by
            their numbers and not all prompts have the same ones.
    """
    if where == "tokens":
        _refuse_unequal(rows, task)
    elif not any(row.draft.spans for row in rows):
        raise PromptError(
            f"Nothing says what the places in the prompts of task {task!r} are called, and --where spans tells them "
            "apart. Give spans in the pairs, or in what the generator yields (docs/tasks.md, Places in a prompt); or "
            "use --where tokens, for prompts of one length, or --where none."
        )
    read = _told(rows, [repr(row.spans[row.read_at]) for row in rows])
    if len(read) > 1:
        raise PromptError(
            f"The position that is read must be a span of one name in all prompts of task {task!r}; it is "
            f"{' and '.join(read)}. Give the span that is this token alone in all pairs or in none, where it is called "
            f"{READ!r}."
        )


def _refuse_unequal(rows: Sequence[Checked], task: str) -> None:
    lengths = _told(rows, [f"{len(row.clean)} tokens" for row in rows])
    read = _told(rows, [f"position {row.read_at}" for row in rows])
    if len(lengths) > 1 or len(read) > 1:
        found = f"some have {' and '.join(lengths)}" if len(lengths) > 1 else f"some are read at {' and '.join(read)}"
        remedy = "Use --where spans, for which both may differ, where the task names its places"
        if len(lengths) > 1:
            remedy += ", or words that are one token each (only_single_token)"
        raise PromptError(
            f"--where tokens is for prompts of one length, read at one position, and of those of task {task!r} "
            f"{found}. {remedy}."
        )


def _told(rows: Sequence[Checked], values: Sequence[str]) -> list[str]:
    """Different values, each with the first prompt that has it and how many others do."""
    found = dict[str, list[int]]()
    for i, value in enumerate(values):
        found.setdefault(value, []).append(i)
    told = []
    for value, places in islice(found.items(), _SHOWN):
        more = f" and {len(places) - 1} more" if len(places) > 1 else ""
        told.append(f"{value} ({rows[places[0]].draft.where or f'prompt {places[0]}'}{more})")
    return [*told, *[f"{len(found) - _SHOWN} others"] * (len(found) > _SHOWN)]


def _names(
    draft: Draft, ids: Sequence[int], at: int, reach: _Reach, tokenizer: Tokenizer, problems: list[_Problem]
) -> list[str]:
    """The names of a prompt's tokens, and what is wrong with the parts that are named."""
    names, given = [REST] * len(ids), set[int]()
    text = [part for part in draft.spans if part.kind == "text"]
    for part in (*text, *(part for part in draft.spans if part.kind != "text")):
        first, behind = _tokens_of(part, draft.pair.clean, reach)
        if behind > len(ids):
            said = f"the span {part.name!r} runs to token {behind - 1}, and the prompt has {len(ids)}, counted from 0"
            problems.append(("a span runs past the prompt", said))
        for token in range(first, min(behind, len(ids))):
            if token in given and names[token] != part.name:
                shown = f"token {token} ({one_token(tokenizer, ids[token])!r})"
                said = f"the spans {names[token]!r} and {part.name!r} have {shown} in common"
                problems.append(("spans overlap", said))
            names[token] = part.name
            if part.kind != "text":
                given.add(token)
    if not 0 <= at < len(ids):  # which check.py says
        return names
    alone = any(part.kind == "given" for part in draft.spans) and at in given and names.count(names[at]) == 1
    if not alone:
        names[at] = READ
    if names.count(READ) > 1:
        others = [i for i, name in enumerate(names) if name == READ and i != at]
        said = f"{READ!r} is the token that is read alone, token {at}, and the span given has others: {others}"
        problems.append((f"a span is called {READ!r}", said))
    return names


def _tokens_of(part: NamedRange, text: str, reach: _Reach) -> tuple[int, int]:
    """The tokens of a named part: the first one, and the one behind the last."""
    if part.in_tokens:
        return part.start, part.stop
    # Blanks at its end are in the token of the word that follows.
    stop = part.start + len(text[part.start : part.stop].rstrip(" "))
    return reach(part.start, stop if stop > part.start else part.stop)


def _offsets(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[tuple[int, int]]] | None:
    """The characters of every token of some texts, from a tokenizer that knows them; None from others."""
    if not getattr(tokenizer, "is_fast", False):
        return None
    split: Any = tokenizer
    found: list[list[tuple[int, int]]] = split(
        list(texts), add_special_tokens=False, return_attention_mask=False, return_offsets_mapping=True
    )["offset_mapping"]
    return found


def _by_offsets(offsets: Sequence[tuple[int, int]]) -> _Reach:
    """Tokens of no character, such as the sign for a space in front of the text, lie where they stand."""
    starts, stops = [start for start, _ in offsets], [max(stop, start + 1) for start, stop in offsets]
    return lambda start, stop: (bisect_right(stops, start), bisect_left(starts, stop))


def _by_beginnings(tokenizer: Tokenizer, text: str, ids: list[int]) -> _Reach:
    return lambda start, stop: token_ranges(tokenizer, text, [(start, stop)], ids, blanks=" ")[0]
