"""Checkpoints in tables, as a picture and as a page: every figure is its model's own, and no circuit is no error."""

import re
import warnings
from typing import Any

import numpy as np
import pytest

from acdc_engine.graph.blocks import GraphShape
from acdc_engine.graph.checkpoint_records import Checkpoint, Checkpoints, Shared
from acdc_engine.graph.evidence_records import Interval
from acdc_engine.graph.records import Environment
from acdc_engine.show.checkpoints import checkpoints_remarks, checkpoints_sections, names_of
from acdc_engine.show.diff_page import checkpoints_html
from acdc_engine.show.notebook import html_of
from acdc_engine.show.pictures.checkpoints import checkpoints_figure
from tests.show.conftest import lines_of
from tests.show.index.runs import tiny_model

pytest.importorskip("matplotlib")
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection


def interval(low: float, high: float) -> Interval:
    return Interval(level=0.95, low=low, high=high, method="BCa", resamples=999)


def one(name: str, **about: Any) -> Checkpoint:
    model = tiny_model(GraphShape(2, 4, 2), name).model_copy(update={"weights_hash": f"weights of {name}"})
    return Checkpoint(model=model, **{"metric_clean": 1.25, "metric_corrupt": -0.5, "seconds": 40.0, **about})


def row(*models: Checkpoint, **about: Any) -> Checkpoints:
    where = {"python": "3.12", "platform": "here", "device": "cpu", "dtype": "float32", "created": "2026-12-01"}
    environment = Environment.model_validate(where | {"threads": 1})
    how: dict[str, Any] = {"n_discovery": 24, "n_held_out": 48, "seed": 3, "facts": {}, "environment": environment}
    return Checkpoints(task="ioi", metric="logit_diff", ablation="patch", models=models, **how, **about)


FIRST = one(
    "base",
    accuracy=0.75,
    edges=1056,
    nodes=22,
    faithfulness=1.01,
    faithfulness_interval=interval(0.9, 1.11),
    worst=0.81,
    last=Shared(edges=0.07, nodes=0.16),
    in_last=-2.5,
    in_last_interval=interval(-3.0, -2.25),
)
BLIND = one("base+lora-2", metric_clean=-0.5, accuracy=0.25, reason="The corrupt metric equals the clean one.")
LAST = one(
    "base+lora-4",
    metric_clean=-8.39,
    accuracy=1.0,
    edges=65,
    nodes=24,
    faithfulness=0.89,
    faithfulness_interval=interval(0.83, 0.95),
    worst=0.78,
    before=Shared(edges=0.55, nodes=0.71),
    last=Shared(edges=1.0, nodes=1.0),
    in_last=0.88,
    in_last_interval=interval(0.84, 0.96),
)
FOUND = row(FIRST, BLIND, LAST)
MODELS = [
    ["base", "1.250", "-0.500", "75%", "1,056", "22", "1.01 [0.90, 1.11]", "0.81"],
    ["lora-2", "-0.500", "-0.500", "25%", "-", "-", "-", ""],
    ["lora-4", "-8.390", "-0.500", "100%", "65", "24", "0.89 [0.83, 0.95]", "0.78"],
]
SHARES = [
    ["base", "", "", "0.07", "0.16", "-2.50 [-3.00, -2.25]"],
    ["lora-2", "-", "-", "-", "-", "-"],
    ["lora-4", "0.55", "0.71", "", "", "0.88 [0.84, 0.96]"],
]


def test_tables_and_page_have_every_figure_in_its_place() -> None:
    about, models, shares = checkpoints_sections(FOUND)
    assert (
        about.pairs["Prompts"].startswith("24 to search with, 48 held out, seed 3") and about.pairs["Time"] == "120 s"
    )
    for section, rows in ((models, MODELS), (shares, SHARES)):
        assert section.table is not None
        assert [[cell.text for cell in cells] for cells in section.table.rows] == rows
    assert models.table is not None and shares.table is not None
    headings = [column.name for column in models.table.columns]
    assert headings == ["model", "clean", "corrupt", "right", "edges", "nodes", "faithful [95 %]", "worst"]
    headings = [column.name for column in shares.table.columns]
    assert headings == ["model", "before: edges", "nodes", "last: edges", "nodes", "in the last [95 %]"]
    cells = re.findall(r"<t[dh](?: [^>]*)?>([^<]*)</t[dh]>", checkpoints_html(FOUND))
    assert [cell for cell in cells if cell] == [
        text for part in (models, shares) if part.table
        for line in ([column.name for column in part.table.columns], *([c.text for c in r] for r in part.table.rows))
        for text in line if text
    ]  # fmt: skip


def drawn(axes: Axes) -> dict[str, list[float | None]]:
    lines = {str(line.get_label()): line for line in axes.lines if not str(line.get_label()).startswith("_")}
    return {
        label: [None if np.isnan(value) else float(value) for value in np.asarray(line.get_ydata(), float)]
        for label, line in lines.items()
    }


def test_lines_are_the_figures_with_gaps() -> None:
    figure = checkpoints_figure(FOUND)
    behaviour, sizes, faithful, overlap = figure.axes
    assert drawn(behaviour) == {"clean": [1.25, -0.5, -8.39], "corrupt": [-0.5, -0.5, -0.5]}
    assert drawn(sizes) == {"edges": [1056, None, 65], "heads and MLPs": [22, None, 24]}
    assert drawn(faithful) == {
        "in its own model": [1.01, None, 0.89],
        "its worst template": [0.81, None, 0.78],
        "in the last model": [-1.5, None, 0.88],  # at the end of the picture
    }
    assert drawn(overlap) == {
        "edges, with the one before": [None, None, 0.55],
        "nodes, with the one before": [None, None, 0.71],
        "edges, with the last": [0.07, None, 1.0],
        "nodes, with the last": [0.16, None, 1.0],
    }
    bars = [bar.get_segments()[0].tolist() for bar in faithful.collections if isinstance(bar, LineCollection)]
    assert bars == [[[0, 0.9], [0, 1.11]], [[2, 0.83], [2, 0.95]]]
    assert [text.get_text() for text in overlap.get_xticklabels()] == ["base", "lora-2", "lora-4"]


def test_no_model_has_a_circuit() -> None:
    """Nor any template by itself: there is a picture and a page all the same."""
    none = row(*(one(name, reason="none met the target") for name in ("a", "b")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert drawn(checkpoints_figure(none).axes[2]) == {}
        page = checkpoints_html(none)
        assert "b has no circuit. none met the target" in page and page.count("data:image/svg+xml") == 1
        assert "none met the target" in html_of(none)


def test_remarks_are_of_one_model_each() -> None:
    models = [
        one("run/a+lora", doubt="3 of 48 clean prompts are right."),
        one("run/b+lora", doubt="9 of 48 clean prompts are right."),
        BLIND,
        one("same").model_copy(update={"model": FIRST.model.model_copy(update={"name": "same"})}),
        FIRST,
    ]
    assert checkpoints_remarks(row(*models, remarks=("12 pairs were left out.",))) == [
        "A circuit of 1: lora would mean little. 3 of 48 clean prompts are right.",
        "A circuit of 2: lora would mean little. 9 of 48 clean prompts are right.",
        "lora-2 has no circuit. The corrupt metric equals the clean one.",
        "base has the weights of same.",
        "12 pairs were left out.",
    ]


def test_names_tell_models_apart() -> None:
    long = ["llama-3.2-1b-instruct-step-1000", "llama-3.2-1b-instruct-step-2000"]
    found = [one(name) for name in ("a/final", "hub/b+final", *long, "plus+", "\N{RIGHT-TO-LEFT OVERRIDE}x")]
    names = names_of(found)
    assert names == ["1: final", "2: final", "llama-3.…step-1000", "llama-3.…step-2000", "plus+", "\\u202ex"]
    alike = [one(f"{place}-of-{'x' * 30}-of-the-same-end", **FIRST.model_dump(exclude={"model"})) for place in "ab"]
    assert names_of(alike) == ["a-of-xxx…-same-end", "b-of-xxx…-same-end"]
    alike = [one(f"same-{place}-{'x' * 30}", **LAST.model_dump(exclude={"model"})) for place in "ab"] * 6
    assert names_of(alike)[10] == "11: same-a…xxxxxxx"
    shown = lines_of(checkpoints_sections(row(*alike)))
    assert sum(line.startswith("11: same-a…xxxxxxx ") for line in shown) == 2, "at 80 columns nothing is cut"
    assert "before: edges nodes last: edges nodes in the last [95 %]" in "\n".join(shown)
