"""The edges of a circuit's picture: arrows around the boxes where there are few, thin translucent lines where many."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from acdc_engine.export.layered import BOX_HEIGHT, BOX_WIDTH, Picture, Point, route
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_records import CircuitEdge
from acdc_engine.graph.networkx_view import targets_of
from acdc_engine.graph.strength import by_strength, colour_of, measure_of, relative_strengths, strength_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.path import Path as Curve

PORTS = {"q": -0.27, "k": 0.0, "v": 0.27, "mlp": 0.0, "logits": 0.0}
"""Where q, k and v enter the bottom of a head's box, from its middle."""
DASHES: dict[str, Any] = {"q": (0, (4, 1.6)), "k": (0, (1.2, 1.2)), "v": "-", "mlp": "-", "logits": "-"}
"""How edges that enter there are drawn."""
MANY = 250
"""More edges than these are drawn as thin lines without bends: nobody can follow a single one of them."""
_MANY_LINES = 1_000  # the same for lines, where heads share keys and values
_FLAT = 0.35  # edges that rise less (a layer's heads to its MLP, that MLP to the next heads) use the MLP's side
_SIDE_IN, _SIDE_OUT = -0.14, -0.02  # where they do, from its middle: in below out, both above the heads' row
_SIDE_OUT_BY = {"q": -0.06, "k": 0.0, "v": 0.06}  # seen from the MLP, q is farthest: its line runs below the others
_TURN = 0.3  # share of such a line that turns


def line_counts(circuit: Circuit, edges: Sequence[CircuitEdge]) -> list[int]:
    """How many lines each edge is: one for each head of the circuit that shares the key or value it leads to."""
    layout, listed = circuit.layout(), {node.name for node in circuit.nodes}
    lines = {
        receiver: len(listed.intersection(targets_of(layout, receiver)[1]))
        for receiver in {edge.receiver for edge in edges}
    }
    return [lines[edge.receiver] for edge in edges]


def first_lines(circuit: Circuit, edges: Sequence[CircuitEdge], most: int) -> Sequence[CircuitEdge]:
    """Keeps the first edges that together are at most so many lines, and of any edges at least one.

    A small file can be millions of lines: every edge into one key that 256 heads share is 256 of them.
    """
    together = list(accumulate(line_counts(circuit, edges)))
    return edges[: max(1, bisect_right(together, most))]


def is_many(circuit: Circuit) -> bool:
    """Whether its edges are drawn as thin lines."""
    return len(circuit.edges) > MANY or sum(line_counts(circuit, circuit.edges)) > _MANY_LINES


def draw_edges(axes: Axes, circuit: Circuit, picture: Picture, thickness: float) -> None:
    """Draws the edges, the strongest on top.

    Args:
        axes: In units of `picture`.
        circuit: What to draw.
        picture: Where its nodes are.
        thickness: 1 in a picture of natural size; smaller pictures have finer lines.
    """
    if is_many(circuit):
        _draw_lines(axes, circuit, picture, thickness)
    else:
        _draw_arrows(axes, circuit, picture, thickness)


def arrow_width(share: float, thickness: float, *, many: bool) -> float:
    """Points of the line of an edge that has this share of the largest strength; areas of ink grow with its root."""
    least, more = (0.35, 2.2) if many else (0.5, 2.3)
    return (least + more * math.sqrt(share)) * thickness


def _draw_arrows(axes: Axes, circuit: Circuit, picture: Picture, thickness: float) -> None:
    from matplotlib.patches import FancyArrowPatch

    measure, relative = measure_of(circuit), relative_strengths(circuit)
    for lane, edge, kind, target in _drawn_edges(circuit, picture):
        weight = relative[edge] ** 0.5
        head = (2.0 + weight) * thickness**0.5, (1.0 + 0.6 * weight) * thickness**0.5
        axes.add_patch(
            FancyArrowPatch(
                path=_way(picture, edge.sender, target, kind, lane),
                arrowstyle=f"-|>,head_length={head[0]:.2f},head_width={head[1]:.2f}",
                linestyle=DASHES[kind],
                linewidth=arrow_width(relative[edge], thickness, many=False),
                color=colour_of(strength_of(edge, measure)),
                alpha=0.35 + 0.55 * weight,
                capstyle="butt",
                zorder=2 + weight,
            )
        )


def _draw_lines(axes: Axes, circuit: Circuit, picture: Picture, thickness: float) -> None:
    """One collection for all: many times faster than a patch for each, and a smaller file."""
    from matplotlib.collections import PathCollection
    from matplotlib.colors import to_rgba

    measure, relative = measure_of(circuit), relative_strengths(circuit)
    curves, colours, widths, dashes = [], [], [], []
    for lane, edge, kind, target in _drawn_edges(circuit, picture):
        share = relative[edge] if measure else 0.01
        weight = share**0.5
        curves.append(_way(picture, edge.sender, target, kind, lane, bends=False))
        colours.append(to_rgba(colour_of(strength_of(edge, measure)), 0.2 + 0.6 * weight))
        widths.append(arrow_width(share, thickness, many=True))
        dashes.append(DASHES[kind])
    lines = PathCollection(curves, facecolors="none", edgecolors=colours, linewidths=widths, linestyles=dashes)
    lines.set_zorder(2)
    axes.add_collection(lines, autolim=False)


def _drawn_edges(circuit: Circuit, picture: Picture) -> Iterator[tuple[int, CircuitEdge, str, str]]:
    """Yields a running number, the edge, its kind and every node it goes to; the strongest last."""
    layout = circuit.layout()
    for lane, edge in enumerate(reversed(by_strength(circuit))):
        kind, targets = targets_of(layout, edge.receiver)
        for target in targets:
            if target in picture.places:
                yield lane, edge, kind, target


def _way(picture: Picture, sender: str, target: str, kind: str, lane: int, *, bends: bool = True) -> Curve:
    """The line of an edge: around the boxes on its way if it `bends`."""
    (x0, y0), (x1, y1) = picture.places[sender], picture.places[target]
    start, end = (x0, y0 + BOX_HEIGHT / 2), (x1 + PORTS[kind], y1 - BOX_HEIGHT / 2)
    aside = abs(end[0] - start[0]) > BOX_WIDTH
    # Between top and bottom such an edge would lie nearly flat: hidden arrowhead, and q, k and v on one line.
    if aside and end[1] - start[1] < _FLAT and kind == "mlp":
        level = y1 + _SIDE_IN + 0.012 * (lane % 5 - 2)
        return _bent(start, (_side(x1, x0), level), (start[0], level))
    if aside and end[1] - start[1] < _FLAT and kind in _SIDE_OUT_BY and sender.startswith("m"):
        level = y0 + _SIDE_OUT + _SIDE_OUT_BY[kind]
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
