"""Two models as a picture: where in the model effects differ, and how many edges their circuits keep, gain and lose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from acdc_engine.graph.diff_records import ALPHA, Diff
from acdc_engine.show.diff import change_of
from acdc_engine.show.pictures import drawn
from acdc_engine.show.visible import both_ends

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Of Okabe and Ito's palette.
_LESS, _SAME, _MORE = "#D55E00", "#FFFFFF", "#0072B2"
_STATUS = {
    "kept": "#C4C8CC",
    "stronger": "#56B4E9",
    "weaker": "#E69F00",
    "other sign": "#CC79A7",
    "gained": _MORE,
    "lost": _LESS,
}


def diff_figure(found: Diff) -> Figure:
    """Every node whose effect differs, layer by layer; and edges by the layer that they come from.

    Blue nodes support the behaviour more in the tuned model, orange ones less; those of the circuit of the change are
    framed. Nodes without colour do not differ, as far as the prompts tell, or are not among those that the file keeps.
    """
    from matplotlib.figure import Figure

    n_layers, n_heads = found.base.model.n_layers, found.base.model.n_heads
    height = max(2.6, 0.16 * (n_layers + 1) + 1.3)
    figure = Figure(figsize=(max(5.6, 0.3 * (n_heads + 1) + 3.4), height), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(max(2.0, 0.3 * (n_heads + 1)), 2.0))
    _draw_nodes(left, found, n_layers, n_heads)
    _draw_edges(right, found, n_layers)
    names = " and ".join(drawn(both_ends(one.model.name, 30), 30) for one in (found.base, found.tuned))
    figure.suptitle(f"{names}: {drawn(found.task, 30)}", fontsize=9, parse_math=False)
    return figure


def _place(name: str, n_heads: int) -> tuple[int, int]:
    """Row and column of a node; the input is below the layers."""
    if name == "input":
        return 0, 0
    layer, _, head = name[1:].partition(".h")
    return int(layer) + 1, int(head) if head else n_heads


def _draw_nodes(axes: Axes, found: Diff, n_layers: int, n_heads: int) -> None:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    values = np.zeros((n_layers + 1, n_heads + 1))
    for one in () if found.nodes is None else found.nodes.shown:
        if one.p <= ALPHA:
            values[_place(one.name, n_heads)] = one.difference
    # The input's difference is that of the whole metric, and often the first layer's: all others would be pale beside.
    most = float(np.abs(values[2:]).max(initial=0.0)) or float(np.abs(values).max()) or 1.0
    colours = LinearSegmentedColormap.from_list("difference", [_LESS, _SAME, _MORE])
    image = axes.imshow(values, origin="lower", cmap=colours, vmin=-most, vmax=most, aspect="auto")
    for name in {edge.name.partition("->")[0] for edge in found.carried.edges}:
        row, column = _place(name, n_heads)
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, linewidth=1.1, edgecolor="black"))
    axes.set_xticks(range(n_heads + 1), [*(f"h{head}" for head in range(n_heads)), "MLP"], fontsize=6)
    step = max(1, n_layers // 10)
    rows = range(0, n_layers, step)
    axes.set_yticks([0, *(layer + 1 for layer in rows)], ["in", *map(str, rows)], fontsize=6)
    axes.set_ylabel("layer", fontsize=7)
    axes.set_title("effect, tuned minus base\nframed: carries the change", fontsize=7)
    axes.figure.colorbar(image, ax=axes, shrink=0.7, extend="both").ax.tick_params(labelsize=6)


def _draw_edges(axes: Axes, found: Diff, n_layers: int) -> None:
    left = np.zeros(n_layers + 1)
    for status, colour in _STATUS.items():
        counts = np.zeros(n_layers + 1)
        for one in () if found.edges is None else found.edges.shown:
            if change_of(one) == status:
                counts[_place(one.name.partition("->")[0], 0)[0]] += 1
        if counts.any():
            axes.barh(range(n_layers + 1), counts, left=left, color=colour, label=f"{status} ({int(counts.sum())})")
        left += counts
    axes.set_title("edges of the circuits,\nby the layer they leave", fontsize=7)
    axes.tick_params(labelsize=6)
    if left.any():
        axes.legend(fontsize=6, frameon=False, loc="best")
    axes.spines[["top", "right"]].set_visible(False)
