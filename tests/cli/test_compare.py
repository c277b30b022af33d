"""`acdc compare`: what it prints and writes, and what it refuses first."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from acdc_engine import cli
from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.result_records import Comparison
from acdc_engine.shipped import graphs_folder

RUNNER = CliRunner()
GREATER_THAN = str(graphs_folder() / "gpt2" / "greater_than.json")


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.out, "width", 100)


def invoke(*arguments: str) -> Any:
    return RUNNER.invoke(cli.app, ["compare", *arguments], catch_exceptions=False)


def test_two_known_circuits(tmp_path: Path) -> None:
    """The two greater-than circuits share their rule and the heads 5.5, 6.9, 7.10, 8.11 and 9.1."""
    ran = invoke(GREATER_THAN, "gpt2/greater_than_hanna", "--picture", str(tmp_path / "c.svg"))
    assert ran.exit_code == 0
    for text in (
        "Jaccard",
        "year attention",
        "Missing: 57 known edges",
        "Extra: 28 found edges",
        "Note: there are no scores",
    ):
        assert text in ran.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.svg"]
    as_json = invoke(GREATER_THAN, "gpt2/greater_than_hanna", "--json")
    compared = Comparison.model_validate_json(as_json.stdout)
    assert {edge.edge.split("->")[0] for edge in compared.missing if edge.edge.endswith("logits")} == {"a5.h1", "a8.h8"}
    assert {edge.edge for edge in compared.extra if edge.edge.endswith("logits")} == {"a6.h1->logits"}
    nodes = next(row for row in compared.overlaps if (row.scope, row.mlps) == ("nodes", False))
    assert (nodes.n, nodes.n_true, nodes.n_found, nodes.n_both) == (144, 10, 9, 8)


def test_the_edit_list_in_full() -> None:
    assert "more: --all" in invoke(GREATER_THAN, "gpt2/ioi").output
    assert "more: --all" not in invoke(GREATER_THAN, "gpt2/ioi", "--all").output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([GREATER_THAN, "attn-only-4l/docstring"], "n_layers 12 and 4; n_heads 12 and 8"),
        ([GREATER_THAN, "gpt2/ioi", "--picture", "c.gif"], "No picture format 'gif'"),
    ],
)
def test_refusals(arguments: list[str], message: str) -> None:
    with pytest.raises(CircuitFileError, match=message):
        invoke(*arguments)


def test_files_are_kept_unless_overwriting(tmp_path: Path) -> None:
    picture = tmp_path / "c.png"
    picture.write_text("mine")
    with pytest.raises(CircuitFileError, match=r"c\.png exists already"):
        invoke(GREATER_THAN, "gpt2/ioi", "--picture", str(picture))
    assert picture.read_text() == "mine"
    assert invoke(GREATER_THAN, "gpt2/ioi", "--picture", str(picture), "--overwrite").exit_code == 0
    assert picture.read_bytes() != b"mine"
