"""The picture of a comparison: ROC and precision-recall, edges above and nodes below. Needs matplotlib (`draw`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from acdc_engine.graph.result_records import Comparison, Overlap, Ranking, Scope
from acdc_engine.show.pictures.figure import drawn
from acdc_engine.show.results import RANKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart with every kind of colour blindness: with and without MLPs.
_COLOURS = {True: "#0072B2", False: "#D55E00"}
_DASHES: dict[str, Any] = {"absolute": "-", "signed": (0, (4, 1.8)), "rms": (0, (1, 1.2))}


def comparison_figure(comparison: Comparison) -> Figure:
    """The picture as a matplotlib figure: four axes, and with classes a fifth."""
    from matplotlib.figure import Figure

    columns = "abc" if comparison.classes else "ab"
    figure = Figure(figsize=(10.4 + 3.4 * (len(columns) - 2), 8.6), layout="constrained")
    grid = figure.add_gridspec(2, len(columns))
    scopes: tuple[Scope, Scope] = ("edges", "nodes")
    for row, scope in enumerate(scopes):
        roc, precision = figure.add_subplot(grid[row, 0]), figure.add_subplot(grid[row, 1])
        rankings = [ranking for ranking in comparison.rankings if ranking.scope == scope]
        overlaps = [overlap for overlap in comparison.overlaps if overlap.scope == scope]
        _draw_roc(roc, rankings, overlaps, scope)
        _draw_precision(precision, rankings, overlaps, scope)
        for axes in (roc, precision):
            axes.legend(fontsize=7, frameon=False, loc="lower right" if axes is roc else "best")
    if comparison.classes:
        _draw_classes(figure.add_subplot(grid[:, 2]), comparison)
    found = "/".join(Path(comparison.found).parts[-2:])
    title = f"{found} against {comparison.known} ({comparison.model.name})"
    if comparison.other_task:
        title += f"\n{drawn(comparison.other_task, 120)}"
    figure.suptitle(title, fontsize=11, parse_math=False)
    figure.supxlabel(_caption(comparison), fontsize=7.5, color="#444444")
    return figure


def _draw_roc(axes: Axes, rankings: list[Ranking], overlaps: list[Overlap], scope: Scope) -> None:
    axes.plot([0, 1], [0, 1], color="#BBBBBB", linewidth=0.8, zorder=1)
    for ranking in rankings:
        axes.plot(
            *ranking.roc, label=f"{_part(ranking)}, {RANKS[ranking.rank]}: AUC {ranking.auc:.3f}", **_line(ranking)
        )
    for overlap in overlaps:
        if overlap.recall is not None and overlap.false_positive_rate is not None:
            label = f"found circuit, {_part(overlap)}: {overlap.n_found:,} {scope}"
            axes.plot([overlap.false_positive_rate], [overlap.recall], label=label, **_star(overlap))
    _set_axes(axes, f"{scope}: ROC", "false positive rate", "true positive rate (recall)")


def _draw_precision(axes: Axes, rankings: list[Ranking], overlaps: list[Overlap], scope: Scope) -> None:
    for overlap in overlaps:
        if overlap.n:
            axes.axhline(overlap.n_true / overlap.n, color=_COLOURS[overlap.mlps], linewidth=0.6, alpha=0.5, zorder=1)
        if overlap.recall is not None and overlap.precision is not None:
            label = f"found circuit, {_part(overlap)}: F1 {overlap.f1 or 0:.3f}"
            axes.plot([overlap.recall], [overlap.precision], label=label, **_star(overlap))
    for ranking in rankings:
        label = f"{_part(ranking)}, {RANKS[ranking.rank]}: AP {ranking.average_precision:.3f}"
        axes.plot(*ranking.precision_recall, label=label, **_line(ranking))
    _set_axes(axes, f"{scope}: precision and recall", "recall", "precision")


def _draw_classes(axes: Axes, comparison: Comparison) -> None:
    """Bars: share of the class's known edges that were found. Ticks: their AUC."""
    roles = list(dict.fromkeys(row.role for row in comparison.classes))[::-1]
    split = any(not row.mlps for row in comparison.classes)
    for row in comparison.classes:
        height = roles.index(row.role) + (0 if not split else 0.19 if row.mlps else -0.19)
        colour = _COLOURS[row.mlps]
        if row.edges:
            axes.barh(height, row.edges_found / row.edges, 0.34 if split else 0.6, color=colour, alpha=0.35, zorder=2)
            text = f"{row.edges_found:,} of {row.edges:,}"
            axes.text(0.01, height, text, fontsize=6.5, va="center", color="#222222", zorder=4)
        if row.auc is not None:
            axes.plot([row.auc], [height], marker="D", color=colour, markersize=5, linestyle="none", zorder=5)
    axes.set_yticks(range(len(roles)), roles, fontsize=8)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(-0.6, len(roles) - 0.4)
    scored = any(row.auc is not None for row in comparison.classes)
    if scored:
        axes.axvline(0.5, color="#BBBBBB", linewidth=0.8, zorder=1)
    axes.set_title("by class: share of its edges found" + (", diamond: AUC" if scored else ""), fontsize=9, loc="left")
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _caption(comparison: Comparison) -> str:
    parts = ["thin level lines: chance"]
    if comparison.rankings:
        parts.insert(0, comparison.node_scores)
    if any(not overlap.mlps for overlap in comparison.overlaps):
        parts.insert(0, "blue: with MLPs, orange: without")
    return "; ".join(parts)


def _part(counted: Ranking | Overlap) -> str:
    return "all" if counted.mlps else "no MLPs"


def _line(ranking: Ranking) -> dict[str, Any]:
    return {"color": _COLOURS[ranking.mlps], "linestyle": _DASHES[ranking.rank], "linewidth": 1.5, "zorder": 3}


def _star(overlap: Overlap) -> dict[str, Any]:
    marker, size = ("*", 13) if overlap.mlps else ("P", 8)
    look = {"markeredgecolor": "black", "linestyle": "none", "zorder": 6}
    return {"color": _COLOURS[overlap.mlps], "marker": marker, "markersize": size, **look}


def _set_axes(axes: Axes, title: str, across: str, up: str) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.04)
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_xlabel(across, fontsize=8)
    axes.set_ylabel(up, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
