"""The picture by place in a real Chromium: what it draws, traces, filters and folds, and its sizes."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import networkx as nx
import pytest
from playwright.sync_api import Browser, Page, expect

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.nodes import targets_of
from acdc_engine.graph.records import CircuitEdge
from acdc_engine.show.pictures.grid import turned_to
from acdc_engine.show.viewer import view_data
from tests.made_circuits import PLACES, SMOLLM2, made_circuit
from tests.show.viewer.pages import (
    centre_of,
    click,
    drawn_edges,
    drawn_nodes,
    lines,
    lines_of,
    looks,
    next_frame,
    overflow,
    reset,
    shown,
)
from tests.show.viewer.test_places_data import BESIDE

CIRCUIT = made_circuit(150, 3, SMOLLM2, places=PLACES)
EDGES = {edge.name: edge for edge in CIRCUIT.edges}
NODES = {node.name for node in CIRCUIT.nodes}
PLAIN = lines_of(CIRCUIT.plain())


def read_at_a_dot(edge: CircuitEdge) -> bool:
    return edge.receiver[-3:] in ("<k>", "<v>")


def spelled_out() -> "nx.DiGraph[str]":
    """The circuit with its dots: an edge to what reads it, and from a key or value to the heads that look back."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    layout = CIRCUIT.graph()
    for edge in CIRCUIT.edges:
        heads = [name for name in targets_of(layout, edge.into)[1] if name in NODES]
        if read_at_a_dot(edge):
            graph.add_edge(edge.out_of, edge.into, name=edge.name)
            graph.add_edges_from((edge.into, head, {"name": f"{edge.into}->{head}"}) for head in heads)
        else:
            graph.add_edge(edge.out_of, heads[0], name=edge.name)
    for path, layer, span in turned_to(CIRCUIT):
        graph.add_edge(f"a{layer}@{span}", path.node, name=f"a{layer}@{span}->{path.node}")
    return graph


def percent(share: float) -> str:
    return f"{int(100 * share + 0.5)}%"


GRAPH = spelled_out()
PATHS = {node: [path for path in CIRCUIT.attention if path.node == node] for node in NODES}
RINGS = {f"a{layer}@{span}" for _, layer, span in turned_to(CIRCUIT)}
DOTS = {name for name in GRAPH if "<" in name} | RINGS
NAMED: dict[tuple[str, str], str] = {(a, b): facts["name"] for a, b, facts in GRAPH.edges(data=True)}
LINES = set(NAMED.values())
HEAD = max((name for name in GRAPH if ".h" in name), key=lambda name: len(nx.ancestors(GRAPH, name)))


@pytest.fixture
def page(opened_page: Page) -> Iterator[Page]:
    reset(opened_page)
    opened_page.locator("#by-place").click()
    yield opened_page
    opened_page.set_viewport_size({"width": 1280, "height": 720})


def test_it_opens_by_place_and_the_other_pictures_are_one_click_away(page: Page) -> None:
    expect(page.locator("#by-place")).to_have_attribute("aria-pressed", "true")
    assert drawn_edges(page) == LINES and drawn_nodes(page) == NODES | DOTS
    expect(page.locator("#counts")).to_have_text(f"150 edges, {len(NODES)} nodes shown")
    expect(page.locator("#legend")).to_contain_text("a value that heads read here")
    page.locator("#by-layer").click()
    assert drawn_edges(page) == set(PLAIN) and drawn_nodes(page) == {name.partition("@")[0] for name in NODES}
    expect(page.locator("#counts")).to_have_text(f"150 edges, {len(NODES)} nodes shown")
    page.locator("#by-role").click()
    assert page.locator("#roles .group").count() > 3
    expect(page.locator("#places")).to_be_hidden()
    page.keyboard.press("r")
    expect(page.locator("#roles")).to_be_hidden()
    expect(page.locator("#places")).to_be_visible()
    page.keyboard.press("p")
    expect(page.locator("#by-layer")).to_have_attribute("aria-pressed", "true")


def test_a_click_traces_through_what_heads_look_back_at(page: Page) -> None:
    click(page, HEAD)
    ends = (
        [name for name in GRAPH if name.startswith("input@") or name in RINGS],
        [name for name in GRAPH if name.startswith("logits@")],
    )
    before = {HEAD, *nx.ancestors(GRAPH, HEAD)} & {*ends[0], *(n for e in ends[0] for n in nx.descendants(GRAPH, e))}
    after = {HEAD, *nx.descendants(GRAPH, HEAD)} & {*ends[1], *(n for e in ends[1] for n in nx.ancestors(GRAPH, e))}
    through = {name for (a, b), name in NAMED.items() if {a, b} <= before or {a, b} <= after}
    assert lines(page, "traced") == through and len({name.partition("@")[2] for name in before}) > 2
    assert any("<" in name.partition("->")[0] for name in through), "attention lies on the way"


def test_the_panel_names_places(page: Page) -> None:
    page.locator("#search").fill(HEAD.replace("a", "").replace(".h", "."))  # 20.3@end
    page.keyboard.press("Enter")
    panel = page.locator("#panel")
    expect(panel.locator("h2")).to_have_text(HEAD)
    span = HEAD.partition("@")[2]
    expect(panel.locator("dl.facts")).to_contain_text(f"place{span}")
    layout = CIRCUIT.graph()
    into = [edge for edge in CIRCUIT.edges if HEAD in targets_of(layout, edge.into)[1]]
    out = [edge for edge in CIRCUIT.edges if edge.out_of == HEAD]
    expect(panel.locator("dl.facts")).to_contain_text(f"{len(into)} in, {len(out)} out")
    strongest = sorted(into, key=lambda edge: -abs(edge.effect or 0))[:8]
    listed = panel.locator("section", has_text="Strongest edges in").locator(".name")
    expect(listed).to_have_text([edge.out_of for edge in strongest])
    looked, weights = panel.locator("section", has_text="Looks back at"), {p.source: p.weight for p in PATHS[HEAD]}
    dots = DOTS.intersection(GRAPH.predecessors(HEAD))
    names = looked.locator(".name").all_text_contents()
    assert {*names} <= dots and len(names) == min(8, len(dots))
    shares = [weights[name.partition("@")[2]] for name in names]
    assert shares == sorted(shares, reverse=True), "most of its attention first"
    expect(looked.locator(".value")).to_have_text(list(map(percent, shares)))
    looked.locator("button.edge").first.click()
    expect(panel.locator("h2")).to_have_text(names[0])
    expect(panel.locator("section", has_text="Heads that look back here")).to_contain_text(HEAD)
    page.evaluate("(id) => acdc.page.graph.select(id)", strongest[0].name)
    expect(panel.locator("h2")).to_have_text(strongest[0].name)


def test_attention_is_as_wide_as_heads_look_and_says_so(page: Page) -> None:
    found = looks(page)
    drawn = {name: found[name] for name in LINES if name.endswith(f"->{HEAD}") and name.partition("->")[0] in DOTS}
    widths = {name.partition("->")[0].partition("@")[2]: look["width"] for name, look in drawn.items()}
    for path in PATHS[HEAD]:
        assert widths.get(path.source, 0.9 + 6 * path.weight) == pytest.approx(0.9 + 6 * path.weight)
    name = max((name for name in drawn if "<k>" not in name), key=lambda name: drawn[name]["width"])
    path = next(path for path in PATHS[HEAD] if f"@{path.source}->" in name)
    page.evaluate("(id) => acdc.page.graph.select(id)", name)
    panel = page.locator("#panel")
    expect(panel.locator("h2")).to_have_text(name.replace("->", " → "))
    expect(panel.locator("dl.facts")).to_contain_text(f"attention{percent(path.weight)}")
    expect(panel.locator("dl.facts")).to_contain_text(f"corrupt{percent(path.weight_corrupt)}")
    expect(panel.locator("dl.facts")).to_contain_text(f"{abs(path.score):.4f}")


def test_filters_hold_in_every_picture(page: Page) -> None:
    page.locator("#least").fill("70")
    least = page.evaluate("acdc.page.controls.state().least")
    strong = {name for name, edge in EDGES.items() if abs(edge.effect or 0) >= least}
    assert drawn_edges(page) & EDGES.keys() == strong and 30 < len(strong) < 70
    leading, read = {EDGES[name].out_of for name in strong}, {EDGES[name].into for name in strong}
    attention = {name for (a, b), name in NAMED.items() if a in DOTS and a in {*read, *RINGS} and b in leading}
    assert drawn_edges(page) - EDGES.keys() == attention and attention
    expect(page.locator("#counts")).to_contain_text(f"{len(strong)} of 150 edges")
    page.locator("#by-layer").click()
    plain = {name.partition("@")[0] for name in strong}
    assert {PLAIN[line].name for line in drawn_edges(page)} == plain
    line = next(line for line, edge in PLAIN.items() if edge.name in plain)
    page.evaluate("(id) => acdc.page.graph.select(id)", line)
    spans = [edge.span or "" for edge in EDGES.values() if edge.name.partition("@")[0] == PLAIN[line].name]
    expect(page.locator("#panel section", has_text="Places").locator(".name")).to_have_text(spans)
    page.locator("#by-place").click()
    page.locator("#reset").click()
    page.locator("#size").fill("2")
    there = page.evaluate("acdc.page.data.sizes[2].requested")
    assert 0 < len(drawn_edges(page) & EDGES.keys()) <= there < 150


def test_columns_and_rows_fold_and_unfold(page: Page) -> None:
    spots = "Object.fromEntries(acdc.page.data.nodes.map((one) => [one.id, [one.x, one.y, one.width, one.height]]))"
    before = page.evaluate(spots)
    places = view_data(CIRCUIT).places
    assert places is not None
    assert all(before[node.id][:2] == pytest.approx([node.x, node.y], abs=0.2) for node in places.nodes)
    assert page.locator("#columns button b").all_text_contents()[-1] == "end"

    def toggle(ruler: str, name: str) -> None:
        page.evaluate("acdc.page.graph.fit()")
        page.locator(f"#{ruler} button", has_text=name).first.click()

    toggle("columns", "B.2")
    after = page.evaluate(spots)
    for name, (x, y, width, height) in after.items():
        span = name.partition("@")[2]
        assert (y, height) == pytest.approx(before[name][1::2])
        assert (width < 30) if span == "B.2" else (width == pytest.approx(before[name][2]))
        moved = x - before[name][0]
        assert (moved < -100) if span == "end" else (moved == pytest.approx(0) or span == "B.2")
    toggle("rows", "logits")
    assert page.evaluate(spots)["logits@end"][3] < 15
    assert page.evaluate("acdc.page.graph.cy.getElementById('logits@end').data('label')") == ""
    assert drawn_edges(page) == LINES, "folded, not left out"
    toggle("columns", "B.2")
    toggle("rows", "logits")
    assert page.evaluate(spots) == {name: pytest.approx(spot) for name, spot in before.items()}


@pytest.mark.parametrize("width, height", [(1280, 800), (420, 860)])
def test_names_can_be_read_and_places_stay_in_sight(browser: Browser, tmp_path: Path, width: int, height: int) -> None:
    with shown(browser, tmp_path / "view.html", CIRCUIT, viewport={"width": width, "height": height}) as page:
        pixels = page.evaluate("acdc.nameSize(acdc.page.data) * acdc.page.graph.cy.zoom()")
        assert pixels >= 8 and overflow(page) <= 0
        x, y = centre_of(page, "logits@end")
        assert 0 < x < width and 0 < y < height
        for zoom in (1.0, 2.5):
            page.evaluate(f"acdc.page.graph.zoom({zoom})")
            next_frame(page)
            for ruler, apart in (("#columns", 22), ("#rows", 13)):
                boxes = page.locator(f"{ruler} button").evaluate_all(
                    "all => all.map((one) => parseFloat(one.style.left || one.style.top)).sort((a, b) => a - b)"
                )
                assert boxes and all(b - a >= apart - 0.1 for a, b in pairwise(boxes))
        page.mouse.move(*centre_of(page, "logits@end"))


def test_names_of_strangers_stay_in_the_rulers(browser: Browser, tmp_path: Path) -> None:
    names = ("{{ 7 * 7 }} `'\"\\", "\u202eevitcerid שלום", "word " * 200, "&amp;", "end")
    circuit = made_circuit(30, hostile=True, places=tuple(name.strip() for name in names))
    example = circuit.examples[0].model_copy(update={"spans": (0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4)})
    circuit = circuit.model_copy(update={"examples": (example,)})
    with shown(browser, tmp_path / "view.html", circuit, viewport={"width": 420, "height": 860}) as page:
        page.evaluate("acdc.page.graph.fit()")
        said = page.locator("#columns").inner_text()
        assert "{{ 7 * 7 }}" in said and "49" not in said and overflow(page) <= 0
        page.evaluate("acdc.page.graph.select(acdc.page.data.nodes[0].id)")
        expect(page.locator("#panel h2")).to_contain_text("input@")
        assert overflow(page) <= 0


def test_a_known_circuit_is_compared_at_places_and_without(browser: Browser, tmp_path: Path) -> None:
    found, known = (Circuit.from_edges(CIRCUIT, names) for names in BESIDE)
    with shown(browser, tmp_path / "view.html", found, known) as page:
        expect(page.locator("#overlay-counts")).to_have_text("1 edge found, 2 missed, 1 extra")
        missed, look = "input->a3.kv0<v>@B", "a3.kv0<v>@B->a3.h0@end"
        assert {missed, look} < drawn_edges(page)
        colours = {name: drawn["colour"] for name, drawn in looks(page).items()}
        assert colours[missed] != colours[look] == colours["a3.kv0<v>@A->a3.h0@end"] == "#8a8f98", "of neither"
        page.evaluate("(id) => acdc.page.graph.select(id)", missed)
        expect(page.locator("#panel")).to_contain_text("missed: in the known circuit only")
        page.locator("#by-layer").click()
        expect(page.locator("#overlay-counts")).to_have_text("2 edges found, 1 missed, 0 extra")
        page.locator("#overlay").uncheck()
        assert drawn_edges(page) == {"input->a3.h0<v>", "a3.h0->logits"}
        page.locator("#by-place").click()
        own = {"input->a3.kv0<v>@A", "a3.kv0<v>@A->a3.h0@end", "a3.h0->logits@end"}
        assert drawn_edges(page) == own
