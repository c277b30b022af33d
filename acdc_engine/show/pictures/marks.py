"""What stands in a circuit's picture: edges as arrows around the boxes, or many as thin lines; nodes as named boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.records import CircuitEdge
from acdc_engine.graph.style import by_strength, colour_of, fill_of, measure_of, relative_strengths, strength_of
from acdc_engine.show.pictures import drawn, letters_in
from acdc_engine.show.pictures.layered import (
    BOX_HEIGHT,
    BOX_WIDTH,
    PORTS,
    SPACING,
    Picture,
    Point,
    line_counts,
    lines_of,
    route,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.path import Path as Curve

DASHES: dict[str, Any] = {"q": (0, (4, 1.6)), "k": (0, (1.2, 1.2)), "v": "-", "mlp": "-", "logits": "-"}
"""How edges that enter there are drawn."""
MANY = 250
"""More edges than these are drawn as thin lines without bends: nobody can follow a single one of them."""
_MANY_LINES = 1_000  # the same for lines, where heads share keys and values
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


def is_many(circuit: Circuit) -> bool:
    """Whether its edges are drawn as thin lines."""
    return len(circuit.edges) > MANY or sum(line_counts(circuit, circuit.edges)) > _MANY_LINES


@dataclass(frozen=True)
class Way:
    """The line of an edge to one of the nodes that read it, in units of the picture."""

    edge: CircuitEdge
    kind: str
    curve: Curve


def ways_of(circuit: Circuit, picture: Picture) -> list[Way]:
    """The lines of a circuit's edges, around the boxes where they are few; the strongest last."""
    bends = not is_many(circuit)
    lane_of = {edge: lane for lane, edge in enumerate(reversed(by_strength(circuit)))}
    return [
        Way(edge, kind, _way(picture, edge.sender, target, kind, lane_of[edge], bends=bends))
        for edge, kind, target in lines_of(circuit, lane_of)
    ]


def extent_across(ways: Sequence[Way]) -> tuple[float, float]:
    """How far the lines reach to the left and to the right, or a little less: curves lie within their points."""
    import numpy as np

    across = [0.0] if not ways else np.concatenate([np.asarray(way.curve.vertices)[:, 0] for way in ways])
    return float(np.min(across)), float(np.max(across))


def draw_edges(axes: Axes, circuit: Circuit, ways: Sequence[Way], thickness: float) -> None:
    """Draws the edges, the strongest on top; a thickness of 1 is that of a picture of natural size."""
    (_draw_lines if is_many(circuit) else _draw_arrows)(axes, circuit, ways, thickness)


def arrow_width(share: float, thickness: float, *, many: bool) -> float:
    """Points of the line of an edge that has this share of the largest strength; areas of ink grow with its root."""
    least, more = (0.35, 2.2) if many else (0.5, 2.3)
    return (least + more * math.sqrt(share)) * thickness


def _draw_arrows(axes: Axes, circuit: Circuit, ways: Sequence[Way], thickness: float) -> None:
    from matplotlib.patches import FancyArrowPatch

    measure, relative = measure_of(circuit), relative_strengths(circuit)
    for way in ways:
        weight = relative[way.edge] ** 0.5
        head = (2.0 + weight) * thickness**0.5, (1.0 + 0.6 * weight) * thickness**0.5
        axes.add_patch(
            FancyArrowPatch(
                path=way.curve,
                arrowstyle=f"-|>,head_length={head[0]:.2f},head_width={head[1]:.2f}",
                linestyle=DASHES[way.kind],
                linewidth=arrow_width(relative[way.edge], thickness, many=False),
                color=colour_of(strength_of(way.edge, measure)),
                alpha=0.35 + 0.55 * weight,
                capstyle="butt",
                zorder=2 + weight,
            )
        )


def _draw_lines(axes: Axes, circuit: Circuit, ways: Sequence[Way], thickness: float) -> None:
    """One collection for all: many times faster than a patch for each, and a smaller file."""
    from matplotlib.collections import PathCollection
    from matplotlib.colors import to_rgba

    measure, relative = measure_of(circuit), relative_strengths(circuit)
    colours, widths = [], []
    for way in ways:
        share = relative[way.edge] if measure else 0.01
        colours.append(to_rgba(colour_of(strength_of(way.edge, measure)), 0.2 + 0.6 * share**0.5))
        widths.append(arrow_width(share, thickness, many=True))
    curves, dashes = [way.curve for way in ways], [DASHES[way.kind] for way in ways]
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


def draw_nodes(axes: Axes, circuit: Circuit, picture: Picture, across: float, points: float) -> None:
    """Draws the boxes over the edges: names, q, k and v, and roles as pale fills.

    A unit across is so many inches; the nodes' names have so many points.
    """
    from matplotlib.patches import FancyBboxPatch

    centred: dict[str, Any] = {"ha": "center", "va": "center", "zorder": 5, "parse_math": False}
    size = 0.7 * points
    few = not is_many(circuit) and sum(bool(node.role) for node in circuit.nodes) <= _MANY_ROLES
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
