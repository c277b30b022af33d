"""A circuit with places: a grid of layers and spans, input at the bottom.

A column is a place of the prompt, with its words below; a row is a layer. Edges of the residual stream stay in their
column: they go up to an MLP, to a head's query, or to a dot, the key or value that a head reads there. Attention goes
from column to column: from the dot to the heads that look back at it, the wider the more they look. Where a head looks
because of what is told there and in the corrupt prompts is not, and reads nothing that the circuit keeps, is a ring.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.nodes import layer_of, targets_of
from acdc_engine.graph.records import AttentionPath, CircuitEdge
from acdc_engine.graph.style import (
    by_strength,
    colour_of,
    faint_edges,
    faint_words,
    fill_of,
    legend_of,
    measure_of,
    opacity_of,
    relative_strengths,
    strength_of,
)
from acdc_engine.show.pictures import drawn, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SLOT, _ROW = 0.56, 0.42  # inches that a node takes, across and up, at its natural size
_DOT = -0.4  # where keys and values are read, below the middle of their row
_MARGIN, _BELOW = 0.55, 0.62  # inches: for the layers' numbers, and for places and words
_NAMES, _TITLE, _SMALL = 6.2, 9.0, 6.5  # points
_ATTENTION = "#8a8f98"
_UNKNOWN = 0.25  # drawn for attention that was not measured
_TURNED = 0.1  # of a head's attention: as much more it is on clean prompts than on corrupt ones
_Spot = tuple[float, float]
_DOTTED = (0, (0.8, 1.2))
BOX = 0.84, 0.42
"""Of a box across and up, as a share of its slot."""


@dataclass(frozen=True)
class Grid:
    """Where everything of a circuit with places stands, in slots across and rows up.

    Attributes:
        nodes: The middle of every node's box, by its name.
        dots: Of every key and value that is read, by its name.
        rings: Where heads of a layer look without one, by layer and span.
        columns: Left end and width of every span's column.
        layers: The layers that have a row, from below.
        height: Rows, with that of the input and that of the logits.
    """

    nodes: dict[str, _Spot]
    dots: dict[str, _Spot]
    rings: dict[tuple[int, str], _Spot]
    columns: dict[str, tuple[float, float]]
    layers: list[int]
    height: int

    @property
    def width(self) -> float:
        """Slots across."""
        return sum(width for _, width in self.columns.values())


def place_on_grid(circuit: Circuit) -> Grid:
    """Puts the nodes of a circuit with spans into their cells, heads before MLPs, and dots where they are read."""
    assert circuit.spans is not None, "a circuit with places"
    layers = sorted({node.layer for node in circuit.nodes if node.layer is not None})
    row_of = {layer: place for place, layer in enumerate(layers, 1)}
    cells: dict[tuple[str, int], list[str]] = {}
    for node in circuit.nodes:
        row = 0 if node.kind == "input" else len(layers) + 1 if node.layer is None else row_of[node.layer]
        cells.setdefault((node.span or "", row), []).append(node.name)
    read: dict[tuple[str, int], list[str]] = {}
    for edge in circuit.edges:
        if edge.receiver.endswith(("<k>", "<v>")):
            row = row_of[layer_of(edge.receiver)]
            cell = read.setdefault((edge.span or "", row), [])
            if edge.into not in cell:
                cell.append(edge.into)
    rings = {f"a{layer}@{span}": (layer, span) for _, layer, span in turned_to(circuit)}
    for name, (layer, span) in rings.items():
        read.setdefault((span, row_of[layer]), []).append(name)
    columns, left = dict[str, tuple[float, float]](), 0.0
    for span in circuit.spans.names:
        most = max((len(some) for (at, _), some in cells.items() if at == span), default=0)
        dots = max((len(some) for (at, _), some in read.items() if at == span), default=0)
        width = max(1.0 if most or dots else 0.7, most + 0.25, 0.55 * dots)
        columns[span] = left, width
        left += width
    nodes = {name: spot for cell, names in cells.items() for name, spot in _spread(names, cell, columns, 0.0)}
    dots_at = {name: spot for cell, names in read.items() for name, spot in _spread(sorted(names), cell, columns, _DOT)}
    rings_at = {place: dots_at.pop(name) for name, place in rings.items()}
    return Grid(nodes, dots_at, rings_at, columns, layers, len(layers) + 2)


def turned_to(circuit: Circuit) -> list[tuple[AttentionPath, int, str]]:
    """Paths by which heads look where they read nothing that is kept, and the corruption looks away; layer and span."""
    layout, found = circuit.graph(), list[tuple[AttentionPath, int, str]]()
    there = {node.name for node in circuit.nodes}  # pictures of the strongest edges have not all of them
    kept = {
        (head, edge.span)
        for edge in circuit.edges
        if edge.receiver.endswith(("<k>", "<v>"))
        for head in targets_of(layout, edge.into)[1]
    }
    for path in circuit.attention:
        turned = path.weight - path.weight_corrupt >= _TURNED
        if turned and path.node in there and (path.node, path.source) not in kept:
            found.append((path, layer_of(path.head), path.source))
    return found


def _spread(
    names: list[str], cell: tuple[str, int], columns: dict[str, tuple[float, float]], up: float
) -> Iterator[tuple[str, _Spot]]:
    """Side by side in the middle of a cell."""
    left, width = columns[cell[0]]
    step = 1.0 if up == 0.0 else 0.5
    for place, name in enumerate(names):
        yield name, (left + width / 2 + step * (place - (len(names) - 1) / 2), cell[1] + up)


def grid_figure(circuit: Circuit, heading: str, note: str, width: float | None) -> tuple[Figure, float]:
    """A circuit with spans as a figure, so many inches wide, and the points of its names."""
    from matplotlib.figure import Figure

    grid = place_on_grid(circuit)
    natural = grid.width * _SLOT + 2 * _MARGIN
    scale = 1.0 if width is None else width / natural
    across, names = natural * scale, _NAMES * min(1.0, scale)
    lines = wrapped(heading, across - 0.2, _TITLE)
    roles = legend_of(node.role for node in circuit.nodes)
    above = 0.1 + (len(lines) * _TITLE * 1.3 + (_SMALL * 1.6 if note else 0)) / 72
    abreast = max(2, min(4, int(across / 1.6)))
    less = faint_words(circuit) if faint_edges(circuit) else None
    below = _BELOW + (_SMALL * 1.8 / 72) * math.ceil((len(roles) + 4 + bool(grid.rings) + bool(less)) / abreast)
    middle = grid.height * _ROW * max(0.5, min(scale, 1.2))
    height = above + middle + below
    figure = Figure(figsize=(across, height))
    axes = figure.add_axes(
        (_MARGIN * scale / across, below / height, grid.width * _SLOT * scale / across, middle / height)
    )
    axes.set_axis_off()
    axes.set_xlim(0, grid.width)
    axes.set_ylim(-0.5, grid.height - 0.5)
    _draw_ground(axes, circuit, grid, names)
    thickness = min(1.0, scale) ** 0.5
    _draw_attention(axes, circuit, grid, thickness)
    _draw_stream(axes, circuit, grid, thickness)
    _draw_nodes(axes, circuit, grid, names)
    top: dict[str, Any] = {"ha": "center", "va": "top", "parse_math": False}
    figure.text(0.5, 1 - 0.05 / height, "\n".join(lines), fontsize=_TITLE, linespacing=1.15, **top)
    figure.text(0.5, 1 - (above - _SMALL * 1.6 / 72) / height, note, fontsize=_SMALL, color="#444444", **top)
    _draw_legend(figure, roles, height, abreast, bool(grid.rings), less)
    return figure, names


def _draw_ground(axes: Axes, circuit: Circuit, grid: Grid, points: float) -> None:
    """Columns, the layers' numbers, the places' names and their words in an example."""
    words = {span: f"“{drawn(text, 12)}”" for span, text in words_at(circuit).items()}
    for number, (span, (left, width)) in enumerate(grid.columns.items()):
        axes.axvspan(left, left + width, color="#f2f4f7" if number % 2 else "#ffffff", zorder=0, linewidth=0)
        for line, (text, colour) in enumerate(((drawn(span, 14), "#111111"), (words.get(span, ""), "#666666"))):
            axes.annotate(
                text,
                (left + width / 2, -0.5),
                xytext=(0, -4 - line * points * 1.35),
                textcoords="offset points",
                ha="right",
                va="top",
                rotation=32,
                rotation_mode="anchor",
                fontsize=points,
                color=colour,
                parse_math=False,
                annotation_clip=False,
            )
    rows = ["input", *(f"layer {layer}" for layer in grid.layers), "logits"]
    for row, text in enumerate(rows):
        axes.annotate(
            text,
            (0, row),
            xytext=(-4, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=points,
            color="#666666",
            annotation_clip=False,
        )


def words_at(circuit: Circuit) -> dict[str, str]:
    """The words of the first example at each place that has some, where they are not what the place is called."""
    if not circuit.examples or circuit.spans is None:
        return {}
    found: dict[str, str] = {}
    for text, at in zip(circuit.examples[0].clean, circuit.examples[0].spans, strict=False):
        name = circuit.spans.names[at]
        found[name] = found.get(name, "") + text
    return {name: text.strip() for name, text in found.items() if text.strip() not in ("", name)}


def _draw_stream(axes: Axes, circuit: Circuit, grid: Grid, thickness: float) -> None:
    """Edges of the residual stream, each in its column, the strongest on top."""
    measure, shares, layout = measure_of(circuit), relative_strengths(circuit), circuit.graph()
    faint = faint_edges(circuit)
    for lane, edge in enumerate(reversed(by_strength(circuit))):
        for end in _ends(layout, edge, grid):
            share = shares[edge] ** 0.5
            width = (0.5 + 1.9 * share) * thickness
            opacity = opacity_of(edge, 0.4 + 0.5 * share, faint)
            look: dict[str, Any] = {"lw": width, "alpha": opacity, "zorder": 3 + share}
            _arrow(axes, grid.nodes[edge.out_of], end, colour_of(strength_of(edge, measure)), lane, look)


def _ends(layout: Graph, edge: CircuitEdge, grid: Grid) -> list[_Spot]:
    """Where an edge arrives: at a dot, or below a node."""
    if edge.into in grid.dots:
        return [grid.dots[edge.into]]
    _, targets = targets_of(layout, edge.into)
    return [(x, y - BOX[1] / 2) for x, y in (grid.nodes[name] for name in targets if name in grid.nodes)]


def _arrow(axes: Axes, start: _Spot, end: _Spot, colour: str, lane: int, look: dict[str, Any]) -> None:
    """An arrow up a column; where it goes far it bends, so that it does not run through what lies between."""
    from matplotlib.patches import FancyArrowPatch

    from_ = start[0], start[1] + BOX[1] / 2
    far = end[1] - from_[1]
    bend = 0.0 if far < 1.0 and abs(end[0] - from_[0]) < 0.1 else (0.12 + 0.05 * (lane % 4)) * (1 if lane % 2 else -1)
    axes.add_patch(
        FancyArrowPatch(
            from_,
            end,
            connectionstyle=f"arc3,rad={bend / max(1.0, far / 3):.3f}",
            arrowstyle="-|>,head_length=2.2,head_width=1.1",
            shrinkA=0,
            shrinkB=0,
            color=colour,
            capstyle="butt",
            **look,
        )
    )


def _draw_attention(axes: Axes, circuit: Circuit, grid: Grid, thickness: float) -> None:
    """From every dot and ring to the heads of the circuit that look back at it, and the dots and rings."""
    layout, weights = circuit.graph(), {(path.node, path.source): path.weight for path in circuit.attention}
    for path, layer, span in turned_to(circuit):
        _look(axes, grid.rings[layer, span], grid.nodes[path.node], path.weight, thickness, _DOTTED)
    for name, spot in grid.dots.items():
        letter, span = name.partition("<")[2][0], name.partition("@")[2]
        for head in targets_of(layout, name)[1]:
            if head in grid.nodes:
                dashes = "-" if letter == "v" else (0, (2.5, 1.5))
                _look(axes, spot, grid.nodes[head], weights.get((head, span), _UNKNOWN), thickness, dashes)
        _mark(axes, spot, "#ffffff" if letter == "k" else _ATTENTION, 3.2 * thickness)
    for spot in grid.rings.values():
        _mark(axes, spot, "#ffffff", 1.6 * thickness)


def _look(axes: Axes, start: _Spot, end: _Spot, weight: float, thickness: float, dashes: Any) -> None:
    """A line as wide, and as plain to see, as the head looks there."""
    axes.plot(
        [start[0], end[0]],
        [start[1], end[1] - BOX[1] / 2 + 0.02],
        color=_ATTENTION,
        linewidth=(0.4 + 2.4 * weight) * thickness,
        alpha=min(1.0, 0.15 + 1.7 * weight),
        linestyle=dashes,
        zorder=2,
    )


def _mark(axes: Axes, spot: _Spot, fill: str, size: float) -> None:
    axes.plot(*spot, "o", ms=size, mfc=fill, mec=_ATTENTION, mew=0.9, zorder=5)


def _draw_nodes(axes: Axes, circuit: Circuit, grid: Grid, points: float) -> None:
    from matplotlib.patches import FancyBboxPatch

    for node in circuit.nodes:
        if node.name not in grid.nodes:
            continue
        x, y = grid.nodes[node.name]
        fill = fill_of(node.role).light if node.role else "#ffffff"
        across, up = BOX
        axes.add_patch(
            FancyBboxPatch(
                (x - across / 2, y - up / 2),
                across,
                up,
                boxstyle="round,pad=0,rounding_size=0.08",
                facecolor=fill,
                edgecolor="#555555",
                linewidth=0.6,
                zorder=6,
            )
        )
        axes.text(x, y, node.sender, fontsize=points, ha="center", va="center", zorder=7)


def _draw_legend(
    figure: Figure, roles: Iterable[str], height: float, abreast: int, rings: bool, less: str | None
) -> None:
    """What is drawn; `less` is what it means that a line is faint."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    dot: dict[str, Any] = {"color": _ATTENTION, "marker": "o"}
    handles: list[Patch | Line2D] = [
        Line2D([], [], color=colour_of(1.0), lw=1.6, label="supports"),
        Line2D([], [], color=colour_of(-1.0), lw=1.6, label="works against"),
        Line2D([], [], mfc=_ATTENTION, ms=3.5, lw=1.0, label="value a head reads", **dot),
        Line2D([], [], mfc="#fff", ms=3.5, lw=1.0, ls=(0, (2.5, 1.5)), label="key", **dot),
    ]
    if rings:
        handles.append(Line2D([], [], mfc="#fff", ms=2, lw=1.4, ls=_DOTTED, label="looks more than corrupt", **dot))
    if less:
        handles.append(Line2D([], [], color="#444444", alpha=0.3, lw=1.6, label=less))
    box: dict[str, Any] = {"edgecolor": "#555555", "lw": 0.6}
    handles += [Patch(facecolor=fill_of(name).light, label=drawn(name, 22), **box) for name in roles]
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=abreast,
        fontsize=_SMALL,
        frameon=False,
        bbox_to_anchor=(0.5, 0.02 / height),
    )
