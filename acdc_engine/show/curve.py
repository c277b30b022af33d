"""The picture of a curve: faithfulness against number of edges."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acdc_engine.graph.result_records import Curve, CurveSeries
from acdc_engine.show.picture_file import check_picture, format_of, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart with every kind of colour blindness; one colour per method.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_DASHES: dict[str, Any] = {"signed": "-", "absolute": (0, (4, 1.8)), "rms": (0, (1, 1.2))}
_MARKERS = {"top-k": "o", "greedy": "s"}
_STARS = ("*", "D", "P", "X", "v", "^")
_GREY = "#777777"
_LOWEST, _HIGHEST = -1.0, 2.5
"""What the picture shows at most: a curve that explodes would press the rest into one line."""


def draw_curve(curve: Curve, path: Path, *, overwrite: bool = False) -> None:
    """Draws a curve into a file; the same curve gives the same file.

    Args:
        curve: What to draw.
        path: Where to, ending in .png, .svg or .pdf; its folder must exist.
        overwrite: Replace a file of that name.

    Raises:
        CircuitFileError: Unknown format, no matplotlib, or the file exists or cannot be written.
    """
    fmt = format_of(path)
    check_picture(fmt)
    write_figure(curve_figure(curve), path, fmt, overwrite=overwrite)


def curve_figure(curve: Curve) -> Figure:
    """The picture as a matplotlib figure: x, the edges left after cleaning; y, the faithfulness on held-out prompts."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 5.6), layout="constrained")
    axes = figure.add_subplot()
    _draw_ground(axes, curve)
    _draw_random(axes, curve)
    methods = list(dict.fromkeys(series.method for series in curve.series))
    for series in curve.series:
        _draw_series(axes, series, _COLOURS[methods.index(series.method) % len(_COLOURS)])
    _draw_circuits(axes, curve)
    _set_axes(axes, curve)
    axes.set_title(_title(curve), fontsize=11, loc="left")
    axes.set_title(_subtitle(curve), fontsize=7.5, loc="right", color="#444444")
    figure.legend(
        loc="outside lower center",
        ncols=2,
        fontsize=8,
        frameon=False,
        handlelength=3.2,
        title="\n".join(picture_remarks(curve)) or None,
        title_fontsize=7.5,
    )
    return figure


def picture_remarks(curve: Curve) -> list[str]:
    """What the picture leaves out: points beyond its ends, and sizes without a circuit."""
    remarks = []
    for name, edges, values in _lines(curve):
        beyond = [
            (value, count) for value, count in zip(values, edges, strict=True) if not _LOWEST <= value <= _HIGHEST
        ]
        if beyond:
            value, count = max(beyond, key=lambda point: abs(point[0]))
            remarks.append(f"{name} leaves the picture: f {value:.3g} at {count:,} edges.")
    empty = [(name, sum(count == 0 for count in edges)) for name, edges, _ in _lines(curve)]
    listed = [f"{count} of {name}" for name, count in empty if count]
    if listed:
        remarks.append(f"Not drawn: sizes too small to connect input and logits, where f is 0 ({'; '.join(listed)}).")
    return remarks


def _lines(curve: Curve) -> Iterator[tuple[str, list[int], list[float]]]:
    """Name, edges and faithfulness of everything drawn."""
    for series in curve.series:
        yield series.name, [p.edges for p in series.points], [p.faithfulness for p in series.points]
    if curve.random is not None:
        yield "random", [p.edges for p in curve.random.points], [p.mean for p in curve.random.points]
    for circuit in curve.circuits:
        yield circuit.name, [circuit.edges], [circuit.faithfulness]


def _draw_ground(axes: Axes, curve: Curve) -> None:
    axes.axhspan(
        curve.target,
        2 - curve.target,
        color="#F0E442",
        alpha=0.22,
        linewidth=0,
        zorder=0,
        label=f"faithful: {curve.target:g} to {2 - curve.target:g}",
    )
    for height in (0, 1):
        axes.axhline(height, color="#999999", linewidth=0.7, zorder=1)


def _draw_random(axes: Axes, curve: Curve) -> None:
    if curve.random is None:
        return
    points = [point for point in curve.random.points if point.edges]
    edges = [point.edges for point in points]
    lows, highs = ([end(point.faithfulness) for point in points] for end in (min, max))
    axes.fill_between(edges, lows, highs, color=_GREY, alpha=0.25, linewidth=0, zorder=1)
    areas = curve.random.areas.requested
    label = f"random circuits, mean and range: CPR {areas.cpr:.2f}, CMD {areas.cmd:.2f}"
    axes.plot(edges, [point.mean for point in points], color=_GREY, linewidth=1.2, zorder=2, label=label)


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
            label=f"{circuit.name}{found}: {circuit.edges:,} edges, f {circuit.faithfulness:.2f}",
        )


def _set_axes(axes: Axes, curve: Curve) -> None:
    import numpy as np
    from matplotlib.ticker import FuncFormatter

    edges = [count for _, counts, _ in _lines(curve) for count in counts if count]
    axes.set_xscale("log")
    axes.set_xlim(min([*edges, curve.n_edges]) / 1.25, curve.n_edges * 1.25)
    axes.set_ylim(*_limits(curve))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("edges left after cleaning")
    axes.set_ylabel("faithfulness on held-out prompts")
    axes.grid(axis="x", color="#EEEEEE", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines["right"].set_visible(False)
    share = axes.secondary_xaxis(
        "top", functions=(partial(np.multiply, 100 / curve.n_edges), partial(np.multiply, curve.n_edges / 100))
    )
    share.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    share.tick_params(labelsize=7.5, colors="#666666")


def _limits(curve: Curve) -> tuple[float, float]:
    """Room for all lines, intervals and ranges, between `_LOWEST` and `_HIGHEST`."""
    values = [value for _, _, line in _lines(curve) for value in line]
    intervals = [point.faithfulness_interval for series in curve.series for point in series.points]
    intervals += [circuit.faithfulness_interval for circuit in curve.circuits]
    values += [end for interval in intervals if interval is not None for end in (interval.low, interval.high)]
    if curve.random is not None:
        values += [value for point in curve.random.points for value in point.faithfulness]
    low, high = max(min([-0.05, *values]), _LOWEST), min(max([1.25, 2.05 - curve.target, *values]), _HIGHEST)
    return low - 0.06 * (high - low), high + 0.06 * (high - low)


def _title(curve: Curve) -> str:
    return f"{curve.task.name} in {curve.model.name}"


def _subtitle(curve: Curve) -> str:
    intervals = any(point.faithfulness_interval for series in curve.series for point in series.points)
    shown = ", bands: 95 % intervals" if intervals else ""
    return f"{curve.metric.name}, {curve.ablation} ablation, {curve.task.n_held_out} held-out prompts{shown}"
