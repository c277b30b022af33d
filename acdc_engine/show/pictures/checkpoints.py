"""Checkpoints as line charts: behaviour, size, faithfulness and overlap, model by model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from acdc_engine.graph.checkpoint_records import Checkpoints
from acdc_engine.graph.evidence_records import Interval
from acdc_engine.show.checkpoints import names_of
from acdc_engine.show.pictures import drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Of Okabe and Ito's palette.
_BLUE, _ORANGE, _GREEN = "#0072B2", "#D55E00", "#009E73"
_FULL, _DASHED = ("-", "o"), ((0, (3, 2)), "s")
_EACH = tuple(product((_BLUE, _ORANGE, _GREEN), (_FULL,)))
_PAIRED = tuple(product((_BLUE, _ORANGE), (_FULL, _DASHED)))
"""Looks of lines: a colour for each; or one for two, full and dashed."""
_LOW, _HIGH = -1.5, 2.5
"""Faithfulness beyond these ends would press the rest into one line: it is drawn at them."""
_Values = Sequence[float | int | None]


def checkpoints_figure(found: Checkpoints) -> Figure:
    """Four charts over the models in order; where a model has no circuit, lines have a gap."""
    from matplotlib.figure import Figure

    models = found.models
    figure = Figure(figsize=(7.6, 5.8), layout="constrained")
    (behaviour, sizes), (faithful, overlap) = figure.subplots(2, 2, sharex=True)
    _lines(
        behaviour,
        f"{drawn(found.metric, 20)} of the model",
        {"clean": [one.metric_clean for one in models], "corrupt": [one.metric_corrupt for one in models]},
    )
    _lines(
        sizes,
        "size of its circuit",
        {"edges": [one.edges for one in models], "heads and MLPs": [one.nodes for one in models]},
    )
    sizes.set_ylim(bottom=0)
    shares: dict[str, _Values] = {"in its own model": [one.faithfulness for one in models]}
    shares["its worst template"] = [one.worst for one in models]
    shares["in the last model"] = [one.in_last for one in models]
    known = {label: values for label, values in shares.items() if any(value is not None for value in values)}
    _lines(faithful, "faithfulness of the circuit, 95 % intervals", _inside(known))
    _bars(faithful, [one.faithfulness_interval for one in models], _BLUE)
    for height in (0, 1):
        faithful.axhline(height, color="#999999", linewidth=0.7, zorder=1)
    before, last = ([getattr(one, name) for one in models] for name in ("before", "last"))
    jaccard: dict[str, _Values] = {}
    for with_, parts in (("the one before", before), ("the last", last)):
        jaccard[f"edges, with {with_}"] = [part and part.edges for part in parts]
        jaccard[f"nodes, with {with_}"] = [part and part.nodes for part in parts]
    _lines(overlap, "what circuits share (Jaccard)", jaccard, _PAIRED)
    overlap.set_ylim(-0.04, 1.04)
    names = [drawn(name, 30) for name in names_of(models)]
    for axes in (faithful, overlap):
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right", parse_math=False)
    title = f"{found.task}, {found.n_held_out} held-out prompts"
    figure.suptitle(drawn(title, 90), fontsize=10, parse_math=False)
    return figure


def _lines(axes: Axes, title: str, lines: Mapping[str, _Values], looks: Sequence[Any] = _EACH) -> None:
    """Draws a line for each name: a value of every model, or none."""
    for (label, values), (colour, (style, marker)) in zip(lines.items(), looks, strict=False):
        look: dict[str, Any] = {"color": colour, "linestyle": style, "marker": marker, "markersize": 4}
        drawn_at = [float("nan") if value is None else value for value in values]
        axes.plot(range(len(values)), drawn_at, label=label, linewidth=1.4, **look)
    axes.set_title(title, fontsize=8.5, loc="left", parse_math=False)
    axes.grid(axis="y", color="#EEEEEE", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=7)
    if lines:
        axes.legend(fontsize=6.5, frameon=False, loc="best")
    axes.spines[["top", "right"]].set_visible(False)


def _bars(axes: Axes, intervals: Sequence[Interval | None], colour: str) -> None:
    for place, interval in enumerate(intervals):
        if interval is not None:
            low, high = (min(max(end, _LOW), _HIGH) for end in (interval.low, interval.high))
            axes.vlines(place, low, high, color=colour, alpha=0.45, linewidth=1.6)


def _inside(lines: Mapping[str, _Values]) -> dict[str, _Values]:
    """The same between the ends of the picture."""
    return {
        label: [None if value is None else min(max(value, _LOW), _HIGH) for value in values]
        for label, values in lines.items()
    }
