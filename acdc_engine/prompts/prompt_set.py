"""The aligned batch: clean and corrupt token ids of one shape, where to read, what is right there."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from acdc_engine.errors import PromptError
from acdc_engine.prompts.pair import PromptPair

__all__ = ["NO_ANSWER", "PADDING", "PromptPair", "PromptSet"]

NO_ANSWER = -1
"""Fills the rows of `answers` and `wrong_answers` that have fewer answers than the longest row."""

PADDING = 0
"""Token id to the right of a prompt. Any id would do: a causal model never sees it from the prompt's side."""


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
    """

    pairs: tuple[PromptPair, ...]
    clean: Int[Tensor, "n pos"]
    corrupt: Int[Tensor, "n pos"]
    lengths: Int[Tensor, "n"]
    read_at: Int[Tensor, "n"]
    answers: Int[Tensor, "n right"]
    wrong_answers: Int[Tensor, "n wrong"]
    templates: tuple[str, ...] = ()

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
        if bool((self.lengths < 1).any()) or bool((self.lengths > self.clean.shape[1]).any()):
            raise PromptError(f"Lengths must lie in 1..{self.clean.shape[1]}, not {self.lengths.tolist()}.")
        if bool((self.read_at < 0).any()) or bool((self.read_at >= self.lengths).any()):
            raise PromptError(
                f"The metric can only be read inside a prompt: positions {self.read_at.tolist()} "
                f"for lengths {self.lengths.tolist()}."
            )
        for name, ids in (("answers", self.answers), ("wrong_answers", self.wrong_answers)):
            if ids.shape[1] and not bool((ids != NO_ANSWER).any(dim=1).all()):
                raise PromptError(f"Either every prompt has {name} or none has: some rows are empty.")

    @staticmethod
    def from_tokens(
        clean: Sequence[Sequence[int]],
        corrupt: Sequence[Sequence[int]],
        answers: Sequence[Sequence[int]] = (),
        wrong_answers: Sequence[Sequence[int]] = (),
        *,
        read_at: Sequence[int] | None = None,
        pairs: Sequence[PromptPair] = (),
        templates: Sequence[str] = (),
    ) -> "PromptSet":
        """Builds a set from lists of token ids of any lengths.

        Args:
            clean: Token ids of each clean prompt.
            corrupt: Token ids of each corrupt prompt, as long as its clean prompt.
            answers: Right answer ids of each prompt; nothing at all for a set used with KL only.
            wrong_answers: Wrong answer ids of each prompt; may be nothing at all.
            read_at: Position to read per prompt; default the last one.
            pairs: The texts, where there are any.
            templates: Name of each prompt's template; default those of `pairs`.

        Returns:
            The padded set.

        Raises:
            PromptError: A clean and a corrupt prompt of different lengths, or rows that do not fit otherwise.
        """
        lengths = [len(row) for row in clean]
        if lengths != [len(row) for row in corrupt]:
            raise PromptError(
                "Clean and corrupt prompts must have the same number of tokens: "
                f"{lengths} and {[len(row) for row in corrupt]}."
            )
        n = len(lengths)
        for name, given in (("answers", answers), ("wrong_answers", wrong_answers)):
            if given and len(given) != n:
                raise PromptError(f"{name} has {len(given)} rows for {n} prompts: give one row each, or none at all.")
        last = [length - 1 for length in lengths]
        return PromptSet(
            pairs=tuple(pairs),
            clean=_pad(clean, PADDING),
            corrupt=_pad(corrupt, PADDING),
            lengths=torch.tensor(lengths, dtype=torch.long),
            read_at=torch.tensor(last if read_at is None else list(read_at), dtype=torch.long),
            answers=_pad(answers or [[]] * n, NO_ANSWER),
            wrong_answers=_pad(wrong_answers or [[]] * n, NO_ANSWER),
            templates=tuple(templates) or tuple(pair.template for pair in pairs),
        )

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
        return PromptSet(
            pairs=tuple(self.pairs[i] for i in indices) if self.pairs else (),
            clean=self.clean[rows, :width],
            corrupt=self.corrupt[rows, :width],
            lengths=self.lengths[rows],
            read_at=self.read_at[rows],
            answers=self.answers[rows],
            wrong_answers=self.wrong_answers[rows],
            templates=tuple(self.templates[i] for i in indices) if self.templates else (),
        )

    def batches(self, batch_size: int, fitting: Callable[[int], int] | None = None) -> Iterator["PromptSet"]:
        """Yields the parts that `batch_rows` names, each cut to its own longest prompt."""
        for rows in self.batch_rows(batch_size, fitting):
            yield self.select(rows)

    def batch_rows(self, batch_size: int, fitting: Callable[[int], int] | None = None) -> list[list[int]]:
        """Which rows run together.

        Args:
            batch_size: Rows of a part, at most.
            fitting: How many prompts of so many tokens fit into memory at once; None where any number does.

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
        return PromptSet(
            pairs=self.pairs,
            clean=self.clean.to(device),
            corrupt=self.corrupt.to(device),
            lengths=self.lengths.to(device),
            read_at=self.read_at.to(device),
            answers=self.answers.to(device),
            wrong_answers=self.wrong_answers.to(device),
            templates=self.templates,
        )

    def fingerprint(self) -> str:
        """Returns the sha256 (hex) of the token ids, reading positions and answers, in row order.

        Padding, device, texts and names of templates do not count, so the same prompts give the same fingerprint
        however batched.
        """
        rows = []
        for i, length in enumerate(self.lengths.tolist()):
            right, wrong = (
                [a for a in ids[i].tolist() if a != NO_ANSWER] for ids in (self.answers, self.wrong_answers)
            )
            clean, corrupt = self.clean[i, :length].tolist(), self.corrupt[i, :length].tolist()
            rows.append([clean, corrupt, int(self.read_at[i]), right, wrong])
        return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()


def _pad(rows: Sequence[Sequence[int]], fill: int) -> Int[Tensor, "n width"]:
    width = max((len(row) for row in rows), default=0)
    padded = [[*row, *[fill] * (width - len(row))] for row in rows]
    return torch.tensor(padded, dtype=torch.long).reshape(len(rows), width)
