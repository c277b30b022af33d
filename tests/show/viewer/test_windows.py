"""The viewer in windows of many sizes, light, dark and on paper; with many edges, and with next to nothing known."""

import re
from bisect import bisect_right
from collections import Counter
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import find_circuit
from tests.made_circuits import SMOLLM2, made_circuit
from tests.show.viewer.pages import drawn_edges, drawn_nodes, lines_of, next_frame, overflow, shown

CIRCUIT = made_circuit(60)
HEAD = CIRCUIT.examples[0].patterns[0].head
_BLUE = """() => {
  const image = document.getElementById("paper");
  const copy = new OffscreenCanvas(image.naturalWidth, image.naturalHeight).getContext("2d");
  copy.drawImage(image, 0, 0);
  const { data } = copy.getImageData(0, 0, image.naturalWidth, image.naturalHeight);
  let found = 0;
  for (let at = 0; at < data.length; at += 4) {
    if (data[at] < 60 && Math.abs(data[at + 1] - 125) < 30 && data[at + 2] > 160) found += 1;
  }
  return found;
}"""
"""Pixels of the printed picture that are near #0072b2."""


def boxes(page: Page, *selectors: str) -> list[dict[str, float]]:
    found = [page.locator(selector).first.bounding_box() for selector in selectors]
    assert all(found)
    return [
        {"left": box["x"], "top": box["y"], "right": box["x"] + box["width"], "bottom": box["y"] + box["height"]}
        for box in found
        if box
    ]


@pytest.mark.parametrize("width, height", [(380, 700), (1000, 700), (1600, 900)])
def test_no_window_needs_scrolling_sideways(page: Page, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    for id in (None, HEAD, "input->logits"):
        page.evaluate("(id) => acdc.page.graph.select(id)", id)
        assert overflow(page) <= 0
        assert page.locator("#panel").evaluate("(it) => it.scrollWidth - it.clientWidth") <= 0
    picture, panel = boxes(page, ".stage", "#panel")
    assert picture["right"] - picture["left"] >= min(width, 380) - 1
    if width <= 800:
        assert panel["top"] >= picture["bottom"] - 1  # below each other
    else:
        assert panel["left"] >= picture["right"] - 1 and panel["right"] <= width + 1


def test_dark_and_light_follow_the_system_until_told_otherwise(page: Page) -> None:
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    ink = "acdc.page.graph.cy.getElementById('logits').style('color')"
    light, dark = ("rgb(255, 255, 255)", "rgb(27,31,35)"), ("rgb(20, 24, 28)", "rgb(232,235,238)")

    def looks() -> tuple[str, str]:
        next_frame(page)
        return page.evaluate(ground), page.evaluate(ink)

    assert looks() == light
    page.emulate_media(color_scheme="dark")
    assert looks() == dark
    button = page.locator("#theme")
    button.click()
    expect(button).to_have_text("Theme: light")
    assert looks() == light
    button.click()
    expect(button).to_have_text("Theme: dark")
    page.emulate_media(color_scheme="light")
    assert looks() == dark
    button.click()
    expect(button).to_have_text("Theme: system")
    assert looks() == light


def test_paper_has_the_picture_legend_and_panel_but_no_controls(browser: Browser, tmp_path: Path) -> None:
    """On a page as wide as A4, where filters and legend are folded on the screen."""
    window = {"width": 794, "height": 1123}
    with shown(browser, tmp_path / "view.html", CIRCUIT, viewport=window, color_scheme="dark") as page:
        page.evaluate("(id) => acdc.page.graph.select(id)", HEAD)
        page.emulate_media(media="print")
        page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        page.locator("#paper").evaluate("(it) => it.decode()")
        for hidden in ("#search", "#zoom-in", "#theme", "#help", "#size", "#least", "#layer-from", "#kind-q", "#reset",
                       "#tooltip", "#graph"):  # fmt: skip
            expect(page.locator(hidden)).to_be_hidden()
        for button in page.locator("#panel button:not(.edge):not(.end)").all():
            expect(button).to_be_hidden()
        for there in ("#title", "#paper", "#legend", "#panel h2", "#panel .heatmap"):
            expect(page.locator(there)).to_be_visible()
        assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
        assert page.locator("#paper").evaluate("(it) => it.naturalWidth") > 500
        assert page.evaluate(_BLUE) > 20  # lines in the colour for paper: in the dark no blue has so little red
        places = boxes(page, "#legend", "#paper", "#panel")
        assert all(above["bottom"] <= below["top"] for above, below in pairwise(places))  # nothing overlaps
        page.evaluate("window.dispatchEvent(new Event('afterprint'))")
        page.emulate_media(media="screen")
        expect(page.locator("#paper")).to_be_hidden()
        expect(page.locator("#legend")).to_be_hidden()
        printed = page.pdf()
        assert printed.startswith(b"%PDF") and len(printed) > 20_000


def test_thousands_of_edges_open_and_what_is_hidden_is_said(browser: Browser, tmp_path: Path) -> None:
    circuit = made_circuit(7_000, shape=SMOLLM2)
    n_lines = Counter((edge.sender, edge.receiver) for edge in lines_of(circuit).values())
    strongest = sorted(circuit.edges, key=lambda edge: -abs(edge.effect or 0))
    together = list(accumulate(n_lines[edge.sender, edge.receiver] for edge in strongest))
    kept = {(edge.sender, edge.receiver) for edge in strongest[: bisect_right(together, 5_000)]}
    lines = {name for name, edge in lines_of(circuit).items() if (edge.sender, edge.receiver) in kept}
    with shown(browser, tmp_path / "view.html", circuit) as page:
        assert (tmp_path / "view.html").stat().st_size <= 3_000_000
        assert drawn_edges(page) == lines and 4_990 < len(lines) <= 5_000 and len(kept) < 4_000
        page.evaluate("acdc.page.graph.select('logits')")
        said = page.evaluate("['notice', 'panel'].map((id) => document.getElementById(id).textContent)")
        assert f"{7_000 - len(kept):,} edges, the weakest, are hidden" in said[0]
        into = [edge for edge in circuit.edges if edge.receiver == "logits"]
        left = sum((edge.sender, "logits") in kept for edge in into)
        assert f"Strongest edges in ({left})" in said[1] and "Show all" in said[1]
        assert f"{len(into) - left} weaker ones were left out of this page." in said[1] and left < len(into)


def test_a_known_circuit_of_the_literature_opens(browser: Browser, tmp_path: Path) -> None:
    """No scores, effects, prompts or figures; classes of heads only."""
    circuit = Circuit.load(find_circuit("gpt2/ioi"))
    with shown(browser, tmp_path / "view.html", circuit) as page:
        assert drawn_edges(page) == set(lines_of(circuit)) and len(circuit.edges) == 963
        expect(page.locator("#legend")).to_contain_text("effect not known")
        for role in {node.role for node in circuit.nodes if node.role}:
            expect(page.locator("#legend li", has_text=role).first).to_be_visible()
        for needs in ("#size", "#least"):
            expect(page.locator(needs)).to_be_hidden()
        expect(page.locator("#title")).to_have_text("ioi in gpt2: 963 edges")
        panel = page.locator("#panel")
        expect(panel).to_contain_text("Not judged yet: acdc evaluate with --out does")
        expect(panel.locator("h3")).to_have_count(0)
        page.evaluate("acdc.page.graph.select('a9.h9')")
        expect(panel.locator("dl.facts")).to_contain_text("name mover")
        expect(panel.locator("h3")).to_have_text([re.compile("Edges in"), re.compile("Edges out")])
        page.evaluate("acdc.page.graph.select('a9.h9->logits')")
        expect(panel.locator("dt")).to_have_text(["from", "to", "read as"])
        assert "ot measured" not in panel.inner_text()
        page.locator("#search").fill("negative")
        expect(page.locator("#suggestions li").first).to_contain_text("negative")


def test_a_circuit_without_edges_says_so(browser: Browser, tmp_path: Path) -> None:
    circuit = CIRCUIT.model_copy(update={"nodes": (), "edges": (), "examples": ()})
    with shown(browser, tmp_path / "view.html", circuit) as page:
        expect(page.locator("#message")).to_contain_text("This circuit has no edges")
        expect(page.locator("#title")).to_have_text("ioi in made-up: 0 edges")
        expect(page.locator("#panel h2")).to_have_text("About this circuit")
        assert drawn_edges(page) == set() and drawn_nodes(page) == set()
        page.keyboard.press("f")
        page.keyboard.press("/")
        page.keyboard.type("a")
        expect(page.locator("#suggestions")).to_have_text("No such node or role")
