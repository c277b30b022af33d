"""The report's part about a known circuit: overlap, classes, what is missing and extra."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from acdc_engine.export.compare_text import RANKS
from acdc_engine.export.visible import plain
from acdc_engine.graph.comparison_records import ClassResult, Comparison, EditEdge

MOST_EDITS = 10
ROLE = 60
"""Characters shown of a class."""


@dataclass(frozen=True)
class Table:
    """Rows of texts under a heading; the first cell of a row names it."""

    title: str
    heading: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Parts:
    """What the report says of a known circuit."""

    known: str
    source: str
    tables: list[Table]
    remarks: list[str]


def comparison_parts(comparison: Comparison) -> Parts:
    """Lays a comparison out in tables; those without rows say so in their title, or are left out."""
    tables = [_overlaps(comparison)]
    if comparison.classes:
        tables.append(_classes(comparison.classes))
    if comparison.rankings:
        tables.append(_rankings(comparison))
    tables += [
        _edits("Missing", "known edges that were not found", comparison.missing),
        _edits("Extra", "found edges that are not known", comparison.extra),
    ]
    return Parts(
        known=plain(comparison.known, 200),
        source=plain(comparison.known_source or "not stated", 400),
        tables=tables,
        remarks=[plain(remark[:1].upper() + remark[1:], 600) for remark in comparison.remarks],
    )


def _overlaps(comparison: Comparison) -> Table:
    heading = ["", "known", "found", "both", "precision", "recall", "F1", "Jaccard"]
    rows = []
    for row in comparison.overlaps:
        counts = [f"{n:,}" for n in (row.n_true, row.n_found, row.n_both)]
        shares = [_three(share) for share in (row.precision, row.recall, row.f1, row.jaccard)]
        rows.append([row.name, *counts, *shares])
    return Table("", heading, rows)


def _classes(classes: Sequence[ClassResult]) -> Table:
    heading = ["class", "nodes found", "edges found", "AUC of |score|", "edges, no MLPs", "AUC, no MLPs"]
    by_role: dict[str, dict[bool, ClassResult]] = {}
    for result in classes:
        by_role.setdefault(result.role, {})[result.mlps] = result
    rows = []
    for role, results in by_role.items():
        one = next(iter(results.values()))
        cells = [plain(role, ROLE), f"{one.nodes_found:,} of {one.nodes:,}"]
        for mlps in (True, False):
            found = results.get(mlps)
            cells.append("" if found is None else f"{found.edges_found:,} of {found.edges:,}")
            cells.append("" if found is None or found.auc is None else f"{found.auc:.3f}")
        rows.append(cells)
    return _without_empty(Table("By class", heading, rows))


def _rankings(comparison: Comparison) -> Table:
    heading = ["", "ranked by", "AUC", "average precision"]
    rows = [
        [row.name, RANKS[row.rank], f"{row.auc:.3f}", f"{row.average_precision:.3f}"] for row in comparison.rankings
    ]
    return Table("All scores against it", heading, rows)


def _edits(name: str, meaning: str, edges: Sequence[EditEdge]) -> Table:
    strongest = "strongest" if any(edge.score is not None for edge in edges) else "first"
    some = f", the {strongest} {MOST_EDITS}" if len(edges) > MOST_EDITS else ""
    rows = []
    for edge in edges[:MOST_EDITS]:
        sender, receiver = edge.edge.split("->")
        known = edge.sender_role or edge.receiver_role
        roles = f"{edge.sender_role or sender} -> {edge.receiver_role or receiver}" if known else ""
        score = "" if edge.score is None else f"{edge.score:+.4f}"
        place = "" if edge.place is None else f"{edge.place:,}"
        rows.append([f"{sender} -> {receiver}", score, place, plain(roles, 2 * ROLE)])
    heading = ["edge", "score", "place among all", "classes"]
    return _without_empty(Table(f"{name}: {len(edges):,} {meaning}{some}", heading, rows))


def _without_empty(table: Table) -> Table:
    """Without columns that have nothing in any row."""
    kept = [place for place in range(len(table.heading)) if any(row[place] for row in table.rows)]
    rows = [[row[place] for place in kept] for row in table.rows]
    return Table(table.title, [table.heading[place] for place in kept], rows)


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
