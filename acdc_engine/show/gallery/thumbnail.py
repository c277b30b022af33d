"""A circuit as a small drawing of a few kilobytes: SVG paths, coloured by the page that shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.looks import by_strength, measure_of, relative_strengths, strength_of
from acdc_engine.graph.nodes import targets_of
from acdc_engine.graph.records import CircuitEdge
from acdc_engine.show.draw_edges import first_lines
from acdc_engine.show.layered import Picture, Point, place_nodes

WIDTH, HEIGHT = 240, 150
MOST_LINES = 400
"""Of the strongest edges; a few hundred lines are all that so small a picture can show."""
_MARGIN = 7
_WIDTHS = (("thick", 0.5), ("middle", 0.1), ("thin", 0.0))
"""Classes of edges, by least share of the strongest."""


@dataclass(frozen=True)
class Thumbnail:
    """Paths by their classes, bottom first: what is drawn later lies above.

    Attributes:
        paths: Class names and SVG path data; nodes are lines of no length, drawn as dots.
        n_edges: Edges that are drawn.
    """

    paths: tuple[tuple[str, str], ...]
    n_edges: int


def thumbnail(circuit: Circuit) -> Thumbnail:
    """Draws a circuit: layers bottom to top, edges by sign and strength."""
    edges = first_lines(circuit, by_strength(circuit), MOST_LINES)
    picture = place_nodes(circuit.model_copy(update={"edges": tuple(edges)}))
    spots = {name: _spot(point, picture) for name, point in picture.places.items()}
    lines = _lines(circuit, edges, spots)
    dots: dict[str, list[str]] = {}
    for node in circuit.nodes:
        x, y = spots[node.name]
        dots.setdefault(f"node {node.kind}", []).append(f"M{x} {y}h0")
    drawn = [(kind, "".join(parts)) for kind, parts in (*lines.items(), *dots.items())]
    return Thumbnail(tuple(drawn), len(edges))


def _lines(
    circuit: Circuit, edges: Sequence[CircuitEdge], spots: dict[str, tuple[int, int]]
) -> dict[str, dict[str, None]]:
    """Edges as lines by class, each line once, the weakest class first."""
    layout, measure, shares = circuit.layout(), measure_of(circuit), relative_strengths(circuit)
    classes: dict[str, dict[str, None]] = {}
    for edge in reversed(edges):
        strength = strength_of(edge, measure)
        sign = "unknown" if strength is None else "positive" if strength >= 0 else "negative"
        width = "thin" if strength is None else next(name for name, least in _WIDTHS if shares[edge] >= least)
        x, y = spots[edge.sender]
        for target in targets_of(layout, edge.receiver)[1]:
            if target in spots:
                to_x, to_y = spots[target]
                classes.setdefault(f"edge {width} {sign}", {})[f"M{x} {y}L{to_x} {to_y}"] = None
    return {kind: classes[kind] for kind in sorted(classes, key=_rank)}


def _rank(kind: str) -> int:
    return -[name for name, _ in _WIDTHS].index(kind.split(" ")[1])


def _spot(point: Point, picture: Picture) -> tuple[int, int]:
    """Whole pixels, from the top left; pictures of any shape fill the same space."""
    across = point[0] / picture.width if picture.width else 0.5
    up = point[1] / picture.height if picture.height else 0.5
    return (
        round(_MARGIN + across * (WIDTH - 2 * _MARGIN)),
        round(HEIGHT - _MARGIN - up * (HEIGHT - 2 * _MARGIN)),
    )
