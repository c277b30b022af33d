"""What tests of commands share: a tiny model in the place of whatever model is asked for, and a wide terminal."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from acdc_engine import cli
from acdc_engine.errors import AcdcError
from tests.fake_tokenizer import FakeTokenizer
from tests.tiny_task import tiny_view, write_card

CHECKOUT = Path(__file__).parents[2]


def acdc(*arguments: object) -> Result:
    """A command in this process; errors made on purpose are in the result, all others are raised."""
    ran = CliRunner().invoke(cli.app, list(map(str, arguments)))
    if ran.exception is not None and not isinstance(ran.exception, SystemExit | AcdcError):
        raise ran.exception
    return ran


def in_a_process(*arguments: object, site: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    """A command to whom a folder is one more site-packages; the last line on stderr is whether torch was imported."""
    code = "import sys, acdc_engine.cli as c\ntry: c.main()\nfinally: print('torch' in sys.modules, file=sys.stderr)"
    paths = os.pathsep.join(str(path) for path in (CHECKOUT, site) if path is not None)
    env = {**os.environ, "COLUMNS": "300", "NO_COLOR": "1", "PYTHONPATH": paths, **more}
    line = [sys.executable, "-c", code, *map(str, arguments)]
    ran = subprocess.run(line, cwd=CHECKOUT if site is None else site.parent, capture_output=True, text=True, env=env)
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran


def words(*arguments: object) -> str:
    """What a command that ends well prints, in one line."""
    ran = acdc(*arguments)
    assert ran.exit_code == 0, ran.exception or ran.output
    return flat(ran.output)


def flat(text: str) -> str:
    return " ".join(text.split())


def refused(*arguments: object) -> str:
    """The message of an error made on purpose."""
    ran = acdc(*arguments)
    assert isinstance(ran.exception, AcdcError), ran.output
    return str(ran.exception)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    for console in (cli.out, cli.err):
        monkeypatch.setattr(console, "width", 300)


def use_tiny(monkeypatch: pytest.MonkeyPatch, tokenizer: Any, view: Any) -> None:
    """Has every command load this model."""
    for place in ("prepare", "reopen", "check_task"):
        monkeypatch.setattr(f"acdc_engine.run.{place}.load_model", lambda *a, **k: view())
    for place in ("check_task", "prepare"):
        monkeypatch.setattr(f"acdc_engine.run.{place}.load_tokenizer", lambda *a, **k: tokenizer)
    monkeypatch.setattr("acdc_engine.show.report.report_html", lambda circuit, **_: "a report")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The path of a card, in a folder of its own, for a tiny model."""
    use_tiny(monkeypatch, FakeTokenizer(), tiny_view)
    monkeypatch.chdir(tmp_path)
    return str(write_card(tmp_path))
