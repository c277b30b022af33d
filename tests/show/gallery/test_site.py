"""A gallery as files: what is in it, what is said of what is not."""

import json
import re
import shutil
from pathlib import Path

import pytest

from acdc_engine.errors import GalleryError
from acdc_engine.show.gallery.site import write_gallery
from tests.made_circuits import HOSTILE
from tests.show.gallery.folders import bare, lean, named, save, some_runs

FILES = ("circuit.json", "report.html", "viewer.html")


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_files(tmp_path: Path) -> None:
    runs = some_runs(tmp_path / "runs")
    told: list[tuple[int, int]] = []
    made = write_gallery(runs, tmp_path / "site", progress=lambda done, total: told.append((done, total)))
    assert made.folder == tmp_path / "site"
    assert [entry.slug for entry in made.entries] == ["a", "b", "c"]
    assert (made.problems, made.remarks) == ((), ())
    pages = {f"runs/{slug}/{name}" for slug in "abc" for name in FILES}
    assert files(made.folder) == pages | {"index.html", "compare.html", "gallery.json"}
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert (made.folder / "runs/a/circuit.json").read_bytes() == (runs / "a/circuit.json").read_bytes()
    assert '<h1 class="strange">Circuits in runs</h1>' in (made.folder / "index.html").read_text()
    # Nothing but its own scripts, nothing from elsewhere.
    for name in ("index.html", "compare.html"):
        page = (made.folder / name).read_text()
        assert re.search(r"default-src 'none'; script-src 'sha256-[^']+';", page)
        assert not re.search(r'(src|href)="(https?:)?//', page)


def test_the_same_runs_make_the_same_files(tmp_path: Path) -> None:
    runs = some_runs(tmp_path / "runs")
    one, two = (write_gallery(runs, tmp_path / name).folder for name in ("one", "two"))
    for name in ("index.html", "compare.html", "gallery.json"):
        assert (one / name).read_text() == (two / name).read_text()


def test_broken_and_unfinished_runs_are_listed_and_do_not_stop_the_rest(tmp_path: Path) -> None:
    runs = some_runs(tmp_path / "runs")
    (runs / "a" / "circuit.json").write_text('{"format": "acdc-engine/circuit", "version": 1, "mod')
    (runs / "half").mkdir()
    (runs / "half" / "trace.jsonl").touch()
    edited = json.loads((runs / "c" / "circuit.json").read_text())
    edited["task"]["name"] = "edited"
    save(runs / "edited", bare({"input->logits": 1.0}))
    (runs / "edited" / "circuit.json").write_text(json.dumps(edited))
    made = write_gallery(runs, tmp_path / "site")
    assert [entry.slug for entry in made.entries] == ["b", "c"]
    reasons = {problem.name: problem.reason for problem in made.problems}
    assert set(reasons) == {"half", "a", "edited"}
    assert reasons["a"].startswith("a/circuit.json is cut short: ")
    assert reasons["edited"].startswith("edited/circuit.json was edited since it was written")
    page = (made.folder / "index.html").read_text()
    assert '<a href="#problems">3 not shown</a>' in page and "Unfinished run: it has trace.jsonl" in page
    assert str(tmp_path) not in page
    assert not (made.folder / "runs" / "a").exists()


def test_reasons_name_the_file_without_its_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the folder's name is a letter, which reasons are full of."""
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "a" / "b", bare({"input->logits": 1.0}))
    (tmp_path / "a" / "c.d.json").write_text('{"format": "acdc-engine/circuit", "version": "a"}')
    for runs in (Path("a"), tmp_path / "a"):
        (problem,) = write_gallery(runs, tmp_path / f"site-{len(str(runs))}").problems
        assert problem.name == "c.d"
        assert problem.reason == "c.d.json: version is 'a'; it must be a whole number, 1 to 1."


def test_nothing_to_show(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    with pytest.raises(GalleryError, match=r"No circuit to show in .*runs: acdc discover writes one as circuit\.json"):
        write_gallery(runs, tmp_path / "site")
    (runs / "x").mkdir()
    (runs / "x" / "circuit.json").write_text("")
    (runs / "notes.json").write_text("1")
    with pytest.raises(
        GalleryError, match=r"(?s)x: x/circuit\.json is cut short.*1 other \.json file: no circuit files"
    ):
        write_gallery(runs, tmp_path / "site")
    assert list(tmp_path.iterdir()) == [runs]


def test_interrupted_it_leaves_nothing(tmp_path: Path) -> None:
    runs = some_runs(tmp_path / "runs")

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_gallery(runs, tmp_path / "site", progress=stop)
    assert list(tmp_path.iterdir()) == [runs]


def test_an_earlier_gallery_is_replaced_when_asked(tmp_path: Path) -> None:
    runs = some_runs(tmp_path / "runs")
    write_gallery(runs, tmp_path / "site")
    shutil.rmtree(runs / "a")
    with pytest.raises(GalleryError, match="holds a gallery"):
        write_gallery(runs, tmp_path / "site")
    write_gallery(runs, tmp_path / "site", overwrite=True, title="Again")
    assert sorted(path.name for path in (tmp_path / "site" / "runs").iterdir()) == ["b", "c"]
    assert "<title>Again</title>" in (tmp_path / "site" / "index.html").read_text()


def test_a_gallery_inside_the_runs_is_not_one_of_them(tmp_path: Path) -> None:
    runs = some_runs(tmp_path / "runs")
    write_gallery(runs, runs / "site")
    made = write_gallery(runs, runs / "site", overwrite=True)
    assert [entry.slug for entry in made.entries] == ["a", "b", "c"]
    assert made.remarks == ("site is a gallery itself and was not searched.",)


def test_hostile_folder_names_stay_inside(tmp_path: Path) -> None:
    names = ("%2e%2e%2fetc", "<img src=x onerror=alert(1)>", "a\nb", "\u202egpj", "-rf", "CON", "x" * 200)
    for name in names:
        save(tmp_path / "runs" / name, named(lean(20), HOSTILE[0]))
    made = write_gallery(tmp_path / "runs", tmp_path / "site")
    slugs = [path.name for path in (made.folder / "runs").iterdir()]
    assert len(slugs) == len(names) and all(re.fullmatch(r"[a-z0-9-]+", slug) for slug in slugs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "site"]
    page = (made.folder / "index.html").read_text()
    assert "<img" not in page and "<script>alert" not in page and "\u202e" not in page


def test_a_name_that_is_not_unicode(tmp_path: Path) -> None:
    try:
        save(tmp_path / "runs" / "caf\udce9", lean(20))
    except OSError:
        pytest.skip("this file system has Unicode names only")
    made = write_gallery(tmp_path / "runs", tmp_path / "site")
    assert made.entries[0].name == "caf\\udce9" and made.entries[0].slug == "caf"
