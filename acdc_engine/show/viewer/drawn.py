"""Nodes and edges that the viewer draws, of a circuit and of a known one beside it; lines of the layered picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.causal_records import Causal
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.nodes import all_nodes, edge_counts, targets_of
from acdc_engine.graph.records import MODEL_SIZES, CircuitEdge
from acdc_engine.graph.style import by_strength, faint_edges, measure_of, strength_of
from acdc_engine.show.pictures.layered import (
    BOX_HEIGHT,
    BOX_WIDTH,
    PORTS,
    Point,
    first_lines,
    line_counts,
    lines_of,
    route,
)
from acdc_engine.show.viewer.records import Status, ViewDoses, ViewEdge, ViewLine, ViewNode, ViewOverlay

MOST_LINES = 5_000
"""More are not shown: the weakest edges are left out, and the page says how many."""
UNIT = 100.0
"""Pixels of the length that place_nodes calls one."""
_NUMBERS = ("score", "effect", "without", "stability", "necessity", "inclusion")
_MOST_ROUTED = 300
"""Lines up to which each is led around the boxes; beyond that boxes are nowhere to be avoided."""
_ARC, _ARC_BY_HEIGHT = 0.6, 0.4

Lines = Mapping[str, tuple[ViewLine, ...]]
"""Of every edge, by its name."""


class Drawn(NamedTuple):
    """A circuit's edges that are shown, with the known circuit's that it lacks."""

    own: Sequence[CircuitEdge]
    missed: Sequence[CircuitEdge]
    status: dict[str, Status]  # of nodes and, by name, of edges; empty without a known circuit
    whole: Circuit


def drawn_of(circuit: Circuit, known: Circuit | None) -> Drawn:
    """Which edges are drawn, at most `MOST_LINES` lines; half of them are missed edges where there are so many.

    A known circuit of a model of other sizes is a CircuitFileError that says what differs.
    """
    ranked = by_strength(circuit)
    if known is None:
        own = first_lines(circuit, ranked, MOST_LINES)
        return Drawn(own, [], {}, circuit.model_copy(update={"edges": tuple(own)}))
    check_same_model(circuit, known)
    here, there = ({*(n.name for n in one.nodes), *(e.name for e in one.edges)} for one in (circuit, known))
    status: dict[str, Status] = {}
    status |= {name: "found" if name in here else "missed" for name in there}
    status |= {name: "extra" for name in here - there}
    lacking = [edge for edge in known.edges if edge.name not in here]
    left = MOST_LINES - sum(line_counts(circuit, ranked))
    missed = first_lines(known, lacking, max(MOST_LINES // 2, left))
    own = first_lines(circuit, ranked, MOST_LINES - sum(line_counts(known, missed)))
    listed = {node.name: node for node in (*known.nodes, *circuit.nodes)}
    nodes = tuple(listed[node.name] for node in all_nodes(circuit.graph()) if node.name in listed)
    return Drawn(own, missed, status, circuit.model_copy(update={"nodes": nodes, "edges": (*own, *missed)}))


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


def hidden_of(circuit: Circuit, known: Circuit | None, drawn: Drawn) -> tuple[int, int]:
    """How many edges of the circuit are not drawn, and of the known one alone."""
    n_missed = 0 if known is None else sum(drawn.status[edge.name] == "missed" for edge in known.edges)
    return len(circuit.edges) - len(drawn.own), n_missed - len(drawn.missed)


def overlay_of(circuit: Circuit, known: Circuit | None, drawn: Drawn, name: str) -> ViewOverlay | None:
    """How many edges both circuits have, or one of them; None without a known one."""
    if known is None:
        return None
    counts = Counter(drawn.status[edge.name] for edge in (*circuit.edges, *known.edges))
    return ViewOverlay(known=name, found=counts["found"] // 2, missed=counts["missed"], extra=counts["extra"])


def nodes_of(
    circuit: Circuit, known: Circuit | None, drawn: Drawn, places: Mapping[str, Point], causal: Causal | None
) -> Iterator[ViewNode]:
    """The nodes that are drawn, at their places, with the doses of a causal check."""
    doses = {} if causal is None else _doses(causal)
    own = {node.name for node in circuit.nodes}
    classes = {} if known is None else {node.name: node.role for node in known.nodes}
    into, out_of = edge_counts(circuit)
    for node in drawn.whole.nodes:
        x, y = pixels(places[node.name])
        yield ViewNode(
            id=node.name,
            kind=node.kind,
            layer=node.layer,
            span=node.span,
            x=x,
            y=y,
            role=node.role if node.name in own else None,
            known_role=classes.get(node.name),
            role_scores=node.role_scores if node.name in own else (),
            direct=node.direct_effect if node.name in own else None,
            doses=doses.get(node.sender) if node.name in own else None,
            status=drawn.status.get(node.name),
            edges_in=into[node.name],
            edges_out=out_of[node.name],
        )


def _doses(causal: Causal) -> dict[str, ViewDoses]:
    """Dose and response of each head that was turned up and down by itself."""
    own, factors = causal.own, tuple(dose.factor for dose in causal.doses)
    about = {"metric": own.metric, "n_prompts": own.n_prompts, "factors": factors}
    return {one.head: ViewDoses.model_validate({**about, "values": one.metric}) for one in causal.by_head}


def edges_of(
    circuit: Circuit, known: Circuit, drawn: Drawn, lines: Lines, appears: Mapping[str, int]
) -> Iterator[ViewEdge]:
    """The edges that are drawn, the strongest first. A missed one goes without numbers: they are on another scale.

    Args:
        circuit: All of the circuit.
        known: The known circuit beside it, or the circuit again.
        drawn: What is drawn of both.
        lines: The lines of an edge, by name.
        appears: The first size of the slider that has an edge, by name; missed ones are in all.
    """
    measure, graph = measure_of(circuit), circuit.graph()
    faint = faint_edges(circuit)
    rank = {edge.name: place for place, edge in enumerate(by_strength(circuit), 1)} if measure else {}
    for edges, part in ((drawn.own, circuit), (drawn.missed, known)):
        for edge in edges:
            own = edge if part is circuit else CircuitEdge(sender=edge.sender, receiver=edge.receiver)
            facts = {
                "name": edge.name,
                "source": edge.out_of,
                "receiver": edge.into,
                "kind": targets_of(graph, edge.into)[0],
                "status": drawn.status.get(edge.name),
                "lines": lines[edge.name],
                "strength": strength_of(own, measure),
                "place": rank.get(edge.name) if own is edge else None,
                "faint": own is edge and edge.name in faint,
                "appears": appears.get(edge.name, 0),
            }
            yield ViewEdge.model_validate({name: getattr(own, name) for name in _NUMBERS} | facts)


def layered_lines(circuit: Circuit, places: Mapping[str, Point]) -> Lines:
    """The lines of the layered picture, by edge: to every head of the circuit that shares the key or value."""
    lines, found = list(lines_of(circuit, circuit.edges)), dict[str, tuple[ViewLine, ...]]()
    for lane, (edge, kind, target) in enumerate(lines):
        bends = _bends(places, edge.sender, target, kind, lane, around=len(lines) <= _MOST_ROUTED)
        line = ViewLine(target=target, bends=tuple(map(pixels, bends)))
        found[edge.name] = (*found.get(edge.name, ()), line)
    return found


def _bends(
    places: Mapping[str, Point], sender: str, target: str, kind: str, lane: int, *, around: bool
) -> Sequence[Point]:
    """Points that a line passes, from the sender on; lines without are straight."""
    (x0, y0), (x1, y1) = places[sender], places[target]
    if around:
        start, end = (x0, y0 + BOX_HEIGHT / 2), (x1 + PORTS[kind], y1 - BOX_HEIGHT / 2)
        boxes = (place for name, place in places.items() if name not in (sender, target))
        return route(start, end, boxes, lane, straight=True)[1:-1]
    if sender[0] == target[0] == "m":  # they stand in one column: their lines would lie on each other
        out = x0 + BOX_WIDTH / 2 + _ARC + _ARC_BY_HEIGHT * (y1 - y0) ** 0.5  # farther, the more layers it spans
        return (out, (3 * y0 + y1) / 4), (out, (y0 + 3 * y1) / 4)
    return ()


def pixels(place: Point) -> Point:
    """From units of the layered picture; up is negative, as on screens."""
    return round(place[0] * UNIT, 1), round(-place[1] * UNIT, 1) + 0.0
