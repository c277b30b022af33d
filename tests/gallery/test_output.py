"""The folder of a gallery: whole or not at all, and nobody else's files."""

import os
from pathlib import Path

import pytest

from acdc_engine.errors import GalleryError
from acdc_engine.gallery.output import MANIFEST, check_target, is_gallery, replaced


def write(out: Path, text: str) -> None:
    with replaced(out) as folder:
        (folder / "runs").mkdir()
        (folder / "runs" / "page.html").write_text(text)


def tree(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def test_a_new_gallery_and_another_in_its_place(tmp_path: Path, runs: Path) -> None:
    out = tmp_path / "site"
    assert check_target(out, runs, False) == out.resolve()
    write(out, "one")
    assert tree(tmp_path) == ["runs", "site", f"site/{MANIFEST}", "site/runs", "site/runs/page.html"]
    assert is_gallery(out) and out.stat().st_mode & 0o777 == runs.stat().st_mode & 0o777
    check_target(out, runs, True)
    write(out, "two")
    assert (out / "runs" / "page.html").read_text() == "two"
    assert tree(tmp_path) == ["runs", "site", f"site/{MANIFEST}", "site/runs", "site/runs/page.html"]


def test_an_empty_folder_may_be_used(tmp_path: Path, runs: Path) -> None:
    (tmp_path / "site").mkdir()
    check_target(tmp_path / "site", runs, False)
    write(tmp_path / "site", "one")
    assert is_gallery(tmp_path / "site")


def test_refusals(tmp_path: Path, runs: Path) -> None:
    out = tmp_path / "site"
    write(out, "one")
    with pytest.raises(GalleryError, match=r"site holds a gallery\. Choose another --out, or add --overwrite"):
        check_target(out, runs, False)
    (out / "CNAME").write_text("example.org")
    (out / ".git").mkdir()
    (out / ".git" / "HEAD").touch()
    with pytest.raises(GalleryError, match=r"files that acdc gallery did not write \(\.git/HEAD, CNAME\)"):
        check_target(out, runs, True)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").touch()
    with pytest.raises(GalleryError, match=r"holds chapter\.tex and was not written by acdc gallery \(it has no gall"):
        check_target(tmp_path / "thesis", runs, True)
    with pytest.raises(GalleryError, match=r"chapter\.tex is a file; --out names a folder"):
        check_target(tmp_path / "thesis" / "chapter.tex", runs, True)
    with pytest.raises(GalleryError, match=r"there is no folder .*nowhere\. Create it first"):
        check_target(tmp_path / "nowhere" / "site", runs, False)
    for holds in (runs, tmp_path):
        with pytest.raises(GalleryError, match=r"holds the runs that are shown .*choose another --out"):
            check_target(holds, runs, True)


def test_a_link_to_a_folder_is_somebody_elses_file(tmp_path: Path, runs: Path) -> None:
    out = tmp_path / "site"
    write(out, "one")
    (tmp_path / "data").mkdir()
    (out / "data").symlink_to(tmp_path / "data", target_is_directory=True)
    with pytest.raises(GalleryError, match=r"did not write \(data\)"):
        check_target(out, runs, True)


def test_a_marker_that_is_not_ours_marks_nothing(tmp_path: Path, runs: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / MANIFEST).write_text('{"format": "photos", "version": 1, "files": []}')
    with pytest.raises(GalleryError, match="was not written by acdc gallery"):
        check_target(tmp_path / "photos", runs, True)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GalleryError("no")])
def test_after_an_error_everything_is_as_it_was(tmp_path: Path, error: BaseException) -> None:
    out = tmp_path / "site"
    write(out, "one")
    with pytest.raises(type(error)), replaced(out) as folder:
        (folder / "half.html").touch()
        raise error
    assert tree(tmp_path) == ["site", f"site/{MANIFEST}", "site/runs", "site/runs/page.html"]
    assert (out / "runs" / "page.html").read_text() == "one"


def test_interrupted_between_the_two_moves_the_old_one_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "site"
    write(out, "one")
    move, moved = os.replace, []

    def interrupted(source: Path, target: Path) -> None:
        moved.append(target)
        if len(moved) == 2:
            raise KeyboardInterrupt
        move(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(out, "two")
    assert (out / "runs" / "page.html").read_text() == "one"
    assert tree(tmp_path) == ["site", f"site/{MANIFEST}", "site/runs", "site/runs/page.html"]


def test_a_full_disk_is_told_in_words(tmp_path: Path) -> None:
    told = r"Cannot write .*site: No space left on device\. Nothing was changed"
    with pytest.raises(GalleryError, match=told), replaced(tmp_path / "site"):
        raise OSError(28, "No space left on device")
    assert tree(tmp_path) == []
