"""The picture by place: places as columns, layers as rows, from the grid that `acdc draw` and the report draw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.nodes import targets_of
from acdc_engine.graph.records import CircuitEdge
from acdc_engine.graph.style import measure_of
from acdc_engine.show.pictures.grid import BOX, Grid, place_on_grid, words_at
from acdc_engine.show.pictures.layered import BOX_HEIGHT, BOX_WIDTH, PORTS, Point, route
from acdc_engine.show.viewer.drawn import UNIT, drawn_of, edges_of, nodes_of, pixels
from acdc_engine.show.viewer.records import ViewAttention, ViewBand, ViewDot, ViewLine, ViewPlaces

_ACROSS, _UP = BOX_WIDTH / BOX[0], 0.66
"""Of a slot and of a row, in units of the layered picture: boxes are as large as there."""


def places_of(circuit: Circuit, appears: Mapping[str, int]) -> ViewPlaces:
    """Places a circuit that tells places apart; `appears` says of every edge, by name, at which size it is there."""
    drawn = drawn_of(circuit, None)
    grid = place_on_grid(drawn.whole)
    nodes, dots = ({name: _units(spot) for name, spot in some.items()} for some in (grid.nodes, grid.dots))
    lines = {edge.name: (line,) for edge, line in _lines(drawn.whole, nodes, dots)}
    return ViewPlaces(
        measure=measure_of(circuit),
        n_edges=len(circuit.edges),
        hidden_edges=len(circuit.edges) - len(drawn.own),
        columns=tuple(_columns(circuit, grid)),
        rows=tuple(_rows(grid)),
        nodes=tuple(nodes_of(circuit, None, drawn, nodes)),
        edges=tuple(edges_of(circuit, circuit, drawn, lines, appears)),
        dots=tuple(_dots(drawn.whole, dots)),
        attention=tuple(
            ViewAttention(source=dot, target=head)
            for dot in dots
            for head in targets_of(circuit.graph(), dot)[1]
            if head in nodes
        ),
    )


def _units(spot: Point) -> Point:
    return spot[0] * _ACROSS, spot[1] * _UP


def _columns(circuit: Circuit, grid: Grid) -> Iterator[ViewBand]:
    words = words_at(circuit)
    for span, (left, width) in grid.columns.items():
        start, size = round(left * _ACROSS * UNIT, 1), round(width * _ACROSS * UNIT, 1)
        yield ViewBand(name=span, words=words.get(span, ""), start=start, size=size)


def _rows(grid: Grid) -> Iterator[ViewBand]:
    for row, name in enumerate(["input", *map(str, grid.layers), "logits"]):
        yield ViewBand(name=name, words="", start=pixels(_units((0.0, row + 0.5)))[1], size=_UP * UNIT)


def _dots(circuit: Circuit, dots: Mapping[str, Point]) -> Iterator[ViewDot]:
    into = [edge.into for edge in circuit.edges]
    for name, place in dots.items():
        receiver, _, span = name.partition("@")
        kind, _ = targets_of(circuit.graph(), name)
        layer, (x, y) = int(receiver[1:].partition(".")[0]), pixels(place)
        yield ViewDot.model_validate(
            {"id": name, "kind": kind, "layer": layer, "span": span, "x": x, "y": y, "edges_in": into.count(name)}
        )


def _lines(
    circuit: Circuit, nodes: Mapping[str, Point], dots: Mapping[str, Point]
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
        if nodes.get(target, (0.0, 0.0))[1] == y:  # from a head to the MLP of its layer, over what stands between
            level, near = y + _UP / 2, to_x - BOX_WIDTH / 2 if x < to_x else to_x + BOX_WIDTH / 2
            yield edge, ViewLine(target=target, bends=(pixels((x, level)), pixels((near, level))))
            continue
        side = 1 if lane % 2 else -1  # lines pass the boxes on both sides
        boxes = [(side * a, b) for name, (a, b) in columns[edge.span].items() if name not in (edge.out_of, target)]
        points = route((side * x, y + BOX_HEIGHT / 2), (side * to_x, to_y), boxes, lane // 2, straight=True)
        yield edge, ViewLine(target=target, bends=tuple(pixels((side * a, b)) for a, b in points[1:-1]))


def _below(node: Point, kind: str) -> Point:
    """Where lines enter a box."""
    return node[0] + PORTS[kind], node[1] - BOX_HEIGHT / 2
