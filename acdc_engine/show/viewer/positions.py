"""Where nodes and lines of the viewer's picture go, in pixels: layers bottom to top, MLPs in a column on the right."""

from __future__ import annotations

from acdc_engine.graph.circuit import Circuit
from acdc_engine.show.pictures.layered import BOX_HEIGHT, BOX_WIDTH, PORTS, TALLEST, Point, clearance, place_nodes
from acdc_engine.show.pictures.selection import lines_of

_UNIT = 100.0
"""Pixels of the length that place_nodes calls one."""
_MOST_ROUTED = 300
"""Lines up to which each is led around the boxes; beyond that boxes are nowhere to be avoided."""
_WIDEST_ORDERED = 8
"""Heads in a row up to which they stand near what they are joined to; wider rows are read by head number."""
_ACROSS, _MOST_ACROSS = 1.25, 2.6  # between heads: more where there are many layers, so that lines lie less steep
_UP, _LEAST_UP = 1.5, 0.62  # between layers: less where there are many, so that names can be read where all is shown
_STAGGER = (0.0, 0.42, 0.84)  # boxes right above each other would hide the lines between them
_MLP_RISE = 0.8
_SLANT = 2.0
_ARC, _ARC_BY_HEIGHT = 0.6, 0.4

_Bends = dict[tuple[str, str], tuple[Point, ...]]


def places_of(circuit: Circuit) -> dict[str, Point]:
    """Centres of the boxes by node name; up is negative, as on screens.

    Rows of few heads are ordered by what they are joined to, wide ones by head number.
    """
    rows: dict[int | None, int] = {}
    for node in circuit.nodes:
        if node.kind == "head":
            rows[node.layer] = rows.get(node.layer, 0) + 1
    if max(rows.values(), default=0) <= _WIDEST_ORDERED:
        found = dict(place_nodes(circuit).places)
    else:
        found = _by_number(circuit)
    return {name: (round(x * _UNIT, 1), round(-y * _UNIT, 1) + 0.0) for name, (x, y) in found.items()}


def bends_of(circuit: Circuit, places: dict[str, Point]) -> _Bends:
    """Points that lines pass, from the sender on, by the keys `(sender, target<kind>)`; lines without are straight."""
    lines = [(edge.sender, target, kind) for edge, kind, target in lines_of(circuit, circuit.edges)]
    if len(lines) <= _MOST_ROUTED:
        return {(s, f"{t}<{kind}>"): _routed(places, s, t, kind, lane) for lane, (s, t, kind) in enumerate(lines)}
    # MLPs stand in one column: their lines would lie on each other.
    return {(s, f"{t}<{kind}>"): _arc(places[s], places[t]) for s, t, kind in lines if s[0] == t[0] == "m"}


def _by_number(circuit: Circuit) -> dict[str, Point]:
    layers = sorted({node.layer for node in circuit.nodes if node.layer is not None})
    row_of = {layer: row for row, layer in enumerate(layers)}
    step = min(_UP, max(_LEAST_UP, TALLEST / max(1, len(layers))))
    n_heads = circuit.model.n_heads
    across = min(max(_ACROSS, 0.7 * step * len(layers) / n_heads), _MOST_ACROSS)
    right = (n_heads - 1) * across + _STAGGER[-1] + 1.2 * BOX_WIDTH
    top = len(layers) * step + 1.0
    places: dict[str, Point] = {"input": (right / 2, 0.0), "logits": (right / 2, top)}
    for node in circuit.nodes:
        if node.layer is not None:
            row = row_of[node.layer]
            up = 1.0 + row * step
            if node.kind == "head":
                head = int(node.name.split(".h")[1])
                places[node.name] = (head * across + _STAGGER[row % len(_STAGGER)], up)
            else:
                places[node.name] = (right, up + min(_MLP_RISE, step / 2))
    listed = {node.name for node in circuit.nodes}
    return {name: place for name, place in places.items() if name in listed}


def _routed(places: dict[str, Point], sender: str, target: str, kind: str, lane: int) -> tuple[Point, ...]:
    """Beside the boxes that a straight line would cross, from the sender on.

    `layered.route` does the same for curves, which leave and arrive straight up and so keep clear of boxes' corners.
    """
    half_height, margin = BOX_HEIGHT / 2 * _UNIT, clearance(lane) * _UNIT
    x, y = places[sender][0], places[sender][1] - half_height
    end_x, end_y = places[target][0] + PORTS[kind] * _UNIT, places[target][1] + half_height
    bends: list[Point] = []
    boxes = (place for name, place in places.items() if name not in (sender, target))
    for box_x, box_y in sorted(boxes, key=lambda place: -place[1]):
        if not end_y < box_y < y:
            continue  # not between the ends, or beside a bend that is there already
        slope = (end_x - x) / (end_y - y)
        passes = x + slope * (box_y - y)
        clear = margin + min(abs(slope), _SLANT) * half_height  # slanting lines come near a box's corners
        if abs(passes - box_x) < clear:
            x, y = box_x + clear if passes >= box_x else box_x - clear, box_y
            bends.append((round(x, 1), round(y, 1)))
    return tuple(bends)


def _arc(start: Point, end: Point) -> tuple[Point, ...]:
    """Out to the right, the further the more layers it spans, and back."""
    out = start[0] + (BOX_WIDTH / 2 + _ARC + _ARC_BY_HEIGHT * (abs(end[1] - start[1]) / _UNIT) ** 0.5) * _UNIT
    third = (end[1] - start[1]) / 4
    return ((round(out, 1), round(start[1] + third, 1)), (round(out, 1), round(end[1] - third, 1)))
