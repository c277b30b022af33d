"""The chart of faithfulness against edges below the slider over sizes, in a real Chromium."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Interval, SizePoint
from tests.made_circuits import made_circuit
from tests.show.viewer.pages import MINUS, drawn_edges, next_frame, shown

KINDS = ("part", "part", "part", "circuit", "more", "more")
SIZES = (10, 20, 50, 100, 200, 400)
VALUES = (-2.0, 0.25, 0.5, 0.9, 1.5, 5.0)
"""The first and the last lie beyond the chart."""


def point(kind: Any, edges: int, value: float) -> SizePoint:
    interval = Interval(level=0.95, low=value - 0.2, high=value + 0.3, method="BCa", resamples=1000)
    return SizePoint(
        kind=kind,
        requested=edges,
        edges=edges,
        faithfulness=value,
        faithfulness_interval=interval,
        kl_recovered=0.5,
        random=(-0.125, 0.0625) if edges < 400 else (),
    )


POINTS = tuple(map(point, KINDS, SIZES, VALUES))
CIRCUIT = made_circuit(100).model_copy(update={"sizes": POINTS, "evaluation": None})


def places(page: Page, selector: str) -> list[tuple[float, float]]:
    """Middles of marks in the window, from left to right."""
    script = """(found) => found.map((it) => {
        const box = it.getBoundingClientRect();
        return [box.left + box.width / 2, box.top + box.height / 2];
    })"""
    return sorted(tuple(place) for place in page.locator(selector).evaluate_all(script))


def height_of(page: Page, value: float) -> float:
    """Where a faithfulness between the ends is, by the lines at 0 and 1."""
    zero, one = (page.locator("#curve .level").nth(at).evaluate("(it) => it.y1.baseVal.value") for at in (0, 1))
    return float(zero + value * (one - zero))


def test_marks_stand_by_the_logarithm_of_edges_and_by_faithfulness(page: Page) -> None:
    marks = places(page, "#curve .reach")
    steps = [(after[0] - before[0]) for before, after in pairwise(marks)]
    doubled = steps[0]
    wanted = [1.0, 1.3219, 1.0, 1.0, 1.0]  # log2 of 20/10, 50/20, 100/50, ...
    assert [step / doubled for step in steps] == pytest.approx(wanted, abs=0.01)
    drawn = page.locator("#curve .reach").evaluate_all("(all) => all.map((it) => it.cy.baseVal.value)")
    inside = [value for kind, value in zip(KINDS, VALUES, strict=True) if -0.6 <= value <= 2.2 and kind != "more"]
    assert sorted(drawn[2:], reverse=True)[1:] == pytest.approx([height_of(page, value) for value in inside], abs=0.01)


def test_a_click_on_a_size_moves_the_slider_and_the_picture(page: Page) -> None:
    for index, size in ((1, 20), (2, 50), (3, 100)):
        page.locator("#curve .point", has_text=f"{size} edges:").locator(".reach").click()
        assert page.locator("#size").input_value() == str(index)
        expect(page.locator("#size-value")).to_have_text(
            str(page.evaluate("(i) => acdc.page.data.sizes[i].edges", index))
        )
        assert len(drawn_edges(page)) == sum(edge["appears"] <= index for edge in page.evaluate("acdc.page.data.edges"))
        (line,), marks = places(page, "#curve .present"), places(page, "#curve .reach")
        assert line[0] == pytest.approx(marks[index][0], abs=0.5)
    page.locator("#curve .point", has_text="400 edges:").locator(".reach").click()
    assert page.locator("#size").input_value() == "3"  # larger ones are not drawn


def test_texts_say_what_each_mark_is(page: Page) -> None:
    titles = page.locator("#curve title").all_text_contents()
    said = {title.split(":")[0]: title for title in titles}
    assert said["200 edges"] == (
        "200 edges: the circuit and the best others, not drawn; held-out faithfulness 1.500 (1.300 to 1.800); "
        f"KL recovered 0.500; random circuits {MINUS}0.125 to 0.063"
    )
    assert said["50 edges"].startswith("50 edges: the strongest; held-out faithfulness 0.500 (0.300 to 0.800)")
    assert "random" not in said["400 edges"]
    assert page.evaluate("[-0.0001, -0.0006].map(acdc.decimals)") == ["0.000", f"{MINUS}0.001"]
    picture = page.get_by_role("img", name="Held-out faithfulness against edges")
    expect(picture).to_be_visible()
    assert all(title in str(picture.get_attribute("aria-label")) for title in titles)


def test_colours_follow_the_theme_and_paper_has_the_chart(page: Page) -> None:
    colour = "getComputedStyle(document.querySelector('#curve .mark.part')).fill"
    assert page.evaluate(colour) == "rgb(0, 114, 178)"
    page.emulate_media(color_scheme="dark")
    next_frame(page)
    assert page.evaluate(colour) == "rgb(86, 180, 233)"
    page.emulate_media(media="print", color_scheme="dark")
    next_frame(page)
    assert page.evaluate(colour) == "rgb(0, 114, 178)"
    expect(page.locator("#curve svg")).to_be_visible()
    expect(page.locator("#size")).to_be_hidden()


@pytest.mark.parametrize(
    "points, there",
    [(POINTS[3:4], False), (POINTS[3:5], True), (POINTS[:3], True)],
    ids=["the circuit", "a larger one", "parts alone"],
)
def test_there_is_a_chart_where_two_sizes_were_measured(
    browser: Browser, tmp_path: Path, points: tuple[SizePoint, ...], there: bool
) -> None:
    circuit: Circuit = CIRCUIT.model_copy(update={"sizes": points})
    with shown(browser, tmp_path / "view.html", circuit) as page:
        expect(page.locator("#size-box")).to_be_visible()
        expect(page.locator("#curve")).to_be_visible(visible=there)
        if there:
            expect(page.locator("#curve .mark")).to_have_count(len(points))
            expect(page.locator("#curve .larger")).to_be_visible(visible=any(one.kind == "more" for one in points))
            own = any(one.kind == "circuit" for one in points)  # otherwise the slider stands where nothing was measured
            expect(page.locator("#curve .present")).to_have_attribute("visibility", "visible" if own else "hidden")
