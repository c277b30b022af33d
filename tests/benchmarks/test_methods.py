"""The benchmark of scoring methods runs on a tiny model and writes a row for each method and rank."""

import json
from pathlib import Path

from typer.testing import CliRunner

from benchmarks import methods


def test_every_method_and_rank_is_a_row(tmp_path: Path) -> None:
    result = CliRunner().invoke(methods.app, ["--tiny", "--n", "6", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    (as_json,), (as_markdown,) = tmp_path.glob("methods-*.json"), tmp_path.glob("methods-*.md")
    rows = [methods.Row(**row) for row in json.loads(as_json.read_text())["rows"]]
    assert [(row.method, row.rank) for row in rows] == [(m, r) for m in methods.METHODS for r in methods.RANKED]
    for rank in methods.RANKED:
        cells = ["-" if row.edges is None else f"{row.edges:,}" for row in rows if row.rank == rank]
        assert f"| random | {rank} | {' | '.join(cells)} |" in as_markdown.read_text()
