"""Before the engine is imported: its jaxtyping shapes are checked at every call, under pytest only."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

install_import_hook("acdc_engine", "beartype.beartype")

import torch  # noqa: E402
from playwright.sync_api import Browser  # noqa: E402

from acdc_engine.errors import ModelError  # noqa: E402
from acdc_engine.models.smollm2 import smollm2_folder  # noqa: E402
from tests.browser import chromium  # noqa: E402

if "OMP_NUM_THREADS" not in os.environ:  # which torch reads by itself
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))
# Times on a shared machine say nothing about correctness.
settings.register_profile("acdc", deadline=None)
settings.load_profile("acdc")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--wheel", type=Path, help="test_wheel.py tests this wheel instead of building one")


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """SmolLM2-135M as a Hugging Face folder. The first test that asks for it may have to convert it."""
    try:
        return smollm2_folder()
    except ModelError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One headless Chromium for all tests, see `tests.browser.opened`."""
    with chromium() as started:
        yield started
