"""The viewer's picture in a real Chromium: what it draws, says, traces and filters."""

from pathlib import Path
from typing import Literal

import pytest
import torch
from playwright.sync_api import Browser, Page, expect

from acdc_engine.evidence.comparison import overlaps
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.nodes import nodes_of_edges
from acdc_engine.graph.style import fill_of
from tests.made_circuits import SMOLLM2, made_circuit
from tests.show.viewer.pages import (
    boxes,
    centre_of,
    click,
    colour_at,
    drawn_edges,
    drawn_nodes,
    lines,
    lines_of,
    looks,
    next_frame,
    paths_through,
    shown,
)

CIRCUIT = made_circuit(200)
LINES = lines_of(CIRCUIT)
LAYERS = {node.name: node.layer for node in CIRCUIT.nodes}


def chosen(page: Page) -> str | None:
    found: str | None = page.evaluate("acdc.page.graph.chosen")
    return found


def slide(page: Page, id: str, value: int) -> None:
    """Moves a slider, as a hand does."""
    page.locator(f"#{id}").fill(str(value))


def test_whole_circuit_is_drawn_and_counted(page: Page) -> None:
    assert drawn_edges(page) == set(LINES) and len(LINES) == 200
    assert drawn_nodes(page) == set(LAYERS)
    expect(page.locator("#counts")).to_have_text(f"200 edges, {len(LAYERS)} nodes shown")
    expect(page.locator("#title")).to_have_text("ioi in made-up: 200 edges")
    expect(page.locator("#notice")).to_be_hidden()


def test_hovering_a_node_says_role_and_direct_effect(page: Page) -> None:
    node = next(node for node in CIRCUIT.nodes if node.role == "name mover" and node.direct_effect)
    page.mouse.move(*centre_of(page, node.name))
    tip = page.locator("#tooltip")
    expect(tip.locator("strong")).to_have_text(node.name)
    assert node.direct_effect is not None
    expect(tip).to_contain_text("name mover")
    expect(tip).to_contain_text(f"{abs(node.direct_effect.clean):.4f}")
    expect(tip).to_contain_text(f"{abs(node.direct_effect.corrupt):.4f}")
    page.mouse.move(1, 1)
    expect(tip).to_be_hidden()


def test_hovering_an_edge_says_its_numbers_and_a_click_chooses_it(page: Page) -> None:
    tip, said = page.locator("#tooltip"), 0
    for name in sorted(LINES)[:12]:
        page.mouse.move(1, 1)
        page.mouse.move(*centre_of(page, name))
        if tip.is_hidden() or tip.locator("strong").inner_text() != name.replace("->", " → "):
            continue  # something else lies on top there
        edge, text, said = LINES[name], tip.inner_text(), said + 1
        for value in (edge.score, edge.effect, edge.without):
            assert value is not None and f"{abs(value):.4f}" in text
        for share in (edge.stability, edge.necessity):
            assert share is not None and f"{int(100 * share + 0.5)}%" in text
        page.mouse.click(*centre_of(page, name))
        assert chosen(page) == name and lines(page, "chosen") == {name} and boxes(page, ".chosen") == set()
        expect(page.locator("#panel h2")).to_have_text(name)
    assert said >= 3


@pytest.mark.parametrize("which", [1, 3])
def test_click_on_a_node_traces_the_paths_through_it(page: Page, which: int) -> None:
    heads = sorted(
        (name for name, layer in LAYERS.items() if layer in (3, 5, 7, 9)), key=lambda name: LAYERS[name] or 0
    )
    node = heads[which * len(heads) // 4]
    click(page, node)
    nodes, through = paths_through(CIRCUIT, node)
    assert lines(page, "traced") == through
    assert drawn_nodes(page) - boxes(page, ".faded") == nodes
    assert drawn_edges(page) - lines(page, "faded") == through
    assert 0 < len(through) < 200
    expect(page.locator("#panel h2")).to_have_text(node)
    expect(page.locator("#live")).to_contain_text(f"{len(through)} line")


def test_escape_and_the_empty_ground_clear(page: Page) -> None:
    click(page, "logits")
    assert chosen(page) == "logits"
    page.keyboard.press("Escape")
    assert chosen(page) is None and boxes(page, ".faded, .chosen") == set()
    assert not any(lines(page, how) for how in ("faded", "traced", "chosen"))
    expect(page.locator("#panel h2")).to_have_text("About this circuit")
    click(page, "input")
    box = page.locator("#graph").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 3, box["y"] + 3)
    assert chosen(page) is None


def test_least_strength_leaves_the_edges_that_have_it(page: Page) -> None:
    slide(page, "least", 60)
    least = page.evaluate("acdc.page.controls.state().least")
    kept = {name for name, edge in LINES.items() if abs(edge.effect or 0) >= least}
    assert drawn_edges(page) == kept and 60 <= len(kept) <= 100
    expect(page.locator("#counts")).to_contain_text(f"{len(kept)} of 200 edges")
    expect(page.locator("#least-value")).to_have_text(f"{least:.4f}")


def test_layers_and_kinds_leave_the_edges_that_pass_and_hide_lonely_nodes(page: Page) -> None:
    page.locator("#layer-from").select_option("3")
    page.locator("#layer-to").select_option("8")
    inside = {name for name, layer in LAYERS.items() if layer is None or 3 <= layer <= 8}
    among = {name for name, edge in LINES.items() if edge.sender in inside and edge.receiver.split("<")[0] in inside}
    assert drawn_edges(page) == among and 0 < len(among) < 200
    page.locator("#reset").click()
    layout, left = CIRCUIT.graph(), set(LINES)
    for kind in ("v", "mlp", "q"):
        page.locator(f"#kind-{kind}").uncheck()
        left -= {n for n in left if layout.receiver_kind(layout.receiver_index(LINES[n].receiver)) == kind}
        assert drawn_edges(page) == left
    touched = {name for edge in map(LINES.get, left) if edge for name in (edge.sender, edge.receiver.split("<")[0])}
    assert drawn_nodes(page) == {"input", "logits"} | touched < set(LAYERS)
    page.locator("#lonely").uncheck()
    assert drawn_nodes(page) == set(LAYERS)
    click(page, "input")
    edges = tuple(LINES[name] for name in left)
    part = CIRCUIT.model_copy(update={"edges": edges, "nodes": nodes_of_edges(CIRCUIT.graph(), edges)})
    assert lines(page, "traced") == paths_through(part, "input")[1] < left


def test_size_slider_shows_cleaned_parts_and_their_faithfulness(page: Page) -> None:
    graph, layout = CIRCUIT.graph(), CIRCUIT.graph()
    order = sorted(CIRCUIT.edges, key=lambda edge: -abs(edge.effect or 0))
    stops = [point for point in CIRCUIT.sizes if point.kind != "more"]
    held_out = CIRCUIT.evaluation.held_out.faithfulness if CIRCUIT.evaluation else None
    sizes = set()
    for index, stop in enumerate(stops):
        slide(page, "size", index)
        mask = torch.zeros(graph.n_senders, graph.n_receivers, dtype=torch.bool)
        for edge in order[: stop.requested]:
            mask[layout.sender_index(edge.sender), layout.receiver_index(edge.receiver)] = True
        kept = clean(graph, mask)
        part = {
            name
            for name, edge in LINES.items()
            if kept[layout.sender_index(edge.sender), layout.receiver_index(edge.receiver)]
        }
        assert drawn_edges(page) == part
        faithfulness = stop.faithfulness if stop.kind == "part" else held_out
        expect(page.locator("#size-text")).to_contain_text(f"faithfulness {faithfulness:.3f}")
        sizes.add(len(part))
    assert len(sizes) >= 4 and max(sizes) == 200


def test_search_by_name_number_and_role(page: Page) -> None:
    search, found = page.locator("#search"), page.locator("#suggestions li")
    head = next(node for node in CIRCUIT.nodes if node.role == "induction")
    search.fill(head.name.replace("a", "").replace("h", ""))  # 5.3
    expect(found.first).to_contain_text(head.name)
    search.fill("INDUCTION")
    expect(found).to_have_count(min(12, sum(node.role == "induction" for node in CIRCUIT.nodes)))
    search.fill("a99.h99")
    expect(found).to_have_text(["No such node or role"])
    page.keyboard.press("Enter")
    assert chosen(page) is None
    search.fill(head.name)
    found.first.click()
    assert chosen(page) == head.name
    expect(page.locator("#panel h2")).to_have_text(head.name)


def test_everything_by_keyboard(page: Page) -> None:
    page.keyboard.press("/")
    page.keyboard.type("a11")
    page.keyboard.press("ArrowDown")
    second = page.locator("#suggestions li").nth(1).locator("b").inner_text()
    page.keyboard.press("Enter")
    assert chosen(page) == second
    page.keyboard.press("Escape")
    assert chosen(page) is None
    page.evaluate("document.activeElement.blur()")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "graph":
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    into = sorted(
        (edge for edge in CIRCUIT.edges if edge.receiver == "logits"), key=lambda edge: -abs(edge.effect or 0)
    )
    tip = page.locator("#tooltip strong")
    page.keyboard.press("ArrowDown")
    expect(tip).to_have_text("logits")
    page.keyboard.press("ArrowDown")
    expect(tip).to_have_text(into[0].sender)
    page.keyboard.press("ArrowRight")
    expect(tip).to_have_text(into[1].sender)
    expect(page.locator("#live")).to_contain_text(into[1].sender)
    page.keyboard.press("Shift+Enter")  # the line that led there
    assert chosen(page) == f"{into[1].sender}->logits"
    page.keyboard.press("Enter")
    assert chosen(page) == into[1].sender
    page.keyboard.press("?")
    assert page.evaluate("document.querySelector('dialog[open]').id") == "help-dialog"
    page.keyboard.press("Escape")
    assert page.evaluate("document.querySelector('dialog[open]')") is None
    assert chosen(page) == into[1].sender  # Escape closed the help, nothing else


def test_signs_are_colours_and_strengths_are_widths(page: Page) -> None:
    drawn = looks(page)
    positive = {drawn[name]["colour"] for name, edge in LINES.items() if (edge.effect or 0) > 0}
    negative = {drawn[name]["colour"] for name, edge in LINES.items() if (edge.effect or 0) < 0}
    assert (positive, negative) == ({"#0072b2"}, {"#d55e00"})
    order = sorted(LINES, key=lambda name: abs(LINES[name].effect or 0))
    widths = [drawn[name]["width"] for name in order]
    assert widths == sorted(widths) and widths[-1] > 3 * widths[0]
    dashes = {end: {tuple(drawn[name]["dash"]) for name in LINES if name.endswith(f"<{end}>")} for end in "qkv"}
    assert dashes == {"q": {(9, 4)}, "k": {(2.5, 3)}, "v": {()}}


def test_lines_are_where_they_are_said_to_be_in_their_colours(page: Page) -> None:
    """By the pixels of the canvas: strong solid lines, each opaque and on top when chosen; boxes lie over some."""
    colours = {"blue": (0, 114, 178), "vermilion": (213, 94, 0)}

    def near(name: str) -> str | None:
        *found, alpha = colour_at(page, name)
        for colour, wanted in colours.items():
            if alpha > 200 and all(abs(one - other) < 50 for one, other in zip(found, wanted, strict=True)):
                return colour
        return None

    solid = [name for name in LINES if name.endswith("<v>")]
    seen: dict[str, str] = {}
    for name in sorted(solid, key=lambda name: -abs(LINES[name].effect or 0))[:16]:
        page.evaluate("(id) => acdc.page.graph.select(id)", name)
        found = near(name)
        if found is not None:
            seen[name] = found
    assert seen == {name: "blue" if (LINES[name].effect or 0) > 0 else "vermilion" for name in seen}
    assert set(seen.values()) == set(colours) and len(seen) >= 8
    page.evaluate("acdc.page.graph.select(null)")
    page.locator("#kind-v").uncheck()
    assert {near(name) for name in seen} == {None}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_roles_have_the_colours_of_all_pictures(page: Page, theme: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=theme)
    next_frame(page)
    script = "acdc.page.graph.cy.nodes('.head').map((node) => [node.id(), node.style('background-color')])"
    fills = dict(page.evaluate(script))
    for node in CIRCUIT.nodes:
        if node.role is not None:
            fill = getattr(fill_of(node.role), theme)
            red, green, blue = (int(fill[at : at + 2], 16) for at in (1, 3, 5))
            assert fills[node.name] == f"rgb({red},{green},{blue})", node.role
            swatch = page.locator("#legend li", has_text=node.role).locator(".swatch")
            drawn = swatch.evaluate("(it) => getComputedStyle(it).backgroundColor")
            assert drawn == f"rgb({red}, {green}, {blue})"


@pytest.mark.parametrize("n_edges", [76, 1_000])
def test_names_of_thirty_layers_can_be_read_where_all_is_shown(browser: Browser, tmp_path: Path, n_edges: int) -> None:
    circuit = made_circuit(n_edges, 1, SMOLLM2)
    with shown(browser, tmp_path / "view.html", circuit, viewport={"width": 1280, "height": 800}) as page:
        boxes = "acdc.page.graph.cy.nodes('.box')"
        assert len({node.layer for node in circuit.nodes}) >= 28
        pixels = page.evaluate(f"parseFloat({boxes}[0].style('font-size')) * acdc.page.graph.cy.zoom()")
        assert pixels >= 9
        wide = page.evaluate(f"{boxes}.renderedBoundingBox().w / acdc.page.graph.cy.width()")
        assert wide > 0.5
        width = page.evaluate(
            """() => {
                const size = parseFloat(acdc.page.graph.cy.nodes('.box')[0].style('font-size'));
                const context = document.createElement("canvas").getContext("2d");
                context.font = `${size}px system-ui, sans-serif`;
                return Math.max(...acdc.page.data.nodes.map(({ id }) => context.measureText(id).width));
            }"""
        )
        assert width <= page.evaluate("acdc.BOX.width")


def overlapping(found: Circuit, known: Circuit, n: int) -> Circuit:
    """The found circuit with n edges of the known one besides."""
    there = {(edge.sender, edge.receiver) for edge in found.edges}
    more = [edge for edge in known.edges if (edge.sender, edge.receiver) not in there][:n]
    layout = found.graph()
    edges = sorted((*found.edges, *more), key=lambda edge: layout.parse_edge(f"{edge.sender}->{edge.receiver}"))
    plain = [edge.model_copy(update={"sender_role": None, "receiver_role": None}) for edge in edges]
    return found.model_copy(update={"edges": tuple(plain), "nodes": nodes_of_edges(layout, plain)})


def test_overlay_counts_as_compare_does(browser: Browser, tmp_path: Path) -> None:
    known = made_circuit(120, seed=1)
    found = overlapping(made_circuit(100, seed=2), known, 45)
    counted = next(each for each in overlaps(found, known) if each.scope == "edges" and each.mlps)
    both, missed, extra = counted.n_both, counted.n_true - counted.n_both, counted.n_found - counted.n_both
    assert both >= 45
    with shown(browser, tmp_path / "view.html", found, known) as page:
        expect(page.locator("#overlay-counts")).to_have_text(f"{both} edges found, {missed} missed, {extra} extra")
        drawn = looks(page).items()
        by_status = [
            {name for name, look in drawn if (look["colour"], look["dash"]) == status}
            for status in (("#0072b2", []), ("#cc79a7", [12, 6]), ("#e69f00", [2, 4]))
        ]
        assert [len(names) for names in by_status] == [both, missed, extra]
        assert by_status[0] | by_status[2] == set(lines_of(found))
        assert drawn_edges(page) == {*lines_of(found), *lines_of(known)}
        classes = {node.role for node in known.nodes if node.role}
        for name in classes:  # head classes of the known circuit are colours, in the legend too
            expect(page.locator("#legend li", has_text=name)).to_have_count(1)
        page.evaluate("(id) => acdc.page.graph.select(id)", min(by_status[1]))
        expect(page.locator("#panel")).to_contain_text("missed: in the known circuit only")
        lost = next(node.name for node in known.nodes if node.name not in {node.name for node in found.nodes})
        page.evaluate("(id) => acdc.page.graph.select(id)", lost)
        expect(page.locator("#panel dl.facts")).to_contain_text("in the known circuit only")
        expect(page.locator("#panel section")).to_have_count(2)  # edges in and out: nothing was measured of it
        expect(page.locator("#panel")).to_contain_text("This circuit does not have it.")
        expect(page.locator("#panel .value.missed").first).to_have_text("missed")
        page.locator("#overlay").uncheck()
        assert drawn_edges(page) == set(lines_of(found))
        assert drawn_nodes(page) == {node.name for node in found.nodes}
