"""The report in a real browser: from disk, without a network, with nothing on the console."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from acdc_engine.show.report import report_html
from tests.browser import opened
from tests.made_circuits import made_circuit


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(report_html(made_circuit(60)))
    return path


@pytest.mark.parametrize(("width", "scheme"), [(380, "light"), (1300, "dark")])
def test_it_opens_and_does_not_scroll_sideways(browser: Browser, report: Path, width: int, scheme: str) -> None:
    with opened(browser, report, viewport={"width": width, "height": 800}, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == width
        for picture in page.locator("main img").all():
            assert picture.evaluate("img => img.complete && img.naturalWidth > 100")
        ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
        assert page.locator(".card").first.evaluate("e => getComputedStyle(e).backgroundColor") == "rgb(255, 255, 255)"


def test_the_viewer_starts_when_it_is_opened(browser: Browser, report: Path) -> None:
    with opened(browser, report, viewport={"width": 1300, "height": 900}) as page:
        frame = page.frame_locator("#viewer iframe")
        assert page.locator("#viewer iframe").get_attribute("srcdoc") is None
        page.click("#viewer > summary")
        expect(frame.locator("#title")).to_contain_text("60 edges")
        expect(frame.locator("#graph canvas").first).to_be_visible()
        frame.locator("#search").fill("logits")
        expect(frame.locator("#suggestions li").first).to_contain_text("logits")
        assert page.evaluate("document.documentElement.scrollWidth") == 1300


def test_tables_sort_by_their_numbers(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        page.click("#edges th:has-text('stability') [role=button]")
        column = "rows => rows.map(row => Number(row.cells[4].dataset.value))"
        falling = page.locator("#edges tbody tr").evaluate_all(column)
        assert falling == sorted(falling, reverse=True) and len(falling) == 40
        page.keyboard.press("Enter")
        assert page.locator("#edges tbody tr").evaluate_all(column) == sorted(falling)
        page.click("#nodes th:has-text('node') [role=button]")
        names = page.locator("#nodes tbody th").all_inner_texts()
        assert [name for name in names if name.startswith("m")] == sorted(
            (name for name in names if name.startswith("m")), key=lambda name: int(name[1:])
        )


def test_it_prints_with_the_still_picture_and_without_the_viewer(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        page.emulate_media(media="print")
        assert page.locator("#circuit-picture img").is_visible() and not page.locator("#viewer").is_visible()
        assert not page.locator("nav").is_visible()
        written = page.pdf(format="A4", print_background=True)
        assert written.startswith(b"%PDF") and 3 <= written.count(b"/Type /Page\n") <= 15


def test_texts_of_strangers_run_nothing_and_break_nothing(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    html = report_html(made_circuit(40, hostile=True))
    assert not re.search(r"<img src=x", html) and "\u202e" not in html and "\x00" not in html
    assert "{% raw %}" in html or "{%·raw" in html, "shown as it is, not run"
    path.write_text(html)
    with opened(browser, path, viewport={"width": 420, "height": 800}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 420
        assert page.locator("main img").count() == 5 and page.locator("script").count() == 2
        page.click("#viewer > summary")
        expect(page.frame_locator("#viewer iframe").locator("#graph canvas").first).to_be_visible()
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") == 420
