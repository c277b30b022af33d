"""A comparison with a known circuit for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from acdc_engine.graph.looks import column_style
from acdc_engine.graph.result_records import Comparison, EditEdge, Ranking
from acdc_engine.show.text import grid

RANKS = {"absolute": "|score|", "signed": "score", "rms": "rms"}
"""How ways of ranking are called."""


def comparison_tables(comparison: Comparison, max_edges: int | None = 10) -> RenderableType:
    """The comparison, as `rich.print` prints it.

    Args:
        comparison: What to show.
        max_edges: How many edges of each edit list; None for all.
    """
    parts: list[RenderableType] = [_header(comparison)]
    if comparison.rankings:
        parts += ["", _rankings(comparison)]
    parts += ["", _overlaps(comparison)]
    if comparison.classes:
        parts += ["", _classes(comparison)]
    for title, edges in (("Missing", comparison.missing), ("Extra", comparison.extra)):
        parts += ["", _edits(title, edges, max_edges)]
    return Group(*parts)


def _header(comparison: Comparison) -> RenderableType:
    rows = {
        "Found": comparison.found,
        "Known": f"{comparison.known}, {comparison.model.name}",
        **({"Tasks": comparison.other_task} if comparison.other_task else {}),
        "Source": comparison.known_source or "not stated",
        "Scores": comparison.scores or "none",
    }
    return grid(rows)


def _rankings(comparison: Comparison) -> RenderableType:
    ranks = list(dict.fromkeys(ranking.rank for ranking in comparison.rankings))
    table = _table("", "known", "others", *(f"AUC\n{RANKS[r]}" for r in ranks), *(f"AP\n{RANKS[r]}" for r in ranks))
    rows: dict[str, dict[str, Ranking]] = {}
    for ranking in comparison.rankings:
        rows.setdefault(ranking.name, {})[ranking.rank] = ranking
    for name, row in rows.items():
        one = next(iter(row.values()))
        areas = [f"{row[rank].auc:.3f}" for rank in ranks]
        precisions = [f"{row[rank].average_precision:.3f}" for rank in ranks]
        table.add_row(name, f"{one.n_true:,}", f"{one.n_false:,}", *areas, *precisions)
    legend = (
        "  AUC: under the ROC curve, chance 0.5. AP: average precision, chance known / (known + others).\n  "
        f"{comparison.node_scores}.\n  Scores below 1e-6 of the largest are rounding and count as zero."
    )
    return Group(Text("All scores against the known circuit", style="bold"), Text(legend, style="dim"), table)


def _overlaps(comparison: Comparison) -> RenderableType:
    table = _table("", "known", "found", "both", "precision", "recall", "F1", "Jaccard")
    for row in comparison.overlaps:
        shares = (row.precision, row.recall, row.f1, row.jaccard)
        table.add_row(row.name, *(f"{n:,}" for n in (row.n_true, row.n_found, row.n_both)), *map(_three, shares))
    return Group(Text("The found circuit against the known one", style="bold"), table)


def _classes(comparison: Comparison) -> RenderableType:
    ranked = any(row.auc is not None for row in comparison.classes)
    split = any(not row.mlps for row in comparison.classes)
    heading = ["nodes\nfound"]
    for what in ("", "\nno MLPs") if split else ("",):
        heading += [f"edges{what or chr(10) + 'found'}", *([f"AUC{what}"] if ranked else [])]
    table = _table("", *heading)
    roles = list(dict.fromkeys(row.role for row in comparison.classes))
    for role in roles:
        rows = sorted((row for row in comparison.classes if row.role == role), key=lambda row: not row.mlps)
        cells = [f"{rows[0].nodes_found} of {rows[0].nodes}"]
        for row in rows:
            cells += [f"{row.edges_found:,} of {row.edges:,}", *([_three(row.auc)] if ranked else [])]
        table.add_row(Text(role), *cells)
    legend = "  known edges that start or end at the class; AUC by |score| against all edges not in the known circuit."
    return Group(Text("By class", style="bold"), Text(legend, style="dim"), table)


def _edits(title: str, edges: tuple[EditEdge, ...], max_edges: int | None) -> RenderableType:
    explained = {"Missing": "known, not found", "Extra": "found, not known"}[title]
    if not edges:
        return Text(f"{title}: nothing", style="bold")
    heading = Text(f"{title} ({explained}): {len(edges):,}, strongest first", style="bold")
    shown = edges if max_edges is None else edges[:max_edges]
    style = column_style(edge.score for edge in edges)
    columns = {"score": [_signed(edge.score, style) for edge in shown]}
    columns["place"] = ["" if edge.place is None else f"{edge.place:,}" for edge in shown]
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    table = _table("edge", *columns)
    table.add_column("classes")
    for edge, *cells in zip(shown, *columns.values(), strict=True):
        table.add_row(Text(edge.edge), *cells, Text(_roles(edge)))
    left = len(edges) - len(shown)
    rest = [Text(f"  ... and {left:,} more: --all", style="dim")] if left else []
    return Group(heading, table, *rest)


def _roles(edge: EditEdge) -> str:
    if edge.sender_role is None and edge.receiver_role is None:
        return ""
    sender, receiver = edge.edge.split("->")
    return f"{edge.sender_role or sender} -> {edge.receiver_role or receiver}"


def _signed(value: float | None, style: str) -> str:
    return "" if value is None else f"{value:+{style}}"


def _table(*heading: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for place, name in enumerate(heading):
        table.add_column(name, justify="right" if place else "left")
    return table


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
