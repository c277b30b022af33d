"""The folder of a gallery: whole or not at all, and nobody else's files."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from acdc_engine.errors import GalleryError
from acdc_engine.show.index import _MANIFEST, Gallery, write_gallery
from tests.show.index.runs import bare, save


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One run, in a folder that is the working directory."""
    monkeypatch.chdir(tmp_path)
    return save(tmp_path / "runs" / "x", bare({"input->logits": 1.0})).parent.parent


def write(
    out: str | Path = "site",
    title: str = "one",
    meanwhile: Callable[[], object] = lambda: None,
    *,
    overwrite: bool = False,
) -> Gallery:
    """Writes a gallery, in the middle of which something happens."""
    return write_gallery("runs", out, title=title, progress=lambda done, total: meanwhile(), overwrite=overwrite)


def again(meanwhile: Callable[[], object] = lambda: None) -> tuple[str, ...]:
    """Writes another in its place; returns what is said of the first."""
    return write(title="two", meanwhile=meanwhile, overwrite=True).remarks


def title(folder: Path | str) -> str:
    return (Path(folder) / "index.html").read_text().split("<title>")[1].split("</title>")[0]


def there() -> set[str]:
    return {path.name for path in Path().iterdir()}


def test_a_new_gallery_and_another_in_its_place(runs: Path) -> None:
    Path("site").mkdir()  # an empty folder may be used
    write()
    assert Path("site").stat().st_mode & 0o777 == runs.stat().st_mode & 0o777
    assert again() == () and title("site") == "two" and there() == {"runs", "site"}
    inside = write(runs / "site")
    assert [entry.slug for entry in inside.entries] == ["x"]
    assert write(runs / "site", overwrite=True).remarks == ("site is a gallery itself and was not searched.",)


def test_refusals(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write()
    with pytest.raises(GalleryError, match=r"site holds a gallery\. Choose another --out, or add --overwrite"):
        write()
    Path("site/CNAME").write_text("example.org")
    Path("site/.git").mkdir()
    Path("site/.git/HEAD").touch()
    with pytest.raises(GalleryError, match=r"files that acdc gallery did not write \(\.git/HEAD, CNAME\)"):
        again()
    Path("thesis").mkdir()
    Path("thesis/chapter.tex").touch()
    with pytest.raises(GalleryError, match=r"holds chapter\.tex and was not written by acdc gallery \(it has no gall"):
        write("thesis", overwrite=True)
    with pytest.raises(GalleryError, match=r"chapter\.tex is a file; --out names a folder"):
        write("thesis/chapter.tex", overwrite=True)
    Path("photos").mkdir()
    Path("photos", _MANIFEST).write_text('{"format": "photos", "version": 1, "files": []}')
    with pytest.raises(GalleryError, match="was not written by acdc gallery"):
        write("photos", overwrite=True)
    with pytest.raises(GalleryError, match=r"there is no folder .*nowhere\. Create it first"):
        write("nowhere/site")
    for holds in (runs, "."):
        with pytest.raises(GalleryError, match=r"holds the runs that are shown .*choose another --out"):
            write(holds, overwrite=True)
    assert there() == {"runs", "site", "thesis", "photos"} and title("site") == "one"


def test_a_link_to_a_folder_is_somebody_elses_file(tmp_path: Path) -> None:
    write()
    Path("data").mkdir()
    Path("site/data").symlink_to(tmp_path / "data", target_is_directory=True)
    with pytest.raises(GalleryError, match=r"did not write \(data\)"):
        again()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_after_an_error_everything_is_as_it_was(error: BaseException) -> None:
    def stop() -> None:
        raise error

    with pytest.raises((KeyboardInterrupt, GalleryError)) as raised:
        write(meanwhile=stop)
    assert there() == {"runs"}
    if isinstance(error, OSError):
        assert str(raised.value).endswith("site: No space left on device. Nothing was changed there.")
    write()
    with pytest.raises((KeyboardInterrupt, GalleryError)):
        again(stop)
    assert there() == {"runs", "site"} and title("site") == "one"


def test_interrupted_between_the_two_moves_the_old_one_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    write()
    move, moved = os.replace, []

    def interrupted(source: Path, target: Path) -> None:
        moved.append(target)
        if len(moved) == 2:
            raise KeyboardInterrupt
        move(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        again()
    assert there() == {"runs", "site"} and title("site") == "one"


def kept_old(remarks: tuple[str, ...], tmp_path: Path) -> Path:
    """The old folder, of which the only remark tells; the new gallery is in its place."""
    (kept,) = tmp_path.glob("acdc-gallery-old-*/site")
    why = "it holds files that acdc gallery did not write, or cannot be deleted"
    assert remarks == (f"What {tmp_path / 'site'} held before is now in {kept}, for you to move or delete: {why}.",)
    assert title("site") == "two"
    return kept


@pytest.mark.parametrize("gallery", [True, False])
def test_files_that_came_while_it_was_made_are_kept(tmp_path: Path, gallery: bool) -> None:
    if gallery:
        write()

    def mine() -> None:
        Path("site/.git").mkdir(parents=True)
        Path("site/.git/HEAD").write_text("mine")

    kept = kept_old(again(mine), tmp_path)
    assert (kept / ".git" / "HEAD").read_text() == "mine"
    assert (kept / "runs" / "x" / "viewer.html").exists() is gallery


def test_files_that_come_while_the_old_one_is_deleted_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write()
    unlink = Path.unlink

    def writes_there(path: Path) -> None:
        unlink(path)
        path.with_name("mine.txt").touch()

    monkeypatch.setattr(Path, "unlink", writes_there)
    remarks = again()
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    kept = kept_old(remarks, tmp_path)
    assert sorted(str(path.relative_to(kept)) for path in kept.rglob("*.*")) == ["mine.txt", "runs/x/mine.txt"]


def test_what_took_the_place_of_a_gallery_is_kept(tmp_path: Path) -> None:
    """A link to another gallery: that one stays whole."""
    write("other", "other")
    remarks = again(lambda: Path("site").symlink_to(tmp_path / "other", target_is_directory=True))
    kept_old(remarks, tmp_path)
    assert title("other") == "other"


def test_an_old_gallery_that_cannot_be_deleted_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write()

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    kept_old(again(), tmp_path)
