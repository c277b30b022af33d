"""Charts: faithfulness against edges, of scoring methods and of one circuit; a comparison with a known circuit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acdc_engine.display import counted
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import SizePoint
from acdc_engine.graph.result_records import Comparison, Curve, CurveSeries, Overlap, Ranking, Scope
from acdc_engine.show.pictures import drawn
from acdc_engine.show.results import RANKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart with every kind of colour blindness; one colour per method.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_PARTS, _MORE, _KL = "#0072B2", "#E69F00", "#009E73"
_GREY = "#777777"
_DASHES: dict[str, Any] = {"signed": "-", "absolute": (0, (4, 1.8)), "rms": (0, (1, 1.2))}
_WITH_MLPS = {True: "#0072B2", False: "#D55E00"}
_PART = {True: "all", False: "no MLPs"}
_MARKERS = {"top-k": "o", "greedy": "s"}
_STARS = ("*", "D", "P", "X", "v", "^")
# What the pictures show at most: what explodes would press the rest into one line.
_CURVES, _SIZES = (-1.0, 2.5), (-0.6, 2.2)


def curve_figure(curve: Curve) -> Figure:
    """A curve as a matplotlib figure: x, the edges left after cleaning; y, the faithfulness on held-out prompts."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 5.6), layout="constrained")
    axes = figure.add_subplot()
    _draw_ground(axes, curve.target, "faithful")
    if curve.random is not None:
        areas = curve.random.areas.requested
        label = f"random circuits, mean and range: CPR {areas.cpr:.2f}, CMD {areas.cmd:.2f}"
        random = [(point.edges, point.faithfulness) for point in curve.random.points if point.edges]
        _draw_random(axes, random, label)
    methods = list(dict.fromkeys(series.method for series in curve.series))
    for series in curve.series:
        _draw_series(axes, series, _COLOURS[methods.index(series.method) % len(_COLOURS)])
    _draw_circuits(axes, curve)
    _set_curve_axes(axes, curve)
    axes.set_title(f"{curve.task.name} in {curve.model.name}", fontsize=11, loc="left")
    intervals = any(point.faithfulness_interval for series in curve.series for point in series.points)
    shown = ", bands: 95 % intervals" if intervals else ""
    about = f"{curve.metric.name}, {curve.ablation} ablation, {curve.task.n_held_out} held-out prompts{shown}"
    axes.set_title(about, fontsize=7.5, loc="right", color="#444444")
    figure.legend(
        loc="outside lower center",
        ncols=2,
        fontsize=8,
        frameon=False,
        handlelength=3.2,
        title="\n".join(_beyond(curve)) or None,
        title_fontsize=7.5,
    )
    return figure


def _beyond(curve: Curve) -> list[str]:
    """Which lines leave the picture, and how far."""
    found = []
    low, high = _CURVES
    for name, edges, values in _lines(curve):
        value, count = max(zip(values, edges, strict=True), key=lambda point: abs(point[0]), default=(1.0, 0))
        if not low <= value <= high:
            found.append(f"{name} leaves the picture: f {value:.3g} at {counted(count, 'edge')}.")
    return found


def sizes_figure(circuit: Circuit) -> Figure:
    """Faithfulness of a circuit that has `sizes`, of its parts and with more edges, against size; held-out prompts.

    Bars are bootstrap intervals, the grey band the range of random circuits, the yellow one the target. Points beyond
    the ends of the picture are drawn as triangles at its edge.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    search, evaluation = circuit.search, circuit.evaluation
    _draw_ground(axes, search.target_faithfulness if search and search.objective == "faithfulness" else None, "target")
    random = {point.edges: point.random for point in circuit.sizes if point.random}
    if evaluation is not None and evaluation.random_circuits is not None:  # more of them, of the circuit's own size
        random[len(circuit.edges)] = evaluation.random_circuits.faithfulness
    _draw_random(axes, sorted(random.items()), "random circuits, mean and range", marker=".", markersize=4)
    own, parts, more = ([p for p in circuit.sizes if p.kind == kind] for kind in ("circuit", "part", "more"))
    kl: dict[str, Any] = {
        "color": _KL,
        "linewidth": 1.1,
        "linestyle": (0, (4, 1.8)),
        "zorder": 3,
        "label": "KL recovered",
    }
    axes.plot([p.edges for p in circuit.sizes], [_inside(p.kl_recovered) for p in circuit.sizes], **kl)
    _draw_sizes(axes, [*parts, *own], _PARTS, "the circuit's strongest edges")
    if more:
        _draw_sizes(axes, [*own, *more], _MORE, "the circuit and the best other edges")
    for p in own:
        look: dict[str, Any] = {"color": "black", "marker": "*", "markersize": 12, "linestyle": "none", "zorder": 6}
        label = f"this circuit: {counted(p.edges, 'edge')}, {p.faithfulness:.2f}"
        axes.plot([p.edges], [_inside(p.faithfulness)], label=label, **look)
    _set_sizes_axes(axes, circuit)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure


def _draw_ground(axes: Axes, target: float | None, says: str) -> None:
    if target is not None:
        band: dict[str, Any] = {"color": "#F0E442", "alpha": 0.22, "linewidth": 0, "zorder": 0}
        axes.axhspan(target, 2 - target, label=f"{says}: {target:g} to {2 - target:g}", **band)
    for height in (0, 1):
        axes.axhline(height, color="#999999", linewidth=0.7, zorder=1)


def _draw_random(axes: Axes, found: Sequence[tuple[int, tuple[float, ...]]], label: str, **look: Any) -> None:
    """Mean and range of random circuits, by their edges."""
    if not found:
        return
    edges = [size for size, _ in found]
    lows, highs = ([end(values) for _, values in found] for end in (min, max))
    means = [sum(values) / len(values) for _, values in found]
    axes.fill_between(edges, lows, highs, color=_GREY, alpha=0.27, linewidth=0, zorder=1)
    axes.plot(edges, means, color=_GREY, linewidth=1.2, zorder=2, label=label, **look)


def _lines(curve: Curve) -> Iterator[tuple[str, list[int], list[float]]]:
    """Name, edges and faithfulness of everything drawn."""
    for series in curve.series:
        yield series.name, [p.edges for p in series.points], [p.faithfulness for p in series.points]
    if curve.random is not None:
        yield "random", [p.edges for p in curve.random.points], [p.mean for p in curve.random.points]
    for circuit in curve.circuits:
        yield circuit.name, [circuit.edges], [circuit.faithfulness]


def _draw_series(axes: Axes, series: CurveSeries, colour: str) -> None:
    points = [point for point in series.points if point.edges]
    known = [(point.edges, point.faithfulness_interval) for point in points if point.faithfulness_interval]
    ends = ([span.low for _, span in known], [span.high for _, span in known])
    axes.fill_between([edges for edges, _ in known], *ends, color=colour, alpha=0.13, linewidth=0, zorder=2)
    areas = series.areas.requested
    axes.plot(
        [point.edges for point in points],
        [point.faithfulness for point in points],
        color=colour,
        linestyle=_DASHES[series.rank],
        marker=_MARKERS[series.strategy],
        markersize=4,
        markerfacecolor=colour if series.rank == "signed" else "white",
        linewidth=1.6,
        zorder=4,
        label=f"{series.name}: CPR {areas.cpr:.2f}, CMD {areas.cmd:.2f}",
    )


def _draw_circuits(axes: Axes, curve: Curve) -> None:
    for place, circuit in enumerate(curve.circuits):
        interval = circuit.faithfulness_interval
        if interval is not None:
            axes.vlines(circuit.edges, interval.low, interval.high, color="black", linewidth=1, zorder=5)
        found = "" if circuit.strategy is None else f" ({circuit.strategy})"
        axes.plot(
            [circuit.edges],
            [circuit.faithfulness],
            color="black",
            marker=_STARS[place % len(_STARS)],
            markersize=11 if place % len(_STARS) == 0 else 7,
            linestyle="none",
            zorder=6,
            label=f"{circuit.name}{found}: {counted(circuit.edges, 'edge')}, f {circuit.faithfulness:.2f}",
        )


def _draw_sizes(axes: Axes, points: list[SizePoint], colour: str, label: str) -> None:
    for point in points:
        interval = point.faithfulness_interval
        if interval is not None and interval.low < _SIZES[1] and interval.high > _SIZES[0]:
            ends = _inside(interval.low), _inside(interval.high)
            axes.vlines(point.edges, *ends, color=colour, alpha=0.5, linewidth=1.6, zorder=3)
    shown = [(point.edges, _inside(point.faithfulness)) for point in points]
    axes.plot(*zip(*shown, strict=True), color=colour, linewidth=1.6, marker="o", markersize=4, zorder=4, label=label)
    for point, at in zip(points, shown, strict=True):
        if at[1] != point.faithfulness:
            axes.plot(*at, color=colour, marker="^" if point.faithfulness > 1 else "v", markersize=8, zorder=5)


def _inside(value: float) -> float:
    return min(max(value, _SIZES[0]), _SIZES[1])


def _set_curve_axes(axes: Axes, curve: Curve) -> None:
    from matplotlib.ticker import FuncFormatter

    what = "edges at places" if curve.places else "edges"
    _set_axes(axes, f"{what} left after cleaning", "faithfulness on held-out prompts")
    edges = [count for _, counts, _ in _lines(curve) for count in counts if count]
    axes.set_xlim(min([*edges, curve.n_edges]) / 1.25, curve.n_edges * 1.25)
    values = [value for _, _, line in _lines(curve) for value in line]
    intervals = [point.faithfulness_interval for series in curve.series for point in series.points]
    intervals += [circuit.faithfulness_interval for circuit in curve.circuits]
    values += [end for interval in intervals if interval is not None for end in (interval.low, interval.high)]
    if curve.random is not None:
        values += [value for point in curve.random.points for value in point.faithfulness]
    _set_height(axes, [-0.05, 1.25, 2.05 - curve.target, *values], _CURVES, 0.06)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _set_sizes_axes(axes: Axes, circuit: Circuit) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    _set_axes(axes, "edges", "faithfulness, held-out prompts")
    axes.spines["top"].set_visible(False)
    sizes = [max(1, point.edges) for point in circuit.sizes]  # a log scale has no 0
    axes.set_xlim(min(sizes) / 1.25, max(sizes) * 1.25)
    intervals = [point.faithfulness_interval for point in circuit.sizes]
    values = [end for interval in intervals if interval is not None for end in (interval.low, interval.high)]
    values += [value for point in circuit.sizes for value in (point.faithfulness, point.kl_recovered)]
    _set_height(axes, [-0.05, 1.15, *values], _SIZES, 0.05)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    # Over a short range the ticks are not whole numbers: there is no circuit of 3.6 edges.
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,.0f}" if abs(value - round(value)) < 1e-6 else "")
    )
    axes.xaxis.set_minor_formatter(NullFormatter())


def _set_axes(axes: Axes, across: str, up: str) -> None:
    axes.set_xscale("log")
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(axis="x", color="#EEEEEE", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines["right"].set_visible(False)


def _set_height(axes: Axes, values: Sequence[float], ends: tuple[float, float], room: float) -> None:
    """Room for all values, between the picture's ends."""
    low, high = max(min(values), ends[0]), min(max(values), ends[1])
    axes.set_ylim(low - room * (high - low), high + room * (high - low))


def comparison_figure(comparison: Comparison) -> Figure:
    """The picture as a matplotlib figure: four axes, and with classes a fifth. At places, if it is with places."""
    from matplotlib.figure import Figure

    columns = "abc" if comparison.classes else "ab"
    figure = Figure(figsize=(10.4 + 3.4 * (len(columns) - 2), 8.6), layout="constrained")
    grid = figure.add_gridspec(2, len(columns))
    scopes: tuple[Scope, Scope] = ("edges", "nodes")
    for row, scope in enumerate(scopes):
        roc, precision = figure.add_subplot(grid[row, 0]), figure.add_subplot(grid[row, 1])
        level = scope, comparison.places
        rankings = [one for one in comparison.rankings if (one.scope, one.places) == level]
        overlaps = [one for one in comparison.overlaps if (one.scope, one.places) == level]
        what = f"{scope} at places" if comparison.places else scope
        _draw_roc(roc, rankings, overlaps, what)
        _draw_precision(precision, rankings, overlaps, what)
        for axes in (roc, precision):
            axes.legend(fontsize=7, frameon=False, loc="lower right" if axes is roc else "best")
    if comparison.classes:
        _draw_classes(figure.add_subplot(grid[:, 2]), comparison)
    found = "/".join(Path(comparison.found).parts[-2:])
    title = f"{found} against {comparison.known} ({comparison.model.name})"
    if comparison.other_task:
        title += f"\n{drawn(comparison.other_task, 120)}"
    figure.suptitle(title, fontsize=11, parse_math=False)
    scores = f"{comparison.node_scores}; " if comparison.rankings else ""
    caption = f"blue: with MLPs, orange: without; {scores}thin level lines: chance"
    figure.supxlabel(caption, fontsize=7.5, color="#444444")
    return figure


def _draw_roc(axes: Axes, rankings: list[Ranking], overlaps: list[Overlap], what: str) -> None:
    axes.plot([0, 1], [0, 1], color="#BBBBBB", linewidth=0.8, zorder=1)
    for one in rankings:
        _draw_ranking(axes, one, one.roc, f"AUC {one.auc:.3f}")
    for found in overlaps:
        _draw_found(axes, found, found.false_positive_rate, found.recall, f"{found.n_found:,} {what}")
    _set_square_axes(axes, f"{what}: ROC", "false positive rate", "true positive rate (recall)")


def _draw_precision(axes: Axes, rankings: list[Ranking], overlaps: list[Overlap], what: str) -> None:
    for found in overlaps:
        if found.n:
            axes.axhline(found.n_true / found.n, color=_WITH_MLPS[found.mlps], linewidth=0.6, alpha=0.5, zorder=1)
        _draw_found(axes, found, found.recall, found.precision, f"F1 {found.f1 or 0:.3f}")
    for one in rankings:
        _draw_ranking(axes, one, one.precision_recall, f"AP {one.average_precision:.3f}")
    _set_square_axes(axes, f"{what}: precision and recall", "recall", "precision")


def _draw_ranking(axes: Axes, ranking: Ranking, line: tuple[list[float], list[float]], area: str) -> None:
    look: dict[str, Any] = {"color": _WITH_MLPS[ranking.mlps], "linestyle": _DASHES[ranking.rank]}
    label = f"{_PART[ranking.mlps]}, {RANKS[ranking.rank]}: {area}"
    axes.plot(*line, label=label, linewidth=1.5, zorder=3, **look)


def _draw_found(axes: Axes, found: Overlap, x: float | None, y: float | None, says: str) -> None:
    if x is not None and y is not None:
        marker, size = ("*", 13) if found.mlps else ("P", 8)
        look: dict[str, Any] = {"markeredgecolor": "black", "linestyle": "none", "zorder": 6}
        look |= {"color": _WITH_MLPS[found.mlps], "marker": marker, "markersize": size}
        axes.plot([x], [y], label=f"found circuit, {_PART[found.mlps]}: {says}", **look)


def _draw_classes(axes: Axes, comparison: Comparison) -> None:
    """Bars: share of the class's known edges that were found. Ticks: their AUC."""
    roles = list(dict.fromkeys(row.role for row in comparison.classes))[::-1]
    split = any(not row.mlps for row in comparison.classes)
    for row in comparison.classes:
        height = roles.index(row.role) + (0 if not split else 0.19 if row.mlps else -0.19)
        colour = _WITH_MLPS[row.mlps]
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
    title = f"by class{', at places' if comparison.places else ''}: share of its edges found"
    axes.set_title(title + (", diamond: AUC" if scored else ""), fontsize=9, loc="left")
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _set_square_axes(axes: Axes, title: str, across: str, up: str) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.04)
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_xlabel(across, fontsize=8)
    axes.set_ylabel(up, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
