"""From a circuit, and perhaps a known one beside it, to what the viewer's page is given: places are in pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Figures, SizePoint
from acdc_engine.graph.nodes import all_nodes, edge_counts, targets_of
from acdc_engine.graph.records import MODEL_SIZES, CircuitEdge, CircuitNode
from acdc_engine.graph.style import by_strength, measure_of, strength_of
from acdc_engine.show.pictures.layered import BOX_HEIGHT, BOX_WIDTH, PORTS, TALLEST, Point, clearance, place_nodes
from acdc_engine.show.pictures.roles import MLPS, grouped, place_roles
from acdc_engine.show.pictures.selection import first_lines, line_counts, lines_of, on_paths
from acdc_engine.show.viewer.records import (
    Status,
    ViewBox,
    ViewData,
    ViewEdge,
    ViewLine,
    ViewNode,
    ViewOverlay,
    ViewRoles,
    ViewSize,
    ViewWay,
)
from acdc_engine.show.words import evidence_of, facts

_MOST_LINES = 5_000
"""More are not shown: the weakest edges are left out, and the page says how many."""

_STOPS = 24  # of the slider, where no sizes were measured
_NUMBERS = ("score", "effect", "without", "stability", "necessity")

# Where nodes and lines go: layers bottom to top, MLPs in a column on the right.
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


@dataclass(frozen=True)
class _Union:
    """A circuit's edges that are shown, with the known circuit's that it lacks."""

    own: Sequence[CircuitEdge]
    missed: Sequence[CircuitEdge]
    status: dict[str, Status]  # of nodes and, by name, of edges; empty without a known circuit
    whole: Circuit


def view_data(circuit: Circuit, known: Circuit | None = None, *, known_name: str = "the known circuit") -> ViewData:
    """Places, ranks and compares what the viewer shows; a known circuit of another model is a CircuitFileError."""
    union = _union(circuit, known)
    measure = measure_of(circuit)
    sizes, appears = _slider(circuit)
    places = _places_of(union.whole)
    bends = _bends_of(union.whole, places)
    rank = {_name(edge): place for place, edge in enumerate(by_strength(circuit), 1)} if measure else {}

    def edges_of(edges: Sequence[CircuitEdge], part: Circuit) -> Iterator[ViewEdge]:
        """A missed edge's own numbers, if any, are on another scale: they are left out."""
        layout, nodes = part.graph(), {node.name for node in part.nodes}
        for edge in edges:
            kind, targets = targets_of(layout, edge.receiver)
            lines = tuple(
                ViewLine(target=target, bends=bends.get((edge.sender, f"{target}<{kind}>"), ()))
                for target in targets
                if target in nodes
            )
            status = union.status.get(_name(edge))
            own = edge if status != "missed" else CircuitEdge(sender=edge.sender, receiver=edge.receiver)
            yield ViewEdge.model_validate(
                {"source": edge.sender, "receiver": edge.receiver, "kind": kind, "status": status, "lines": lines}
                | {name: getattr(own, name) for name in _NUMBERS}
                | {"strength": strength_of(own, measure), "place": rank.get(_name(own)) if own is edge else None}
                | {"appears": appears.get(edge, 0)}
            )

    edges = [*edges_of(union.own, circuit), *edges_of(union.missed, known or circuit)]
    n_known = 0 if known is None else len(known.edges)
    n_found = sum(union.status.get(_name(edge)) == "found" for edge in circuit.edges)
    overlay = None
    if known is not None:
        counts = {"found": n_found, "missed": n_known - n_found, "extra": len(circuit.edges) - n_found}
        overlay = ViewOverlay(known=known_name, **counts)
    return ViewData(
        title=_title(circuit),
        model=circuit.model.name,
        task=circuit.behaviour_name,
        about=tuple(_about(circuit)),
        hand_written=circuit.hand_written,
        measure=measure,
        n_edges=len(circuit.edges),
        hidden_edges=len(circuit.edges) - len(union.own),
        hidden_missed=n_known - n_found - len(union.missed),
        nodes=tuple(_nodes(circuit, known, union, places)),
        edges=tuple(edges),
        sizes=sizes,
        larger=tuple(_measured(circuit, "more")),
        by_role=_by_role(union.whole, {} if known is None else {node.name: node.role for node in known.nodes}),
        examples=circuit.examples,
        overlay=overlay,
    )


def _union(circuit: Circuit, known: Circuit | None) -> _Union:
    """Which edges are shown, at most `_MOST_LINES` lines; half of them are missed edges where there are so many."""
    ranked = by_strength(circuit)
    missed: Sequence[CircuitEdge]
    status: dict[str, Status]
    if known is None:
        own, missed, status = first_lines(circuit, ranked, _MOST_LINES), [], {}
        nodes: Sequence[CircuitNode] = circuit.nodes
    else:
        check_same_model(circuit, known)
        there, here = {_name(edge) for edge in known.edges}, {_name(edge) for edge in circuit.edges}
        lacking = [edge for edge in known.edges if _name(edge) not in here]
        left = _MOST_LINES - sum(line_counts(circuit, ranked))
        missed = first_lines(known, lacking, max(_MOST_LINES // 2, left))
        own = first_lines(circuit, ranked, _MOST_LINES - sum(line_counts(known, missed)))
        status = _statuses(here, there)
        status |= _statuses({node.name for node in circuit.nodes}, {node.name for node in known.nodes})
        listed = {node.name: node for node in (*known.nodes, *circuit.nodes)}
        nodes = [listed[name] for name, _, _ in all_nodes(circuit.graph()) if name in listed]
    whole = circuit.model_copy(update={"nodes": tuple(nodes), "edges": (*own, *missed)})
    return _Union(own, missed, status, whole)


def _statuses(here: set[str], there: set[str]) -> dict[str, Status]:
    found: dict[str, Status] = dict.fromkeys(here & there, "found")
    return found | dict.fromkeys(there - here, "missed") | dict.fromkeys(here - there, "extra")


def _name(edge: CircuitEdge) -> str:
    return f"{edge.sender}->{edge.receiver}"


def _nodes(
    circuit: Circuit, known: Circuit | None, union: _Union, places: dict[str, tuple[float, float]]
) -> Iterator[ViewNode]:
    own = {node.name for node in circuit.nodes}
    classes = {} if known is None else {node.name: node.role for node in known.nodes}
    into, out_of = edge_counts(circuit)
    for node in union.whole.nodes:
        x, y = places[node.name]
        yield ViewNode(
            id=node.name,
            kind=node.kind,
            layer=node.layer,
            x=x,
            y=y,
            role=node.role if node.name in own else None,
            known_role=classes.get(node.name),
            role_scores=node.role_scores if node.name in own else (),
            direct=node.direct_effect if node.name in own else None,
            status=union.status.get(node.name),
            edges_in=into[node.name],
            edges_out=out_of[node.name],
        )


def _title(circuit: Circuit) -> str:
    task = "" if circuit.behaviour_name is None else f"{circuit.behaviour_name} in "
    n = len(circuit.edges)
    return f"{task}{circuit.model.name}: {n:,} edge{'' if n == 1 else 's'}"


def _about(circuit: Circuit) -> Iterator[tuple[str, str]]:
    yield from facts(circuit).items()
    if circuit.evaluation is not None:
        yield from _held_out(circuit.evaluation.held_out)
    for label, text in evidence_of(circuit).items():
        yield label[0].upper() + label[1:], text
    if circuit.command is not None:
        yield "Command", circuit.command


def _held_out(figures: Figures) -> Iterator[tuple[str, str]]:
    for label, value, interval in (
        ("Held-out faithfulness", figures.faithfulness, figures.faithfulness_interval),
        ("Held-out KL recovered", figures.kl_recovered, figures.kl_interval),
    ):
        text = "" if interval is None else f" ({interval.level:.0%} interval {interval.low:.3f} to {interval.high:.3f})"
        yield label, f"{value:.3f}{text}"
    yield "Agreement", f"{figures.agreement:.1%} of the {figures.n_prompts:,} held-out prompts judged as the model does"


def _slider(circuit: Circuit) -> tuple[tuple[ViewSize, ...], dict[CircuitEdge, int]]:
    """Lays out the slider: measured sizes where the file has them, otherwise some without faithfulness.

    A part is the strongest edges, less those on no path from input to logits. Of a larger part more edges lie on paths,
    so an edge that is there once stays. Returns the sizes, smallest first, the circuit last; and for every edge the
    index of the first that has it.
    """
    order = by_strength(circuit)
    stops = [*_parts(circuit), _whole(circuit)]
    sizes: list[ViewSize] = []
    appears: dict[CircuitEdge, int] = {}
    for stop in stops:
        there = order if stop.kind == "circuit" else on_paths(circuit, order[: stop.requested])
        if stop.kind == "part" and stop.faithfulness is None:
            if len(there) == len(appears):
                continue  # nothing new to see, and nothing measured
            stop = stop.model_copy(update={"edges": len(there)})
        for edge in there:
            appears.setdefault(edge, len(sizes))
        sizes.append(stop)
    return tuple(sizes), appears


def _parts(circuit: Circuit) -> list[ViewSize]:
    n = len(circuit.edges)
    measured = [size for size in _measured(circuit, "part") if size.requested < n]
    if measured:
        return measured
    if measure_of(circuit) is None:
        return []
    counts = {round(n ** (step / _STOPS)) for step in range(1, _STOPS)}
    return [ViewSize(kind="part", requested=count, edges=0) for count in sorted(counts - {n})]


def _whole(circuit: Circuit) -> ViewSize:
    n = len(circuit.edges)
    known = next((point for point in circuit.sizes if point.kind == "circuit"), None)
    random = () if known is None else known.random
    if circuit.evaluation is not None:
        if circuit.evaluation.random_circuits is not None:  # more of them
            random = circuit.evaluation.random_circuits.faithfulness
        return _stop("circuit", n, n, circuit.evaluation.held_out, random)
    return ViewSize(kind="circuit", requested=n, edges=n) if known is None else _stop("circuit", n, n, known, random)


def _measured(circuit: Circuit, kind: Literal["part", "more"]) -> list[ViewSize]:
    points = sorted((point for point in circuit.sizes if point.kind == kind), key=lambda point: point.requested)
    return [_stop(kind, point.requested, point.edges, point, point.random) for point in points]


def _stop(
    kind: Literal["part", "circuit", "more"],
    requested: int,
    edges: int,
    figures: Figures | SizePoint,
    random: tuple[float, ...],
) -> ViewSize:
    interval = figures.faithfulness_interval
    return ViewSize(
        kind=kind,
        requested=requested,
        edges=edges,
        faithfulness=figures.faithfulness,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        kl_recovered=figures.kl_recovered,
        random_low=min(random, default=None),
        random_high=max(random, default=None),
    )


def _by_role(circuit: Circuit, known_roles: Mapping[str, str | None]) -> ViewRoles:
    """The picture by role of all that is shown; nodes without a role have that of the known circuit."""
    nodes = tuple(
        node if node.role else node.model_copy(update={"role": known_roles.get(node.name)}) for node in circuit.nodes
    )
    picture = place_roles(grouped(circuit.model_copy(update={"nodes": nodes})))
    boxes = (
        ViewBox(
            name=name,
            role=box.group.role,
            nodes=box.group.members,
            lines=box.lines,
            mlps=name == MLPS,
            **{key: getattr(box, key) for key in ("x", "y", "width", "height")},
        )
        for name, box in picture.boxes.items()
    )
    ways = (
        ViewWay(source=way.source, target=way.target, via=way.via, points=line.points, label=line.label)
        for line in picture.lines
        for way in [line.bundle]
    )
    return ViewRoles(
        boxes=tuple(boxes),
        ways=tuple(ways),
        width=picture.width,
        width_with_mlps=picture.width_with_mlps,
        height=picture.height,
    )


def check_same_model(circuit: Circuit, known: Circuit) -> None:
    """Refuses a known circuit of a model of other sizes with a CircuitFileError that says what differs."""
    ours, theirs = circuit.model, known.model
    wrong = [key for key in MODEL_SIZES if getattr(ours, key) != getattr(theirs, key)]
    if wrong:
        sizes = "; ".join(f"{key} {getattr(ours, key)} and {getattr(theirs, key)}" for key in wrong)
        raise CircuitFileError(
            f"A known circuit must be one of the same model: this is a circuit of {ours.name}, the known one of "
            f"{theirs.name}, and the models differ: {sizes}. Leave the known circuit out, or give one of "
            f"{ours.name}."
            + (" Find the circuit with or without --ungroup-kv, as the known one." if "ungrouped_kv" in wrong else "")
        )


def _places_of(circuit: Circuit) -> dict[str, Point]:
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


def _bends_of(circuit: Circuit, places: dict[str, Point]) -> _Bends:
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
