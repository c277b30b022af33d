"""What a hypothesis test says before it is corrected for the others, and Holm's correction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

TestName = Literal["equivalence", "independence", "minimality"]

NULLS: dict[TestName, str] = {
    "equivalence": "circuit and model are about equally likely to have the higher score on a prompt",
    "independence": "the score of the complement (all but the circuit) is independent of the model's",
    "minimality": "every edge of the circuit has a larger effect than most random edges added to it",
}
"""The hypothesis that each test can reject: that the circuit is ideal in this respect."""

SAME = 1e-5
"""Scores closer than this share of |m(clean) - m(ablated)| are the same: rounding differs between runs."""


@dataclass(frozen=True)
class Outcome:
    """One test.

    Attributes:
        name: Which.
        statistic: The test's statistic.
        p_value: Before correction for the other tests.
        finding: The numbers, in words.
        if_rejected: What a rejection means, in words.
        if_kept: What it means that the null hypothesis stands.
    """

    name: TestName
    statistic: float
    p_value: float
    finding: str
    if_rejected: str = ""
    if_kept: str = ""


def undecided(name: TestName, reason: str) -> Outcome:
    """A test that cannot be made: nothing speaks against the null hypothesis."""
    return Outcome(name, statistic=0.0, p_value=1.0, finding=f"Not tested: {reason}")


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects p-values for their number (Holm 1979, *A Simple Sequentially Rejective Multiple Test Procedure*).

        adjusted p of the i-th smallest of m = max over j <= i of min(1, (m - j + 1) p_j)

    Rejecting where it is at most alpha keeps the chance of any false rejection below alpha, whatever the tests'
    dependence. Never less powerful than Bonferroni's m p. (scipy has the false discovery rate only.) O(m log m).
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted
