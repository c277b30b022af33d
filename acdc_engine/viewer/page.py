"""The viewer's page: one HTML file with the picture of a circuit in it, which needs no network and no server."""

from __future__ import annotations

from acdc_engine.graph.circuit import Circuit
from acdc_engine.html.page import render
from acdc_engine.viewer.data import view_data

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
    "viewer/panel.js",
    "viewer/main.js",
)
_STYLES = ("viewer/graph.css", "viewer/page.css", "viewer/panel.css")
_LONGEST_TITLE = 120


def viewer_html(
    circuit: Circuit, known: Circuit | None = None, *, title: str | None = None, known_name: str = "the known circuit"
) -> str:
    """Renders a circuit as an interactive page.

    Args:
        circuit: What to show.
        known: A known circuit of the same model, to lay beside it.
        title: Heading; by default task, model and size.
        known_name: What the page calls the known circuit.

    Returns:
        The HTML.

    Raises:
        CircuitFileError: The known circuit is one of another model.
    """
    data = view_data(circuit, known, known_name=known_name)
    if title is not None:
        data = data.model_copy(update={"title": title})
    return render(
        "viewer/page.html.j2",
        data=data.model_dump(mode="json"),
        title=_cut(data.title),
        scripts=_SCRIPTS,
        styles=_STYLES,
    )


def _cut(text: str) -> str:
    """A line for a window's title; the whole is in the page."""
    return text if len(text) <= _LONGEST_TITLE else text[: _LONGEST_TITLE - 1] + "…"
