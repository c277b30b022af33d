"""What one part of the search benchmark hands back, and the tables made of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from acdc_engine.patch.judge import Target
from benchmarks.report import Table
from benchmarks.trial import Row, Took

MEAN_ONLY = (0.5, 0.8)
"""A circuit in the band with less KL recovered or less agreement than this fits the mean and not the prompts."""
COLUMNS = (
    "circuit",
    "edges",
    "f held out",
    "95 % interval",
    "KL recovered",
    "agreement",
    "error",
    "fits",
    "searched",
    "seconds",
    "forwards",
    "evaluations",
)
NOTE = (
    "f, its bootstrap interval, KL recovered, agreement (share of the prompts judged as the model does) and normalised "
    "error are of held-out prompts; 'searched' is the objective on the prompts searched on. Fits: 'prompts' where f is "
    f"in the band; 'mean only' where it is, but KL recovered is below {MEAN_ONLY[0]} or agreement below "
    f"{MEAN_ONLY[1]:.0%}; 'no' outside the band. Seconds are of the search without scoring; a forward is a plain pass "
    "of the discovery prompts, no gradients, logits at all positions."
)


@dataclass(frozen=True)
class Figure:
    """One figure that the issue asks for.

    Attributes:
        what: Of what.
        target: What it should be, in words.
        measured: What it is, in words.
        met: Whether it is.
    """

    what: str
    target: str
    measured: str
    met: bool


@dataclass(frozen=True)
class Section:
    """What one part found.

    Attributes:
        tables: For people.
        record: JSON-ready.
        rows: Circuits that later parts compare with.
        figures: Those that have a target.
    """

    tables: tuple[Table, ...]
    record: dict[str, Any]
    rows: tuple[Row, ...] = ()
    figures: tuple[Figure, ...] = ()


def rows_table(title: str, rows: Sequence[Row], target: Target, note: str = "") -> Table:
    """Circuits with the figures of each beside its size.

    Args:
        title: Heading.
        rows: The circuits.
        target: The band of faithfulness.
        note: What else there is to say; how to read the columns stands below the figures to reach, once.
    """
    return Table(title, COLUMNS, tuple(_cells(row, target) for row in rows), note)


def fits(row: Row, target: Target) -> str:
    """Whether a circuit fits the held-out prompts, only their mean, or neither."""
    if not target.met(row.faithfulness):
        return "no"
    return "mean only" if row.kl_recovered < MEAN_ONLY[0] or row.agreement < MEAN_ONLY[1] else "prompts"


def interval_of(row: Row) -> str:
    """The interval of a row's faithfulness; empty where there is none."""
    return "" if row.low is None or row.high is None else f"{row.low:.2f} to {row.high:.2f}"


def cost_cells(took: Took) -> tuple[str, str]:
    """Seconds and forward passes."""
    return f"{took.seconds:.2f}", f"{took.forwards:.1f}"


def figures_table(figures: Sequence[Figure]) -> Table:
    """The figures to reach, and how to read all other tables."""
    rows = tuple((f.what, f.target, f.measured, "yes" if f.met else "no") for f in figures)
    return Table("Figures to reach", ("what", "target", "measured", "met"), rows, f"In all tables below: {NOTE}")


def _cells(row: Row, target: Target) -> tuple[str, ...]:
    return (
        row.what,
        f"{row.edges:,}",
        f"{row.faithfulness:.3f}",
        interval_of(row),
        f"{row.kl_recovered:.3f}",
        f"{row.agreement:.0%}",
        f"{row.normalised_error:.3f}",
        fits(row, target),
        f"{row.searched:.3f}",
        *cost_cells(row.took),
        f"{row.took.evaluations:,}",
    )
