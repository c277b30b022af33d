"""The picture by role in a real Chromium: boxes, sums, filters, colours."""

from collections.abc import Iterator
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.style import fill_of
from acdc_engine.shipped import graphs_folder
from acdc_engine.show.pictures.roles import MLPS, grouped
from tests.made_circuits import made_circuit
from tests.show.viewer.pages import MINUS, shown

IOI = Circuit.load(graphs_folder() / "gpt2" / "ioi.json")
FOUND = made_circuit(200)
LAPTOP = {"width": 1280, "height": 800}


@pytest.fixture(scope="module")
def opened_pages(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Page]]:
    folder = tmp_path_factory.mktemp("roles")
    with (
        shown(browser, folder / "ioi.html", IOI, viewport=LAPTOP) as ioi,
        shown(browser, folder / "found.html", FOUND, viewport=LAPTOP) as found,
    ):
        for page in (ioi, found):
            page.locator("#by-role").click()
        yield {"ioi": ioi, "found": found}


@pytest.fixture
def ioi(opened_pages: dict[str, Page]) -> Page:
    return opened_pages["ioi"]


@pytest.fixture
def found(opened_pages: dict[str, Page]) -> Page:
    opened_pages["found"].locator("#reset").click()
    return opened_pages["found"]


def said(page: Page) -> dict[str, str]:
    """Every line with what is written on it."""
    ways = page.locator("#roles .way")
    names = ways.evaluate_all("ways => ways.map(way => way.getAttribute('aria-label').split(': ')[0])")
    return dict(zip(names, ways.locator("text").all_text_contents(), strict=True))


def boxes(page: Page) -> set[str]:
    return set(page.locator("#roles .group .name").all_text_contents())


def sums(circuit: Circuit, *, mlps: bool = False) -> dict[str, tuple[int, float | None]]:
    """The same from Python: numbers of edges and their summed effects."""
    return {
        f"{bundle.source} to {bundle.target}": (len(bundle.edges), bundle.total("effect"))
        for bundle in grouped(circuit).drawn(mlps=mlps)
    }


def check_sums(page: Page, expected: dict[str, tuple[int, float | None]]) -> None:
    there = said(page)
    assert there.keys() == expected.keys()
    for name, (n, total) in expected.items():
        count, _, value = there[name].partition(", ")
        assert count.split(" ")[0] == (f"{n:,}" if n else "via")
        if total is not None:
            assert float(value.replace(MINUS, "-")) == pytest.approx(total, rel=5e-3, abs=1e-3)


def test_the_paper_s_figure_2(ioi: Page) -> None:
    expect(ioi.locator("#title")).to_have_text("ioi in gpt2: 963 edges")
    classes = {node.role for node in IOI.nodes if node.role}
    assert boxes(ioi) == {"input", "logits", *classes}
    there = said(ioi)
    assert len(there) == 16 and there["S-inhibition to backup name mover"] == "32 q"
    assert there["previous token to induction"] == "16 kv"
    check_sums(ioi, sums(IOI))
    legend = ioi.locator("#legend")
    expect(legend).to_contain_text("Heads only: 12 MLPs with 780 edges, and the paths through them, are not drawn.")
    for node in IOI.nodes:
        if node.kind == "head":
            expect(ioi.locator("#roles .heads", has_text=node.name).first).to_be_visible()


def test_mlps_are_a_box_if_asked_for(ioi: Page) -> None:
    ioi.locator("#with-mlps").click()
    assert MLPS in boxes(ioi)
    check_sums(ioi, sums(IOI, mlps=True))
    expect(ioi.locator("#legend")).not_to_contain_text("Heads only")
    assert within(ioi)
    ioi.locator("#with-mlps").click()
    assert MLPS not in boxes(ioi)


def within(page: Page) -> bool:
    """Whether every line, box and text lies in the picture, and can be read."""
    return bool(
        page.evaluate(
            """() => {
                const picture = document.querySelector("#roles svg");
                const { width, height } = picture.viewBox.baseVal;
                return [...picture.querySelectorAll(".line, rect, text")].every((part) => {
                    const box = part.getBBox();
                    return box.x >= 0 && box.y >= 0 && box.x + box.width <= width && box.y + box.height <= height;
                });
            }"""
        )
    )


@pytest.mark.parametrize("which", ["ioi", "found"])
def test_everything_lies_in_the_picture_and_can_be_read(opened_pages: dict[str, Page], which: str) -> None:
    page = opened_pages[which]
    assert within(page)
    heights = page.locator("#roles .heads").evaluate_all(
        """texts => texts.map(text => parseFloat(getComputedStyle(text).fontSize) *
            text.ownerSVGElement.getScreenCTM().a)"""
    )
    assert min(heights) >= 8.9


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_boxes_have_the_colours_of_their_roles(ioi: Page, theme: Literal["light", "dark"]) -> None:
    ioi.emulate_media(color_scheme=theme)
    fills = ioi.locator("#roles .group").evaluate_all(
        """groups => groups.map(group => [group.querySelector(".name").textContent,
            getComputedStyle(group.querySelector("rect")).fill])"""
    )
    for role, drawn in fills:
        if role not in ("input", "logits", MLPS):
            fill = getattr(fill_of(role), theme)
            assert drawn == f"rgb({', '.join(str(int(fill[at : at + 2], 16)) for at in (1, 3, 5))})"
    ioi.emulate_media(color_scheme="light")


def test_sums_are_of_what_filters_leave(found: Page) -> None:
    check_sums(found, sums(FOUND))
    expect(found.locator("#legend")).to_contain_text("width: |sum of effects|")
    found.locator("#kind-q").uncheck()
    left = [edge for edge in FOUND.edges if "<q>" not in edge.receiver]
    expected = {
        f"{bundle.source} to {bundle.target}": [edge for edge in bundle.edges if edge in left]
        for bundle in grouped(FOUND).drawn(mlps=False)
    }
    check_sums(
        found,
        {name: (len(edges), sum(edge.effect or 0 for edge in edges)) for name, edges in expected.items() if edges},
    )


def test_a_line_and_a_box_are_told_of_beside(found: Page) -> None:
    panel = found.locator("#panel")
    bundle = max(grouped(FOUND).drawn(mlps=False), key=lambda bundle: len(bundle.edges))
    way = found.locator(f"#roles .way[aria-label^='{bundle.source} to {bundle.target}:']")
    way.focus()
    found.keyboard.press("Enter")
    expect(panel.locator("h2")).to_have_text(f"{bundle.source} → {bundle.target}")
    expect(panel).to_contain_text(f"Edges ({len(bundle.edges)})")
    expect(panel).to_contain_text("of each edge, measured alone")
    role = next(node.role for node in FOUND.nodes if node.role)
    found.locator("#roles .group", has=found.locator(".name", has_text=role)).first.click()
    members = [node.name for node in FOUND.nodes if node.role == role]
    expect(panel).to_contain_text(f"{len(members)} nodes")
    panel.locator("button.edge", has_text=members[0]).first.click()
    expect(panel.locator("h2")).to_have_text(members[0])
    found.keyboard.press("Escape")
    expect(panel.locator("h2")).to_have_text("About this circuit")
