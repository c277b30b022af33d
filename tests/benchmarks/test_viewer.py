"""The benchmark of the viewer's files: it measures a small one and writes what it says."""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from benchmarks import viewer
from tests.made_circuits import made_circuit


def test_what_is_measured(browser: Browser, tmp_path: Path) -> None:
    row = viewer.measured(browser, tmp_path, "20 edges", made_circuit(20), runs=2, frames=4)
    assert row["bytes"] == (tmp_path / "page.html").stat().st_size
    assert row["report_s"] > 0 and row["report_bytes"] > row["bytes"]  # the viewer is in it
    assert len(row["usable_ms"]) == len(row["processor_ms"]) == 2
    assert 0 < row["frame_ms"]["median"] <= row["frame_ms"]["p95"] <= row["frame_ms"]["most"]
    assert min(*row["processor_ms"], *row["usable_ms"]) > 0
    assert all(row[f"{what}_ms"] > 0 for what in ("filter", "size", "trace", "moving_processor", "hover_processor"))


def test_figures_are_medians_beside_their_targets() -> None:
    slow = {"bytes": 1_500_001, "usable_ms": [900.0, 1_001.0, 1_200.0], "report_s": 10.01}
    measured = [("1,500 KB", False), ("1001 ms", False), ("10.01 s", False)]
    assert [(one.measured, one.met) for one in viewer.figures_of(slow)] == measured
    fast = {"bytes": 1_500_000, "usable_ms": [900.0, 1_000.0, 1_200.0], "report_s": 10.0}
    assert [one.met for one in viewer.figures_of(fast)] == [True, True, True]


def test_a_tiny_run_writes_only_where_it_is_told(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer, "chromium", lambda: nullcontext(browser))
    monkeypatch.setattr(viewer, "RESULTS", tmp_path / "results")
    viewer.main(runs=1, frames=2, tiny=True, out=None)
    assert list(tmp_path.iterdir()) == []
    viewer.main(runs=1, frames=2, tiny=True, out=tmp_path)
    record = json.loads(next(tmp_path.glob("viewer-*.json")).read_text())
    assert record["rows"][0]["circuit"] == "20 edges" and record["machine"]["chromium"]
    assert next(tmp_path.glob("viewer-*.md")).read_text().count("20 edges") == 1
