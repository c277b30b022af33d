"""The page on trust, from runs on a tiny model."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from acdc_engine import discover
from acdc_engine.graph.circuit import Circuit
from benchmarks import trust
from benchmarks.report import Table
from tests.tiny_task import CARD, SECOND, tiny_view

RUN: dict[str, Any] = {"n": 16, "n_held_out": 12, "n_validation": 8, "faithfulness": 0.8, "force": True, "n_random": 0}


@pytest.fixture(scope="module")
def circuit(tmp_path_factory: pytest.TempPathFactory) -> Circuit:
    folder = tmp_path_factory.mktemp("trust")
    (folder / "two.toml").write_text(CARD + SECOND)
    return discover(folder / "two.toml", tiny_view(), **RUN)


def with_templates(circuit: Circuit, *values: float) -> Circuit:
    assert circuit.evaluation is not None
    unseen = circuit.evaluation.held_out
    templates = [
        one.model_copy(update={"faithfulness": value}) for one, value in zip(unseen.templates, values, strict=True)
    ]
    held_out = unseen.model_copy(update={"templates": tuple(templates)})
    return circuit.model_copy(update={"evaluation": circuit.evaluation.model_copy(update={"held_out": held_out})})


def test_a_target_holds_where_every_template_lies_in_it(circuit: Circuit) -> None:
    assert trust.holds(with_templates(circuit, 0.8, 1.2)) and not trust.holds(with_templates(circuit, 1.0, 0.79))
    found = [trust.row_of("default", with_templates(circuit, 1.0, other)) for other in (1.0, 0.5)]
    size = len(circuit.edges)
    assert trust.summary(found, 1) == (
        f"default: held in 1 of 2 runs, {size} edges in the median; no circuit in 1 more."
    )


def test_the_page_has_a_row_for_every_run(circuit: Circuit, tmp_path: Path) -> None:
    row = trust.row_of("default", with_templates(circuit, 1.0, 0.85))
    told = dict(zip(trust.COLUMNS, row, strict=True))
    assert (told["task"], told["edges"], told["holds"]) == ("tiny", str(len(circuit.edges)), "yes")
    assert told["f in each template, held out"] == "0.85, 1.00" and told["discovery prompts"] == "16"
    table = replace(Table("Held-out prompts", trust.COLUMNS, (row,)), note="default: held in 1 of 1 runs.")
    trust.write_page(tmp_path / "trust.md", table, tmp_path / "trust-2026-11-29.md")
    page = (tmp_path / "trust.md").read_text()
    assert "| tiny | 0 | default |" in page and "**default: held in 1 of 1 runs.**" in page


def test_earlier_runs_stand_beside_those_made_now(circuit: Circuit, tmp_path: Path) -> None:
    now = trust.row_of("default", with_templates(circuit, 1.0, 1.0))
    again, other = dict(zip(trust.COLUMNS, now, strict=True)) | {"holds": "no"}, dict.fromkeys(trust.COLUMNS, "x")
    (tmp_path / "earlier.json").write_text(json.dumps({"runs": [again, other]}))
    assert trust.with_earlier([now], tmp_path / "earlier.json") == (now, ("x",) * len(trust.COLUMNS))
    assert trust.with_earlier([now], None) == (now,)


def test_runs_that_are_there_are_shown_without_a_search(circuit: Circuit, tmp_path: Path) -> None:
    for name in ("tiny-0-default", "tiny-2-default", "tiny-1-mean"):
        (tmp_path / name).mkdir()
        circuit.save(tmp_path / name / "circuit.json")
    (tmp_path / "tiny-1-default").mkdir()  # not at its end
    found = list(trust.there(["tiny"], ["mean", "default"], range(3), tmp_path))
    assert [(way, folder.name) for way, folder, _ in found] == [
        ("default", "tiny-0-default"),
        ("mean", "tiny-1-mean"),
        ("default", "tiny-2-default"),
    ]
