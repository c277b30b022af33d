"""Reports take most of a gallery's time; one test of each kind is about real ones."""

from collections.abc import Iterator

import pytest

from acdc_engine.show import index
from acdc_engine.show.page import render


@pytest.fixture(scope="session")
def short_report() -> str:
    """A page that begins as reports do."""
    return render("html/base.html.j2")


@pytest.fixture(autouse=True, scope="module")
def short_reports(request: pytest.FixtureRequest, short_report: str) -> Iterator[None]:
    """Galleries are made with reports that say nothing, except in modules that set `REAL_REPORTS`."""
    with pytest.MonkeyPatch.context() as patch:
        if not getattr(request.module, "REAL_REPORTS", False):
            patch.setattr(index, "report_html", lambda circuit, **known: short_report)
        yield
