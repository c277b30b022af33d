"""Pictures in the report, as data URIs: the circuit, and its faithfulness against size."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.show.pictures.curve import sizes_figure
from acdc_engine.show.pictures.draw import figure_of
from acdc_engine.show.pictures.figure import svg_text
from acdc_engine.show.pictures.selection import strongest

MOST_EDGES = 250
"""Edges drawn; more cannot be told apart on a page."""


@dataclass(frozen=True)
class Picture:
    """An image.

    Attributes:
        uri: A data URI of type image/svg+xml.
        alt: What it shows, for those who do not see it.
        note: What it leaves out; may be empty.
        width: Natural width in pixels of CSS.
    """

    uri: str
    alt: str
    note: str
    width: int


def circuit_picture(circuit: Circuit) -> Picture | None:
    """Draws the circuit, of large ones the strongest edges, or all by role; None for a circuit without edges."""
    if not circuit.edges:
        return None
    shown, note = _drawn(circuit)
    alt = (
        f"The circuit, input at the bottom, logits at the top: {len(shown.nodes):,} nodes, {len(shown.edges):,} edges."
    )
    if len(shown.edges) > MOST_EDGES and any(node.role for node in shown.nodes):
        note = f"Drawn by role: {len(shown.edges):,} edges, added up. Each of them is in the viewer."
        return _picture(figure_of(shown, title="", by="role"), alt, note)
    return _picture(figure_of(shown, title=""), alt, note)


def _drawn(circuit: Circuit) -> tuple[Circuit, str]:
    if len(circuit.edges) <= MOST_EDGES:
        return circuit, ""
    try:
        shown = strongest(circuit, MOST_EDGES)
    except CircuitFileError:  # no strengths, or so few edges join nothing: all of it
        return circuit, ""
    drawn = f"the strongest {len(shown.edges):,} of {len(circuit.edges):,} edges that lie on paths of such edges"
    return shown, f"Drawn are {drawn} from input to logits. All are in the viewer."


def sizes_picture(circuit: Circuit) -> Picture | None:
    """Draws faithfulness against size; None where it was not measured."""
    if not circuit.sizes:
        return None
    return _picture(sizes_figure(circuit), "Faithfulness against number of edges; the table below has the numbers.", "")


def _picture(figure: Any, alt: str, note: str) -> Picture:
    data = base64.b64encode(svg_text(figure).encode()).decode()
    return Picture(f"data:image/svg+xml;base64,{data}", alt, note, round(96 * figure.get_figwidth()))
