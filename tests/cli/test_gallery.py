"""`acdc gallery`: what it prints, writes and refuses."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from acdc_engine import cli
from acdc_engine.errors import GalleryError
from acdc_engine.gallery import site
from acdc_engine.gallery.output import is_gallery
from acdc_engine.html.page import render
from tests.gallery.folders import some_runs

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.out, "width", 200)


@pytest.fixture(autouse=True)
def short_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports take most of a gallery's time."""
    monkeypatch.setattr(site, "report_html", lambda circuit: render("html/base.html.j2"))


def invoke(*arguments: object) -> Any:
    return RUNNER.invoke(cli.app, ["gallery", *map(str, arguments)], catch_exceptions=False)


def test_a_site_of_three_runs(tmp_path: Path) -> None:
    ran = invoke(some_runs(tmp_path / "runs"), "--out", tmp_path / "site", "--title", "Mine")
    assert ran.exit_code == 0
    assert f"Written to {tmp_path / 'site' / 'index.html'}: 3 circuits." in ran.output
    assert "Not shown" not in ran.output
    assert is_gallery(tmp_path / "site") and "<title>Mine</title>" in (tmp_path / "site" / "index.html").read_text()


def test_the_default_folder_is_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    some_runs(tmp_path / "runs")
    assert "Written to site/index.html: 3 circuits." in invoke("runs").output
    with pytest.raises(GalleryError, match="site holds a gallery"):
        invoke("runs")
    assert invoke("runs", "--overwrite").exit_code == 0


def test_what_is_not_shown_is_said(tmp_path: Path) -> None:
    runs = some_runs(tmp_path / "runs")
    (runs / "a" / "circuit.json").write_text("{}")
    (runs / "\x1b[31mred").mkdir()
    (runs / "\x1b[31mred" / "trace.jsonl").touch()
    (runs / "other.json").write_text("{}")
    ran = invoke(runs, "--out", tmp_path / "site")
    assert ran.exit_code == 0
    assert "Not shown: a: a/circuit.json is not a circuit file" in ran.output
    assert "Not shown: \\x1b[31mred: Unfinished run: it has trace.jsonl and no circuit.json." in ran.output
    assert "Note: 1 other .json file: no circuit files, left alone." in ran.output
    assert "2 circuits." in ran.output


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("mine")
    with pytest.raises(GalleryError, match="was not written by acdc gallery"):
        invoke(some_runs(tmp_path / "runs"), "--out", tmp_path / "thesis", "--overwrite")
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "mine"
