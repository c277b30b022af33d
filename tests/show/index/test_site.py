"""A gallery as files: which circuits a folder of runs holds, what is written of them, what is said of the rest."""

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acdc_engine.errors import GalleryError
from acdc_engine.show.index import _MANIFEST, Gallery, _slugs, write_gallery
from tests.made_circuits import HOSTILE
from tests.show.index.runs import bare, lean, save, some_runs

FILES = ("circuit.json", "report.html", "viewer.html")
CIRCUIT = bare({"input->logits": 1.0})


def gallery(tmp_path: Path) -> Gallery:
    """A gallery of the folder `runs`."""
    return write_gallery(tmp_path / "runs", tmp_path / "site", overwrite=True)


def names(made: Gallery) -> list[str]:
    return [entry.name for entry in made.entries]


def test_files(tmp_path: Path) -> None:
    runs = some_runs(tmp_path / "runs")
    told: list[tuple[int, int]] = []
    made = write_gallery(runs, tmp_path / "site", progress=lambda done, total: told.append((done, total)))
    assert made.folder == tmp_path / "site"
    assert [entry.slug for entry in made.entries] == ["a", "b", "c"]
    assert (made.problems, made.remarks) == ((), ())
    files = {path.relative_to(made.folder).as_posix() for path in made.folder.rglob("*") if path.is_file()}
    pages = {f"runs/{slug}/{name}" for slug in "abc" for name in FILES}
    assert files == pages | {"index.html", "compare.html", _MANIFEST}
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert (made.folder / "runs/a/circuit.json").read_bytes() == (runs / "a/circuit.json").read_bytes()
    assert '<h1 class="strange">Circuits in runs</h1>' in (made.folder / "index.html").read_text()
    again = write_gallery(runs, tmp_path / "again").folder
    for name in ("index.html", "compare.html", _MANIFEST):
        page = (made.folder / name).read_text()
        assert (again / name).read_text() == page, "the same runs make the same files"
        # Nothing but its own scripts, nothing from elsewhere.
        assert name == _MANIFEST or re.search(r"default-src 'none'; script-src 'sha256-[^']+';", page)
        assert not re.search(r'(src|href)="(https?:)?//', page)


def test_broken_runs_are_listed_and_do_not_stop_the_rest(tmp_path: Path) -> None:
    runs = some_runs(tmp_path / "runs")
    (runs / "a" / "circuit.json").write_text('{"format": "acdc-engine/circuit", "version": 1, "mod')
    edited = json.loads((runs / "c" / "circuit.json").read_text())
    edited["task"]["name"] = "edited"
    save(runs / "edited", CIRCUIT).write_text(json.dumps(edited))
    made = gallery(tmp_path)
    assert [entry.slug for entry in made.entries] == ["b", "c"]
    reasons = dict(made.problems)
    assert set(reasons) == {"a", "edited"}
    assert reasons["a"].startswith("a/circuit.json is cut short: ")
    assert reasons["edited"].startswith("edited/circuit.json was edited since it was written")
    page = (made.folder / "index.html").read_text()
    assert '<a href="#problems">2 not shown</a>' in page and "was edited since it was written" in page
    assert str(tmp_path) not in page
    assert not (made.folder / "runs" / "a").exists()


def test_links_and_pipes_are_told_of_and_not_waited_for(tmp_path: Path) -> None:
    runs = save(tmp_path / "runs" / "x", CIRCUIT).parent.parent
    for run in ("gone", "pipe"):
        (runs / run).mkdir()
    (runs / "gone" / "circuit.json").symlink_to(tmp_path / "nowhere.json")
    os.mkfifo(runs / "pipe" / "circuit.json")
    made, why = gallery(tmp_path), "Its circuit.json is not a file: a link that leads nowhere, a pipe or a device."
    assert (names(made), made.problems) == (["x"], (("gone", why), ("pipe", why)))


def test_of_a_run_that_goes_on_the_best_circuit_so_far_is_shown(tmp_path: Path) -> None:
    for name in ("done", "going"):
        path = save(tmp_path / "runs" / name, lean(20))
    path.rename(path.with_name("circuit-so-far.json"))
    save(tmp_path / "runs" / "done" / "sub", CIRCUIT).rename(tmp_path / "runs" / "done" / "circuit-so-far.json")
    (tmp_path / "runs" / "begun").mkdir()
    (tmp_path / "runs" / "begun" / "trace.jsonl").touch()
    made = gallery(tmp_path)
    assert [(entry.name, [text for text, _ in entry.badges]) for entry in made.entries] == [
        ("done", []),
        ("going", ["unfinished"]),
    ]
    why = "Unfinished run: it has trace.jsonl and no circuit.json. Its command goes on with it."
    assert made.problems == (("begun", why),)
    assert (made.folder / "runs/going/circuit.json").is_file()


def test_nothing_to_show(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    with pytest.raises(GalleryError, match=r"No circuit to show in .*runs: acdc discover writes one as circuit\.json"):
        gallery(tmp_path)
    (runs / "x").mkdir()
    (runs / "x" / "circuit.json").write_text("")
    (runs / "notes.json").write_text("1")
    with pytest.raises(GalleryError, match=r"(?s)x: x/circuit\.json is cut short"):
        gallery(tmp_path)
    assert list(tmp_path.iterdir()) == [runs]
    with pytest.raises(GalleryError, match="nowhere does not exist: give the folder that holds the run folders"):
        write_gallery(tmp_path / "nowhere", tmp_path / "site")
    with pytest.raises(GalleryError, match=r"notes\.json is a file: give the folder"):
        write_gallery(runs / "notes.json", tmp_path / "site")


def test_runs_up_to_three_folders_down(tmp_path: Path) -> None:
    for place in ("one", "x/two", "x/y/three", "x/y/z/four", ".cache/hidden"):
        save(tmp_path / "runs" / place, CIRCUIT)
    made = gallery(tmp_path)
    assert names(write_gallery(tmp_path / "runs" / "one", tmp_path / "other")) == ["one"]
    (tmp_path / "runs" / "one" / "loop").symlink_to(tmp_path / "runs", target_is_directory=True)
    assert names(gallery(tmp_path)) == names(made) == ["one", "x/two", "x/y/three"]


def test_circuit_files_of_any_name_and_other_json(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    CIRCUIT.save(runs / "known.json")
    whole = (runs / "known.json").read_text()
    (runs / "cut.json").write_text(whole[: len(whole) // 2])
    (runs / "list.json").write_text('["acdc-engine/circuit"]')
    made = gallery(tmp_path)
    # The one that is cut short says what it is: reading it tells what is wrong.
    assert names(made) == ["known"] and [name for name, _ in made.problems] == ["cut"]


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("smollm2/IOI seed 3", "smollm2-ioi-seed-3"),
        ("../../etc/passwd", "etc-passwd"),
        ("Größe_é", "groe-e"),
        ("...", "run"),
        ("שלום", "run"),
        ("x" * 200, "x" * 60),
    ],
)
def test_slugs(name: str, slug: str) -> None:
    assert _slugs([name]) == [slug]


@given(st.lists(st.text() | st.sampled_from([*HOSTILE, "a b", "A-B", "a-b-2"]), max_size=8))
def test_whatever_the_names_slugs_are_safe_and_unique(given: list[str]) -> None:
    made = _slugs(given)
    assert len(set(made)) == len(given)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug) and len(slug) <= 64 for slug in made)
