"""Pairs that do not fit a model: what is wrong with one, what a model takes, and those that are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Problem(NamedTuple):
    """What is wrong with a pair under a tokenizer.

    Attributes:
        kind: The rule that is broken, the same for all pairs that break it.
        text: The same with the values found.
    """

    kind: str
    text: str


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
class LeftOut:
    """Pairs that do not fit and are left out, as the user asked.

    Attributes:
        count: How many.
        of: Of how many that were looked at.
        reasons: How many for each kind of problem; each pair counts under its first.
    """

    count: int
    of: int
    reasons: dict[str, int]

    @staticmethod
    def from_problems(problems: Iterable[list[Problem]]) -> LeftOut | None:
        """Counts pairs by their lists of problems; None if none has any."""
        listed = list(problems)
        reasons = Counter(found[0].kind for found in listed if found)
        return LeftOut(reasons.total(), len(listed), dict(reasons.most_common())) if reasons else None

    def __str__(self) -> str:
        """As a sentence."""
        why = "; ".join(f"{kind} ({count})" for kind, count in self.reasons.items())
        return f"{self.count} of the {self.of} pairs do not fit the model and are left out: {why}."
