"""The viewer's page: one HTML file with the picture of a circuit in it, which needs no network and no server.

`view_data` is what its scripts are given: from a circuit, and perhaps a known one beside it; places are in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from markupsafe import Markup

from acdc_engine.display import counted
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.style import OTHER_FILL, ROLE_FILLS, faint_words, measure_of
from acdc_engine.show.page import render
from acdc_engine.show.pictures.layered import place_nodes
from acdc_engine.show.pictures.roles import MLPS, grouped, place_roles
from acdc_engine.show.viewer.drawn import (
    check_same_model,
    drawn_of,
    edges_of,
    hidden_of,
    layered_lines,
    nodes_of,
    overlay_of,
)
from acdc_engine.show.viewer.places import places_of
from acdc_engine.show.viewer.records import ViewBox, ViewData, ViewRoles, ViewWay
from acdc_engine.show.viewer.sizes import measured, slider
from acdc_engine.show.words import between, edges_in_words, evidence_of, facts

__all__ = ["check_same_model", "view_data", "viewer_html"]
_SCRIPTS = (
    "html/cytoscape.min.js",
    "viewer/data.js",
    "viewer/visible.js",
    "viewer/trace.js",
    "viewer/looks.js",
    "viewer/elements.js",
    "viewer/lines.js",
    "viewer/graph.js",
    "viewer/words.js",
    "viewer/folding.js",
    "viewer/rulers.js",
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
    "viewer/doses.js",
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

    A known circuit is laid beside the circuit without places, and beside that with places if it has the same.
    """
    alike = known is not None and circuit.spans is not None and circuit.spans.same_places(known.spans)
    beside = known if alike else None
    whole, circuit, known = circuit, circuit.plain(), None if known is None else known.plain()
    drawn = drawn_of(circuit, known)
    hidden = hidden_of(circuit, known, drawn)
    sizes, appears = slider(whole)
    places = place_nodes(drawn.whole).places
    task = "" if circuit.behaviour_name is None else f"{circuit.behaviour_name} in "
    anywhere = _anywhere(appears)
    return ViewData(
        title=f"{task}{circuit.model.name}: {edges_in_words(whole)}",
        model=circuit.model.name,
        task=circuit.behaviour_name,
        about=tuple(_about(whole)),
        hand_written=whole.hand_written,
        measure=measure_of(circuit),
        faint=faint_words(whole),
        n_edges=len(circuit.edges),
        hidden_edges=hidden[0],
        hidden_missed=hidden[1],
        nodes=tuple(nodes_of(circuit, known, drawn, places, whole.causal)),
        edges=tuple(edges_of(circuit, known or circuit, drawn, layered_lines(drawn.whole, places), anywhere)),
        places=None if whole.spans is None else places_of(whole, beside, appears, known_name),
        sizes=sizes,
        larger=tuple(measured(whole, "more")),
        by_role=_by_role(drawn.whole, known),
        examples=whole.examples,
        overlay=overlay_of(circuit, known, drawn, known_name),
    )


def _anywhere(appears: Mapping[str, int]) -> dict[str, int]:
    """The first size that has an edge at one of its places."""
    found: dict[str, int] = {}
    for name, size in appears.items():
        plain = name.partition("@")[0]
        found[plain] = min(size, found.get(plain, size))
    return found


def _about(circuit: Circuit) -> Iterator[tuple[str, str]]:
    if circuit.spans is not None:
        n = len(circuit.plain().edges)
        figures = "" if circuit.hand_written else "; all figures are of those at places"
        yield "Without places", f"{counted(n, 'edge')}{figures}"
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
    if circuit.inner is not None and circuit.inner.figures is not None:
        of = circuit.inner.figures
        yield "Inner circuit", f"held-out faithfulness {of.faithfulness:.3f}, KL recovered {of.kl_recovered:.3f}"
    for label, text in evidence_of(circuit).items():
        yield label[0].upper() + label[1:], text
    if circuit.command is not None:
        yield "Command", circuit.command


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
