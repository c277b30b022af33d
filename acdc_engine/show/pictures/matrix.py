"""Circuits by tasks as heat maps: one for every ablation and figure."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from acdc_engine.graph.transfer_records import Transfer
from acdc_engine.show.pictures import LETTER, drawn
from acdc_engine.show.transfer import FIGURES, Value, matrix
from acdc_engine.show.words import ends_of, two

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

# Of Okabe and Ito's palette: against the behaviour, nothing, the model, twice the model.
_SCALE = ((-1.0, "#D55E00"), (0.0, "#FFFFFF"), (1.0, "#0072B2"), (2.0, "#3B1A5A"))
_CELL = 0.66, 0.4
"""Inches across and up: an interval fits."""
_LONGEST = 30
"""Letters of a name at most."""
_ABREAST = 6
"""With more tasks, panels stand one above the other."""
_VALUE, _ENDS, _NAMES = 8.0, 5.2, 7.5
"""Points."""


def transfer_figure(found: Transfer) -> Figure:
    """Every circuit's figures on every task, with their intervals; what a circuit was found for is framed.

    White is the ablated model (no agreement), blue the model; darker than that overshoots, orange works against the
    behaviour. Cells without figures are hatched.
    """
    from matplotlib.figure import Figure

    panels = [(ablation, title) for ablation in found.ablations for title in FIGURES]
    rows, columns = len(found.circuits) + 1, len(found.tasks)
    abreast = len(FIGURES) if columns <= _ABREAST else 1
    down = len(panels) // abreast
    names = max(len(drawn(c.name, _LONGEST)) for c in found.circuits) * LETTER * _NAMES / 72 + 0.3
    heads = max(len(drawn(task, _LONGEST)) for task in found.tasks) * LETTER * _NAMES / 72 * 0.6 + 0.3
    size = abreast * (columns * _CELL[0] + 0.6) + names + 0.9, down * (rows * _CELL[1] + heads + 0.4) + 0.3
    figure = Figure(figsize=(max(size[0], 5.0), size[1]), layout="constrained")
    axes = figure.subplots(down, abreast, squeeze=False)
    for place, (one, panel) in enumerate(zip(axes.flat, panels, strict=True)):
        _draw_panel(one, found, *panel, with_names=place % abreast == 0)
    _add_scale(figure, list(axes.flat))
    about = f"circuits of {drawn(found.model.name, 60)}; framed: the task a circuit was found for"
    figure.suptitle(about, fontsize=9, parse_math=False)
    return figure


@cache
def _colours() -> Colormap:
    from matplotlib.colors import LinearSegmentedColormap

    low, high = _SCALE[0][0], _SCALE[-1][0]
    return LinearSegmentedColormap.from_list("share", [((at - low) / (high - low), colour) for at, colour in _SCALE])


def _draw_panel(axes: Axes, found: Transfer, ablation: str, title: str, with_names: bool) -> None:
    from matplotlib.patches import Rectangle

    for row, values in enumerate(matrix(found, ablation, title)):
        for column, value in enumerate(values):
            _draw_cell(axes, column, row, value)
    for row, circuit in enumerate(found.circuits):
        for column in (place for place, task in enumerate(found.tasks) if task == circuit.task):
            corner = column - 0.47, row - 0.47
            axes.add_patch(Rectangle(corner, 0.94, 0.94, fill=False, edgecolor="black", lw=1.6))
    _set_axes(axes, found, with_names)
    title = f"{title.partition(' of the')[0]}, {drawn(ablation, 20)}"
    axes.set_title(title, fontsize=8.5, loc="left", parse_math=False)


def _draw_cell(axes: Axes, column: int, row: int, value: Value | None) -> None:
    from matplotlib.patches import Rectangle

    corner, (low, high) = (column - 0.5, row - 0.5), (_SCALE[0][0], _SCALE[-1][0])
    if value is None:
        axes.add_patch(Rectangle(corner, 1, 1, facecolor="#EEEEEE", edgecolor="#BBBBBB", hatch="///", lw=0))
        return
    share, ends = min(max((value[0] - low) / (high - low), 0.0), 1.0), ends_of(value[1])
    axes.add_patch(Rectangle(corner, 1, 1, facecolor=_colours()(share), edgecolor="#DDDDDD", lw=0.6))
    look: dict[str, Any] = {"ha": "center", "va": "center", "color": "black" if -0.8 < value[0] < 0.6 else "white"}
    axes.text(column, row - 0.12 * bool(ends), two(value[0]), fontsize=_VALUE, **look)
    axes.text(column, row + 0.27, ends, fontsize=_ENDS, **look)


def _set_axes(axes: Axes, found: Transfer, with_names: bool) -> None:
    rows, columns = len(found.circuits) + 1, len(found.tasks)
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_aspect(_CELL[1] / _CELL[0])
    axes.set_xticks(range(columns), [drawn(task, _LONGEST) for task in found.tasks], fontsize=_NAMES, parse_math=False)
    axes.tick_params(axis="x", rotation=35)
    for text in axes.get_xticklabels():
        text.set(ha="right", rotation_mode="anchor")
    names = [*(drawn(circuit.name, _LONGEST) for circuit in found.circuits), "nothing kept"]
    axes.set_yticks(range(rows), names if with_names else [""] * rows, fontsize=_NAMES, parse_math=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _add_scale(figure: Figure, axes: list[Axes]) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    scale = ScalarMappable(Normalize(_SCALE[0][0], _SCALE[-1][0]), _colours())
    bar = figure.colorbar(scale, ax=axes, shrink=0.8, aspect=30, pad=0.02, ticks=[at for at, _ in _SCALE])
    bar.ax.set_yticklabels(["-1: against", "0: ablated", "1: the model", "2: overshoots"], fontsize=6.5)
    bar.outline.set_visible(False)
