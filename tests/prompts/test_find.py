"""Finding tasks by name and by path."""

import subprocess
import sys
from pathlib import Path

import jaxtyping
import pytest

from acdc_engine.errors import TaskError
from acdc_engine.prompts.find import find_task, list_tasks


def test_shipped_tasks_are_called_like_their_folders() -> None:
    tasks = list_tasks()
    assert {"ioi", "greater_than"} <= set(tasks)
    for name, path in tasks.items():
        assert find_task(name).name == name == path.parent.name
        assert (path.parent / "README.md").is_file()


def test_a_card_of_ones_own_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(list_tasks()["ioi"].read_text().replace('name = "ioi"', 'name = "mine"'))
    assert find_task(path).name == find_task(str(path)).name == "mine"
    with pytest.raises(TaskError, match=r"other\.toml cannot be read: No such file"):
        find_task(tmp_path / "other.toml")


def test_unknown_names() -> None:
    with pytest.raises(TaskError) as error:
        find_task("ioy")
    assert "There is no task 'ioy'. Did you mean 'ioi'? Known: " in str(error.value)
    assert str(error.value).endswith("A task card of your own is given by its path, ending in .toml.")


def test_listing_tasks_needs_no_torch() -> None:
    code = "import sys; from acdc_engine.prompts.find import find_task; find_task('greater_than'); "
    code += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_something_that_is_no_name() -> None:
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)  # users have no type checks at run time
    try:
        with pytest.raises(TaskError, match="A task is a name or the path of a card, not None"):
            find_task(None)  # type: ignore[arg-type]
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)
