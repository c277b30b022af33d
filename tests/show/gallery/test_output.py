"""The folder of a gallery: whole or not at all, and nobody else's files."""

import os
from pathlib import Path

import pytest

from acdc_engine.errors import GalleryError
from acdc_engine.show.gallery.output import MANIFEST, check_target, is_gallery, replaced


def write(out: Path, text: str) -> list[str]:
    """Writes a gallery of one page; returns what is said of the one before."""
    remarks: list[str] = []
    with replaced(out, remarks) as folder:
        (folder / "runs").mkdir()
        (folder / "runs" / "page.html").write_text(text)
    return remarks


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
    assert write(out, "two") == []
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
    with pytest.raises(type(error)), replaced(out, []) as folder:
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


@pytest.mark.parametrize("gallery", [True, False])
def test_files_that_came_while_it_was_made_are_kept(tmp_path: Path, gallery: bool) -> None:
    out = tmp_path / "site"
    if gallery:
        write(out, "one")
    remarks: list[str] = []
    with replaced(out, remarks) as folder:
        (folder / "two.html").write_text("two")
        (out / ".git").mkdir(parents=True)
        (out / ".git" / "HEAD").write_text("mine")
    assert tree(out) == [MANIFEST, "two.html"]
    (kept,) = tmp_path.glob("acdc-gallery-old-*/site")
    why = "meanwhile it got files that acdc gallery did not write (.git/HEAD)"
    assert remarks == [f"What {out} held before is now in {kept}, for you to move or delete: {why}."]
    assert (kept / ".git" / "HEAD").read_text() == "mine"
    assert (kept / "runs" / "page.html").exists() is gallery


def test_files_that_come_while_the_old_one_is_deleted_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "site"
    write(out, "one")
    unlink = Path.unlink

    def writes_there(path: Path) -> None:
        unlink(path)
        path.with_name("mine.txt").touch()

    monkeypatch.setattr(Path, "unlink", writes_there)
    (remark,) = write(out, "two")
    (kept,) = tmp_path.glob("acdc-gallery-old-*/site")
    assert tree(kept) == ["mine.txt", "runs", "runs/mine.txt"]
    assert remark.endswith("meanwhile it got files that acdc gallery did not write (mine.txt, runs/mine.txt).")


def test_what_took_the_place_of_a_gallery_is_kept(tmp_path: Path) -> None:
    """A link to another gallery: that one stays whole."""
    out, other = tmp_path / "site", tmp_path / "other"
    write(other, "other")
    remarks: list[str] = []
    with replaced(out, remarks) as folder:
        (folder / "two.html").write_text("two")
        out.symlink_to(other, target_is_directory=True)
    assert tree(out) == [MANIFEST, "two.html"] and (other / "runs" / "page.html").read_text() == "other"
    assert remarks[0].endswith("for you to move or delete: meanwhile it was no gallery any more.")


def test_an_old_gallery_that_cannot_be_deleted_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "site"
    write(out, "one")

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    (remark,) = write(out, "two")
    assert remark.endswith("for you to move or delete: it cannot be deleted (Permission denied).")
    assert (out / "runs" / "page.html").read_text() == "two"


def test_a_full_disk_is_told_in_words(tmp_path: Path) -> None:
    told = r"Cannot write .*site: No space left on device\. Nothing was changed"
    with pytest.raises(GalleryError, match=told), replaced(tmp_path / "site", []):
        raise OSError(28, "No space left on device")
    assert tree(tmp_path) == []
