"""Where the boxes and lines of a circuit by role go, in pixels from the top left: input at the bottom, logits on top.

Boxes stand in rows by the mean layer of their nodes; a new row begins where a box reads one of the row. The box of the
MLPs stands at the right, as high as all rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from acdc_engine.show.pictures.layered import Point
from acdc_engine.show.pictures.roles import MLPS, Bundle, Group, Grouped

LINE, TITLE, PADDING = 18.0, 20.0, 9.0
"""Heights: of a line of names, of the title, above and below all."""
_WIDTH, _END_WIDTH, _MLP_WIDTH = 212.0, 120.0, 92.0
_NAMES_IN_LINE, _MOST_LINES = 3, 4
_LEAST = 200.0  # width and height of a picture of nothing
_LABEL_WIDTH, _LABEL_HEIGHT = 84.0, 15.0  # room that a line's label takes
_BETWEEN, _ROWS_APART, _MARGIN = 56.0, 84.0, 16.0
_MOST_IN_ROW = 4
_LANE = 13.0
_PORTS = 0.7  # share of a box's width over which lines arrive and leave; those of the MLPs at its right end
_STEPS = 24
_TRIES = (0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.13, 0.87)


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
    boxes = _boxes(rows)
    right = max(box.right for box in boxes.values())
    lines = _Router(rows, boxes).lines(grouped)
    if MLPS in grouped.groups:
        top, bottom = boxes[rows[-1][0].name], boxes[rows[0][0].name]
        height = bottom.bottom - top.y
        x = max([right, *(x for line in lines for x, _ in line.points)]) + _BETWEEN
        names = _shortened(grouped.groups[MLPS].members, 1, int((height - TITLE) // LINE) - 1)
        boxes[MLPS] = RoleBox(grouped.groups[MLPS], x, top.y, _MLP_WIDTH, height, names)
        lines += _Router(rows, boxes, [line.label for line in lines]).mlp_lines(grouped)
    return _framed(boxes, lines)


def _rows(grouped: Grouped) -> list[list[Group]]:
    """Bottom to top, left to right."""
    reads = {(bundle.source, bundle.target) for bundle in grouped.bundles if not bundle.via}
    ends = ("input", "logits")
    middle: list[list[Group]] = []
    for group in grouped.groups.values():
        if group.name in (*ends, MLPS):
            continue
        last = middle[-1] if middle else None
        if last is None or len(last) == _MOST_IN_ROW or any((other.name, group.name) in reads for other in last):
            middle.append([])
        middle[-1].append(group)
    first, final = ([group for group in grouped.groups.values() if group.name == end] for end in ends)
    return [row for row in (first, *middle, final) if row]


def _boxes(rows: Sequence[Sequence[Group]]) -> dict[str, RoleBox]:
    """Each row in the middle, on its own height; y from the bottom row down is negative."""
    boxes: dict[str, RoleBox] = {}
    bottom = 0.0
    for row in rows:
        sizes = [_size(group) for group in row]
        x = -(sum(width for width, _, _ in sizes) + _BETWEEN * (len(row) - 1)) / 2
        highest = max(height for _, height, _ in sizes)
        for group, (width, height, lines) in zip(row, sizes, strict=True):
            boxes[group.name] = RoleBox(group, x, bottom - (highest + height) / 2, width, height, lines)
            x += width + _BETWEEN
        bottom -= highest + _ROWS_APART
    return boxes


def _size(group: Group) -> tuple[float, float, tuple[str, ...]]:
    if group.alone:
        return _END_WIDTH, TITLE + 2 * PADDING, ()
    lines = _shortened(group.members, _NAMES_IN_LINE, _MOST_LINES)
    return _WIDTH, TITLE + LINE * len(lines) + 2 * PADDING, lines


def _shortened(names: Sequence[str], in_line: int, most: int) -> tuple[str, ...]:
    """Names line by line; of too many the first, and how many more there are."""
    lines = [names[start : start + in_line] for start in range(0, len(names), in_line)]
    if len(lines) > most:
        kept = lines[: max(0, most - 1)]
        return (*("  ".join(line) for line in kept), f"and {len(names) - sum(map(len, kept))} more")
    return tuple("  ".join(line) for line in lines)


class _Router:
    """Finds ways for lines between the boxes, and room for their labels."""

    def __init__(
        self, rows: Sequence[Sequence[Group]], boxes: Mapping[str, RoleBox], labels: Iterable[Point] = ()
    ) -> None:
        self.boxes, self.labels = boxes, list(labels)
        self.rows = [[boxes[group.name] for group in row] for row in rows]
        self.row_of = {group.name: place for place, row in enumerate(rows) for group in row}
        self.passed: dict[tuple[int, int], int] = {}
        self.back = 0

    def lines(self, grouped: Grouped) -> list[RoleLine]:
        """Those between boxes other than that of the MLPs, short ones first: they have the best places for labels."""
        bundles = sorted(grouped.drawn(mlps=False), key=lambda bundle: self._rise(bundle.source, bundle.target))
        gaps = {(bundle.source, bundle.target): self._gaps(bundle.source, bundle.target) for bundle in bundles}
        passes = self._lanes(gaps)
        leave = self._ports({ends: xs[0] if xs else self.boxes[ends[1]].middle for ends, xs in passes.items()})
        entered = {ends[::-1]: xs[-1] if xs else self.boxes[ends[0]].middle for ends, xs in passes.items()}
        enter = self._ports(entered)
        found = []
        for bundle in bundles:
            ends = bundle.source, bundle.target
            points = self._way(*ends, leave[ends], enter[ends[::-1]], passes[ends])
            found.append(RoleLine(bundle, points, self._label(points)))
        return found

    def _rise(self, source: str, target: str) -> int:
        return abs(self.row_of[target] - self.row_of[source])

    def mlp_lines(self, grouped: Grouped) -> list[RoleLine]:
        """Those into and out of the box of the MLPs: level at its side, above and below the rows."""
        side, found = self.boxes[MLPS].x, []
        used: Counter[tuple[int, bool]] = Counter()
        for bundle in grouped.drawn(mlps=True):
            if MLPS not in (bundle.source, bundle.target):
                continue
            into = bundle.target == MLPS
            box = self.boxes[bundle.source if into else bundle.target]
            row = self.row_of[box.group.name]
            gap = row if into else row - 1
            x, y = box.right - 14, (box.y if into else box.bottom)
            # Leaving in the lower part of the gap above a row, arriving in the upper part of the gap below.
            aside = 12 + 11 * (used[gap, into] % 3)
            beside = self.rows[row]
            level = min(one.y for one in beside) - aside if into else max(one.bottom for one in beside) + aside
            used[gap, into] += 1
            bend = (x, level), (x + 0.3 * (side - x), level)
            points = ((x, y), *bend, (side, level)) if into else ((side, level), *bend[::-1], (x, y))
            found.append(RoleLine(bundle, points, self._label(points)))
        return found

    def _ports(self, towards: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], float]:
        """Where lines leave or enter a box across, by where those of each box and its other ends lead at first."""
        found: dict[tuple[str, str], float] = {}
        for name in dict.fromkeys(name for name, _ in towards):
            box = self.boxes[name]
            others = sorted((x, other) for (at, other), x in towards.items() if at == name)
            span = _PORTS * box.width
            for place, (_, other) in enumerate(others):
                found[name, other] = box.x + (box.width - span) / 2 + span * (place + 0.5) / len(others)
        return found

    def _way(self, source: str, target: str, leave: float, enter: float, passes: Sequence[float]) -> tuple[Point, ...]:
        start, end = self.boxes[source], self.boxes[target]
        low, high = self.row_of[source], self.row_of[target]
        if high == low:
            return _beside(start, end)
        if high < low:  # back: out at the right side and in at the right side
            (x0, y0), (x1, y1) = ((box.right, box.y + box.height / 2) for box in (start, end))
            self.back += 1  # each on a way of its own, from the boxes outwards
            out = max(x0, x1) + 40 + _LANE * self.back
            return (x0, y0), (out, y0), (out, y1), (x1, y1)
        stops = [(leave, start.y)]
        for row, x in zip(range(low + 1, high), passes, strict=True):
            boxes = self.rows[row]
            stops += [(x, max(box.bottom for box in boxes) + 6), (x, min(box.y for box in boxes) - 6)]
        stops.append((enter, end.bottom))
        points = [stops[0]]
        for (x0, y0), (x1, y1) in pairwise(stops):  # upright at both ends
            points += [(x0, (y0 + y1) / 2), (x1, (y0 + y1) / 2), (x1, y1)]
        return tuple(points)

    def _gaps(self, source: str, target: str) -> list[tuple[int, float]]:
        """Between or beside which boxes a line passes each row on its way: the gap's place, and where across."""
        start, end = self.boxes[source].middle, self.boxes[target].middle
        low, high = self.row_of[source], self.row_of[target]
        found: list[tuple[int, float]] = []
        before = start
        for row in range(low + 1, high):
            straight = start + (row - low) / (high - low) * (end - start)
            spots = [min(max(straight, left), right) for left, right in self._free(row)]
            costs = [
                (round(abs(x - straight) + 0.3 * abs(x - before)), self.passed.get((row, place), 0))
                for place, x in enumerate(spots)
            ]
            place = costs.index(min(costs))
            self.passed[row, place] = self.passed.get((row, place), 0) + 1
            before = spots[place]
            found.append((place, before))
        return found

    def _free(self, row: int) -> list[tuple[float, float]]:
        """Where nothing stands in a row, from left to right."""
        boxes = self.rows[row]
        between = [(left.right + 10, right.x - 10) for left, right in pairwise(boxes)]
        return [(-1e9, boxes[0].x - 14), *between, (boxes[-1].right + 14, 1e9)]

    def _lanes(self, gaps: Mapping[tuple[str, str], Sequence[tuple[int, float]]]) -> dict[tuple[str, str], list[float]]:
        """Where lines pass each row: those that share a gap beside each other, in the order of where they lead."""
        shared: dict[tuple[int, int], list[tuple[float, float, tuple[str, str], int]]] = {}
        for ends, places in gaps.items():
            for step, (place, x) in enumerate(places):
                after = places[step + 1][1] if step + 1 < len(places) else self.boxes[ends[1]].middle
                row = self.row_of[ends[0]] + 1 + step
                shared.setdefault((row, place), []).append((x, after, ends, step))
        passes = {ends: [0.0] * len(places) for ends, places in gaps.items()}
        for (row, place), lines in shared.items():
            left, right = self._free(row)[place]
            lines.sort()
            if place == 0:  # from the boxes outwards
                lines.reverse()
            outwards = -1 if place == 0 else 1
            inner = 0 < place < len(self.rows[row])
            apart = min(_LANE, (right - left) / len(lines)) if inner else _LANE
            last = (
                (left + right - apart * (len(lines) + 1)) / 2
                if inner
                else right + _LANE
                if place == 0
                else left - _LANE
            )
            for x, _, ends, step in lines:
                last += outwards * apart
                if not inner:
                    last = outwards * max(outwards * last, outwards * x)
                passes[ends][step] = last
        return passes

    def _label(self, points: Sequence[Point]) -> Point:
        """A place on the line that no box and no label before covers; its middle if there is none."""
        spots = [_at(points, share) for share in _TRIES]
        free = (spot for spot in spots if not self._covered(spot))
        spot = next(free, spots[0])
        self.labels.append(spot)
        return spot

    def _covered(self, spot: Point) -> bool:
        x, y = spot
        half_width, half_height = _LABEL_WIDTH / 2, _LABEL_HEIGHT / 2
        return any(abs(x - a) < _LABEL_WIDTH and abs(y - b) < _LABEL_HEIGHT for a, b in self.labels) or any(
            box.x - half_width < x < box.right + half_width and box.y - half_height < y < box.bottom + half_height
            for box in self.boxes.values()
        )


def _beside(start: RoleBox, end: RoleBox) -> tuple[Point, ...]:
    """To a neighbour in the same row, at the height of the middles, or over the boxes between."""
    right = end.x > start.x
    x0, x1 = (start.right, end.x) if right else (start.x, end.right)
    if abs(x1 - x0) < 2 * _BETWEEN:
        y = start.y + start.height / 2
        return (x0, y), ((2 * x0 + x1) / 3, y), ((x0 + 2 * x1) / 3, y), (x1, y)
    top = min(start.y, end.y) - 60
    return (start.middle, start.y), (start.middle, top), (end.middle, top), (end.middle, end.y)


def _at(points: Sequence[Point], share: float) -> Point:
    """The point of curves that lies so far along, by length."""
    line = [points[0]]
    for start in range(0, len(points) - 1, 3):
        ends = points[start : start + 4]
        for step in range(1, _STEPS + 1):
            t = step / _STEPS
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
            x, y = (sum(weight * end[axis] for weight, end in zip(weights, ends, strict=True)) for axis in (0, 1))
            line.append((x, y))
    lengths = [((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5 for (x0, y0), (x1, y1) in pairwise(line)]
    left = share * sum(lengths)
    for (here, there), length in zip(pairwise(line), lengths, strict=True):
        if left <= length and length:
            along = left / length
            return here[0] + along * (there[0] - here[0]), here[1] + along * (there[1] - here[1])
        left -= length
    return line[-1]


def _framed(boxes: Mapping[str, RoleBox], lines: Sequence[RoleLine]) -> RolePicture:
    """Moved so that everything lies right of and below the corner."""

    def across(some: Iterable[RoleLine]) -> Iterator[float]:
        for line in some:
            yield from (x for x, _ in line.points)
            yield from (line.label[0] - _LABEL_WIDTH / 2, line.label[0] + _LABEL_WIDTH / 2)

    def far(names: Iterable[str], some: Iterable[RoleLine]) -> float:
        return max([*(boxes[name].right for name in names), *across(some)]) + by_x + _MARGIN

    def moved(point: Point) -> Point:
        return round(point[0] + by_x, 1), round(point[1] + by_y, 1)

    by_x = _MARGIN - min([*(box.x for box in boxes.values()), *across(lines)])
    by_y = _MARGIN - min(box.y for box in boxes.values())
    without = [line for line in lines if MLPS not in (line.bundle.source, line.bundle.target)]
    placed = {}
    for name, box in boxes.items():
        x, y = moved((box.x, box.y))
        placed[name] = replace(box, x=x, y=y)
    return RolePicture(
        boxes=placed,
        lines=tuple(RoleLine(line.bundle, tuple(map(moved, line.points)), moved(line.label)) for line in lines),
        width=far((name for name in boxes if name != MLPS), without),
        width_with_mlps=far(boxes, lines),
        height=max(box.bottom for box in boxes.values()) + by_y + _MARGIN,
    )
