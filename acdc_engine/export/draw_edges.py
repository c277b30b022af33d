"""The edges of a circuit's picture: arrows around the boxes where there are few, thin translucent lines where many."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from acdc_engine.export.layered import BOX_HEIGHT, Picture, Point, route
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


def _draw_arrows(axes: Axes, circuit: Circuit, picture: Picture, thickness: float) -> None:
    from matplotlib.patches import FancyArrowPatch

    measure, relative = measure_of(circuit), relative_strengths(circuit)
    for lane, edge, kind, target in _drawn_edges(circuit, picture):
        weight = relative[edge] ** 0.5
        start, end = _ends(picture, edge.sender, target, kind)
        boxes = [place for name, place in picture.places.items() if name not in (edge.sender, target)]
        head = (2.0 + weight) * thickness**0.5, (1.0 + 0.6 * weight) * thickness**0.5
        axes.add_patch(
            FancyArrowPatch(
                path=_curve(route(start, end, boxes, lane)),
                arrowstyle=f"-|>,head_length={head[0]:.2f},head_width={head[1]:.2f}",
                linestyle=DASHES[kind],
                linewidth=(0.5 + 2.3 * weight) * thickness,
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
    for _, edge, kind, target in _drawn_edges(circuit, picture):
        weight = relative[edge] ** 0.5 if measure else 0.1
        curves.append(_curve(list(_ends(picture, edge.sender, target, kind))))
        colours.append(to_rgba(colour_of(strength_of(edge, measure)), 0.2 + 0.6 * weight))
        widths.append((0.35 + 2.2 * weight) * thickness)
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


def _ends(picture: Picture, sender: str, target: str, kind: str) -> tuple[Point, Point]:
    (x0, y0), (x1, y1) = picture.places[sender], picture.places[target]
    return (x0, y0 + BOX_HEIGHT / 2), (x1 + PORTS[kind], y1 - BOX_HEIGHT / 2)


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
