"""A circuit as one small picture of many: path data of SVG by class, for the index of runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import NamedTuple

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.nodes import targets_of
from acdc_engine.graph.records import CircuitEdge
from acdc_engine.graph.style import measure_of, relative_strengths, strength_of
from acdc_engine.show.pictures.grid import place_on_grid
from acdc_engine.show.pictures.layered import Point, lines_of, place_nodes

WIDTH, HEIGHT = 240, 150
"""Pixels of a picture, as the template says too."""
_MARGIN = 7
_WIDTHS = (("thick", 0.5), ("middle", 0.1), ("thin", 0.0))  # classes of edges, by least share of the strongest
_SHORT = 12  # pixels up
_BENDS = 3, -3, 6, -6  # pixels by which edges leave a straight line up a column, which others lie on


class _Placed(NamedTuple):
    """What is drawn: places as shares of width and height, edges with the names of their ends, attention likewise."""

    places: Mapping[str, Point]
    lines: Iterable[tuple[CircuitEdge, str, str]]
    looks: Iterable[tuple[str, str]] = ()
    columns: Iterable[tuple[float, float]] = ()


def thumbnail(circuit: Circuit) -> tuple[tuple[str, str], ...]:
    """Classes and path data, what lies below first: edges by sign and strength, each line once, and nodes as dots.

    Layers go up; with places, places go to the right, on a band each.
    """
    placed = _layered(circuit) if circuit.spans is None else _by_place(circuit)
    spots = {name: _pixels(place) for name, place in placed.places.items()}
    measure, shares, bend = measure_of(circuit), relative_strengths(circuit), count()
    lines: dict[str, dict[str, dict[str, None]]] = {width: {} for width, _ in reversed(_WIDTHS)}
    for edge, start, end in placed.lines:
        strength = strength_of(edge, measure)
        sign = "unknown" if strength is None else "positive" if strength >= 0 else "negative"
        width = "thin" if strength is None else next(name for name, least in _WIDTHS if shares[edge] >= least)
        by = 0 if circuit.spans is None else _BENDS[next(bend) % len(_BENDS)]
        lines[width].setdefault(sign, {})[_line(spots[start], spots[end], by)] = None
    paths = [(f"edge {width} {sign}", "".join(found)) for width in lines for sign, found in lines[width].items()]
    looks = "".join(dict.fromkeys(_line(spots[dot], spots[head]) for dot, head in placed.looks))
    bands = "".join(
        f"M{_across(left)} 0h{_across(right) - _across(left)}v{HEIGHT}H{_across(left)}z"
        for left, right in placed.columns
    )
    dots: dict[str, str] = {}
    for node in circuit.nodes:
        x, y = spots[node.name]
        dots[f"node {node.kind}"] = dots.get(f"node {node.kind}", "") + f"M{x} {y}h0"
    below = (("place", bands), ("attention", looks))
    return (*(one for one in below if one[1]), *paths, *dots.items())


def _layered(circuit: Circuit) -> _Placed:
    picture = place_nodes(circuit)
    places = {name: _shares(place, picture.width, picture.height) for name, place in picture.places.items()}
    lines = lines_of(circuit, reversed(circuit.edges))
    return _Placed(places, ((edge, edge.sender, target) for edge, _, target in lines))


def _by_place(circuit: Circuit) -> _Placed:
    grid, graph = place_on_grid(circuit), circuit.graph()
    places = {name: _shares(spot, grid.width, grid.height - 1.0) for name, spot in (grid.nodes | grid.dots).items()}
    columns = [(left / grid.width, (left + width) / grid.width) for left, width in grid.columns.values()]

    def lines() -> Iterator[tuple[CircuitEdge, str, str]]:
        for edge in reversed(circuit.edges):
            yield edge, edge.out_of, edge.into if edge.into in grid.dots else targets_of(graph, edge.into)[1][0]

    looks = ((dot, head) for dot in grid.dots for head in targets_of(graph, dot)[1] if head in grid.nodes)
    return _Placed(places, lines(), looks, columns[1::2])


def _shares(place: Point, width: float, height: float) -> Point:
    """Pictures of any shape fill the same space."""
    return place[0] / width if width else 0.5, place[1] / height if height else 0.5


def _across(share: float) -> int:
    return round(_MARGIN + share * (WIDTH - 2 * _MARGIN))


def _pixels(place: Point) -> tuple[int, int]:
    """Whole ones, downwards."""
    return _across(place[0]), round(HEIGHT - _MARGIN - place[1] * (HEIGHT - 2 * _MARGIN))


def _line(start: tuple[int, int], end: tuple[int, int], by: int = 0) -> str:
    """A line, bent by so many pixels unless it is short."""
    (x0, y0), (x1, y1) = start, end
    return (
        f"M{x0} {y0}L{x1} {y1}"
        if not by or y0 - y1 < _SHORT
        else f"M{x0} {y0}Q{(x0 + x1) // 2 + 2 * by} {(y0 + y1) // 2} {x1} {y1}"
    )
