"""Picture for the report: faithfulness against size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import SizePoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Of Okabe and Ito's palette, told apart with every kind of colour blindness.
_PARTS, _MORE, _KL, _GREY = "#0072B2", "#E69F00", "#009E73", "#777777"
_LOWEST, _HIGHEST = -0.6, 2.2
"""What the picture shows at most: larger circuits can overshoot without end."""


def sizes_figure(circuit: Circuit) -> Figure:
    """Faithfulness of a circuit, of its parts and with more edges, against size; held-out prompts.

    Bars are bootstrap intervals, the grey band the range of random circuits, the yellow one the target. Points beyond
    the ends of the picture are drawn as triangles at its edge.

    Args:
        circuit: With at least one point in `sizes`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    _draw_ground(axes, circuit)
    _draw_random(axes, circuit)
    own = [point for point in circuit.sizes if point.kind == "circuit"]
    parts = [point for point in circuit.sizes if point.kind == "part"]
    more = [point for point in circuit.sizes if point.kind == "more"]
    _draw_kl(axes, circuit.sizes)
    _draw_line(axes, [*parts, *own], _PARTS, "the circuit's strongest edges")
    if more:
        _draw_line(axes, [*own, *more], _MORE, "the circuit and the best other edges")
    _draw_own(axes, own)
    _set_axes(axes, circuit)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure


def _inside(value: float) -> float:
    return min(max(value, _LOWEST), _HIGHEST)


def _draw_ground(axes: Axes, circuit: Circuit) -> None:
    search = circuit.search
    if search is not None and search.objective == "faithfulness" and search.target_faithfulness is not None:
        low, high = search.target_faithfulness, 2 - search.target_faithfulness
        band: dict[str, Any] = {"color": "#F0E442", "alpha": 0.25, "linewidth": 0, "zorder": 0}
        axes.axhspan(low, high, label=f"target: {low:g} to {high:g}", **band)
    for height in (0, 1):
        axes.axhline(height, color="#999999", linewidth=0.7, zorder=1)


def _draw_random(axes: Axes, circuit: Circuit) -> None:
    drawn = {point.edges: point.random for point in circuit.sizes if point.random}
    evaluation = circuit.evaluation
    if evaluation is not None and evaluation.random_circuits is not None:  # more of them, of the circuit's own size
        drawn[len(circuit.edges)] = evaluation.random_circuits.faithfulness
    if not drawn:
        return
    edges = sorted(drawn)
    lows, highs = ([_inside(end(drawn[size])) for size in edges] for end in (min, max))
    means = [_inside(sum(drawn[size]) / len(drawn[size])) for size in edges]
    axes.fill_between(edges, lows, highs, color=_GREY, alpha=0.3, linewidth=0, zorder=1)
    look: dict[str, Any] = {"color": _GREY, "linewidth": 1.2, "marker": ".", "markersize": 4, "zorder": 2}
    axes.plot(edges, means, label="random circuits, mean and range", **look)


def _draw_line(axes: Axes, points: list[SizePoint], colour: str, label: str) -> None:
    edges = [point.edges for point in points]
    values = [point.faithfulness for point in points]
    for point in points:
        interval = point.faithfulness_interval
        if interval is not None and interval.low < _HIGHEST and interval.high > _LOWEST:
            ends = _inside(interval.low), _inside(interval.high)
            axes.vlines(point.edges, *ends, color=colour, alpha=0.5, linewidth=1.6, zorder=3)
    shown = [_inside(value) for value in values]
    axes.plot(edges, shown, color=colour, linewidth=1.6, marker="o", markersize=4, zorder=4, label=label)
    for size, value in zip(edges, values, strict=True):
        if _inside(value) != value:
            axes.plot([size], [_inside(value)], color=colour, marker="^" if value > 1 else "v", markersize=8, zorder=5)


def _draw_kl(axes: Axes, points: tuple[SizePoint, ...]) -> None:
    values = [_inside(point.kl_recovered) for point in points]
    look: dict[str, Any] = {"color": _KL, "linewidth": 1.1, "linestyle": (0, (4, 1.8)), "zorder": 3}
    axes.plot([point.edges for point in points], values, label="KL recovered", **look)


def _draw_own(axes: Axes, own: list[SizePoint]) -> None:
    look: dict[str, Any] = {"color": "black", "marker": "*", "markersize": 12, "linestyle": "none", "zorder": 6}
    for point in own:
        text = f"this circuit: {point.edges:,} edges, {point.faithfulness:.2f}"
        axes.plot([point.edges], [_inside(point.faithfulness)], label=text, **look)


def _set_axes(axes: Axes, circuit: Circuit) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    sizes = [max(1, point.edges) for point in circuit.sizes]  # a log scale has no 0
    axes.set_xscale("log")
    axes.set_xlim(min(sizes) / 1.25, max(sizes) * 1.25)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    # Over a short range the ticks are not whole numbers: there is no circuit of 3.6 edges.
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,.0f}" if abs(value - round(value)) < 1e-6 else "")
    )
    axes.xaxis.set_minor_formatter(NullFormatter())
    intervals = [point.faithfulness_interval for point in circuit.sizes]
    values = [end for interval in intervals if interval is not None for end in (interval.low, interval.high)]
    values += [value for point in circuit.sizes for value in (point.faithfulness, point.kl_recovered)]
    low, high = _inside(min([-0.05, *values])), _inside(max([1.15, *values]))
    axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    axes.set_xlabel("edges")
    axes.set_ylabel("faithfulness, held-out prompts")
    axes.grid(axis="x", color="#EEEEEE", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
