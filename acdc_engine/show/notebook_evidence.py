"""What speaks for a circuit as pieces of HTML for notebooks: its evaluation, and what verifying its file came to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from markupsafe import Markup

from acdc_engine.graph.evidence_records import Evaluation
from acdc_engine.show.notebook import (
    ROWS,
    figures_html,
    joined,
    notes_html,
    pairs_html,
    table_html,
    warning_html,
)
from acdc_engine.show.remarks import evaluation_warning
from acdc_engine.show.text import held_out_evidence


@runtime_checkable
class Checked(Protocol):
    """What is asked of `acdc_engine.run.verify.Claim`."""

    @property
    def what(self) -> str:
        """What it is about."""

    @property
    def edge(self) -> str | None:
        """The edge, for claims made of every edge."""

    @property
    def claimed(self) -> str:
        """What the file says."""

    @property
    def found(self) -> str:
        """What came out."""

    @property
    def holds(self) -> bool:
        """Whether that is the same."""

    @property
    def deviation(self) -> float | None:
        """How far a number is off."""


@runtime_checkable
class Verified(Protocol):
    """What is asked of `acdc_engine.run.verify.Verification`."""

    @property
    def path(self) -> str:
        """The file."""

    @property
    def tolerance(self) -> float:
        """Largest deviation that counts as the same."""

    @property
    def claims(self) -> Sequence[Checked]:
        """What was recomputed."""

    @property
    def failing(self) -> Sequence[Checked]:
        """The claims that do not hold."""

    @property
    def largest_deviation(self) -> float:
        """Of all numbers compared."""

    @property
    def unclaimed(self) -> Sequence[str]:
        """What such a file can claim and this one does not."""

    @property
    def unchecked(self) -> Sequence[str]:
        """What the file says and nobody recomputed."""

    @property
    def remarks(self) -> Sequence[str]:
        """What a reader should know besides."""


def evaluation_html(evaluation: Evaluation) -> Markup:
    """An evaluation: the figures of both splits, random circuits, completeness and tests."""
    rows = held_out_evidence(evaluation)
    against = warning_html(evaluation_warning(evaluation))
    return joined(against, figures_html(evaluation), pairs_html(rows) if rows else Markup())


def verification_html(found: Verified) -> Markup:
    """A verification: the verdict, every claim about the circuit, those about its edges by kind, and what failed."""
    failing, claims = found.failing, found.claims
    verdict = (
        f"{len(failing):,} of {len(claims):,} claims do NOT hold" if failing else f"All {len(claims):,} claims hold"
    )
    within = f"largest deviation {found.largest_deviation:.2g}, of {found.tolerance:g} allowed"
    notes = list(found.remarks)
    if found.unclaimed:
        notes.append(f"the file does not claim {'; '.join(found.unclaimed)}.")
    if found.unchecked:
        notes.append(f"not recomputed: {', '.join(found.unchecked)}.")
    return joined(
        pairs_html({"file": found.path, "verdict": f"{verdict}; {within}"}),
        table_html(("claim", "file", "recomputed", ""), [*_of_circuit(claims), *_of_edges(claims)]),
        _failing([claim for claim in failing if claim.edge is not None]),
        *notes_html(notes),
    )


def _of_circuit(claims: Sequence[Checked]) -> list[tuple[str, ...]]:
    return [
        (claim.what, claim.claimed, claim.found, "holds" if claim.holds else "WRONG")
        for claim in claims
        if claim.edge is None
    ]


def _of_edges(claims: Sequence[Checked]) -> list[tuple[str, ...]]:
    """One row for each kind of claim that is made of every edge."""
    rows: list[tuple[str, ...]] = []
    for what in dict.fromkeys(claim.what for claim in claims if claim.edge is not None):
        here = [claim for claim in claims if claim.edge is not None and claim.what == what]
        wrong = sum(not claim.holds for claim in here)
        largest = max((claim.deviation for claim in here if claim.deviation is not None), default=None)
        off = "" if largest is None else f"off by {largest:.2g} at most"
        rows.append((f"{what}, edge by edge", f"{len(here):,} edges", off, f"{wrong:,} WRONG" if wrong else "all hold"))
    return rows


def _failing(claims: Sequence[Checked]) -> Markup:
    if not claims:
        return Markup()
    rows = [(claim.what, str(claim.edge), claim.claimed, claim.found) for claim in claims[:ROWS]]
    return table_html(
        ("claim", "edge", "file", "recomputed"), rows, f"{len(rows):,} of the {len(claims):,} edge claims that fail", 2
    )
