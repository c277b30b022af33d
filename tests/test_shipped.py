from pathlib import Path
from typing import Any

import pytest

from acdc_engine import shipped
from acdc_engine.errors import AcdcError
from tests.task_generators import module_at

CHECKOUT = Path(__file__).parents[1]


def module_copied_to(package: Path) -> Any:
    """The module as it would run from another place."""
    package.mkdir(parents=True)
    copy = package / "shipped.py"
    copy.write_text(Path(shipped.__file__).read_text(encoding="utf-8"), encoding="utf-8")
    return module_at(copy)


def test_in_a_checkout() -> None:
    assert shipped.tasks_folder() == CHECKOUT / "tasks"
    assert shipped.graphs_folder() == CHECKOUT / "graphs"
    assert (shipped.tasks_folder() / "ioi" / "task.toml").is_file()


def test_a_wheel_s_own_folder_comes_first(tmp_path: Path) -> None:
    package = tmp_path / "acdc_engine"
    elsewhere = module_copied_to(package)
    for folder in (package / "_shipped" / "tasks", tmp_path / "tasks"):
        folder.mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    assert elsewhere.tasks_folder() == package / "_shipped" / "tasks"


def test_somebody_else_s_folder_of_that_name_is_not_taken(tmp_path: Path) -> None:
    elsewhere = module_copied_to(tmp_path / "site-packages" / "acdc_engine")
    (tmp_path / "site-packages" / "tasks").mkdir()
    with pytest.raises(AcdcError, match=r"shipped tasks are missing: neither .*_shipped.* pip install -e \."):
        elsewhere.tasks_folder()
