"""The index in a browser: sorting, filtering, cards and table, ticking two; without JavaScript; with hostile names."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page

from acdc_engine.show.index import write_gallery
from tests.browser import opened
from tests.made_circuits import HOSTILE, made_circuit
from tests.show.index.runs import bare, named, save, some_runs

NARROW = {"width": 400, "height": 800}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs (a: 20 edges, 0.95; b: 40, 0.5; c: 30, 1.25) and known, which knows nothing of itself."""
    base = tmp_path_factory.mktemp("gallery")
    some_runs(base / "runs")
    save(base / "runs" / "known", bare({"input->logits": 1.0}))
    (base / "runs" / "half").mkdir()
    (base / "runs" / "half" / "trace.jsonl").touch()
    return write_gallery(base / "runs", base / "site").folder / "index.html"


@pytest.fixture(scope="module")
def opened_page(browser: Browser, index: Path) -> Iterator[Page]:
    with opened(browser, index) as page:
        yield page


@pytest.fixture
def page(opened_page: Page, index: Path) -> Page:
    """As it was when it was opened."""
    opened_page.goto("about:blank")
    opened_page.goto(index.as_uri())
    return opened_page


def order(page: Page, view: str = "table") -> list[str]:
    """Runs as shown, first to last."""
    items = "#table tbody tr" if view == "table" else ".card"
    slugs: list[str] = page.locator(f"{items}:visible").evaluate_all("items => items.map(item => item.dataset.slug)")
    return slugs


def asked(page: Page) -> dict[str, str]:
    """What the address says."""
    return {key: values[0] for key, values in parse_qs(urlsplit(page.url).fragment).items()}


def header(page: Page, name: str) -> str | None:
    return page.locator(f"th[data-key={name}]").get_attribute("aria-sort")


def wide_as_the_window(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def test_sorting_by_the_headings(page: Page) -> None:
    page.click("button:text('Table')")
    assert order(page) == ["a", "b", "c", "known"]
    page.click("th button:text('Faithfulness')")
    # The largest first; what is not known comes last either way.
    assert order(page) == ["c", "a", "b", "known"]
    assert (header(page, "faithfulness"), header(page, "name")) == ("descending", "none")
    assert asked(page) == {"sort": "faithfulness", "dir": "desc", "view": "table"}
    page.focus("th[data-key=faithfulness] button")
    page.keyboard.press("Enter")
    assert order(page) == ["b", "a", "c", "known"]
    assert header(page, "faithfulness") == "ascending"
    page.click("th button:text('Edges')")
    assert order(page) == ["b", "c", "a", "known"]
    page.click("th button:text('Task')")
    assert order(page) == ["b", "a", "c", "known"]
    # The cards follow.
    page.click("button:text('Cards')")
    assert order(page, "cards") == ["b", "a", "c", "known"]
    page.select_option("#sort", "edges")
    assert order(page, "cards") == ["b", "c", "a", "known"]
    page.click("#direction")
    assert order(page, "cards") == ["known", "a", "c", "b"]


def test_the_address_keeps_order_filter_and_view(page: Page, index: Path) -> None:
    page.goto(f"{index.as_uri()}#sort=edges&dir=asc&view=table&q=ioi")
    assert order(page) == ["a", "c"]
    assert page.input_value("#filter") == "ioi"
    page.reload()
    assert order(page) == ["a", "c"]
    page.evaluate("location.hash = '#sort=nonsense&view=%3Cscript%3E'")
    page.wait_for_selector("#cards:visible")
    assert order(page, "cards") == ["a", "b", "c", "known"]


def test_filtering(page: Page) -> None:
    page.fill("#filter", "IOI gpt2")
    assert order(page, "cards") == ["a"]
    assert "1 of 4 runs." in page.inner_text("#said") and asked(page) == {"q": "IOI gpt2"}
    page.fill("#filter", "no such run")
    assert order(page, "cards") == [] and page.is_visible("#none")
    page.fill("#filter", "")
    assert order(page, "cards") == ["a", "b", "c", "known"] and "#" not in page.url


def test_two_are_ticked_and_compared(page: Page) -> None:
    compare = page.locator("#compare")
    assert compare.is_disabled()
    page.check(".card[data-slug=c] input")
    page.check(".card[data-slug=a] input")
    assert compare.is_disabled()
    assert "c (30 layers of 9 heads (3 key/value groups)) and a (12 layers of 12 heads)" in page.inner_text("#said")
    page.check(".card[data-slug=b] input")  # the third lets go of the first
    assert not page.is_checked(".card[data-slug=c] input") and compare.is_enabled()
    page.click("button:text('Table')")
    assert page.is_checked("tr[data-slug=a] input") and page.is_checked("tr[data-slug=b] input")
    compare.click()
    page.wait_for_url("**/compare.html#a=a&b=b")
    assert page.is_visible("#compared")
    page.go_back()
    page.wait_for_url("**/index.html#view=table")
    page.wait_for_function("() => document.getElementById('said').textContent === 'Compare a with b.'")
    assert page.is_checked("tr[data-slug=a] input") and page.is_checked("tr[data-slug=b] input")
    assert page.locator(".tick input:checked").count() == 4 and compare.is_enabled()
    page.uncheck("tr[data-slug=a] input")
    assert page.inner_text("#said") == "Compare b with: tick another."
    assert page.locator(".tick input:checked").count() == 2


def test_without_javascript_there_are_cards_and_a_table(browser: Browser, index: Path) -> None:
    with opened(browser, index, java_script_enabled=False) as page:
        assert order(page, "cards") == order(page) == ["a", "b", "c", "known"]
        assert page.locator("input:visible, button:visible, select:visible").count() == 0
        page.click("tr[data-slug=a] a:text-is('viewer')")
        page.wait_for_url("**/runs/a/viewer.html")


def test_badges_and_what_is_not_shown_and_every_link_leads_to_a_file(page: Page, index: Path) -> None:
    said = page.locator(".card").evaluate_all(
        "cards => cards.map(card => [card.dataset.slug, card.querySelector('.badge')?.textContent ?? null])"
    )
    assert dict(said) == {"a": None, "b": "target missed", "c": "overshoots target", "known": None}
    assert "half Unfinished run: it has trace.jsonl" in page.inner_text("#problems")
    links = page.locator("a[href]").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    page.click("button:text('Table')")
    assert page.locator("#table .badge").all_inner_texts() == ["target missed", "overshoots target"]
    assert len(set(links)) == 1 + 3 * 4  # the problems, and three pages of every run
    assert all((index.parent / link).is_file() for link in links if not link.startswith("#"))


def test_hostile_runs_are_text(browser: Browser, tmp_path: Path) -> None:
    folders = [
        "<img src=x onerror=alert(1)>",
        "\u202egpj.exe",
        "'\"&amp;",
        "{{ 7 * 7 }}",
        "javascript:alert(1)",
        "w" * 200,
    ]
    for seed, (folder, text) in enumerate(zip(folders, HOSTILE, strict=True)):
        circuit = named(made_circuit(20, seed, hostile=True), text, text)
        assert circuit.environment is not None
        environment = circuit.environment.model_copy(update={"created": text})
        save(tmp_path / "runs" / folder, circuit.model_copy(update={"environment": environment}))
        broken = tmp_path / "runs" / f"{folder[:100]} broken"
        broken.mkdir()
        (broken / "circuit.json").write_text(f'{{"format": "{text}')
    made = write_gallery(tmp_path / "runs", tmp_path / "site", title=HOSTILE[0])
    assert (len(made.entries), len(made.problems)) == (6, 6)
    with opened(browser, made.folder / "index.html", viewport=NARROW, color_scheme="dark") as page:
        assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(20, 24, 28)"
        for view in ("cards", "table"):
            page.evaluate(f"location.hash = '#view={view}'")
            page.wait_for_selector(f"#{view}:visible")
            assert page.title() == HOSTILE[0] and page.inner_text("h1") == HOSTILE[0]
            assert len(order(page, view)) == 6
            assert page.locator("img").count() == 0 and page.locator("script").count() == 1
            assert "<img src=x onerror=alert(1)>" in page.inner_text("main")
            assert wide_as_the_window(page)
            page.fill("#filter", "<img src=x")
            assert "img-src-x-onerror-alert-1" in order(page, view)
