"""A circuit by role: heads of a role are one box, and the edges between two boxes are added up.

Nodes with a role stand together, whatever they are. Heads without one stay as they are where they are few, else they
are one box; MLPs without one are another. Without that of the MLPs the picture is one of heads only: what leads from
box to box through MLPs alone is not drawn then, but where a box would stand loose.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.records import CircuitEdge, CircuitNode
from acdc_engine.graph.style import Measure, strength_of
from acdc_engine.show.pictures.layered import Point, lines_of

_OTHER_HEADS, _OTHER_ROLES, MLPS = "heads without a role", "other roles", "MLPs"
_MOST_ROLES = 20
"""Roles that are boxes of their own, the most frequent."""
_MOST_ALONE = 6
"""Heads without a role that are boxes of their own; more are one box."""
LINE, TITLE, PADDING = 18.0, 20.0, 9.0
"""Heights in a box: of a line of names, of the title, above and below all."""
_WIDTH, _END_WIDTH, _MLP_WIDTH = 212.0, 120.0, 92.0
_NAMES_IN_LINE, _MOST_LINES = 3, 4
_LEAST = 200.0  # width and height of a picture of nothing
_LABEL_WIDTH, _LABEL_HEIGHT = 84.0, 15.0  # room that a line's label takes
_BETWEEN, _ROWS_APART, _MARGIN = 56.0, 84.0, 16.0
_MOST_IN_ROW = 4
_LANE = 13.0
_PORTS = 0.7  # share of a box's width over which lines arrive and leave; those of the MLPs at its right end
_STEPS = 24
_TRIES = (0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.13, 0.87)  # along a line, for its label


@dataclass(frozen=True)
class Group:
    """Nodes that are one box."""

    name: str  # The role, `_OTHER_ROLES`, `_OTHER_HEADS`, `MLPS`, or the only member's name, such as input or logits
    role: str | None  # The role; None for boxes of nodes without one
    members: tuple[str, ...]  # Names of the nodes, in the order of the model
    height: float  # Mean layer of the members; MLPs stand half a layer above heads


@dataclass(frozen=True)
class Bundle:
    """All edges from one box to another. Without edges: paths through MLPs alone."""

    source: str
    target: str
    edges: tuple[CircuitEdge, ...]
    kinds: frozenset[str]

    @property
    def via(self) -> bool:
        """Whether it stands for paths through MLPs."""
        return not self.edges

    def total(self, measure: Measure | None) -> float | None:
        """Sum of the effects (each measured alone) or scores of its edges; None where they are not known."""
        known = [strength for edge in self.edges if (strength := strength_of(edge, measure)) is not None]
        return sum(known) if known else None


@dataclass(frozen=True)
class Grouped:
    """A circuit by role."""

    groups: Mapping[str, Group]  # By name: input first, logits last, `MLPS` just before it
    bundles: tuple[Bundle, ...]  # From box to box, those inside a box and those for paths through MLPs too

    def drawn(self, *, mlps: bool) -> list[Bundle]:
        """The bundles of the picture with, or without, the box of the MLPs; those inside a box are no lines."""
        others = [bundle for bundle in self.bundles if bundle.source != bundle.target]
        if mlps:
            return [bundle for bundle in others if not bundle.via]
        return [bundle for bundle in others if MLPS not in (bundle.source, bundle.target)]


def grouped(circuit: Circuit) -> Grouped:
    """Puts nodes together by role and adds up the edges between them.

    An edge into a key or value that heads of several roles share counts for each of these.
    """
    group_of = _names(circuit.nodes)
    groups = {group.name: group for group in _groups(circuit.nodes, group_of)}
    found: dict[tuple[str, str], dict[CircuitEdge, None]] = {}
    kinds: dict[tuple[str, str], set[str]] = {}
    for edge, kind, target in lines_of(circuit, circuit.edges):
        ends = group_of[edge.sender], group_of[target]
        found.setdefault(ends, {})[edge] = None
        kinds.setdefault(ends, set()).add(kind)
    direct = [Bundle(*ends, tuple(edges), frozenset(kinds[ends])) for ends, edges in found.items()]
    return Grouped(groups, (*direct, *_for_loose(circuit, groups, group_of, direct)))


def _names(nodes: Sequence[CircuitNode]) -> dict[str, str]:
    """The box of each node."""
    few = sum(node.kind == "head" and not node.role for node in nodes) <= _MOST_ALONE
    roles = Counter(node.role for node in nodes if node.role)
    own = {role for role, _ in roles.most_common(_MOST_ROLES)}
    taken = {_OTHER_HEADS, _OTHER_ROLES, MLPS, *(node.name for node in nodes)}

    def name(node: CircuitNode) -> str:
        if node.kind in ("input", "logits"):
            return node.kind
        if node.role:
            shown = f"role {node.role}" if node.role in taken else node.role
            return shown if node.role in own else _OTHER_ROLES
        return MLPS if node.kind == "mlp" else node.name if few else _OTHER_HEADS

    return {node.name: name(node) for node in nodes}


def _groups(nodes: Iterable[CircuitNode], group_of: Mapping[str, str]) -> Iterator[Group]:
    members: dict[str, list[CircuitNode]] = {}
    for node in nodes:
        members.setdefault(group_of[node.name], []).append(node)

    def height(of: list[CircuitNode]) -> float:
        return sum((node.layer or 0) + 0.5 * (node.kind == "mlp") for node in of) / len(of)

    ends = {"input": -1, MLPS: 1, "logits": 2}
    for name in sorted(members, key=lambda name: (ends.get(name, 0), height(members[name]))):
        of = members[name]
        yield Group(name, None if name == _OTHER_ROLES else of[0].role, tuple(node.name for node in of), height(of))


def _for_loose(
    circuit: Circuit, groups: Mapping[str, Group], group_of: Mapping[str, str], direct: Iterable[Bundle]
) -> Iterator[Bundle]:
    """Paths through MLPs into boxes that nothing else leads to, then out of those that lead nowhere else."""
    joined = {(bundle.source, bundle.target) for bundle in direct if bundle.source != bundle.target}
    joined = {ends for ends in joined if MLPS not in ends}
    through = _through_mlps(circuit, groups, group_of)
    boxes = [name for name in groups if name != MLPS]
    for name in boxes:
        if name != "input" and not any(target == name for _, target in joined):
            new = [source for source in boxes if name in through[source] and source != name]
            joined |= {(source, name) for source in new}
            yield from (Bundle(source, name, (), frozenset()) for source in new)
    for name in boxes:
        if name != "logits" and not any(source == name for source, _ in joined):
            yield from (Bundle(name, target, (), frozenset()) for target in boxes if target in through[name] - {name})


def _through_mlps(
    circuit: Circuit, groups: Mapping[str, Group], group_of: Mapping[str, str]
) -> dict[str, frozenset[str]]:
    """For each box those that it leads to through MLPs alone."""
    out: dict[str, set[str]] = {node.name: set() for node in circuit.nodes}
    for edge, _, target in lines_of(circuit, circuit.edges):
        out[edge.sender].add(target)
    reached: dict[str, frozenset[str]] = {}  # boxes, from each MLP on
    for node in reversed(circuit.nodes):
        if group_of[node.name] == MLPS:
            ways = (reached[to] if group_of[to] == MLPS else frozenset({group_of[to]}) for to in out[node.name])
            reached[node.name] = frozenset().union(*ways)
    return {
        name: frozenset().union(*(reached[to] for member in group.members for to in out[member] if to in reached))
        for name, group in groups.items()
    }


@dataclass(frozen=True)
class RoleBox:
    """A box: its upper left corner, its size, and the names in it, line by line."""

    group: Group
    x: float
    y: float
    width: float
    height: float
    lines: tuple[str, ...]

    @property
    def middle(self) -> float:
        """Of its width."""
        return self.x + self.width / 2

    @property
    def right(self) -> float:
        """Its right side."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """Its lower side."""
        return self.y + self.height


@dataclass(frozen=True)
class RoleLine:
    """A line: points of cubic curves, the first its start, then three for each curve; and the middle of its label."""

    bundle: Bundle
    points: tuple[Point, ...]
    label: Point


_Way = tuple[Bundle, tuple[Point, ...]]


@dataclass(frozen=True)
class RolePicture:
    """The boxes and lines, with the MLPs' and without, and the extent without them and with."""

    boxes: Mapping[str, RoleBox]
    lines: tuple[RoleLine, ...]
    width: float
    width_with_mlps: float
    height: float


def place_roles(grouped: Grouped) -> RolePicture:
    """Places the boxes of a circuit by role and the lines between them; nothing where there are no heads and ends."""
    rows = _rows(grouped)
    if not rows:
        return RolePicture({}, (), _LEAST, _LEAST, _LEAST)
    boxes = _boxes(rows, grouped.groups)
    ways = _ways(rows, boxes, grouped)
    if MLPS in grouped.groups:
        top, bottom = boxes[rows[-1][0]], boxes[rows[0][0]]
        x = max([*(box.right for box in boxes.values()), *(x for _, way in ways for x, _ in way)]) + _BETWEEN
        height = bottom.bottom - top.y
        names = _shortened(grouped.groups[MLPS].members, 1, int((height - TITLE) // LINE) - 1)
        boxes[MLPS] = RoleBox(grouped.groups[MLPS], x, top.y, _MLP_WIDTH, height, names)
        ways += _mlp_ways(rows, boxes, grouped)
    labels = _labels((way for _, way in ways), boxes.values())
    return _framed(boxes, [RoleLine(*way, label) for way, label in zip(ways, labels, strict=True)])


def _rows(grouped: Grouped) -> list[list[str]]:
    """Names of the boxes, bottom to top, left to right."""
    reads = {(bundle.source, bundle.target) for bundle in grouped.bundles if not bundle.via}
    rows = [["input"]]
    for name in grouped.groups:
        if name in ("input", "logits", MLPS):
            continue
        last = rows[-1]
        if last == ["input"] or len(last) == _MOST_IN_ROW or any((other, name) in reads for other in last):
            rows.append([])
        rows[-1].append(name)
    rows.append(["logits"])
    return [row for row in rows if row[0] in grouped.groups]


def _boxes(rows: Sequence[Sequence[str]], groups: Mapping[str, Group]) -> dict[str, RoleBox]:
    """Each row in the middle, on its own height; y from the bottom row down is negative."""
    boxes: dict[str, RoleBox] = {}
    bottom = 0.0
    for row in rows:
        names = {name: _names_in(groups[name]) for name in row}
        widths = [_WIDTH if names[name] else _END_WIDTH for name in row]
        heights = [TITLE + LINE * len(names[name]) + 2 * PADDING for name in row]
        x = -(sum(widths) + _BETWEEN * (len(row) - 1)) / 2
        for name, width, height in zip(row, widths, heights, strict=True):
            y = bottom - (max(heights) + height) / 2
            boxes[name] = RoleBox(groups[name], x, y, width, height, names[name])
            x += width + _BETWEEN
        bottom -= max(heights) + _ROWS_APART
    return boxes


def _names_in(group: Group) -> tuple[str, ...]:
    """Lines of a box; none for a node under its own name."""
    return () if group.members == (group.name,) else _shortened(group.members, _NAMES_IN_LINE, _MOST_LINES)


def _shortened(names: Sequence[str], in_line: int, most: int) -> tuple[str, ...]:
    """Names line by line; of too many the first, and how many more there are."""
    lines = ["  ".join(names[start : start + in_line]) for start in range(0, len(names), in_line)]
    if len(lines) <= most:
        return tuple(lines)
    kept = max(0, most - 1)
    return (*lines[:kept], f"and {len(names) - kept * in_line} more")


def _ways(rows: Sequence[Sequence[str]], boxes: Mapping[str, RoleBox], grouped: Grouped) -> list[_Way]:
    """Lines between boxes other than that of the MLPs, short ones first: they have the best places for labels."""
    row_of = {name: place for place, row in enumerate(rows) for name in row}
    beside = [[boxes[name] for name in row] for row in rows]
    bundles = sorted(grouped.drawn(mlps=False), key=lambda way: abs(row_of[way.target] - row_of[way.source]))
    taken: list[list[list[float]]] = [[[] for _ in range(len(row) + 1)] for row in rows]
    passes: dict[tuple[str, str], list[float]] = {}
    for ends in ((bundle.source, bundle.target) for bundle in bundles):
        (start, end), (x0, x1) = (row_of[name] for name in ends), (boxes[name].middle for name in ends)
        passes[ends], before = [], x0
        for row in range(start + 1, end):
            before = _gap(beside[row], taken[row], x0 + (x1 - x0) * (row - start) / (end - start), before)
            passes[ends].append(before)
    leave = _ports(boxes, {ends: xs[0] if xs else boxes[ends[1]].middle for ends, xs in passes.items()})
    enter = _ports(boxes, {ends[::-1]: xs[-1] if xs else boxes[ends[0]].middle for ends, xs in passes.items()})
    found: list[_Way] = []
    back = 0
    for bundle in bundles:
        ends = bundle.source, bundle.target
        (start_box, end_box), (low, high) = (boxes[name] for name in ends), (row_of[name] for name in ends)
        if high == low:
            found.append((bundle, _beside(start_box, end_box)))
        elif high < low:  # back: out at the right side and in at the right side, each on a way of its own
            back += 1
            out = max(start_box.right, end_box.right) + 40 + _LANE * back
            (x0, y0), (x1, y1) = ((box.right, box.y + box.height / 2) for box in (start_box, end_box))
            found.append((bundle, ((x0, y0), (out, y0), (out, y1), (x1, y1))))
        else:
            stops = [(leave[ends], start_box.y)]
            for x, others in zip(passes[ends], beside[low + 1 : high], strict=True):
                stops += [(x, max(box.bottom for box in others) + 6), (x, min(box.y for box in others) - 6)]
            stops.append((enter[ends[::-1]], end_box.bottom))
            points = [stops[0]]
            for (x0, y0), (x1, y1) in pairwise(stops):  # upright at both ends
                points += [(x0, (y0 + y1) / 2), (x1, (y0 + y1) / 2), (x1, y1)]
            found.append((bundle, tuple(points)))
    return found


def _gap(beside: Sequence[RoleBox], taken: list[list[float]], straight: float, before: float) -> float:
    """Where a line passes a row: in the nearest gap between or beside its boxes, beside the lines that pass there."""
    between = [(left.right + 10, right.x - 10) for left, right in pairwise(beside)]
    gaps = [(-1e9, beside[0].x - 14), *between, (beside[-1].right + 14, 1e9)]
    spots = [min(max(straight, left), right) for left, right in gaps]
    costs = [
        (round(abs(x - straight) + 0.3 * abs(x - before)), len(there)) for x, there in zip(spots, taken, strict=True)
    ]
    place = costs.index(min(costs))
    x, there, (left, right) = spots[place], taken[place], gaps[place]
    if place == 0:  # from the boxes outwards
        x = min([x, *(other - _LANE for other in there)])
    elif place == len(beside):
        x = max([x, *(other + _LANE for other in there)])
    else:  # in turns left and right of the middle
        aside = 6 * ((len(there) + 1) // 2) * (1 if len(there) % 2 else -1)
        x = min(max((left + right) / 2 + aside, left), right)
    there.append(x)
    return x


def _ports(boxes: Mapping[str, RoleBox], towards: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    """Where lines leave or enter a box across, by where those of each box and its other ends lead at first."""
    found: dict[tuple[str, str], float] = {}
    for name in dict.fromkeys(name for name, _ in towards):
        box, span = boxes[name], _PORTS * boxes[name].width
        others = sorted((x, other) for (at, other), x in towards.items() if at == name)
        for place, (_, other) in enumerate(others):
            found[name, other] = box.middle + span * ((place + 0.5) / len(others) - 0.5)
    return found


def _beside(start: RoleBox, end: RoleBox) -> tuple[Point, ...]:
    """To a neighbour in the same row, at the height of the middles, or over the boxes between."""
    right = end.x > start.x
    x0, x1 = (start.right, end.x) if right else (start.x, end.right)
    if abs(x1 - x0) < 2 * _BETWEEN:
        y = start.y + start.height / 2
        return (x0, y), ((2 * x0 + x1) / 3, y), ((x0 + 2 * x1) / 3, y), (x1, y)
    top = min(start.y, end.y) - 60
    return (start.middle, start.y), (start.middle, top), (end.middle, top), (end.middle, end.y)


def _mlp_ways(rows: Sequence[Sequence[str]], boxes: Mapping[str, RoleBox], grouped: Grouped) -> list[_Way]:
    """Lines into and out of the box of the MLPs: level at its side, above and below the rows."""
    row_of = {name: place for place, row in enumerate(rows) for name in row}
    side = boxes[MLPS].x
    found: list[_Way] = []
    used: Counter[tuple[int, bool]] = Counter()
    for bundle in grouped.drawn(mlps=True):
        if MLPS not in (bundle.source, bundle.target):
            continue
        into = bundle.target == MLPS
        box = boxes[bundle.source if into else bundle.target]
        row = row_of[box.group.name]
        gap = row if into else row - 1
        x, y = box.right - 14, (box.y if into else box.bottom)
        # Leaving in the lower part of the gap above a row, arriving in the upper part of the gap below.
        aside = 12 + 11 * (used[gap, into] % 3)
        used[gap, into] += 1
        beside = [boxes[name] for name in rows[row]]
        level = min(one.y for one in beside) - aside if into else max(one.bottom for one in beside) + aside
        points = (x, y), (x, level), (x + 0.3 * (side - x), level), (side, level)
        found.append((bundle, points if into else points[::-1]))
    return found


def _labels(ways: Iterable[Sequence[Point]], boxes: Iterable[RoleBox]) -> list[Point]:
    """A place on each line that no box and no label before covers; its middle if there is none."""
    labels: list[Point] = []
    across, up = _LABEL_WIDTH / 2, _LABEL_HEIGHT / 2
    grounds = [(box.x - across, box.right + across, box.y - up, box.bottom + up) for box in boxes]

    def covered(x: float, y: float) -> bool:
        return any(abs(x - a) < _LABEL_WIDTH and abs(y - b) < _LABEL_HEIGHT for a, b in labels) or any(
            left < x < right and top < y < bottom for left, right, top, bottom in grounds
        )

    for points in ways:
        spots = _along(points)
        labels.append(next((spot for spot in spots if not covered(*spot)), spots[0]))
    return labels


def _along(points: Sequence[Point]) -> list[Point]:
    """The points of curves that lie as far along, by length, as `_TRIES` says."""
    import numpy as np

    t = np.linspace(0, 1, _STEPS + 1)[:, None]
    weights = np.hstack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3])
    line = np.vstack([weights @ np.asarray(points[start : start + 4]) for start in range(0, len(points) - 1, 3)])
    lengths = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    x, y = (np.interp(np.asarray(_TRIES) * lengths[-1], lengths, line[:, axis]).tolist() for axis in (0, 1))
    return list(zip(x, y, strict=True))


def _framed(boxes: Mapping[str, RoleBox], lines: Sequence[RoleLine]) -> RolePicture:
    """Moved so that everything lies right of and below the corner."""
    half = _LABEL_WIDTH / 2
    reach = [[*(x for x, _ in line.points), line.label[0] - half, line.label[0] + half] for line in lines]
    heads = [xs for xs, line in zip(reach, lines, strict=True) if MLPS not in (line.bundle.source, line.bundle.target)]
    by_x = _MARGIN - min(min(xs) for xs in [*reach, [box.x for box in boxes.values()]])
    by_y = _MARGIN - min(box.y for box in boxes.values())
    right = max(max(xs) for xs in [*heads, [box.right for name, box in boxes.items() if name != MLPS]])
    right_with_mlps = max(max(xs) for xs in [*reach, [box.right for box in boxes.values()]])

    def moved(at: Point) -> Point:
        return round(at[0] + by_x, 1), round(at[1] + by_y, 1)

    placed = {}
    for name, box in boxes.items():
        x, y = moved((box.x, box.y))
        placed[name] = replace(box, x=x, y=y)
    return RolePicture(
        boxes=placed,
        lines=tuple(RoleLine(line.bundle, tuple(map(moved, line.points)), moved(line.label)) for line in lines),
        width=right + by_x + _MARGIN,
        width_with_mlps=right_with_mlps + by_x + _MARGIN,
        height=max(box.bottom for box in boxes.values()) + by_y + _MARGIN,
    )
