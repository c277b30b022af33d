"""A picture of a circuit: input at the bottom, logits at the top."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acdc_engine.export.layered import BOX_HEIGHT, BOX_WIDTH, Picture, Point, place_nodes, route
from acdc_engine.export.picture_file import check_picture, format_of, write_figure
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.networkx_view import targets_of
from acdc_engine.graph.strength import (
    NEGATIVE,
    POSITIVE,
    UNKNOWN,
    by_strength,
    colour_of,
    measure_of,
    relative_strengths,
    strength_of,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path as Curve

# Where q, k and v enter the bottom of a head's box, and how the edges there are drawn.
_PORTS = {"q": -0.27, "k": 0.0, "v": 0.27, "mlp": 0.0, "logits": 0.0}
_DASHES: dict[str, Any] = {"q": (0, (4, 1.6)), "k": (0, (1.2, 1.2)), "v": "-", "mlp": "-", "logits": "-"}
_INCHES_ACROSS, _INCHES_UP = 0.82, 0.58
# Pale colours of Okabe and Ito's palette, by role in the order of the model; roles stand under the boxes too.
_ROLE_FILLS = ("#FBE3C0", "#D3EBF8", "#BFE3D8", "#FAF5C0", "#C7DBEC", "#F5D2BD", "#F0DCE7", "#DDDDDD")
_ROLE_DROP = 0.17  # below the box, clear of the arrowheads
_FILLS = {"input": "#FFFFFF", "head": "#FFFFFF", "mlp": "#E8E8E8", "logits": "#FFFFFF"}


def draw(circuit: Circuit, path: str | Path, *, fmt: str | None = None, overwrite: bool = False) -> None:
    """Draws a circuit into a file.

    Args:
        circuit: What to draw; up to about 250 edges stay readable.
        path: Where to; its folder must exist.
        fmt: png, svg or pdf; by default what the name ends in.
        overwrite: Replace a file of that name.

    Raises:
        CircuitFileError: Unknown format, or the file exists or cannot be written.
    """
    path = Path(path)
    fmt = fmt or format_of(path)
    check_picture(fmt, path)
    write_figure(figure_of(circuit), path, fmt, overwrite=overwrite)


def figure_of(circuit: Circuit) -> Figure:
    """The picture as a matplotlib figure."""
    from matplotlib.figure import Figure

    picture = place_nodes(circuit)
    width = max(6.4, (picture.width + 2.6) * _INCHES_ACROSS)
    height = (picture.height + 1) * _INCHES_UP + 1.5
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_xlim(-1.3, picture.width + 1.0)
    axes.set_ylim(-0.6, picture.height + 0.6)
    _draw_layers(axes, picture)
    _draw_edges(axes, circuit, picture)
    _draw_nodes(axes, circuit, picture)
    figure.suptitle(_title(circuit), fontsize=11)
    _draw_legend(figure, circuit)
    return figure


def _title(circuit: Circuit) -> str:
    task = "" if circuit.task is None else f"{circuit.task.name} in "
    title = f"{task}{circuit.model.name}: {len(circuit.edges)} edges, {len(circuit.nodes)} nodes"
    if circuit.evaluation is not None:
        title += f"\nheld-out faithfulness {circuit.evaluation.held_out.faithfulness:.2f}"
    return title


def _draw_layers(axes: Axes, picture: Picture) -> None:
    for row, (layer, height) in enumerate(picture.layer_heights.items()):
        if row % 2 == 0:
            axes.axhspan(height - 0.25, height + 0.75, color="#F6F6F6", zorder=0, linewidth=0)
        axes.text(-1.2, height + 0.25, f"layer {layer}", fontsize=7.5, color="#666666", va="center")


def _draw_nodes(axes: Axes, circuit: Circuit, picture: Picture) -> None:
    from matplotlib.patches import FancyBboxPatch

    fills = _role_fills(circuit)
    for node in circuit.nodes:
        x, y = picture.places[node.name]
        corner = (x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2)
        shape = "round,pad=0,rounding_size=0.1"
        look: dict[str, Any] = {
            "facecolor": fills[node.role] if node.role else _FILLS[node.kind],
            "edgecolor": "#222222",
            "linewidth": 0.9,
            "zorder": 4,
        }
        axes.add_patch(FancyBboxPatch(corner, BOX_WIDTH, BOX_HEIGHT, shape, **look))
        centred: dict[str, Any] = {"ha": "center", "va": "center", "zorder": 5}
        head = node.kind == "head"
        axes.text(x, y + (0.06 if head else 0), node.name, fontsize=8.5, **centred)
        for letter in "qkv" if head else "":
            axes.text(x + _PORTS[letter], y - 0.145, letter, fontsize=5.5, color="#777777", **centred)
        if node.role:
            paper = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.4}  # edges pass behind the text
            axes.text(x, y - BOX_HEIGHT / 2 - _ROLE_DROP, node.role, fontsize=6, color="#444444", bbox=paper, **centred)


def _role_fills(circuit: Circuit) -> dict[str, str]:
    roles = dict.fromkeys(node.role for node in circuit.nodes if node.role)
    return {role: _ROLE_FILLS[place % len(_ROLE_FILLS)] for place, role in enumerate(roles)}


def _draw_edges(axes: Axes, circuit: Circuit, picture: Picture) -> None:
    from matplotlib.patches import FancyArrowPatch

    layout, measure, relative = circuit.layout(), measure_of(circuit), relative_strengths(circuit)
    # The strongest last, on top of the others.
    for lane, edge in enumerate(reversed(by_strength(circuit))):
        kind, targets = targets_of(layout, edge.receiver)
        weight = relative[edge] ** 0.5
        for target in targets:
            if target not in picture.places:
                continue
            (x0, y0), (x1, y1) = picture.places[edge.sender], picture.places[target]
            start, end = (x0, y0 + BOX_HEIGHT / 2), (x1 + _PORTS[kind], y1 - BOX_HEIGHT / 2)
            boxes = [place for name, place in picture.places.items() if name not in (edge.sender, target)]
            axes.add_patch(
                FancyArrowPatch(
                    path=_curve(route(start, end, boxes, lane)),
                    arrowstyle=f"-|>,head_length={2.0 + weight:.2f},head_width={1.0 + 0.6 * weight:.2f}",
                    linestyle=_DASHES[kind],
                    linewidth=0.5 + 2.3 * weight,
                    color=colour_of(strength_of(edge, measure)),
                    alpha=0.35 + 0.55 * weight,
                    capstyle="butt",
                    zorder=2 + weight,
                )
            )


def _curve(points: list[Point]) -> Curve:
    """A smooth curve through the points that leaves and arrives straight up."""
    from matplotlib.path import Path as Curve

    slopes: list[Point] = [(0.0, 1.0)]
    for before, after in zip(points, points[2:], strict=False):
        slopes.append(((after[0] - before[0]) / (after[1] - before[1]), 1.0))
    slopes.append((0.0, 1.0))
    vertices, codes = [points[0]], [Curve.MOVETO]
    for (here, there), (leave, arrive) in zip(pairwise(points), pairwise(slopes), strict=True):
        third = (there[1] - here[1]) / 3
        vertices += [
            (here[0] + leave[0] * third, here[1] + third),
            (there[0] - arrive[0] * third, there[1] - third),
            there,
        ]
        codes += [Curve.CURVE4] * 3
    return Curve(vertices, codes)


def _draw_legend(figure: Figure, circuit: Circuit) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    measure = measure_of(circuit)
    ends = {"q": "into q", "k": "into k", "v": "into v, MLP, logits"}
    handles: list[Artist] = [Line2D([], [], color="#444444", linestyle=_DASHES[key], label=ends[key]) for key in ends]
    if measure is None:
        handles.append(Line2D([], [], color=UNKNOWN, linewidth=2.5, label="effect not known"))
    else:
        handles.insert(0, Line2D([], [], color=POSITIVE, linewidth=2.5, label="supports the behaviour"))
        handles.insert(1, Line2D([], [], color=NEGATIVE, linewidth=2.5, label="works against it"))
        handles.append(Line2D([], [], color="none", label=f"width: |{measure}|"))
    fills = _role_fills(circuit)
    handles += [Patch(facecolor=fill, edgecolor="#222222", label=role) for role, fill in fills.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=7.5, frameon=False)
