"""The report's part about a known circuit: overlap, classes, what is missing and extra."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from acdc_engine.graph.looks import column_style
from acdc_engine.graph.result_records import ClassResult, Comparison, EditEdge, Rank, Ranking
from acdc_engine.show.compare_text import RANKS
from acdc_engine.show.visible import plain

MOST_EDITS = 10
ROLE = 60
"""Characters shown of a class."""


@dataclass(frozen=True)
class Table:
    """Rows of texts under a heading; the first cell of a row names it. The note explains; it may be empty."""

    title: str
    heading: list[str]
    rows: list[list[str]]
    note: str = ""


@dataclass(frozen=True)
class Parts:
    """What the report says of a known circuit; `alike` says which lists would be empty."""

    known: str
    source: str
    tables: list[Table]
    alike: list[str]
    remarks: list[str]


def comparison_parts(comparison: Comparison) -> Parts:
    """Lays a comparison out in tables; those without rows are left out, and what that means is said."""
    tables = [_overlaps(comparison)]
    if comparison.classes:
        tables.append(_classes(comparison.classes))
    if comparison.rankings:
        tables.append(_rankings(comparison.rankings))
    alike = []
    for edges, name, meaning, none in (
        (comparison.missing, "Missing", "known edges that were not found", "All known edges were found."),
        (comparison.extra, "Extra", "found edges that are not known", "All edges found are known."),
    ):
        if edges:
            tables.append(_edits(name, meaning, edges))
        else:
            alike.append(none)
    return Parts(
        known=plain(comparison.known, 200),
        source=plain(comparison.known_source or "not stated", 400),
        tables=tables,
        alike=alike,
        remarks=[plain(remark[:1].upper() + remark[1:], 600) for remark in comparison.remarks],
    )


def _overlaps(comparison: Comparison) -> Table:
    heading = ["what", "known", "found", "both", "precision", "recall", "F1", "Jaccard"]
    rows = []
    for row in comparison.overlaps:
        counts = [f"{n:,}" for n in (row.n_true, row.n_found, row.n_both)]
        shares = [_three(share) for share in (row.precision, row.recall, row.f1, row.jaccard)]
        rows.append([row.name, *counts, *shares])
    note = "Precision: the share of what was found that is known; recall: of what is known that was found. Jaccard: in "
    note += "both, of those in either. Nodes are heads and MLPs, without input and logits."
    return Table("", heading, rows, note)


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
    note = "Edges of a class: known ones that start or end at one of its nodes."
    if any(result.auc is not None for result in classes):
        note += " AUC: the chance that |score| puts one of them above an edge that is not known; 0.5 is guessing."
    return _without_empty(Table("By class", heading, rows, note))


def _rankings(rankings: Sequence[Ranking]) -> Table:
    ranks = list(dict.fromkeys(row.rank for row in rankings))
    heading = ["what", *(f"AUC, {RANKS[rank]}" for rank in ranks), *(f"AP, {RANKS[rank]}" for rank in ranks)]
    by_name: dict[str, dict[Rank, Ranking]] = {}
    for row in rankings:
        by_name.setdefault(row.name, {})[row.rank] = row
    rows = [
        [name, *(_area(there.get(rank), "auc") for rank in ranks), *(_area(there.get(rank), "ap") for rank in ranks)]
        for name, there in by_name.items()
    ]
    note = "All edges of the model in the order of their scores. AUC: area under the ROC curve, 0.5 is guessing. AP: "
    note += (
        "average precision, the area under precision against recall. rms: root mean square of the scores over prompts."
    )
    return Table("All scores against it", heading, rows, note)


def _area(ranking: Ranking | None, which: Literal["auc", "ap"]) -> str:
    if ranking is None:
        return ""
    return f"{ranking.auc if which == 'auc' else ranking.average_precision:.3f}"


def _edits(name: str, meaning: str, edges: Sequence[EditEdge]) -> Table:
    strongest = "strongest" if any(edge.score is not None for edge in edges) else "first"
    some = f", the {strongest} {MOST_EDITS}" if len(edges) > MOST_EDITS else ""
    rows, style = [], column_style(edge.score for edge in edges)
    for edge in edges[:MOST_EDITS]:
        sender, receiver = edge.edge.split("->")
        known = edge.sender_role or edge.receiver_role
        roles = f"{edge.sender_role or sender} -> {edge.receiver_role or receiver}" if known else ""
        score = "" if edge.score is None else f"{edge.score:+{style}}"
        place = "" if edge.place is None else f"{edge.place:,}"
        rows.append([f"{sender} -> {receiver}", score, place, plain(roles, 2 * ROLE)])
    heading = ["edge", "score", "place among all", "classes"]
    note = "Place: among all edges of the model by |score|, 1 is the strongest." if any(row[2] for row in rows) else ""
    return _without_empty(Table(f"{name}: {len(edges):,} {meaning}{some}", heading, rows, note))


def _without_empty(table: Table) -> Table:
    """Without columns that have nothing in any row."""
    kept = [place for place in range(len(table.heading)) if any(row[place] for row in table.rows)]
    rows = [[row[place] for place in kept] for row in table.rows]
    return Table(table.title, [table.heading[place] for place in kept], rows, table.note)


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
