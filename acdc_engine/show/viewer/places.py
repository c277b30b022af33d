"""The picture by place: places as columns, layers as rows, from the grid that `acdc draw` and the report draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import starmap
from typing import NamedTuple

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.nodes import layer_of, targets_of
from acdc_engine.graph.records import CircuitEdge
from acdc_engine.graph.style import measure_of
from acdc_engine.show.pictures.grid import BOX, Grid, place_on_grid, turned_to, words_at
from acdc_engine.show.pictures.layered import BOX_HEIGHT, BOX_WIDTH, PORTS, Point, route
from acdc_engine.show.viewer.drawn import UNIT, drawn_of, edges_of, hidden_of, nodes_of, overlay_of, pixels
from acdc_engine.show.viewer.records import ViewAttention, ViewBand, ViewDot, ViewLine, ViewPlaces

_LEAST_RISE, _MOST_RISE = 0.66, 0.94
"""From row to row, in units of the layered picture: a wide grid is as high, as far as that can be."""
_TALLEST = 21.0
"""Of the grid: as high as windows are where names can just be read."""
_OF_ATTENTION = ("weight", "weight_corrupt", "score", "effect")


def places_of(circuit: Circuit, known: Circuit | None, appears: Mapping[str, int], known_name: str) -> ViewPlaces:
    """Places a circuit that tells places apart, perhaps with a known one beside it that tells the same apart.

    `appears` says of every edge, by name, at which size of the slider it is there.
    """
    drawn = drawn_of(circuit, known)
    hidden = hidden_of(circuit, known, drawn)
    grid = place_on_grid(drawn.whole)
    rings = {f"a{layer}@{span}": spot for (layer, span), spot in grid.rings.items()}
    scale = _Scale.of(grid)
    nodes, dots, looked_at = map(scale.units, (grid.nodes, grid.dots, rings))
    lines = {edge.name: (line,) for edge, line in _lines(drawn.whole, nodes, dots, scale.up)}
    return ViewPlaces(
        measure=measure_of(circuit),
        n_edges=len(circuit.edges),
        hidden_edges=hidden[0],
        hidden_missed=hidden[1],
        overlay=overlay_of(circuit, known, drawn, known_name),
        columns=tuple(_columns(circuit, grid, scale.across)),
        rows=tuple(_rows(grid, scale.up)),
        nodes=tuple(nodes_of(circuit, known, drawn, nodes, circuit.causal)),
        edges=tuple(edges_of(circuit, known or circuit, drawn, lines, appears)),
        dots=(*_dots(drawn.whole, dots), *starmap(_ring, looked_at.items())),
        attention=tuple(_attention(drawn.whole, grid)),
    )


class _Scale(NamedTuple):
    """What slots and rows are in units of the layered picture, so that boxes are as large as there."""

    across: float
    up: float

    @classmethod
    def of(cls, grid: Grid) -> _Scale:
        across = BOX_WIDTH / BOX[0]
        return cls(across, min(_MOST_RISE, max(_LEAST_RISE, min(grid.width * across, _TALLEST) / grid.height)))

    def units(self, spots: Mapping[str, Point]) -> dict[str, Point]:
        return {name: (x * self.across, y * self.up) for name, (x, y) in spots.items()}


def _columns(circuit: Circuit, grid: Grid, across: float) -> Iterator[ViewBand]:
    words = words_at(circuit)
    for span, (left, width) in grid.columns.items():
        start, size = round(left * across * UNIT, 3), round(width * across * UNIT, 3)
        yield ViewBand(name=span, words=words.get(span, ""), start=start, size=size)


def _rows(grid: Grid, up: float) -> Iterator[ViewBand]:
    for row, name in enumerate(["input", *map(str, grid.layers), "logits"]):
        yield ViewBand(name=name, words="", start=round(-(row + 0.5) * up * UNIT, 3), size=round(up * UNIT, 3))


def _dots(circuit: Circuit, dots: Mapping[str, Point]) -> Iterator[ViewDot]:
    into = Counter(edge.into for edge in circuit.edges)
    for name, place in dots.items():
        receiver, _, span = name.partition("@")
        layer, (x, y) = layer_of(name), pixels(place)
        facts = {"id": name, "kind": receiver[-2], "layer": layer, "span": span, "x": x, "y": y, "edges_in": into[name]}
        yield ViewDot.model_validate(facts)


def _ring(name: str, place: Point) -> ViewDot:
    span, (x, y) = name.partition("@")[2], pixels(place)
    return ViewDot(id=name, kind="ring", layer=layer_of(name), span=span, x=x, y=y, edges_in=0)


def _attention(circuit: Circuit, grid: Grid) -> Iterator[ViewAttention]:
    """From dots to the heads that look back at them, and from rings, with what was measured of the place."""
    measured, graph = {(path.node, path.source): path for path in circuit.attention}, circuit.graph()
    looks = [(dot, dot.partition("@")[2], head) for dot in grid.dots for head in targets_of(graph, dot)[1]]
    looks += [(f"a{layer}@{span}", span, path.node) for path, layer, span in turned_to(circuit)]
    for dot, span, head in looks:
        if head in grid.nodes:
            path = measured.get((head, span))
            known = _OF_ATTENTION[:2] if "<k>" in dot else _OF_ATTENTION  # what the path is worth is its values'
            figures = {} if path is None else {name: getattr(path, name) for name in known}
            yield ViewAttention(source=dot, target=head, **figures)


def _lines(
    circuit: Circuit, nodes: Mapping[str, Point], dots: Mapping[str, Point], up: float
) -> Iterator[tuple[CircuitEdge, ViewLine]]:
    """Every edge stays in its column: it goes up, around the boxes there, to a dot or below the node that reads it."""
    graph = circuit.graph()
    columns: dict[str | None, dict[str, Point]] = {}
    for node in circuit.nodes:
        columns.setdefault(node.span, {})[node.name] = nodes[node.name]
    for lane, edge in enumerate(circuit.edges):
        kind, targets = targets_of(graph, edge.into)
        target = edge.into if edge.into in dots else targets[0]
        (x, y), (to_x, to_y) = nodes[edge.out_of], dots.get(target) or _below(nodes[target], kind)
        if target in nodes and nodes[target][1] == y:  # from a head to the MLP of its layer, over what stands between
            level, near = y + up / 2, to_x - BOX_WIDTH / 2 if x < to_x else to_x + BOX_WIDTH / 2
            yield edge, ViewLine(target=target, bends=(pixels((x, level)), pixels((near, level))))
            continue
        side = 1 if lane % 2 else -1  # lines pass the boxes on both sides
        boxes = [(side * a, b) for name, (a, b) in columns[edge.span].items() if name not in (edge.out_of, target)]
        points = route((side * x, y + BOX_HEIGHT / 2), (side * to_x, to_y), boxes, lane // 2, straight=True)
        yield edge, ViewLine(target=target, bends=tuple(pixels((side * a, b)) for a, b in points[1:-1]))


def _below(node: Point, kind: str) -> Point:
    """Where lines enter a box."""
    return node[0] + PORTS[kind], node[1] - BOX_HEIGHT / 2
