"""Which circuits there are in a folder: none is skipped without a word."""

import os
from pathlib import Path

import pytest

from acdc_engine.errors import GalleryError
from acdc_engine.show.gallery.find import Problem, find_runs
from acdc_engine.show.gallery.output import MANIFEST, Manifest
from tests.show.gallery.folders import bare, save

CIRCUIT = bare({"input->logits": 1.0})


def names(folder: Path) -> list[str]:
    return [found.name for found in find_runs(folder).found]


def test_runs_up_to_three_folders_down(tmp_path: Path) -> None:
    for place in ("one", "x/two", "x/y/three", "x/y/z/four"):
        save(tmp_path / place, CIRCUIT)
    search = find_runs(tmp_path)
    assert [found.name for found in search.found] == ["one", "x/two", "x/y/three"]
    assert search.problems == []
    assert search.remarks == ["1 folder more than 3 levels down: not searched. Give one further down."]


def test_a_run_folder_itself(tmp_path: Path) -> None:
    save(tmp_path / "ioi", CIRCUIT)
    (found,) = find_runs(tmp_path / "ioi").found
    assert (found.name, found.path) == ("ioi", tmp_path / "ioi" / "circuit.json")


def test_circuit_files_of_any_name_and_other_json(tmp_path: Path) -> None:
    CIRCUIT.save(tmp_path / "known.json")
    whole = (tmp_path / "known.json").read_text()
    (tmp_path / "cut.json").write_text(whole[: len(whole) // 2])
    (tmp_path / "package.json").write_text('{"format": "something else"}')
    (tmp_path / "list.json").write_text('["acdc-engine/circuit"]')
    search = find_runs(tmp_path)
    # The one that is cut short says what it is: reading it tells what is wrong.
    assert [found.name for found in search.found] == ["cut", "known"]
    assert search.remarks == ["2 other .json files: no circuit files, left alone (list.json, package.json)."]
    for number in range(4):
        (tmp_path / f"a{number}.json").write_text("{}")
    named = "a0.json, a1.json, a2.json, a3.json, list.json, ..."
    assert find_runs(tmp_path).remarks == [f"6 other .json files: no circuit files, left alone ({named})."]


@pytest.mark.parametrize("left", ["circuit-so-far.json", "trace.jsonl", "scores.safetensors"])
def test_unfinished_runs_are_problems(tmp_path: Path, left: str) -> None:
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / left).write_text('{"format": "acdc-engine/circuit"}')
    search = find_runs(tmp_path)
    why = f"Unfinished run: it has {left} and no circuit.json. Run its command again to go on."
    assert (search.found, search.problems) == ([], [Problem("half", why)])


def test_hidden_folders_are_counted(tmp_path: Path) -> None:
    save(tmp_path / ".cache", CIRCUIT)
    assert names(tmp_path) == []
    assert find_runs(tmp_path).remarks == ["1 hidden folder: not searched."]


def test_links_to_nowhere_and_pipes_are_told_of_and_not_waited_for(tmp_path: Path) -> None:
    for run in ("gone", "pipe", "site"):
        (tmp_path / run).mkdir()
    (tmp_path / "gone" / "circuit.json").symlink_to(tmp_path / "nowhere.json")
    os.mkfifo(tmp_path / "pipe" / "circuit.json")
    os.mkfifo(tmp_path / "pipe" / "circuit-so-far.json")
    os.mkfifo(tmp_path / "pipe" / "other.json")
    os.mkfifo(tmp_path / "site" / MANIFEST)
    search = find_runs(tmp_path)
    why = "Its circuit.json is not a file: a link that leads nowhere, a pipe or a device."
    assert (search.found, search.problems) == ([], [Problem("gone", why), Problem("pipe", why)])
    assert search.remarks == ["2 other .json files: no circuit files, left alone (pipe/other.json, site/gallery.json)."]


def test_a_link_that_may_not_be_followed_does_not_hide_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "run", CIRCUIT)
    (tmp_path / "link.json").symlink_to(tmp_path / "secret")
    look = os.stat

    def refuse(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if Path(path).name == "link.json":
            raise PermissionError(13, "Permission denied")
        return look(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(os, "stat", refuse)
    assert names(tmp_path) == ["run"]


def test_links_in_circles_end(tmp_path: Path) -> None:
    save(tmp_path / "run", CIRCUIT)
    (tmp_path / "run" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "same").symlink_to(tmp_path / "run", target_is_directory=True)
    assert names(tmp_path) == ["run"]


def test_galleries_are_not_searched(tmp_path: Path) -> None:
    save(tmp_path / "site" / "runs" / "x", CIRCUIT)
    assert names(tmp_path) == ["site/runs/x"]
    (tmp_path / "site" / MANIFEST).write_text(Manifest(files=()).model_dump_json())
    search = find_runs(tmp_path)
    assert search.found == [] and search.remarks == ["site is a gallery itself and was not searched."]


def test_folders_and_files_that_cannot_be_read_are_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "run", CIRCUIT)
    (tmp_path / "locked").mkdir()
    list_folder = Path.iterdir

    def refuse(path: Path) -> object:
        if path.name == "locked":
            raise PermissionError(13, "Permission denied")
        return list_folder(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    search = find_runs(tmp_path)
    assert [found.name for found in search.found] == ["run"]
    assert search.problems == [Problem("locked", "The folder cannot be read: Permission denied.")]


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="nowhere does not exist: give the folder that holds the run folders"):
        find_runs(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(GalleryError, match="file is a file: give the folder"):
        find_runs(tmp_path / "file")
