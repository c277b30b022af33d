"""Areas by hand, by counting pairs, and against scipy's Mann-Whitney."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from torch import Tensor

from acdc_engine.errors import MethodError, ScoreError
from acdc_engine.evidence.roc import edge_auc, sweep, without_rounding
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.names import GraphShape

items = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30).filter(
    lambda pairs: len({true for _, true in pairs}) == 2
)
"""Few different scores: many ties."""


def tensors(pairs: list[tuple[int, bool]]) -> tuple[Tensor, Tensor]:
    return torch.tensor([float(s) for s, _ in pairs]), torch.tensor([t for _, t in pairs])


@pytest.mark.parametrize(
    ("scores", "truth", "auc", "precision"),
    [
        ([4, 3, 2, 1], [1, 1, 0, 0], 1.0, 1.0),
        ([4, 3, 2, 1], [0, 0, 1, 1], 0.0, (1 / 3 + 2 / 4) / 2),
        ([4, 3, 2, 1], [1, 0, 1, 0], 0.75, (1 + 2 / 3) / 2),
        ([1, 1, 1, 1], [1, 0, 1, 0], 0.5, 0.5),
        # A tie of one true and one false item: half of that pair. Recall 1/2 at precision 1, the rest at 2/3.
        ([3, 2, 2, 1], [1, 1, 0, 0], 0.875, (1 + 2 / 3) / 2),
    ],
)
def test_by_hand(scores: list[int], truth: list[int], auc: float, precision: float) -> None:
    curve = sweep(torch.tensor(scores).float(), torch.tensor(truth).bool())
    assert curve.auc == pytest.approx(auc) and curve.average_precision == pytest.approx(precision)


def test_the_points_of_a_curve_and_its_corners() -> None:
    curve = sweep(torch.tensor([9.0, 8, 7, 6, 5, 5, 4]), torch.tensor([1, 0, 0, 0, 1, 0, 0]).bool())
    assert curve.true_positives.tolist() == [0, 1, 1, 1, 1, 2, 2]
    assert curve.false_positives.tolist() == [0, 0, 1, 2, 3, 4, 5]
    corners = curve.corners()
    assert corners.true_positives.tolist() == [0, 1, 1, 2, 2]
    assert corners.false_positives.tolist() == [0, 0, 3, 4, 5]
    assert corners.auc == pytest.approx(curve.auc)
    assert corners.average_precision == pytest.approx(curve.average_precision)


@given(pairs=items)
def test_auc_is_the_share_of_pairs_in_order(pairs: list[tuple[int, bool]]) -> None:
    true, false = ([s for s, t in pairs if t is kind] for kind in (True, False))
    won = sum((a > b) + 0.5 * (a == b) for a in true for b in false) / (len(true) * len(false))
    scores, truth = tensors(pairs)
    curve = sweep(scores, truth)
    assert curve.auc == pytest.approx(won)
    assert curve.auc == pytest.approx(mannwhitneyu(true, false).statistic / (len(true) * len(false)))
    assert curve.corners().auc == pytest.approx(won)
    assert curve.corners().average_precision == pytest.approx(curve.average_precision)


@given(pairs=items)
def test_average_precision_over_thresholds(pairs: list[tuple[int, bool]]) -> None:
    """Straight from the definition: at every distinct score, precision there times the recall gained."""
    n_true, total, before = sum(t for _, t in pairs), 0.0, 0.0
    for threshold in sorted({s for s, _ in pairs}, reverse=True):
        above = [t for s, t in pairs if s >= threshold]
        total += (sum(above) / n_true - before) * sum(above) / len(above)
        before = sum(above) / n_true
    assert sweep(*tensors(pairs)).average_precision == pytest.approx(total)


def test_edges_by_absolute_and_signed_score() -> None:
    graph = Graph(GraphShape(1, 1, 1, mlps=False))  # input->q, k, v, logits; a0.h0->logits
    scores = torch.tensor([[-9.0, 1, 2, 3], [7, 7, 7, 4]])
    truth = torch.zeros(2, 4, dtype=torch.bool)
    truth[0, 0] = truth[1, 3] = True
    assert edge_auc(scores, truth, graph.exists) == 1.0
    assert edge_auc(scores, truth, graph.exists, "signed") == 0.5, "-9 is last, 4 is first"
    fewer = graph.exists.clone()
    fewer[0, 0] = False
    assert edge_auc(scores, truth, fewer, "signed") == 1.0, "edges outside `exists` do not count, true or not"


def test_rounding_ties_with_zero() -> None:
    scores = torch.tensor([[-2.0, 3e-6], [1.9e-6, -1e-9]])
    assert torch.equal(without_rounding(scores), torch.tensor([[-2.0, 3e-6], [0.0, 0.0]]))
    assert without_rounding(torch.tensor([1.0, math.nan])).isnan().any(), "refused later, not hidden"


def test_half_precision_scores_rank_alike() -> None:
    graph = Graph(GraphShape(1, 1, 1, mlps=False))
    truth = torch.zeros(2, 4, dtype=torch.bool)
    truth[0, 3] = True
    scores = torch.tensor([[1.0, 1.5, 2, 3], [0, 0, 0, 2.5]], dtype=torch.bfloat16)
    assert edge_auc(scores, truth, graph.exists) == 1.0


def test_what_has_no_curve() -> None:
    with pytest.raises(ScoreError, match="2 of 3 scores are not finite"):
        sweep(torch.tensor([1.0, math.nan, math.inf]), torch.tensor([True, False, True]))
    for truth, count in (([False, False], "0 of 2"), ([True, True], "2 of 2")):
        with pytest.raises(MethodError, match=f"needs both true and false items: {count} are true"):
            sweep(torch.tensor([1.0, 2.0]), torch.tensor(truth))
