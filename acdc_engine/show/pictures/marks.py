"""A circuit drawn layer by layer: edges as arrows around the boxes, or many as thin lines; nodes as named boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.records import CircuitEdge
from acdc_engine.graph.style import (
    Measure,
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
from acdc_engine.show.pictures import LETTER, drawn, letters_in, wrapped
from acdc_engine.show.pictures.layered import (
    BOX_HEIGHT,
    BOX_WIDTH,
    PORTS,
    SPACING,
    Picture,
    Point,
    lines_of,
    place_nodes,
    route,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path as Curve

_DASHES: dict[str, Any] = {"q": (0, (4, 1.6)), "k": (0, (1.2, 1.2)), "v": "-", "mlp": "-", "logits": "-"}
"""How edges that enter there are drawn."""
MANY = 250
"""More edges than these are drawn as thin lines without bends: nobody can follow a single one of them."""
_FLAT = 0.35  # edges that rise less (a layer's heads to its MLP, that MLP to the next heads) use the MLP's side
# Where they do, as shares of the gap between the rows of heads: in below out.
_SIDE_IN, _SIDE_OUT = 0.27, 0.47
_SIDE_OUT_BY = {"q": -0.1, "k": 0.0, "v": 0.1}  # seen from the MLP, q is farthest: its line runs below the others
_TURN = 0.3  # share of such a line that turns
_FILLS = {"input": "#FFFFFF", "head": "#FFFFFF", "mlp": "#E8E8E8", "logits": "#FFFFFF"}
_ROLE_DROP = 0.19  # below the box, clear of the arrowheads
_MANY_ROLES = 40
_LEAST_LETTER = 3.0  # points below which q, k and v are left out
_LEAST_ROLE = 4.5  # points below which roles are left to fills and legend: nobody reads them, and they hide edges' ends
_ACROSS, _UP = 0.7, 0.64  # inches of a unit at natural size
_NAMES = 8.5  # points of nodes' names at natural size
_LEAST_NATURAL = 6.4
_LEFT, _RIGHT, _ABOVE, _BELOW = 1.6, 0.75, 0.45, 0.35  # units around the nodes; the layers' names stand left
_BESIDE = 0.95  # of these units at the left, for the names
_CLEAR = 0.1  # units that lines keep from the picture's border


def _is_many(circuit: Circuit) -> bool:
    """Whether its edges are drawn as thin lines."""
    return len(circuit.edges) > MANY


@dataclass(frozen=True)
class _Page:
    """Sizes in inches, of letters in points."""

    width: float
    across: float
    up: float
    names: float
    left: float  # units to the left of the first node
    right: float  # units to the right of the last

    @property
    def small(self) -> float:  # letters of the legend
        return min(7.5 if self.width >= 5 else 6.2, max(5.5, self.names))

    @property
    def large(self) -> float:  # letters of the title
        return min(11.0, max(7.0, 1.3 * self.names))

    @classmethod
    def of(cls, circuit: Circuit, picture: Picture, ways: Sequence[_Way], width: float | None) -> _Page:
        low, high = _extent_across(ways)
        left, right = max(_LEFT, _BESIDE + _CLEAR - low), max(_RIGHT, high + _CLEAR - picture.width)
        units = picture.width + left + right
        width = width or max(_LEAST_NATURAL, units * _ACROSS)
        across = width / units
        names = min(_NAMES, across / _needed(circuit))
        return cls(width, across, _UP * names / _NAMES, names, left, right)


def _needed(circuit: Circuit) -> float:
    """Inches that a unit must have for each point of the names, so that they fit into their boxes."""
    longest = max((len(node.name) for node in circuit.nodes), default=1)
    return LETTER * max(6, longest) / (0.88 * BOX_WIDTH * 72)


def layered_figure(shown: Circuit, heading: str, note: str, width: float | None) -> tuple[Figure, float]:
    """A circuit layer by layer as a figure, so many inches wide, and the points of its names."""
    from matplotlib.figure import Figure

    room = math.inf if width is None else width / (_NAMES * _needed(shown)) - _LEFT - _RIGHT - SPACING
    picture = place_nodes(shown, room)  # as wide as names of natural size allow
    ways = _ways_of(shown, picture)
    page = _Page.of(shown, picture, ways, width)
    lines = wrapped(heading, page.width - 0.2, page.large)
    handles = _legend(shown, page)
    columns = _columns(handles, page)
    title_height = len(lines) * page.large * 1.3 / 72 + 0.08
    above = title_height + (page.small * 1.5 / 72 if note else 0)
    middle = (picture.height + _ABOVE + _BELOW) * page.up
    below = math.ceil(len(handles) / columns) * page.small * 1.6 / 72 + 0.12
    height = above + middle + below
    figure = Figure(figsize=(page.width, height))
    axes = figure.add_axes((0.0, below / height, 1.0, middle / height))
    axes.set_axis_off()
    axes.set_xlim(-page.left, picture.width + page.right)
    axes.set_ylim(-_BELOW, picture.height + _ABOVE)
    _draw_layers(axes, picture, page)
    _draw_edges(axes, shown, ways, page.names / _NAMES)
    _draw_nodes(axes, shown, picture, page.across, page.names)
    place: dict[str, Any] = {"ha": "center", "va": "top", "parse_math": False}
    figure.text(0.5, 1 - 0.05 / height, "\n".join(lines), fontsize=page.large, linespacing=1.15, **place)
    figure.text(0.5, 1 - title_height / height, note, fontsize=page.small, color="#444444", **place)
    _draw_legend(figure, handles, columns, page)
    return figure, page.names


@dataclass(frozen=True)
class _Way:
    """The line of an edge to one of the nodes that read it, in units of the picture."""

    edge: CircuitEdge
    kind: str
    curve: Curve


def _ways_of(circuit: Circuit, picture: Picture) -> list[_Way]:
    """The lines of a circuit's edges, around the boxes where they are few; the strongest last."""
    bends = not _is_many(circuit)
    lane_of = {edge: lane for lane, edge in enumerate(reversed(by_strength(circuit)))}
    return [
        _Way(edge, kind, _way(picture, edge.sender, target, kind, lane_of[edge], bends=bends))
        for edge, kind, target in lines_of(circuit, lane_of)
    ]


def _extent_across(ways: Sequence[_Way]) -> tuple[float, float]:
    """How far the lines reach to the left and to the right, or a little less: curves lie within their points."""
    import numpy as np

    across = [0.0] if not ways else np.concatenate([np.asarray(way.curve.vertices)[:, 0] for way in ways])
    return float(np.min(across)), float(np.max(across))


def _draw_edges(axes: Axes, circuit: Circuit, ways: Sequence[_Way], thickness: float) -> None:
    """Draws the edges, the strongest on top; a thickness of 1 is that of a picture of natural size."""
    (_draw_lines if _is_many(circuit) else _draw_arrows)(axes, circuit, ways, thickness)


def _arrow_width(share: float, thickness: float, *, many: bool) -> float:
    """Points of the line of an edge that has this share of the largest strength; areas of ink grow with its root."""
    least, more = (0.35, 2.2) if many else (0.5, 2.3)
    return (least + more * math.sqrt(share)) * thickness


def _draw_arrows(axes: Axes, circuit: Circuit, ways: Sequence[_Way], thickness: float) -> None:
    from matplotlib.patches import FancyArrowPatch

    measure, relative, faint = measure_of(circuit), relative_strengths(circuit), faint_edges(circuit)
    for way in ways:
        weight = relative[way.edge] ** 0.5
        head = (2.0 + weight) * thickness**0.5, (1.0 + 0.6 * weight) * thickness**0.5
        axes.add_patch(
            FancyArrowPatch(
                path=way.curve,
                arrowstyle=f"-|>,head_length={head[0]:.2f},head_width={head[1]:.2f}",
                linestyle=_DASHES[way.kind],
                linewidth=_arrow_width(relative[way.edge], thickness, many=False),
                color=colour_of(strength_of(way.edge, measure)),
                alpha=opacity_of(way.edge, 0.35 + 0.55 * weight, faint),
                capstyle="butt",
                zorder=2 + weight,
            )
        )


def _draw_lines(axes: Axes, circuit: Circuit, ways: Sequence[_Way], thickness: float) -> None:
    """One collection for all: many times faster than a patch for each, and a smaller file."""
    from matplotlib.collections import PathCollection
    from matplotlib.colors import to_rgba

    measure, relative, faint = measure_of(circuit), relative_strengths(circuit), faint_edges(circuit)
    colours, widths = [], []
    for way in ways:
        share = relative[way.edge] if measure else 0.01
        opacity = opacity_of(way.edge, 0.2 + 0.6 * share**0.5, faint)
        colours.append(to_rgba(colour_of(strength_of(way.edge, measure)), opacity))
        widths.append(_arrow_width(share, thickness, many=True))
    curves, dashes = [way.curve for way in ways], [_DASHES[way.kind] for way in ways]
    lines = PathCollection(curves, facecolors="none", edgecolors=colours, linewidths=widths, linestyles=dashes)
    lines.set_zorder(2)
    axes.add_collection(lines, autolim=False)


def _way(picture: Picture, sender: str, target: str, kind: str, lane: int, *, bends: bool) -> Curve:
    (x0, y0), (x1, y1) = picture.places[sender], picture.places[target]
    start, end = (x0, y0 + BOX_HEIGHT / 2), (x1 + PORTS[kind], y1 - BOX_HEIGHT / 2)
    aside = abs(end[0] - start[0]) > BOX_WIDTH
    # Between top and bottom such an edge would lie nearly flat: hidden arrowhead, and q, k and v on one line.
    gap = picture.rise - BOX_HEIGHT
    row = (y1 if kind == "mlp" else y0) - picture.rise / 2 + BOX_HEIGHT / 2  # the top of the boxes beside the MLP
    if aside and end[1] - start[1] < _FLAT and kind == "mlp":
        level = row + gap * (_SIDE_IN + 0.02 * (lane % 5 - 2))
        return _bent(start, (_side(x1, x0), level), (start[0], level))
    if aside and end[1] - start[1] < _FLAT and kind in _SIDE_OUT_BY and sender.startswith("m"):
        level = row + gap * (_SIDE_OUT + _SIDE_OUT_BY[kind])
        return _bent((_side(x0, x1), level), end, (end[0], level))
    if not bends:
        return _curve([start, end])
    boxes = [place for name, place in picture.places.items() if name not in (sender, target)]
    return _curve(route(start, end, boxes, lane))


def _side(of: float, towards: float) -> float:
    """Where the side of a box is that looks towards a place."""
    return of - BOX_WIDTH / 2 if towards < of else of + BOX_WIDTH / 2


def _bent(start: Point, end: Point, corner: Point) -> Curve:
    """A line from the start to the end around a corner that is straight above or below one of them."""
    from matplotlib.path import Path as Curve

    (x0, _), (x1, _) = start, end
    # Two control points: the corner, and one on the level stretch, so that the turn is short.
    if corner[0] == x0:
        controls = [corner, (x0 + _TURN * (x1 - x0), end[1])]
    else:
        controls = [(x1 + _TURN * (x0 - x1), start[1]), corner]
    return Curve([start, *controls, end], [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4])


def _curve(points: list[Point]) -> Curve:
    """A smooth curve through the points that leaves and arrives straight up."""
    from matplotlib.path import Path as Curve

    slopes: list[Point] = [(0.0, 1.0)]
    for before, after in zip(points, points[2:], strict=False):
        slopes.append(((after[0] - before[0]) / (after[1] - before[1]), 1.0))
    slopes.append((0.0, 1.0))
    vertices, codes = [points[0]], [Curve.MOVETO]
    for (here, there), (leave, arrive) in zip(pairwise(points), pairwise(slopes), strict=True):
        third = (there[1] - here[1]) / 3
        vertices += [
            (here[0] + leave[0] * third, here[1] + third),
            (there[0] - arrive[0] * third, there[1] - third),
            there,
        ]
        codes += [Curve.CURVE4] * 3
    return Curve(vertices, codes)


def _draw_nodes(axes: Axes, circuit: Circuit, picture: Picture, across: float, points: float) -> None:
    """Draws the boxes over the edges: names, q, k and v, and roles as pale fills.

    A unit across is so many inches; the nodes' names have so many points.
    """
    from matplotlib.patches import FancyBboxPatch

    centred: dict[str, Any] = {"ha": "center", "va": "center", "zorder": 5, "parse_math": False}
    size = 0.7 * points
    few = not _is_many(circuit) and sum(bool(node.role) for node in circuit.nodes) <= _MANY_ROLES
    texts = few and size >= _LEAST_ROLE
    for node in circuit.nodes:
        x, y = picture.places[node.name]
        look: dict[str, Any] = {
            "facecolor": fill_of(node.role).light if node.role else _FILLS[node.kind],
            "edgecolor": "#222222",
            "linewidth": 0.9 * min(1.0, points / 8.5),
            "zorder": 4,
        }
        shape = "round,pad=0,rounding_size=0.1"
        axes.add_patch(FancyBboxPatch((x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2), BOX_WIDTH, BOX_HEIGHT, shape, **look))
        letters = "qkv" if node.kind == "head" and 0.65 * points >= _LEAST_LETTER else ""
        axes.text(x, y + (0.055 if letters else 0), node.name, fontsize=points, **centred)
        for letter in letters:
            axes.text(x + PORTS[letter], y - 0.13, letter, fontsize=0.65 * points, color="#555555", **centred)
        if node.role and texts:
            paper = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.4}  # edges pass behind the text
            role = drawn(node.role, letters_in(SPACING * across, size))
            axes.text(x, y - BOX_HEIGHT / 2 - _ROLE_DROP, role, fontsize=size, color="#444444", bbox=paper, **centred)


def _draw_layers(axes: Axes, picture: Picture, page: _Page) -> None:
    for row, (layer, height) in enumerate(picture.layer_heights.items()):
        if row % 2 == 0:
            axes.axhspan(height - 0.25, height - 0.25 + picture.rise, color="#F6F6F6", zorder=0, linewidth=0)
        look: dict[str, Any] = {"fontsize": min(7.5, 0.9 * page.names), "color": "#666666", "va": "center"}
        axes.text(0.1 - page.left, height + picture.rise / 4, f"layer {layer}", **look)


def _legend(circuit: Circuit, page: _Page) -> list[Artist]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    measure = measure_of(circuit)
    ends = {"q": "into q", "k": "into k", "v": "into v, MLP, logits"}
    handles: list[Artist] = [Line2D([], [], color="#444444", linestyle=_DASHES[key], label=ends[key]) for key in ends]
    if measure is None:
        handles.append(Line2D([], [], color=colour_of(None), linewidth=2.5, label="effect not known"))
    else:
        handles.insert(0, Line2D([], [], color=colour_of(1.0), linewidth=2.5, label="supports the behaviour"))
        handles.insert(1, Line2D([], [], color=colour_of(-1.0), linewidth=2.5, label="works against it"))
        handles += _scale(circuit, measure, page)
    if faint_edges(circuit):
        handles.append(Line2D([], [], color="#444444", alpha=0.3, linewidth=2.5, label=faint_words(circuit)))
    if _is_many(circuit):
        handles.append(Line2D([], [], color="none", label="all edges run upwards"))
    roles = {drawn(role, 22): fill.light for role, fill in legend_of(node.role for node in circuit.nodes).items()}
    handles += [Patch(facecolor=fill, edgecolor="#222222", linewidth=0.6, label=role) for role, fill in roles.items()]
    return handles


def _scale(circuit: Circuit, measure: Measure, page: _Page) -> list[Artist]:
    """Lines as wide as the strongest edge and as one of a tenth of it: widths alone say nothing."""
    from matplotlib.lines import Line2D

    largest = max(abs(strength_of(edge, measure) or 0.0) for edge in circuit.edges)
    look: dict[str, Any] = {"color": "#444444", "solid_capstyle": "butt"}
    many, thickness = _is_many(circuit), page.names / _NAMES
    return [
        Line2D([], [], linewidth=_arrow_width(share, thickness, many=many), label=label, **look)
        for share, label in (
            (1.0, f"|{measure}| {largest:.3g} (the largest)"),
            (0.1, f"|{measure}| {largest / 10:.3g}"),
        )
    ]


def _columns(handles: list[Artist], page: _Page) -> int:
    widest = max(len(str(handle.get_label())) for handle in handles)
    inches = (widest * LETTER + 4.5) * page.small / 72
    return max(1, min(4, len(handles), int((page.width - 0.1) / inches)))


def _draw_legend(figure: Figure, handles: list[Artist], columns: int, page: _Page) -> None:
    labels = [str(handle.get_label()) for handle in handles]
    # Numbers first, texts afterwards: a label with _ in front would be left out, and $ would start a formula.
    legend = figure.legend(
        handles=handles,
        labels=[str(place) for place in range(len(handles))],
        loc="lower center",
        ncols=columns,
        fontsize=page.small,
        frameon=False,
        borderpad=0.2,
        labelspacing=0.35,
        columnspacing=1.4,
        handlelength=2.4,
    )
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_parse_math(False)
        text.set_text(label)
