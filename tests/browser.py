"""A real Chromium without a network, for pages that are opened from disk."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Dialog, Page, Request, expect, sync_playwright

FLAGS = (
    "--no-sandbox",  # which root has none of
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SLOW = 180_000
"""Milliseconds after which what a page should show or do is given up; a machine with more to do may take some."""
expect.set_options(timeout=SLOW)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium; the test is skipped where there is none."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS), timeout=SLOW)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Browser, path: Path, **settings: Any) -> Iterator[Page]:
    """A page from disk with the network off. Errors, anything on the console and requests are failures.

    Args:
        browser: From `chromium`.
        path: The HTML file.
        **settings: Of the context, such as `viewport={"width": 400, "height": 800}, color_scheme="dark"`.
    """
    context = browser.new_context(offline=True, **settings)
    context.set_default_timeout(SLOW)
    page = context.new_page()
    said: list[str] = []

    def asked(request: Request) -> None:
        if request.url.startswith("http"):
            said.append(f"request: {request.url}")

    def shown(dialog: Dialog) -> None:
        said.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("request", asked)
    page.on("dialog", shown)
    page.goto(path.resolve().as_uri())
    try:
        yield page
        assert said == [], "\n".join(said)
    finally:
        context.close()
