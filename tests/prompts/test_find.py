"""Finding tasks by name and by path."""

import subprocess
import sys
from pathlib import Path

import jaxtyping
import pytest

from acdc_engine.errors import TaskError
from acdc_engine.prompts.find import find_task, list_tasks
from tests.tiny_task import CARD


def write(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(CARD.replace('name = "tiny"', 'name = "mine"'))
    return path


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


def test_unknown_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TaskError) as error:
        find_task("ioy")
    assert "There is no task 'ioy'. Did you mean 'ioi'? Known: " in str(error.value)
    assert str(error.value).endswith(
        "A task of your own is given by its path: a task card ending in .toml, or prompt pairs ending in .jsonl, "
        ".json, .csv or .tsv."
    )
    with pytest.raises(TaskError, match="There is no task ''"):
        find_task("")


@pytest.mark.parametrize("place", ["{folder}", "{folder}/", "mine", "../{name}/mine", "./mine"])
def test_a_folder_with_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "mine"
    write(folder / "task.toml")
    path = place.format(folder=folder, name=tmp_path.name)
    if place == "mine":  # a name, so that what a name means does not depend on where one is
        with pytest.raises(TaskError, match=r"There is no task 'mine'\. Did you mean \./mine\?"):
            find_task(path)
    else:
        assert find_task(path).name == "mine"


def test_a_folder_without_a_card(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"The folder .* holds no task\.toml\. Give the path of a file: a task card"):
        find_task(tmp_path)
    write(tmp_path / "b.toml")
    (tmp_path / "a.csv").touch()
    with pytest.raises(TaskError, match=r"holds no task\.toml\. Give one of its files: a\.csv, b\.toml\.$"):
        find_task(tmp_path)


def test_paths_of_no_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mine.toml")
    Path("notes.txt").touch()
    with pytest.raises(TaskError, match=r"There is no task 'mine'\. Did you mean mine\.toml\? Known: "):
        find_task("mine")
    with pytest.raises(TaskError, match=r"There is no file mine\. Did you mean mine\.toml\? A task is a task card"):
        find_task("./mine")
    with pytest.raises(
        TaskError, match=r"notes\.txt cannot be read as a task by its ending '\.txt': give a task card end"
    ):
        find_task("notes.txt")
    with pytest.raises(TaskError, match=r"There is no file other\.txt\. A task is .*, or a name \(see acdc tasks\)\."):
        find_task(Path("other.txt"))


def test_endings_in_capitals(tmp_path: Path) -> None:
    assert find_task(write(tmp_path / "MINE.TOML")).name == "mine"


def test_a_task_does_not_hide_a_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "ioi" / "task.toml")
    assert find_task("ioi").source.startswith("Wang")
    assert find_task("./ioi").name == find_task("ioi/").name == "mine"


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
