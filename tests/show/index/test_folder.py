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
    with pytest.raises(GalleryError, match=r"holds files that acdc gallery did not write \(chapter\.tex\)"):
        write("thesis", overwrite=True)
    with pytest.raises(GalleryError, match=r"chapter\.tex is a file; --out names a folder"):
        write("thesis/chapter.tex", overwrite=True)
    Path("photos").mkdir()
    Path("photos", _MANIFEST).write_text('{"format": "photos", "version": 1, "files": []}')
    with pytest.raises(GalleryError, match="did not write"):
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
    move, moved = os.replace, list[Path]()

    def interrupted(source: Path, target: Path) -> None:
        moved.append(target)
        if len(moved) == 2:
            raise KeyboardInterrupt
        move(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        again()
    assert there() == {"runs", "site"} and title("site") == "one"


def test_files_that_came_while_it_was_made_are_kept() -> None:
    write()
    with pytest.raises(GalleryError, match=r"files that acdc gallery did not write \(mine\)"):
        again(lambda: Path("site/mine").touch())
    assert Path("site/mine").exists() and title("site") == "one" and there() == {"runs", "site"}
