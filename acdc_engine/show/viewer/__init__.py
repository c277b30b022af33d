"""The viewer's page: one HTML file with the picture of a circuit in it, which needs no network and no server."""

from __future__ import annotations

from markupsafe import Markup

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.style import OTHER_FILL, ROLE_FILLS
from acdc_engine.show.page import render
from acdc_engine.show.viewer.data import view_data

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


def viewer_html(
    circuit: Circuit, known: Circuit | None = None, *, title: str | None = None, known_name: str = "the known circuit"
) -> str:
    """Renders a circuit as an interactive page, perhaps with a known circuit of the same model laid beside it.

    The heading is the title, by default task, model and size. A known circuit of another model is a CircuitFileError.
    """
    data = view_data(circuit, known, known_name=known_name)
    if title is not None:
        data = data.model_copy(update={"title": title})
    return render(
        "viewer/page.html.j2",
        data=data.model_dump(mode="json"),
        title=_cut(data.title),
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


def _cut(text: str) -> str:
    """A line for a window's title; the whole is in the page."""
    return text if len(text) <= _LONGEST_TITLE else text[: _LONGEST_TITLE - 1] + "…"
