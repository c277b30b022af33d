"""The aligned batch: clean and corrupt token ids of one shape, where to read, what is right there."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from acdc_engine.errors import PromptError
from acdc_engine.graph.spans import Spans
from acdc_engine.prompts.template import PromptPair

NO_ANSWER = -1
"""Fills the rows of `answers` and `wrong_answers` that have fewer answers than the longest row."""

_PADDING = 0
"""Token id to the right of a prompt. Any id would do: a causal model never sees it from the prompt's side."""

_TokenRows = Tensor | Sequence[Tensor] | Sequence[Sequence[int]]
"""Token ids of each prompt."""

_AnswerRows = Tensor | Sequence[Tensor] | Sequence[int] | Sequence[Sequence[int]]
"""Token ids of each prompt's answers, or of its one answer."""

_Numbers = Tensor | Sequence[int]
"""A whole number for each prompt."""


@dataclass(frozen=True, eq=False)
class PromptSet:
    """Clean and corrupt prompts as token ids, right-padded to one width.

    In causal models positions after a prompt's end are never seen by the positions before it, so gradients of a
    metric read at `read_at` are exactly zero there and no attention mask is needed. Other models refuse sets with
    prompts of unequal length.

    Attributes:
        pairs: The texts, in row order; empty when the set was made from token ids alone.
        clean: Token ids of the clean prompts.
        corrupt: Token ids of the corrupt prompts; row i is as long as row i of `clean`.
        lengths: Tokens per prompt, padding not counted.
        read_at: Position whose logits the metric reads.
        answers: Token ids of the right answers, filled up with -1.
        wrong_answers: Token ids of the wrong answers, filled up with -1.
        templates: Name of the template, or group of a pairs file, that each prompt is of; empty where not known.
        spans: The places in these prompts, where circuits are to tell them apart; None where they are not.
        span_at: Which of them every token is of, -1 for padding; None without spans.
    """

    pairs: tuple[PromptPair, ...]
    clean: Int[Tensor, "n pos"]
    corrupt: Int[Tensor, "n pos"]
    lengths: Int[Tensor, "n"]
    read_at: Int[Tensor, "n"]
    answers: Int[Tensor, "n right"]
    wrong_answers: Int[Tensor, "n wrong"]
    templates: tuple[str, ...] = ()
    spans: Spans | None = None
    span_at: Int[Tensor, "n pos"] | None = None

    def __post_init__(self) -> None:
        """Refuses inconsistent sets.

        Raises:
            PromptError: A length, reading position or number of texts that does not fit the tokens.
        """
        n = self.clean.shape[0]
        if self.pairs and len(self.pairs) != n:
            raise PromptError(f"{len(self.pairs)} text pairs were given for {n} rows of tokens.")
        if self.templates and len(self.templates) != n:
            raise PromptError(f"{len(self.templates)} template names were given for {n} rows of tokens.")
        if n == 0:
            return
        negative = (self.clean < 0) | (self.corrupt < 0)
        if bool(negative.any()):
            row = int(negative.any(dim=1).nonzero()[0, 0])
            raise PromptError(f"Token ids are not negative: prompt {row} has {int(self.clean[row].min())}.")
        if bool((self.lengths < 1).any()) or bool((self.lengths > self.clean.shape[1]).any()):
            raise PromptError(f"Lengths must lie in 1..{self.clean.shape[1]}, not {self.lengths.tolist()}.")
        outside = (self.read_at < 0) | (self.read_at >= self.lengths)
        if bool(outside.any()):
            row = int(outside.nonzero()[0, 0])
            raise PromptError(
                f"The metric can only be read inside a prompt: prompt {row} has {int(self.lengths[row])} tokens, and "
                f"position {int(self.read_at[row])}, counted from 0, is none of them."
            )
        for name, ids in (("answers", self.answers), ("wrong_answers", self.wrong_answers)):
            if ids.shape[1] and not bool((ids != NO_ANSWER).any(dim=1).all()):
                raise PromptError(f"Either every prompt has {name} or none has: some rows are empty.")

    @staticmethod
    def from_tokens(
        clean: _TokenRows,
        corrupt: _TokenRows,
        answers: _AnswerRows = (),
        wrong_answers: _AnswerRows = (),
        *,
        lengths: _Numbers | None = None,
        padding: int | None = None,
        read_at: int | _Numbers | None = None,
        pairs: Sequence[PromptPair] = (),
        templates: Sequence[str] = (),
        spans: Sequence[Sequence[str]] | None = None,
    ) -> "PromptSet":
        """Makes a set from token ids: tensors `[prompts, pos]`, or lists of any lengths.

        Args:
            clean: Token ids of each clean prompt.
            corrupt: Token ids of each corrupt prompt, as long as its clean prompt.
            answers: Right answer ids: one for each prompt, or a row for each, filled up with -1 where it is a tensor.
                Nothing at all for a metric that needs none.
            wrong_answers: Wrong answer ids, likewise.
            lengths: Tokens of each prompt, where rows have padding on their right.
            padding: Or the id that fills rows on their right; a prompt must not end with it.
            read_at: Position to read, one for all or one each; a negative one counts from the prompt's end. Default the
                last one.
            pairs: The texts, where there are any.
            templates: Name of each prompt's template; default those of `pairs`.
            spans: For each prompt the names of the spans that its tokens are of, token by token, for circuits that say
                where in the prompt; the position read has a span of its own.

        Returns:
            The set, on the device of `clean`.

        Raises:
            PromptError: A clean and a corrupt prompt of different lengths, or what does not fit otherwise.
        """
        device = clean.device if isinstance(clean, Tensor) else torch.device("cpu")
        rows = _cut(_lists("clean", clean), lengths, padding), _cut(_lists("corrupt", corrupt), lengths, padding)
        n = len(rows[0])
        if len(rows[1]) != n:
            raise PromptError(f"There are {n} clean prompts and {len(rows[1])} corrupt ones.")
        sizes, others = ([len(row) for row in side] for side in rows)
        for row, (size, other) in enumerate(zip(sizes, others, strict=True)):
            if size != other:
                raise PromptError(
                    f"Clean and corrupt prompts must have the same number of tokens: prompt {row} has {size} and "
                    f"{other}."
                )
        at = -1 if read_at is None else read_at
        each = [at] * n if isinstance(at, int) else _numbers("read_at", at, n)
        read = [at if at >= 0 else size + at for at, size in zip(each, sizes, strict=True)]
        made = PromptSet(
            pairs=tuple(pairs),
            clean=_pad(rows[0], _PADDING),
            corrupt=_pad(rows[1], _PADDING),
            lengths=torch.tensor(sizes, dtype=torch.long),
            read_at=torch.tensor(read, dtype=torch.long),
            answers=_pad(_answer_rows("answers", answers, n), NO_ANSWER),
            wrong_answers=_pad(_answer_rows("wrong_answers", wrong_answers, n), NO_ANSWER),
            templates=tuple(templates) or tuple(pair.template for pair in pairs),
        )
        return (made if spans is None else made.placed(spans)).to(device)

    def placed(self, tokens: Sequence[Sequence[str]], spans: Spans | None = None) -> "PromptSet":
        """Returns the set with spans.

        Args:
            tokens: For each prompt the names of its tokens' spans, padding not counted.
            spans: Of these and other prompts, where they have spans in common; None for those of these prompts.

        Raises:
            PromptError: Not one name for each token, or names that are not among `spans` or cannot be spans.
        """
        sizes = self.lengths.tolist()
        if len(tokens) != len(sizes):
            raise PromptError(f"Spans are given for {len(tokens)} prompts, and there are {len(sizes)}.")
        for i, (row, size) in enumerate(zip(tokens, sizes, strict=True)):
            if len(row) != size:
                raise PromptError(f"Every token has one span: prompt {i} has {size} tokens and {len(row)} names.")
        if spans is None:
            spans = Spans.of(tokens, self.read_at.tolist())
        else:
            read = Spans.of(tokens, self.read_at.tolist())
            if read.names and read.names[read.end] != (end := spans.names[spans.end]):
                raise PromptError(
                    f"The logits are read at span {end!r}, and at the reading positions of these prompts lies "
                    f"{read.names[read.end]!r}."
                )
        known = {name: place for place, name in enumerate(spans.names)}
        if strange := sorted({name for row in tokens for name in row} - known.keys()):
            raise PromptError(f"No span is called {strange[0]!r}: there are {', '.join(spans.names)}.")
        at = _pad([[known[name] for name in row] for row in tokens], -1).to(self.device)
        return self._with(spans=spans, span_at=at)

    def both_ways(self) -> "PromptSet":
        """Returns the set with spans for attention that is not causal; see `Spans.both_ways`."""
        return self if self.spans is None else self._with(spans=self.spans.both_ways())

    def span_names(self) -> list[list[str]]:
        """For each prompt the names of its tokens' spans; empty lists without spans."""
        if self.spans is None or self.span_at is None:
            return [[] for _ in range(len(self))]
        sizes = self.lengths.tolist()
        return [
            [self.spans.names[place] for place in row[:size]]
            for row, size in zip(self.span_at.tolist(), sizes, strict=True)
        ]

    def __len__(self) -> int:
        """Number of prompt pairs."""
        return self.clean.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.clean.device

    def select(self, indices: Sequence[int]) -> "PromptSet":
        """Returns the rows `indices`, in that order, with the columns cut to the longest of them."""
        rows = torch.tensor(list(indices), dtype=torch.long, device=self.device)
        width = int(self.lengths[rows].max()) if len(rows) else 0
        return self._with(
            pairs=tuple(self.pairs[i] for i in indices) if self.pairs else (),
            clean=self.clean[rows, :width],
            corrupt=self.corrupt[rows, :width],
            templates=tuple(self.templates[i] for i in indices) if self.templates else (),
            span_at=None if self.span_at is None else self.span_at[rows, :width],
            **{name: getattr(self, name)[rows] for name in ("lengths", "read_at", "answers", "wrong_answers")},
        )

    def in_turns(self) -> list[int]:
        """All rows, the templates in turn: any number of the first of them is spread evenly over templates."""
        seen, places = Counter[str](), list[tuple[int, int]]()
        for row, name in enumerate(self.templates or ("",) * len(self)):
            places.append((seen[name], row))
            seen[name] += 1
        return [row for _, row in sorted(places)]

    def batches(self, batch_size: int, fitting: Callable[[int], int] | None = None) -> Iterator["PromptSet"]:
        """Yields the parts that `batch_rows` names, each cut to its own longest prompt."""
        for rows in self.batch_rows(batch_size, fitting):
            yield self.select(rows)

    def batch_rows(self, batch_size: int, fitting: Callable[[int], int] | None = None) -> list[list[int]]:
        """Which rows run together, at most `batch_size`.

        `fitting` tells how many prompts of so many tokens fit into memory at once; None where any number does.

        Returns:
            Consecutive rows where all parts fit. Otherwise rows by length, the longest first, so that little of a part
            is padding; every row is in one part.

        Raises:
            PromptError: `batch_size` below 1.
        """
        if batch_size < 1:
            raise PromptError(f"The batch size must be at least 1, not {batch_size}.")
        lengths = self.lengths.tolist()
        plain = [list(range(start, min(start + batch_size, len(self)))) for start in range(0, len(self), batch_size)]
        if fitting is None or all(len(rows) <= fitting(max(lengths[row] for row in rows)) for rows in plain):
            return plain
        parts: list[list[int]] = []
        for row in sorted(range(len(self)), key=lambda row: -lengths[row]):
            if not parts or len(parts[-1]) >= min(batch_size, fitting(lengths[parts[-1][0]])):
                parts.append([])
            parts[-1].append(row)
        return parts

    def to(self, device: torch.device | str) -> "PromptSet":
        """Returns the same set on another device."""
        return self._with(**{name: each.to(device) for name, each in vars(self).items() if isinstance(each, Tensor)})

    def counted_in(self, answers: Int[Tensor, "n right"], wrong_answers: Int[Tensor, "n wrong"]) -> "PromptSet":
        """Returns the set with answers that are counted otherwise, such as in a few columns of the vocabulary."""
        return self._with(answers=answers, wrong_answers=wrong_answers)

    def _with(self, **changed: Any) -> "PromptSet":
        """The set with changes that are known to fit: nothing is checked, so that no device is waited for."""
        made = object.__new__(PromptSet)
        vars(made).update({**vars(self), **changed})
        return made

    def fingerprint(self) -> str:
        """Returns the sha256 (hex) of the token ids, reading positions and answers, in row order.

        Padding, device, texts and names of templates do not count, so the same prompts give the same fingerprint
        however batched. Spans count where there are any.
        """
        rows = list[list[Any]]()
        for i, length in enumerate(self.lengths.tolist()):
            answers = [[a for a in ids[i].tolist() if a != NO_ANSWER] for ids in (self.answers, self.wrong_answers)]
            clean, corrupt = self.clean[i, :length].tolist(), self.corrupt[i, :length].tolist()
            rows.append([clean, corrupt, int(self.read_at[i]), *answers])
        if self.spans is not None:
            rows += self.span_names()
        return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()


def with_common_spans(prompts: PromptSet, *others: PromptSet | None) -> tuple[PromptSet, list[PromptSet | None]]:
    """The sets with spans that are the same in all of them, as circuits take them to be.

    Raises:
        PromptError: Some have spans and others have none, or they are read at spans of different names.
    """
    given = [prompts, *(one for one in others if one is not None)]
    if all(one.spans == prompts.spans for one in given):
        return prompts, list(others)
    if any(one.spans is None for one in given):
        raise PromptError(
            "Spans are given for some of the discovery, held-out and validation prompts, and not for others: give them "
            "for all, or for none."
        )
    rows = [row for one in given for row in one.span_names()]
    spans = Spans.of(rows, [at for one in given for at in one.read_at.tolist()])
    first, *rest = (None if one is None else one.placed(one.span_names(), spans) for one in (prompts, *others))
    assert first is not None, "it was given"
    return first, rest


def _lists(name: str, given: Any) -> list[list[int]]:
    """Rows of token ids as lists."""
    if isinstance(given, Tensor):
        if given.is_floating_point() or given.dtype == torch.bool or given.ndim != 2:
            found = f"{str(given.dtype).removeprefix('torch.')} of shape {list(given.shape)}"
            raise PromptError(f"{name} is to be token ids, whole numbers [prompts, positions], not {found}.")
        return given.tolist()
    rows = [row.tolist() if isinstance(row, Tensor) else list(row) for row in given]
    for i, row in enumerate(rows):
        if not all(isinstance(token, int) for token in row):
            raise PromptError(f"{name} is to be token ids, a list of whole numbers for each prompt; row {i} is {row}.")
    return rows


def _cut(rows: list[list[int]], lengths: _Numbers | None, padding: int | None) -> list[list[int]]:
    """Rows without what is padding at their right."""
    if lengths is not None and padding is not None:
        raise PromptError("Give the lengths of the prompts, or the id that they are padded with, not both.")
    if lengths is not None:
        each = _numbers("lengths", lengths, len(rows))
        for i, (row, length) in enumerate(zip(rows, each, strict=True)):
            if not 1 <= length <= len(row):
                raise PromptError(f"Lengths must lie in 1..{len(row)}, not {length} (prompt {i}).")
        return [row[:length] for row, length in zip(rows, each, strict=True)]
    if padding is None:
        return rows
    fronts = [_front(row, padding) for row in rows]
    if len(set(fronts)) > 1:  # as many in all of them may be the beginning-of-sequence token
        raise PromptError(
            f"Prompts are padded on the right, and some here begin with {max(fronts)} tokens of padding ({padding}): "
            'set the tokenizer\'s padding_side to "right", or cut the padding off and give lists.'
        )
    return [row[: len(row) - _front(row[::-1], padding)] for row in rows]


def _front(row: Sequence[int], padding: int) -> int:
    """How many tokens of padding a row begins with."""
    return next((i for i, token in enumerate(row) if token != padding), len(row))


def _numbers(name: str, given: Any, n: int) -> list[int]:
    """One whole number for each prompt."""
    numbers = given.tolist() if isinstance(given, Tensor) else list(given)
    if len(numbers) != n or not all(isinstance(number, int) for number in numbers):
        raise PromptError(f"{name} is to be a whole number for each of the {n} prompts, not {numbers}.")
    return numbers


def _answer_rows(name: str, given: Any, n: int) -> list[list[int]]:
    """The ids of each prompt's answers."""
    listed = given.tolist() if isinstance(given, Tensor) else list(given)
    if not listed:
        return [[]] * n
    if len(listed) != n:
        raise PromptError(f"{name} has {len(listed)} rows for {n} prompts: give one row each, or none at all.")
    rows = _lists(name, [[row] if isinstance(row, int) else row for row in listed])
    return [[token for token in row if token != NO_ANSWER] for row in rows]


def _pad(rows: Sequence[Sequence[int]], fill: int) -> Int[Tensor, "n width"]:
    width = max((len(row) for row in rows), default=0)
    padded = [[*row, *[fill] * (width - len(row))] for row in rows]
    return torch.tensor(padded, dtype=torch.long).reshape(len(rows), width)
