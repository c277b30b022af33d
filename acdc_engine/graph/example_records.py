"""Example prompts in a circuit file: as texts, with what the model answers and where the circuit's heads look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import Field, model_serializer, model_validator

from acdc_engine.graph.record import Record, without_empty

Rows = tuple[tuple[float, ...], ...]
"""Attention by query position; causal heads have as many numbers in a row as the query may look at."""


class NextToken(Record):
    """A next token that the model, or the circuit, thinks likely."""

    text: str
    """The token."""
    probability: float = Field(ge=0, le=1)
    """Its probability."""


class HeadPattern(Record):
    """Where one head looks on an example, on the clean and on the corrupt prompt."""

    head: str
    """Such as a5.h3."""
    clean: Rows
    """Attention on the clean prompt, rounded to three decimals."""
    corrupt: Rows
    """The same on the corrupt prompt."""


class Example(Record):
    """One pair of prompts, token by token."""

    clean: tuple[str, ...] = Field(min_length=1)
    """Tokens of the clean prompt as texts, BOS included where there is one."""
    corrupt: tuple[str, ...] = Field(min_length=1)
    """Tokens of the corrupt prompt."""
    read_at: int = Field(ge=0)
    """Position whose logits the metric reads."""
    answers: tuple[str, ...] = ()
    """Right next tokens."""
    wrong_answers: tuple[str, ...] = ()
    """Wrong next tokens."""
    next_clean: tuple[NextToken, ...] = ()
    """What the model thinks most likely after the clean prompt."""
    next_corrupt: tuple[NextToken, ...] = ()
    """The same after the corrupt prompt."""
    next_circuit: tuple[NextToken, ...] = ()
    """What the circuit thinks most likely after the clean prompt. Left out of the file where it is not known."""
    patterns: tuple[HeadPattern, ...] = ()
    """Of the circuit's heads. Empty where there are too many, or where the prompt is too long."""

    @model_serializer(mode="wrap")
    def _without_unknown(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Older files do not know what the circuit says."""
        return without_empty(handler(self), "next_circuit")

    @model_validator(mode="after")
    def _fits(self) -> Example:
        """Positions, and as many rows of attention as tokens."""
        if self.read_at >= len(self.clean):
            raise ValueError(f"read_at is {self.read_at}, but the prompt has {len(self.clean)} tokens")
        for pattern in self.patterns:
            for name, rows, tokens in (
                ("clean", pattern.clean, self.clean),
                ("corrupt", pattern.corrupt, self.corrupt),
            ):
                if len(rows) != len(tokens) or any(len(row) > len(tokens) for row in rows):
                    raise ValueError(
                        f"the {name} attention of {pattern.head} does not fit the {len(tokens)} tokens of the prompt"
                    )
        return self
