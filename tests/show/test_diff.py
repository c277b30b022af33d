"""What is said of two models: the roles of nodes, the edges by what they leave, and whose doubt is whose."""

from typing import Any

import numpy as np
import pytest

from acdc_engine.graph.blocks import GraphShape
from acdc_engine.graph.diff_records import Carried, CarriedEdge, Diff, DiffEffect, DiffEffects, DiffModel, DiffRole
from acdc_engine.graph.records import Environment
from acdc_engine.show.diff import diff_remarks, diff_sections
from acdc_engine.show.pictures.difference import diff_figure
from acdc_engine.show.sections import Section
from tests.show.index.runs import tiny_model

pytest.importorskip("matplotlib")
from matplotlib.patches import Rectangle


def model(name: str, **about: Any) -> DiffModel:
    return DiffModel(model=tiny_model(GraphShape(2, 4, 2), name), metric_clean=2.0, metric_corrupt=-1.0, **about)


def effect(name: str, status: Any, base: float, tuned: float, p: float) -> DiffEffect:
    return DiffEffect(name=name, status=status, base=base, tuned=tuned, difference=tuned - base, p=p)


ROLES = (
    DiffRole(name="input", status="kept", base_direct=0.0, tuned_direct=0.5),
    DiffRole(name="a0.h1", status="lost", base="previous token", tuned="previous token", base_direct=1.0),
    DiffRole(name="m0", status="gained", base_direct=-1.5, tuned_direct=1.0),
    DiffRole(name="a1.h2", status="kept", base="induction", tuned=None, base_direct=2.0, tuned_direct=1.75),
    DiffRole(name="a1.h3", status="gained", tuned="copying", base_direct=0.001, tuned_direct=3.0),
)
EDGES = (
    effect("a0.h1->a1.h2<k>", "lost", 1.0, 0.0, 0.001),
    effect("input->a0.h1<v>", "kept", 1.0, 0.5, 0.01),
    effect("input->m0", "kept", 1.0, 1.5, 0.01),
    effect("m0->a1.h2<q>", "kept", 0.5, -0.75, 0.05),
    effect("a1.h2->logits", "kept", 1.0, 1.5, 0.06),
    effect("a1.h3->logits", "gained", 0.0, 1.0, 0.001),
    effect("m0->logits", "gained", 0.0, 1.0, 0.5),
    effect("a0.h0->logits", None, 0.0, 3.0, 0.001),
)


@pytest.fixture
def found() -> Diff:
    where = {"python": "3.12", "platform": "here", "device": "cpu", "dtype": "float32", "created": "2026-12-01"}
    return Diff(
        task="ioi",
        metric="logit_diff",
        ablation="patch",
        n_discovery=24,
        n_held_out=48,
        seed=3,
        base=model("small", doubt="3 of 48 clean prompts are right."),
        tuned=model("small+lora", reason="none met the target."),
        edges=DiffEffects(n_tested=100, n_changed=3, shown=EDGES),
        roles=ROLES,
        carried=Carried(metric_base=2.0, metric_none=2.0, metric_tuned=1.0, changed_nodes=3, reason="none"),
        remarks=("12 pairs were left out.",),
        seconds=10.0,
        forward_passes=99.0,
        environment=Environment.model_validate(where | {"threads": 1}),
    )


def rows(section: Section) -> list[list[str]]:
    assert section.table is not None
    return [[cell.text for cell in row] for row in section.table.rows]


def titled(found: Diff, title: str, most: int | None = None) -> Section:
    return next(one for one in diff_sections(found, most) if one.title == title)


def test_nodes_of_another_role_come_first_and_then_those_that_write_otherwise(found: Diff) -> None:
    section = titled(found, "What the nodes of the circuits do")
    assert section.texts == ["Nodes: 2 gained, 1 lost, 2 kept. 2 have another role in the tuned model."]
    assert rows(section) == [
        ["a1.h3", "gained", "-", "copying", "0.00", "+3.00"],
        ["a1.h2", "kept", "induction", "-", "+2.00", "+1.75"],
        ["m0", "gained", "-", "-", "-1.50", "+1.00"],
        ["a0.h1", "lost", "previous token", "previous token", "+1.00", ""],
        ["input", "kept", "-", "-", "0.00", "+0.50"],
    ]
    some = titled(found, "What the nodes of the circuits do", 2)
    assert len(rows(some)) == 2 and (some.left, some.rest) == (3, ": diff.json")
    silent = tuple(one.model_copy(update={"base_direct": None, "tuned_direct": None}) for one in ROLES)
    silent_rows = rows(titled(found.model_copy(update={"roles": silent}), "What the nodes of the circuits do"))
    assert [len(row) for row in silent_rows] == [4] * 5, "a task without right answers has no direct effects"


def test_edges_are_counted_by_layer_and_by_role(found: Diff) -> None:
    """Kept, stronger, weaker, of another sign, gained, lost; only effects that differ are stronger or weaker."""
    assert rows(titled(found, "Edges of the circuits, by the layer of the node they leave")) == [
        ["input", "2", "1", "1", "0", "0", "0"],
        ["0", "1", "0", "0", "1", "1", "1"],
        ["1", "1", "0", "0", "0", "1", "0"],
    ]
    by_role = {
        row[0]: row[1:] for row in rows(titled(found, "Edges of the circuits, by the role of the node they leave"))
    }
    assert by_role == {
        "input": ["2", "1", "1", "0", "0", "0"],
        "MLP": ["1", "0", "0", "1", "1", "0"],
        "previous token": ["0", "0", "0", "0", "0", "1"],  # in the base model: the edge is lost
        "head without a role": ["1", "0", "0", "0", "0", "0"],  # in the tuned one
        "copying": ["0", "0", "0", "0", "1", "0"],
    }


def test_the_map_has_nodes_and_edges_where_they_are(found: Diff) -> None:
    nodes = (
        effect("input", "kept", 1.0, 6.0, 0.001),
        effect("a1.h2", "kept", 2.0, 0.5, 0.05),
        effect("m0", "gained", 0.0, 1.0, 0.04),
        effect("a0.h1", "lost", 1.0, 0.0, 0.06),
    )
    carried = found.carried.model_copy(
        update={"edges": (CarriedEdge(name="m0->a1.h2<q>"), CarriedEdge(name="a1.h2->logits")), "reason": None}
    )
    changed = DiffEffects(n_tested=11, n_changed=3, shown=nodes)
    figure = diff_figure(found.model_copy(update={"nodes": changed, "carried": carried}))
    left, right = figure.axes[:2]
    values = np.zeros((3, 5))  # the input, two layers; four heads and the MLP
    values[0, 0], values[2, 2], values[1, 4] = 5.0, -1.5, 1.0
    image = left.images[0]
    assert np.array_equal(np.asarray(image.get_array()), values) and image.get_clim() == (-1.5, 1.5)
    assert {(box.get_x(), box.get_y()) for box in left.patches if isinstance(box, Rectangle)} == {
        (3.5, 0.5),
        (1.5, 1.5),
    }
    bars = {bar.get_label(): [part.get_width() for part in bar] for bar in right.containers}
    assert bars == {
        "kept (1)": [0, 0, 1],
        "stronger (1)": [1, 0, 0],
        "weaker (1)": [1, 0, 0],
        "other sign (1)": [0, 1, 0],
        "gained (2)": [0, 1, 1],
        "lost (1)": [0, 1, 0],
    }
    long = found.base.model_copy(update={"model": found.base.model.model_copy(update={"name": "x" * 40 + "-step-2"})})
    title = diff_figure(found.model_copy(update={"base": long})).get_suptitle()
    assert title == "xxxxxxxxxxxxxx\u2026xxxxxxxx-step-2 and small+lora: ioi"


def test_remarks_say_of_which_model_they_are(found: Diff) -> None:
    assert diff_remarks(found) == [
        "A circuit of the base model would mean little. 3 of 48 clean prompts are right.",
        "The tuned model has no circuit. none met the target.",
        "12 pairs were left out.",
    ]
