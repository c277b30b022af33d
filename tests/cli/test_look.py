"""`acdc show`; what it prints of a circuit is tested in tests/show/test_terminal.py."""

import pytest
from typer.testing import CliRunner

from acdc_engine import cli
from acdc_engine.graph.files import known_graphs

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.out, "width", 200)


def test_the_circuits_that_come_along_are_listed() -> None:
    ran = RUNNER.invoke(cli.app, ["show", "--list"])
    assert ran.exit_code == 0, ran.output
    rows = [line.split() for line in ran.stdout.splitlines()]
    named = {row[0]: row[1] for row in rows if row and row[0] in known_graphs()}
    assert named.keys() == known_graphs().keys()
    assert (named["gpt2/ioi"], named["induction-2l/induction"]) == ("963", "9")
    assert "Wang et al. 2022" in ran.stdout
