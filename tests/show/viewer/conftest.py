"""The page of a module's circuit, opened once."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.show.viewer.pages import reset, shown


@pytest.fixture(scope="module")
def opened_page(
    request: pytest.FixtureRequest, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Page]:
    """That of the module's `CIRCUIT`."""
    with shown(browser, tmp_path_factory.mktemp("view") / "view.html", request.module.CIRCUIT) as page:
        yield page


@pytest.fixture
def page(opened_page: Page) -> Iterator[Page]:
    """The same, as it was when it was opened."""
    reset(opened_page)
    yield opened_page
    opened_page.set_viewport_size({"width": 1280, "height": 720})
    opened_page.emulate_media(media="screen", color_scheme="light")
