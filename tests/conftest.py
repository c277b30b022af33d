"""Before the engine is imported: its jaxtyping shapes are checked at every call, under pytest only."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from tests.type_checks import install_checks

install_checks("acdc_engine")

import jaxtyping  # noqa: E402
import torch  # noqa: E402
from playwright.sync_api import Browser  # noqa: E402

from acdc_engine.errors import ModelError  # noqa: E402
from acdc_engine.model.find import smollm2_folder  # noqa: E402
from tests.browser import chromium  # noqa: E402

if "OMP_NUM_THREADS" not in os.environ:  # which torch reads by itself
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))
# Whether a test fails depends on the code alone: not on chance, nor on times, which on a shared machine say nothing.
# pytest --hypothesis-profile=explore looks for what the same few examples of each test cannot show.
_FOUND = DirectoryBasedExampleDatabase(".hypothesis/examples")  # tried first the next time
settings.register_profile("acdc", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "explore", settings.get_profile("acdc"), derandomize=False, max_examples=2000, database=_FOUND
)
settings.load_profile("acdc")

LONG = ("test_real_models.py", "test_resume.py", "test_search_runs.py", "test_shipped_tasks.py")
"""Files that begin first, so that no process works on one of them when the other has nothing left to do."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--wheel", type=Path, help="test_wheel.py tests this wheel instead of building one")


def pytest_configure(config: pytest.Config) -> None:
    """Commands that tests run take this process's number of threads; one that only starts others has none to say."""
    if not getattr(config.option, "numprocesses", None):
        os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the tests of the longest files first; all others keep their order."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


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


@pytest.fixture
def unchecked() -> Iterator[None]:
    """As a user runs it: without the checks of annotations that pytest adds, which would come first."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
