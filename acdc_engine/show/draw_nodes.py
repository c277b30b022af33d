"""The boxes of a circuit's picture: names, q, k and v, and roles as pale fills."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.looks import fill_of, legend_of
from acdc_engine.show.draw_edges import PORTS, is_many
from acdc_engine.show.drawn_text import drawn, letters_in
from acdc_engine.show.layered import BOX_HEIGHT, BOX_WIDTH, SPACING, Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FILLS = {"input": "#FFFFFF", "head": "#FFFFFF", "mlp": "#E8E8E8", "logits": "#FFFFFF"}
_ROLE_DROP = 0.19  # below the box, clear of the arrowheads
_MANY_ROLES = 40
_LEAST_LETTER = 3.0
"""Points below which q, k and v are left out."""
_LEAST_ROLE = 4.5
"""Points below which roles are left to fills and legend: on paper nobody reads them, and they hide edges' ends."""


def role_legend(circuit: Circuit) -> dict[str, str]:
    """Fill by what the legend says."""
    legend = legend_of(node.role for node in circuit.nodes)
    return {drawn(role, 22): fill.light for role, fill in legend.items()}


def draw_nodes(axes: Axes, circuit: Circuit, picture: Picture, across: float, points: float) -> None:
    """Draws the boxes over the edges.

    Args:
        axes: In units of `picture`.
        circuit: What to draw.
        picture: Where its nodes are.
        across: Inches of a unit across.
        points: Size of the nodes' names.
    """
    from matplotlib.patches import FancyBboxPatch

    centred: dict[str, Any] = {"ha": "center", "va": "center", "zorder": 5, "parse_math": False}
    size = 0.7 * points
    few = not is_many(circuit) and sum(bool(node.role) for node in circuit.nodes) <= _MANY_ROLES
    texts = few and size >= _LEAST_ROLE
    for node in circuit.nodes:
        x, y = picture.places[node.name]
        look: dict[str, Any] = {
            "facecolor": fill_of(node.role).light if node.role else _FILLS[node.kind],
            "edgecolor": "#222222",
            "linewidth": 0.9 * min(1.0, points / 8.5),
            "zorder": 4,
        }
        shape = "round,pad=0,rounding_size=0.1"
        axes.add_patch(FancyBboxPatch((x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2), BOX_WIDTH, BOX_HEIGHT, shape, **look))
        letters = "qkv" if node.kind == "head" and 0.65 * points >= _LEAST_LETTER else ""
        axes.text(x, y + (0.055 if letters else 0), node.name, fontsize=points, **centred)
        for letter in letters:
            axes.text(x + PORTS[letter], y - 0.13, letter, fontsize=0.65 * points, color="#555555", **centred)
        if node.role and texts:
            paper = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.4}  # edges pass behind the text
            role = drawn(node.role, letters_in(SPACING * across, size))
            axes.text(x, y - BOX_HEIGHT / 2 - _ROLE_DROP, role, fontsize=size, color="#444444", bbox=paper, **centred)
