"""The picture of a circuit by role: what edges between roles add up to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.looks import Measure, colour_of, fill_of, measure_of
from acdc_engine.show.pictures.figure import drawn, wrapped
from acdc_engine.show.pictures.role_layout import LINE, PADDING, TITLE, RoleBox, RoleLine, RolePicture, place_roles
from acdc_engine.show.pictures.roles import MLPS, Bundle, Grouped, grouped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POINTS = 0.75  # of a pixel
_NAMES, _TITLES, _LABELS, _NOTES = 12.5, 14.0, 11.5, 11.5  # pixels
_LEAST_WIDTH = 440.0  # pixels, for the title
_VIA = "#888888"


def roles_figure(circuit: Circuit, title: str, width: float | None, *, mlps: bool) -> tuple[Figure, float]:
    """A circuit by role as a figure, and the points of its names; without `mlps`, MLPs without a role are left out."""
    from matplotlib.figure import Figure

    groups = grouped(circuit)
    picture = place_roles(groups)
    filled = picture.width_with_mlps if mlps else picture.width
    across = max(filled, _LEAST_WIDTH)
    inch = across / width if width else 96.0  # pixels of the picture
    size = 96 / inch  # of everything, of its natural one
    letters = max(7.0, 15 * _POINTS * size)
    lines = wrapped(title, across / inch - 0.2, letters)
    notes = wrapped(" ".join(_notes(circuit, groups, mlps=mlps)), across / inch - 0.2, _NOTES * _POINTS * size, 8)
    above, below = 1.35 * letters / 72 * len(lines) + 0.1, 1.35 * _NOTES * _POINTS * size / 72 * len(notes) + 0.1
    height = picture.height / inch + above + below
    figure = Figure(figsize=(across / inch, height))
    axes = figure.add_axes((0, below / height, 1, picture.height / inch / height))
    axes.set_axis_off()
    axes.set_xlim((filled - across) / 2, (filled + across) / 2)
    axes.set_ylim(picture.height, 0)
    _draw_lines(axes, circuit, groups, picture, size, mlps=mlps)
    for name, box in picture.boxes.items():
        if mlps or name != MLPS:
            _draw_box(axes, box, _inside(groups, name), size)
    place: dict[str, Any] = {"ha": "center", "parse_math": False, "linespacing": 1.2}
    figure.text(0.5, 1 - 0.05 / height, "\n".join(lines), fontsize=letters, va="top", **place)
    place |= {"fontsize": _NOTES * _POINTS * size, "color": "#444444", "va": "bottom"}
    figure.text(0.5, 0.04 / height, "\n".join(notes), **place)
    return figure, _NAMES * _POINTS * size


def _notes(circuit: Circuit, groups: Grouped, *, mlps: bool) -> list[str]:
    measure = measure_of(circuit)
    said = "On each line: how many edges it stands for and into which of q, k and v they lead"
    if measure is None:
        said += "; the wider, the more."
    else:
        said += f"; the sum of their {measure}s{', each measured alone' if measure == 'effect' else ''}, its width. "
        said += "Blue supports the behaviour, orange works against it."
    notes = [said]
    if MLPS in groups.groups and not mlps:
        edges = {edge for bundle in groups.bundles if MLPS in (bundle.source, bundle.target) for edge in bundle.edges}
        n = len(groups.groups[MLPS].members)
        which = "MLP" if n == 1 else "MLPs"
        notes.append(f"Heads only: {n} {which} with {len(edges):,} edges, and the paths through them, are not drawn.")
    if any(bundle.via for bundle in groups.drawn(mlps=mlps)):
        notes.append("Dashed: only through MLPs, drawn where a box would stand loose.")
    return notes


def words_of(bundle: Bundle, measure: Measure | None) -> str:
    """What stands on a line, such as `8 kv, +3.1`."""
    if bundle.via:
        return "via MLPs"
    letters = "".join(letter for letter in "qkv" if letter in bundle.kinds)
    total = bundle.total(measure)
    return f"{len(bundle.edges):,}{' ' + letters if letters else ''}" + ("" if total is None else f", {total:+.3g}")


def _inside(groups: Grouped, name: str) -> int:
    """Edges from nodes of a box to others of it."""
    return sum(len(bundle.edges) for bundle in groups.bundles if bundle.source == bundle.target == name)


def _draw_lines(
    axes: Axes, circuit: Circuit, groups: Grouped, picture: RolePicture, size: float, *, mlps: bool
) -> None:
    shown = groups.drawn(mlps=mlps)
    measure = measure_of(circuit)
    weights = [_weight(bundle, measure) for bundle in shown]
    largest = max(weights, default=0.0) or 1.0
    lines = [line for line in picture.lines if line.bundle in shown]
    for line in sorted(lines, key=lambda line: _weight(line.bundle, measure)):
        _draw_line(axes, line, measure, (_weight(line.bundle, measure) / largest) ** 0.5, size)


def _weight(bundle: Bundle, measure: Measure | None) -> float:
    total = bundle.total(measure)
    return float(len(bundle.edges)) if measure is None else abs(total or 0.0)


def _draw_line(axes: Axes, line: RoleLine, measure: Measure | None, share: float, size: float) -> None:
    from matplotlib.patches import FancyArrowPatch

    via = line.bundle.via
    colour = _VIA if via else colour_of(line.bundle.total(measure))
    axes.add_patch(
        FancyArrowPatch(
            path=_curve(line.points),
            arrowstyle=f"-|>,head_length={3.4 * size**0.5:.2f},head_width={1.7 * size**0.5:.2f}",
            linestyle=(0, (4, 2.5)) if via else "-",
            linewidth=(1.0 if via else 0.9 + 3.2 * share) * size,
            color=colour,
            alpha=0.9,
            capstyle="butt",
            zorder=1 if via else 2 + share,
        )
    )
    paper = {"facecolor": "white", "alpha": 0.85, "linewidth": 0, "pad": 0.5}
    look: dict[str, Any] = {"ha": "center", "va": "center", "parse_math": False, "zorder": 4, "bbox": paper}
    text = words_of(line.bundle, measure)
    axes.text(*line.label, text, fontsize=_LABELS * _POINTS * size, color="#666666" if via else "#222222", **look)


def _curve(points: Sequence[tuple[float, float]]) -> Any:
    from matplotlib.path import Path as Curve

    return Curve(list(points), [Curve.MOVETO, *[Curve.CURVE4] * (len(points) - 1)])


def _draw_box(axes: Axes, box: RoleBox, inside: int, size: float) -> None:
    from matplotlib.patches import FancyBboxPatch

    group = box.group
    plain = "#E8E8E8" if group.name == MLPS else "#FFFFFF"
    look: dict[str, Any] = {"facecolor": fill_of(group.role).light if group.role else plain, "edgecolor": "#222222"}
    shape = "round,pad=0,rounding_size=7"
    corner = box.x, box.y
    axes.add_patch(FancyBboxPatch(corner, box.width, box.height, shape, linewidth=0.9 * size, zorder=5, **look))
    centred: dict[str, Any] = {"ha": "center", "va": "center", "zorder": 6, "parse_math": False}
    title = drawn(group.name, 22)
    y = box.y + PADDING + TITLE / 2
    axes.text(box.middle, y, title, fontsize=_TITLES * _POINTS * size, fontweight="bold", **centred)
    for place, names in enumerate(box.lines):
        at = box.y + PADDING + TITLE + LINE * (place + 0.5)
        axes.text(box.middle, at, names, fontsize=_NAMES * _POINTS * size, **centred)
    if inside:
        beside = {**centred, "ha": "right", "va": "top"}
        text = f"{inside:,} within"
        axes.text(box.x + box.width - 4, box.y + box.height + 3, text, fontsize=10 * _POINTS * size, **beside)
