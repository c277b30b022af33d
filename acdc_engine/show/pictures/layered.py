"""Which edges of a circuit a picture shows, and where they and their nodes go: layers bottom to top, MLPs in a column.

Rows are the layers that have nodes. Heads stand in a row near what they are joined to (the barycentre
heuristic of Sugiyama, Tagawa and Toda 1981), and edges bend around the boxes on their way.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.nodes import targets_of
from acdc_engine.graph.records import CircuitEdge
from acdc_engine.graph.style import by_strength, measure_of

BOX_WIDTH, BOX_HEIGHT = 1.04, 0.4
PORTS = {"q": -0.31, "k": 0.0, "v": 0.31, "mlp": 0.0, "logits": 0.0}
"""Where q, k and v enter the bottom of a head's box, from its middle."""
SPACING = 1.5
"""Between neighbouring heads; the gaps carry the edges that pass by."""
_TALLEST = 19.8
"""Of all layers together; where there are more than so many, they stand closer."""
_LEAST_WIDTH = 4.5
_ASPECT = 0.55  # heads of many layers stand this far apart, as a share of the height: steep lines hide each other
_LEAST_RISE = 0.62
_SWEEPS = 12
_LANES = 5
_SLANT = 2.0

Point = tuple[float, float]


@dataclass(frozen=True)
class Picture:
    """Centres of the boxes by node name, the height of every layer with nodes, and the extent of it all.

    `rise` is the distance from a layer to the next. An MLP stands half of it above its layer's heads, as it is computed
    after them.
    """

    places: Mapping[str, Point]
    layer_heights: Mapping[int, float]
    rise: float
    width: float
    height: float


def place_nodes(circuit: Circuit, most_width: float = math.inf) -> Picture:
    """Places the nodes; one unit is about a box's width across and a layer's distance up.

    `most_width` is that of the heads where they have room to spare; they take what they need.
    """
    layers = sorted({node.layer for node in circuit.nodes if node.layer is not None})
    rise = min(1.0, max(_LEAST_RISE, _TALLEST / max(1, len(layers))))
    heights = {layer: 1.0 + row * rise for row, layer in enumerate(layers)}
    top = 1.3 + len(layers) * rise
    heads = [node for node in circuit.nodes if node.kind == "head"]
    rows = [[node.name for node in heads if node.layer == layer] for layer in layers]
    # Room to stand apart even where every layer has one head only.
    needed = max(_LEAST_WIDTH, (max(map(len, rows), default=1) - 1) * SPACING)
    heads_width = max(needed, min(_ASPECT * top, most_width))
    has_mlps = any(node.kind == "mlp" for node in circuit.nodes)
    mlp_at = heads_width + SPACING if has_mlps else heads_width
    middle = mlp_at / 2
    fixed = {"input": middle, "logits": middle}
    fixed |= {node.name: mlp_at for node in circuit.nodes if node.kind == "mlp"}
    across = _place_across(_neighbours(circuit), rows, fixed, heads_width)
    places: dict[str, Point] = {}
    for node in circuit.nodes:
        up = 0.0 if node.kind == "input" else top
        if node.layer is not None:
            up = heights[node.layer] + (rise / 2 if node.kind == "mlp" else 0.0)
        places[node.name] = (across[node.name], up)
    return Picture(places, heights, rise, mlp_at, top)


def route(
    start: Point, end: Point, obstacles: Iterable[Point], lane: int = 0, *, straight: bool = False
) -> list[Point]:
    """The start, points beside boxes that lie on an edge's way up, the end: it does not run behind them.

    Edges of different lanes pass the obstacles, centres of the other boxes, at different distances, so as not to run on
    one line. Between the points the edge is a curve that leaves and arrives straight up, or a straight line.
    """
    points, margin = [start], BOX_WIDTH / 2 + 0.08 + 0.05 * (lane % _LANES)
    for y, x in sorted((y, x) for x, y in obstacles if start[1] < y < end[1]):
        (x0, y0), clear = points[-1], margin
        if y <= y0:
            continue  # one bend per row
        share = (y - y0) / (end[1] - y0)
        if straight:  # slanting lines come near a box's corners
            clear += min(abs(end[0] - x0) / (end[1] - y0), _SLANT) * BOX_HEIGHT / 2
        elif not points[1:]:  # after a bend a curve is nearly a straight line
            share = share * share * (3 - 2 * share)
        passes = x0 + (end[0] - x0) * share
        if abs(passes - x) < clear:
            points.append((x + clear if passes >= x else x - clear, y))
    return [*points, end]


def _neighbours(circuit: Circuit) -> dict[str, list[str]]:
    near: dict[str, list[str]] = {node.name: [] for node in circuit.nodes}
    for edge, _, target in lines_of(circuit, circuit.edges):
        near[edge.sender].append(target)
        near[target].append(edge.sender)
    return near


def _place_across(
    near: Mapping[str, list[str]], rows: list[list[str]], fixed: Mapping[str, float], width: float
) -> dict[str, float]:
    across = dict(fixed)
    for index, row in enumerate(rows):
        # Alternating ends: averages of equal numbers would never move apart.
        alone = width * (0.3 if index % 2 else 0.7)
        across |= {name: width * place / (len(row) - 1) if row[1:] else alone for place, name in enumerate(row)}
    for _ in range(_SWEEPS):
        for row in rows:
            # MLPs and the ends pull every head to where they stand, so heads decide where there are any.
            wish = {}
            for name in row:
                heads = [across[other] for other in near[name] if other not in fixed] or [across[name]]
                wish[name] = sum(heads) / len(heads)
            across |= _spread(wish, width)
        across |= _stretch({name: across[name] for row in rows for name in row}, width)
    for row in rows:  # stretching may have drawn them together
        across |= _spread({name: across[name] for name in row}, width)
    return across


def _stretch(places: Mapping[str, float], width: float) -> dict[str, float]:
    """Lets the places fill the width: averaging alone would draw all of them to the middle."""
    low, high = min(places.values(), default=0.0), max(places.values(), default=0.0)
    if high - low < 1e-6:
        return {name: width / 2 for name in places}
    return {name: (place - low) * width / (high - low) for name, place in places.items()}


def _spread(wish: Mapping[str, float], width: float) -> dict[str, float]:
    """Moves wished-for places apart to the least distance, in their order, within the width."""
    order = sorted(wish, key=lambda name: (wish[name], name))
    places = [wish[name] for name in order]
    for index in range(1, len(places)):
        places[index] = max(places[index], places[index - 1] + SPACING)
    middle = (sum(wish.values()) - sum(places)) / max(1, len(places))
    shift = min(max(middle, -places[0]), width - places[-1]) if places else 0.0
    return {name: place + shift for name, place in zip(order, places, strict=True)}


def strongest(circuit: Circuit, n: int) -> Circuit:
    """Keeps up to `n` of the edges with the largest |effect| (or |score|), all of them on paths.

    Goes down the list of edges, strongest first, as far as those that lie on a path from `input` to `logits` through
    edges of the list are no more than `n`. The figures of the result are still those of the whole circuit. A circuit
    with no more edges is returned as it is.

    Raises:
        CircuitFileError: Fewer than one edge, no edge has an effect or a score, or so few edges make no path.
    """
    if n < 1:
        raise CircuitFileError(f"The number of strongest edges is at least 1, not {n}.")
    if n >= len(circuit.edges):
        return circuit
    if measure_of(circuit) is None:
        raise CircuitFileError(
            "The strongest edges are those with the largest |effect| or |score|, and no edge of this circuit has "
            "either. Draw all of it."
        )
    order = by_strength(circuit)
    # More edges never break a path, so the sizes grow with the length of the list.
    length = bisect_right(range(len(order) + 1), n, key=lambda k: len(on_paths(circuit, order[:k]))) - 1
    kept = on_paths(circuit, order[:length])
    if not kept:
        least = len(on_paths(circuit, order[: length + 1]))
        raise CircuitFileError(
            f"{n} edges are too few: the strongest path from input to logits has {least:,}. Ask for as many."
        )
    ends = {edge.out_of for edge in kept} | {node.name for node in circuit.nodes if node.kind == "logits"}
    names = {(edge.sender, edge.into) for edge in kept}
    return circuit.model_copy(
        update={
            "nodes": tuple(node for node in circuit.nodes if node.name in ends),
            "edges": tuple(edge for edge in circuit.edges if (edge.sender, edge.into) in names),
        }
    )


def on_paths(circuit: Circuit, edges: Sequence[CircuitEdge]) -> list[CircuitEdge]:
    """Those of the edges that lie on a path from `input` to `logits`."""
    layout, listed = circuit.graph(), {node.name for node in circuit.nodes}
    into = {edge.into: listed.intersection(targets_of(layout, edge.into)[1]) for edge in edges}
    ahead = sorted(edges, key=lambda edge: layout.sender_index(edge.sender))
    reached, leading = ({node.name for node in circuit.nodes if node.kind == kind} for kind in ("input", "logits"))
    # Senders in the order of the model: when a sender's turn comes, every edge into it has been seen.
    for edge in ahead:
        if edge.out_of in reached:
            reached |= into[edge.into]
    for edge in reversed(ahead):
        if into[edge.into] & leading:
            leading.add(edge.out_of)
    return [edge for edge in edges if edge.out_of in reached and into[edge.into] & leading]


def lines_of(circuit: Circuit, edges: Iterable[CircuitEdge]) -> Iterator[tuple[CircuitEdge, str, str]]:
    """Every line of a picture: an edge, as what it is read (q, k, v, mlp, logits), and a node of the circuit that does.

    Heads that share a key or value have a line each.
    """
    layout, listed = circuit.graph(), {node.name for node in circuit.nodes}
    for edge in edges:
        kind, targets = targets_of(layout, edge.into)
        for target in targets:
            if target in listed:
                yield edge, kind, target


def line_counts(circuit: Circuit, edges: Sequence[CircuitEdge]) -> list[int]:
    """How many lines each edge is: one for each head of the circuit that shares the key or value it leads to."""
    layout, listed = circuit.graph(), {node.name for node in circuit.nodes}
    lines = {
        receiver: len(listed.intersection(targets_of(layout, receiver)[1]))
        for receiver in {edge.into for edge in edges}
    }
    return [lines[edge.into] for edge in edges]


def first_lines(circuit: Circuit, edges: Sequence[CircuitEdge], most: int) -> Sequence[CircuitEdge]:
    """Keeps the first edges that together are at most so many lines, and of any edges at least one.

    A small file can be millions of lines: every edge into one key that 256 heads share is 256 of them.
    """
    together = list(accumulate(line_counts(circuit, edges)))
    return edges[: max(1, bisect_right(together, most))]
