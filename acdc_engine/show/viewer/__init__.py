"""The viewer's page: one HTML file with the picture of a circuit in it, which needs no network and no server.

`view_data` is what its scripts are given: from a circuit, and perhaps a known one beside it; places are in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from markupsafe import Markup

from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Figures, SizePoint
from acdc_engine.graph.nodes import all_nodes, edge_counts, targets_of
from acdc_engine.graph.records import MODEL_SIZES, CircuitEdge
from acdc_engine.graph.style import OTHER_FILL, ROLE_FILLS, by_strength, measure_of, strength_of
from acdc_engine.show.page import render
from acdc_engine.show.pictures.layered import (
    BOX_HEIGHT,
    BOX_WIDTH,
    PORTS,
    Point,
    first_lines,
    line_counts,
    lines_of,
    on_paths,
    place_nodes,
    route,
)
from acdc_engine.show.pictures.roles import MLPS, grouped, place_roles
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
from acdc_engine.show.words import between, evidence_of, facts

_SCRIPTS = (
    "html/cytoscape.min.js",
    "viewer/visible.js",
    "viewer/trace.js",
    "viewer/looks.js",
    "viewer/elements.js",
    "viewer/lines.js",
    "viewer/graph.js",
    "viewer/words.js",
    "viewer/glow.js",
    "viewer/tooltip.js",
    "viewer/search.js",
    "viewer/legend.js",
    "viewer/keys.js",
    "viewer/paper.js",
    "viewer/panel_parts.js",
    "viewer/curve.js",
    "viewer/controls.js",
    "viewer/heatmap.js",
    "viewer/panel_node.js",
    "viewer/roles.js",
    "viewer/panel_roles.js",
    "viewer/panel.js",
    "viewer/main.js",
)
_STYLES = ("viewer/graph.css", "viewer/page.css", "viewer/panel.css")
_LONGEST_TITLE = 120
_MOST_LINES = 5_000
"""More are not shown: the weakest edges are left out, and the page says how many."""
_STOPS = 24  # of the slider, where no sizes were measured
_NUMBERS = ("score", "effect", "without", "stability", "necessity", "inclusion")
_UNIT = 100.0
"""Pixels of the length that place_nodes calls one."""
_MOST_ROUTED = 300
"""Lines up to which each is led around the boxes; beyond that boxes are nowhere to be avoided."""
_ARC, _ARC_BY_HEIGHT = 0.6, 0.4


def viewer_html(
    circuit: Circuit, known: Circuit | None = None, *, title: str | None = None, known_name: str = "the known circuit"
) -> str:
    """Renders a circuit as an interactive page, perhaps with a known circuit of the same model laid beside it.

    The heading is the title, by default task, model and size. A known circuit of another model is a CircuitFileError.
    """
    data = view_data(circuit, known, known_name=known_name)
    if title is not None:
        data = data.model_copy(update={"title": title})
    cut = data.title if len(data.title) <= _LONGEST_TITLE else data.title[: _LONGEST_TITLE - 1] + "…"
    return render(
        "viewer/page.html.j2",
        data=data.model_dump(mode="json"),
        title=cut,  # the window's; the whole is in the page
        role_names=list(ROLE_FILLS),
        role_style=Markup(_role_style()),
        scripts=_SCRIPTS,
        styles=_STYLES,
    )


def _role_style() -> str:
    """The style sheet of roles, numbered as in `ROLE_FILLS`; the last number is that of all others."""
    fills = (*ROLE_FILLS.values(), OTHER_FILL)
    light, dark = ("".join(f"--role-{n}:{fill[side]};" for n, fill in enumerate(fills)) for side in (0, 1))
    swatches = "".join(
        f".swatch.role{n}{{background:var(--role-{n})}}.roles .role{n}{{fill:var(--role-{n})}}"
        for n in range(len(fills))
    )
    return (
        f":root{{{light}}}@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}"
        f":root[data-theme=dark]{{{dark}}}@media print{{:root:root:root{{{light}}}}}{swatches}"
    )


def view_data(circuit: Circuit, known: Circuit | None = None, *, known_name: str = "the known circuit") -> ViewData:
    """Places, ranks and compares what the viewer shows; a known circuit of another model is a CircuitFileError.

    Circuits with places are shown without them.
    """
    whole, circuit, known = circuit, circuit.plain(), None if known is None else known.plain()
    union = _union(circuit, known)
    sizes, appears = _slider(circuit)
    places = place_nodes(union.whole).places
    edges = _edges(circuit, known or circuit, union, places, appears)
    n_edges, n_known = len(circuit.edges), 0 if known is None else len(known.edges)
    n_found = sum(union.status.get(_name(edge)) == "found" for edge in circuit.edges)
    counts = {"found": n_found, "missed": n_known - n_found, "extra": n_edges - n_found}
    task = "" if circuit.behaviour_name is None else f"{circuit.behaviour_name} in "
    return ViewData(
        title=f"{task}{circuit.model.name}: {n_edges:,} edge{'' if n_edges == 1 else 's'}",
        model=circuit.model.name,
        task=circuit.behaviour_name,
        about=tuple(_about(whole)),
        hand_written=whole.hand_written,
        measure=measure_of(circuit),
        n_edges=n_edges,
        hidden_edges=n_edges - len(union.own),
        hidden_missed=n_known - n_found - len(union.missed),
        nodes=tuple(_nodes(circuit, known, union, places)),
        edges=tuple(edges),
        sizes=sizes,
        larger=tuple(_measured(circuit, "more")),
        by_role=_by_role(union.whole, known),
        examples=circuit.examples,
        overlay=None if known is None else ViewOverlay(known=known_name, **counts),
    )


class _Union(NamedTuple):
    """A circuit's edges that are shown, with the known circuit's that it lacks."""

    own: Sequence[CircuitEdge]
    missed: Sequence[CircuitEdge]
    status: dict[str, Status]  # of nodes and, by name, of edges; empty without a known circuit
    whole: Circuit


def _union(circuit: Circuit, known: Circuit | None) -> _Union:
    """Which edges are shown, at most `_MOST_LINES` lines; half of them are missed edges where there are so many."""
    ranked = by_strength(circuit)
    if known is None:
        own = first_lines(circuit, ranked, _MOST_LINES)
        return _Union(own, [], {}, circuit.model_copy(update={"edges": tuple(own)}))
    check_same_model(circuit, known)
    here, there = ({*(n.name for n in one.nodes), *map(_name, one.edges)} for one in (circuit, known))
    status: dict[str, Status] = {}
    status |= {name: "found" if name in here else "missed" for name in there}
    status |= {name: "extra" for name in here - there}
    lacking = [edge for edge in known.edges if _name(edge) not in here]
    left = _MOST_LINES - sum(line_counts(circuit, ranked))
    missed = first_lines(known, lacking, max(_MOST_LINES // 2, left))
    own = first_lines(circuit, ranked, _MOST_LINES - sum(line_counts(known, missed)))
    listed = {node.name: node for node in (*known.nodes, *circuit.nodes)}
    nodes = tuple(listed[node.name] for node in all_nodes(circuit.graph()) if node.name in listed)
    return _Union(own, missed, status, circuit.model_copy(update={"nodes": nodes, "edges": (*own, *missed)}))


def _name(edge: CircuitEdge) -> str:
    return edge.name


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


def _pixels(place: Point) -> Point:
    """Up is negative, as on screens."""
    return round(place[0] * _UNIT, 1), round(-place[1] * _UNIT, 1) + 0.0


def _nodes(circuit: Circuit, known: Circuit | None, union: _Union, places: Mapping[str, Point]) -> Iterator[ViewNode]:
    own = {node.name for node in circuit.nodes}
    classes = {} if known is None else {node.name: node.role for node in known.nodes}
    into, out_of = edge_counts(circuit)
    for node in union.whole.nodes:
        x, y = _pixels(places[node.name])
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


def _edges(
    circuit: Circuit,
    known: Circuit,
    union: _Union,
    places: Mapping[str, Point],
    appears: Mapping[CircuitEdge, int],
) -> Iterator[ViewEdge]:
    """A missed edge's own numbers, if any, are on another scale: they are left out."""
    measure, graph = measure_of(circuit), circuit.graph()
    bends = _bends_of(union.whole, places)
    rank = {_name(edge): place for place, edge in enumerate(by_strength(circuit), 1)} if measure else {}
    for edges, part in ((union.own, circuit), (union.missed, known)):
        listed = {node.name for node in part.nodes}
        for edge in edges:
            kind, targets = targets_of(graph, edge.into)
            there = [target for target in targets if target in listed]
            own = edge if part is circuit else CircuitEdge(sender=edge.sender, receiver=edge.receiver)
            yield ViewEdge.model_validate(
                {name: getattr(own, name) for name in _NUMBERS}
                | {
                    "source": edge.sender,
                    "receiver": edge.receiver,
                    "kind": kind,
                    "status": union.status.get(_name(edge)),
                    "lines": tuple(ViewLine(target=to, bends=bends.get((edge.sender, to, kind), ())) for to in there),
                    "strength": strength_of(own, measure),
                    "place": rank.get(_name(edge)) if own is edge else None,
                    "appears": appears.get(edge, 0),
                }
            )


def _bends_of(circuit: Circuit, places: Mapping[str, Point]) -> dict[tuple[str, str, str], tuple[Point, ...]]:
    """Points that lines pass, from the sender on, by sender, target and kind; lines without are straight."""
    lines = [(edge.sender, target, kind) for edge, kind, target in lines_of(circuit, circuit.edges)]
    found: dict[tuple[str, str, str], tuple[Point, ...]] = {}
    for lane, (sender, target, kind) in enumerate(lines):
        (x0, y0), (x1, y1) = places[sender], places[target]
        if len(lines) <= _MOST_ROUTED:
            start, end = (x0, y0 + BOX_HEIGHT / 2), (x1 + PORTS[kind], y1 - BOX_HEIGHT / 2)
            boxes = (place for name, place in places.items() if name not in (sender, target))
            bends = route(start, end, boxes, lane, straight=True)[1:-1]
        elif sender[0] == target[0] == "m":  # they stand in one column: their lines would lie on each other
            out = x0 + BOX_WIDTH / 2 + _ARC + _ARC_BY_HEIGHT * (y1 - y0) ** 0.5  # farther, the more layers it spans
            bends = [(out, (3 * y0 + y1) / 4), (out, (y0 + 3 * y1) / 4)]
        else:
            continue
        found[sender, target, kind] = tuple(map(_pixels, bends))
    return found


def _about(circuit: Circuit) -> Iterator[tuple[str, str]]:
    if circuit.spans is not None:
        n = len(circuit.edges)
        yield "Places", f"left out in this picture: the figures are of {n:,} edges at places, which acdc draw shows"
    yield from facts(circuit).items()
    if circuit.evaluation is not None:
        of = circuit.evaluation.held_out
        for label, value, interval in (
            ("Held-out faithfulness", of.faithfulness, of.faithfulness_interval),
            ("Held-out KL recovered", of.kl_recovered, of.kl_interval),
        ):
            sure = "" if interval is None else f" ({interval.level:.0%} interval {between(interval)})"
            yield label, f"{value:.3f}{sure}"
        yield "Agreement", f"{of.agreement:.1%} of the {of.n_prompts:,} held-out prompts judged as the model does"
    for label, text in evidence_of(circuit).items():
        yield label[0].upper() + label[1:], text
    if circuit.command is not None:
        yield "Command", circuit.command


def _slider(circuit: Circuit) -> tuple[tuple[ViewSize, ...], dict[CircuitEdge, int]]:
    """Lays out the slider: measured sizes where the file has them, otherwise some without faithfulness.

    A part is the strongest edges, less those on no path from input to logits. Of a larger part more edges lie on paths,
    so an edge that is there once stays. Returns the sizes, smallest first, the circuit last; and for every edge the
    index of the first that has it.
    """
    order, n = by_strength(circuit), len(circuit.edges)
    stops = [size for size in _measured(circuit, "part") if size.requested < n]
    if not stops and measure_of(circuit) is not None:
        counts = {round(n ** (step / _STOPS)) for step in range(1, _STOPS)} - {n}
        stops = [ViewSize(kind="part", requested=count, edges=0) for count in sorted(counts)]
    sizes: list[ViewSize] = []
    appears: dict[CircuitEdge, int] = {}
    for stop in stops:
        there = on_paths(circuit, order[: stop.requested])
        if stop.faithfulness is None:
            if len(there) == len(appears):
                continue  # nothing new to see, and nothing measured
            stop = stop.model_copy(update={"edges": len(there)})
        for edge in there:
            appears.setdefault(edge, len(sizes))
        sizes.append(stop)
    for edge in order:
        appears.setdefault(edge, len(sizes))
    return (*sizes, _whole(circuit)), appears


def _whole(circuit: Circuit) -> ViewSize:
    n, evaluation = len(circuit.edges), circuit.evaluation
    known = next((point for point in circuit.sizes if point.kind == "circuit"), None)
    random = () if known is None else known.random
    if evaluation is not None and evaluation.random_circuits is not None:  # more of them
        random = evaluation.random_circuits.faithfulness
    return _size("circuit", n, n, known if evaluation is None else evaluation.held_out, random)


def _measured(circuit: Circuit, kind: Literal["part", "more"]) -> list[ViewSize]:
    points = sorted((point for point in circuit.sizes if point.kind == kind), key=lambda point: point.requested)
    return [_size(kind, point.requested, point.edges, point, point.random) for point in points]


def _size(
    kind: Literal["part", "circuit", "more"],
    requested: int,
    edges: int,
    figures: Figures | SizePoint | None,
    random: tuple[float, ...],
) -> ViewSize:
    if figures is None:
        return ViewSize(kind=kind, requested=requested, edges=edges)
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


def _by_role(circuit: Circuit, known: Circuit | None) -> ViewRoles:
    """The picture by role of all that is shown; nodes without a role have that of the known circuit."""
    classes = {} if known is None else {node.name: node.role for node in known.nodes}
    nodes = tuple(n if n.role else n.model_copy(update={"role": classes.get(n.name)}) for n in circuit.nodes)
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
