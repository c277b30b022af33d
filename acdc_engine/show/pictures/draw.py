"""A picture of a circuit for a paper: layer by layer or role by role, input at the bottom, logits at the top."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from acdc_engine.display import counted
from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.style import Measure, colour_of, fill_of, measure_of
from acdc_engine.show.pictures import drawn, picture_format, wrapped, write_figure
from acdc_engine.show.pictures.layered import strongest
from acdc_engine.show.pictures.marks import layered_figure
from acdc_engine.show.pictures.roles import (
    LINE,
    MLPS,
    PADDING,
    TITLE,
    Bundle,
    Grouped,
    RoleBox,
    RoleLine,
    RolePicture,
    grouped,
    place_roles,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMALL_PRINT = 5.0
"""Points below which the names in a picture can hardly be read on paper."""
_NARROWEST, _WIDEST = 2.0, 40.0  # inches
_PAPER_DPI = 300
# By role:
_POINTS = 0.75  # of a pixel
_MEMBERS, _TITLES, _LABELS, _NOTES = 12.5, 14.0, 11.5, 11.5  # pixels
_LEAST_WIDTH = 440.0  # pixels, for the title
_VIA = "#888888"


def draw(
    circuit: Circuit,
    path: str | Path,
    *,
    fmt: str | None = None,
    width: float | None = None,
    top: int | None = None,
    title: str | None = None,
    by: Literal["role"] | None = None,
    mlps: bool = False,
    overwrite: bool = False,
) -> float:
    """Draws a circuit into a file; the same circuit gives the same file.

    Up to 250 edges are arrows that bend around the boxes; more are thin, translucent lines. By role all heads of a role
    are one box, and a line says how many edges it stands for and what they add up to.

    Args:
        circuit: What to draw.
        path: Where to; its folder must exist.
        fmt: png, svg or pdf; by default what the name ends in. svg and pdf are vectors, with text as text.
        width: Inches, such as 3.3 for one column of a paper and 6.75 for two; by default as wide as it needs.
        top: Draw only so many of the strongest edges, see `strongest`; the picture says so.
        title: In place of task, model and figures; "" for none.
        by: "role" for boxes of nodes of one role.
        mlps: By role, draw the MLPs that have no role as a box; else neither they nor paths through them are drawn.
        overwrite: Replace a file of that name.

    Returns:
        Points that the names have; below `SMALL_PRINT` they can hardly be read on paper.

    Raises:
        CircuitFileError: Unknown format, a width or number that cannot be, MLPs asked for without `by`, or the file
            exists or cannot be written.
    """
    path = Path(path)
    fmt = picture_format(path, fmt)
    figure, points = _figure(circuit, width, top, title, by, mlps)
    write_figure(figure, path, fmt, overwrite=overwrite, dpi=160 if width is None else _PAPER_DPI)
    return points


def figure_of(
    circuit: Circuit,
    *,
    width: float | None = None,
    top: int | None = None,
    title: str | None = None,
    by: Literal["role"] | None = None,
    mlps: bool = False,
) -> Figure:
    """The picture as a matplotlib figure. Arguments and errors: see `draw`."""
    return _figure(circuit, width, top, title, by, mlps)[0]


def _figure(
    circuit: Circuit, width: float | None, top: int | None, title: str | None, by: str | None, mlps: bool
) -> tuple[Figure, float]:
    if width is not None and not _NARROWEST <= width <= _WIDEST:
        raise CircuitFileError(
            f"A picture is {_NARROWEST:g} to {_WIDEST:g} inches wide, not {width:g}. One column of a paper has about "
            "3.3, two have 6.75."
        )
    if mlps and by is None:
        raise CircuitFileError(
            "MLPs are left out of pictures by role only: all others draw them. Ask for one by role (--by role), or not "
            "for the MLPs (--mlps)."
        )
    circuit = circuit if by is None else circuit.plain()
    shown = circuit if top is None else strongest(circuit, top)
    note = "" if shown is circuit else f"strongest {len(shown.edges):,} of {len(circuit.edges):,} edges"
    heading = _title(circuit) if title is None else drawn(title, 300)
    if by is not None:
        return _roles_figure(shown, "\n".join(filter(None, (heading, note))), width, mlps=mlps)
    if shown.spans is not None:
        from acdc_engine.show.pictures.grid import grid_figure

        return grid_figure(shown, heading, note, width)
    return layered_figure(shown, heading, note, width)


def _title(circuit: Circuit) -> str:
    task = "" if circuit.behaviour_name is None else f"{drawn(circuit.behaviour_name, 60)} in "
    sizes = f"{counted(len(circuit.edges), 'edge')}, {counted(len(circuit.nodes), 'node')}"
    title = f"{task}{drawn(circuit.model.name, 60)}: {sizes}"
    if circuit.evaluation is not None:
        title += f"\nheld-out faithfulness {circuit.evaluation.held_out.faithfulness:.2f}"
    return title


def _roles_figure(circuit: Circuit, title: str, width: float | None, *, mlps: bool) -> tuple[Figure, float]:
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
            _draw_box(axes, box, size)
    place: dict[str, Any] = {"ha": "center", "parse_math": False, "linespacing": 1.2}
    figure.text(0.5, 1 - 0.05 / height, "\n".join(lines), fontsize=letters, va="top", **place)
    place |= {"fontsize": _NOTES * _POINTS * size, "color": "#444444", "va": "bottom"}
    figure.text(0.5, 0.04 / height, "\n".join(notes), **place)
    return figure, _MEMBERS * _POINTS * size


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
        notes.append(
            f"Heads only: {n} {which} with {counted(len(edges), 'edge')}, and the paths through them, are not drawn."
        )
    boxed = [bundle for bundle in groups.bundles if bundle.source == bundle.target and (mlps or bundle.source != MLPS)]
    if boxed:
        notes.append(f"{sum(len(bundle.edges) for bundle in boxed):,} edges lie within boxes.")
    if any(bundle.via for bundle in groups.drawn(mlps=mlps)):
        notes.append("Dashed: only through MLPs, drawn where a box would stand loose.")
    return notes


def _words_of(bundle: Bundle, measure: Measure | None) -> str:
    """What stands on a line, such as `8 kv, +3.1`."""
    if bundle.via:
        return "via MLPs"
    letters = "".join(letter for letter in "qkv" if letter in bundle.kinds)
    total = bundle.total(measure)
    return f"{len(bundle.edges):,}{' ' + letters if letters else ''}" + ("" if total is None else f", {total:+.3g}")


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
    from matplotlib.path import Path as Curve

    via = line.bundle.via
    colour = _VIA if via else colour_of(line.bundle.total(measure))
    axes.add_patch(
        FancyArrowPatch(
            path=Curve(list(line.points), [Curve.MOVETO, *[Curve.CURVE4] * (len(line.points) - 1)]),
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
    text = _words_of(line.bundle, measure)
    axes.text(*line.label, text, fontsize=_LABELS * _POINTS * size, color="#666666" if via else "#222222", **look)


def _draw_box(axes: Axes, box: RoleBox, size: float) -> None:
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
        axes.text(box.middle, at, names, fontsize=_MEMBERS * _POINTS * size, **centred)
