"""The tables and the picture of a comparison: everything shown is in the record."""

import numpy as np
import pytest

from acdc_engine.graph.records import ModelRecord
from acdc_engine.graph.result_records import ClassResult, Comparison, EditEdge, Overlap, Rank, Ranking, Scope
from acdc_engine.show.pictures.charts import comparison_figure
from acdc_engine.show.results import comparison_sections
from tests.show.conftest import lines_of

pytest.importorskip("matplotlib")


def ranking(scope: Scope, mlps: bool, rank: Rank, auc: float) -> Ranking:
    return Ranking(
        scope=scope, mlps=mlps, rank=rank, n_true=2, n_false=4, auc=auc, average_precision=auc / 2,
        true_positives=(0, 1, 1, 2), false_positives=(0, 0, 3, 4),
    )  # fmt: skip


def overlap(scope: Scope, mlps: bool, precision: float | None = 0.25) -> Overlap:
    return Overlap(
        scope=scope, mlps=mlps, n=6, n_true=2, n_found=4, n_both=1, precision=precision, recall=0.5, f1=1 / 3,
        jaccard=0.2,
    )  # fmt: skip


@pytest.fixture
def compared() -> Comparison:
    scopes: tuple[Scope, ...] = ("edges", "nodes")
    ranks: tuple[Rank, ...] = ("absolute", "signed")
    edit = EditEdge(edge="a0.h1->a1.h0<q>", score=-0.5, place=3, sender_role="previous token", receiver_role=None)
    return Comparison(
        found="runs/mine/circuit.json",
        known="tiny/known",
        known_source="a [paper]",
        model=ModelRecord(name="tiny", n_layers=2, n_heads=2, n_kv_heads=2, d_model=8, d_vocab=11),
        scores="runs/mine/scores.safetensors",
        rankings=tuple(
            ranking(scope, mlps, rank, 0.875 if rank == "absolute" else 0.625)
            for scope in scopes
            for mlps in (True, False)
            for rank in ranks
        ),
        overlaps=tuple(overlap(scope, mlps) for scope in scopes for mlps in (True, False)),
        classes=tuple(
            ClassResult(
                role="induction", mlps=mlps, nodes=4, nodes_found=3, edges=10 if mlps else 5, edges_found=4, auc=0.75
            )
            for mlps in (True, False)
        ),
        missing=(edit,),
        extra=tuple(edit.model_copy(update={"edge": f"m{n}->logits", "sender_role": None}) for n in range(12)),
        remarks=("a remark",),
    )


def printed(compared: Comparison, max_edges: int | None = 10, width: int = 80) -> list[str]:
    return lines_of(comparison_sections(compared, max_edges, rest=": --all"), width)


def test_tables(compared: Comparison) -> None:
    lines = printed(compared)
    for line in (
        "Found runs/mine/circuit.json",
        "Source a [paper]",
        "AUC AUC AP AP",
        "known others |score| score |score| score",
        "edges 2 4 0.875 0.625 0.438 0.312",
        "nodes, no MLPs 2 4 0.875 0.625 0.438 0.312",
        "known found both precision recall F1 Jaccard",
        "edges, no MLPs 2 4 1 0.250 0.500 0.333 0.200",
        "induction 3 of 4 4 of 10 0.750 4 of 5 0.750",
        "Missing: 1 known edges that were not found, strongest first",
        "a0.h1 -> a1.h0<q> -0.5000 3 previous token -> a1.h0<q>",
        "Extra: 12 found edges that are not known, strongest first",
        "... and 2 more: --all",
    ):
        assert line in lines
    edits = tuple(edit.model_copy(update={"score": None, "place": None}) for edit in compared.missing)
    assert "a0.h1 -> a1.h0<q> previous token -> a1.h0<q>" in printed(compared.model_copy(update={"missing": edits}))
    assert "All edges found are known." in printed(compared.model_copy(update={"extra": ()}))
    assert any(line.startswith("m11 -> logits") for line in printed(compared, None))


def test_different_tasks_are_said_in_text_and_picture(compared: Comparison) -> None:
    title = "mine/circuit.json against tiny/known (tiny)"
    assert comparison_figure(compared).get_suptitle() == title
    other = compared.model_copy(update={"found_task": "ioi", "known_task": "docstring"})
    assert "Tasks different tasks: ioi and docstring" in printed(other)
    assert comparison_figure(other).get_suptitle() == f"{title}\ndifferent tasks: ioi and docstring"
    assert not any(line.startswith("Tasks") for line in printed(compared))


def test_without_scores_there_are_no_areas(compared: Comparison) -> None:
    classes = tuple(row.model_copy(update={"auc": None}) for row in compared.classes)
    bare = compared.model_copy(
        update={"rankings": (), "scores": None, "classes": classes, "overlaps": (overlap("edges", True, None),)}
    )
    lines = printed(bare)
    assert "Scores none" in lines and not any("chance" in line for line in lines)
    assert "induction 3 of 4 4 of 10 4 of 5" in lines and "edges 2 4 1 - 0.500 0.333 0.200" in lines


def test_curves_points_and_bars(compared: Comparison) -> None:
    figure = comparison_figure(compared)
    roc, precision, _, _, classes = figure.axes
    lines = {str(line.get_label()): line for line in roc.lines}
    absolute = lines["all, |score|: AUC 0.875"]
    assert np.asarray(absolute.get_xdata()).tolist() == [0.0, 0.0, 0.75, 1.0]
    assert np.asarray(absolute.get_ydata()).tolist() == [0.0, 0.5, 0.5, 1.0]
    assert absolute.get_linestyle() != lines["all, score: AUC 0.625"].get_linestyle()
    assert absolute.get_color() != lines["no MLPs, |score|: AUC 0.875"].get_color()
    star = lines["found circuit, all: 4 edges"]
    assert (*np.asarray(star.get_xdata()), *np.asarray(star.get_ydata())) == (0.75, 0.5)
    curve = next(line for line in precision.lines if str(line.get_label()).startswith("all, |score|: AP"))
    assert np.asarray(curve.get_xdata()).tolist() == [0.5, 0.5, 1.0]
    assert np.asarray(curve.get_ydata()).tolist() == [1.0, 0.25, 2 / 6]
    assert [bar.get_width() for bar in classes.patches] == [0.4, 0.8]  # type: ignore[attr-defined]
    assert figure.get_suptitle() == "mine/circuit.json against tiny/known (tiny)"


def test_a_circuit_without_scores_and_classes_is_points_only(compared: Comparison) -> None:
    figure = comparison_figure(compared.model_copy(update={"rankings": (), "classes": ()}))
    assert len(figure.axes) == 4
    assert {str(line.get_label()) for line in figure.axes[2].lines if line.get_marker() != "None"} == {
        "found circuit, all: 4 nodes",
        "found circuit, no MLPs: 4 nodes",
    }
