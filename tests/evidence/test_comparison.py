"""Areas by hand, by counting pairs; overlap, curves, classes and edits by hand."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from acdc_engine.errors import ScoreError
from acdc_engine.evidence import comparison
from acdc_engine.evidence.comparison import _sweep, without_rounding
from acdc_engine.graph.blocks import Graph, GraphShape
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.nodes import nodes_of_edges
from acdc_engine.graph.records import CircuitEdge, ModelRecord
from acdc_engine.graph.result_records import Overlap

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
    curve = _sweep(torch.tensor(scores).float(), torch.tensor(truth).bool())
    assert curve.auc == pytest.approx(auc) and curve.average_precision == pytest.approx(precision)


def test_the_points_of_a_curve_and_its_corners() -> None:
    curve = _sweep(torch.tensor([9.0, 8, 7, 6, 5, 5, 4]), torch.tensor([1, 0, 0, 0, 1, 0, 0]).bool())
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
    curve = _sweep(scores, truth)
    assert curve.auc == pytest.approx(won)
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
    assert _sweep(*tensors(pairs)).average_precision == pytest.approx(total)


def test_rounding_ties_with_zero() -> None:
    scores = torch.tensor([[-2.0, 3e-6], [1.9e-6, -1e-9]])
    assert torch.equal(without_rounding(scores), torch.tensor([[-2.0, 3e-6], [0.0, 0.0]]))
    assert without_rounding(torch.tensor([1.0, math.nan])).isnan().any(), "refused later, not hidden"


def test_what_has_no_curve() -> None:
    with pytest.raises(ScoreError, match="2 of 3 scores are not finite"):
        _sweep(torch.tensor([1.0, math.nan, math.inf]), torch.tensor([True, False, True]))


ROLES = {"a0.h0": "early", "a1.h0": "mover", "a1.h1": "mover", "m0": "memory"}
KNOWN = ("input->a0.h0<q>", "a0.h0->a1.h0<v>", "a1.h0->logits", "input->m0", "m0->a1.h1<k>", "a1.h1->logits")
FOUND = ("input->a0.h0<q>", "a0.h0->a1.h0<v>", "a0.h0->a1.h1<v>", "a1.h0->logits", "input->m1", "m1->logits")


def circuit(names: tuple[str, ...], mlps: bool = True, roles: dict[str, str] | None = None, **score: float) -> Circuit:
    """Of a model with two layers of two heads: 7 senders, 6 + 3 + 24 + 6 + 7 = 46 edges, with MLPs."""
    model = ModelRecord(name="tiny", n_layers=2, n_heads=2, n_kv_heads=2, d_model=8, d_vocab=11, mlps=mlps)
    edges = tuple(
        CircuitEdge(sender=s, receiver=r, score=score.get("score")) for s, r in (name.split("->") for name in names)
    )
    nodes = nodes_of_edges(Graph(GraphShape(2, 2, 2, mlps=mlps)), edges, roles)
    return Circuit(model=model, nodes=nodes, edges=edges)


def scores_of(truth: Circuit, **values: float) -> Tensor:
    """0.1 everywhere but on the edges given, called `sender__receiver`-wise by name."""
    graph = truth.graph()
    scores = torch.where(graph.exists, 0.1, 0.0)
    for name, value in values.items():
        scores[graph.parse_edge(name)] = value
    return scores


def by_part(rows: Any) -> dict[tuple[str, bool], Any]:
    return {(row.scope, row.mlps): row for row in rows}


def test_overlap_by_hand() -> None:
    rows = by_part(comparison.overlaps(circuit(FOUND), circuit(KNOWN)))
    edges = rows["edges", True]
    assert (edges.n, edges.n_true, edges.n_found, edges.n_both) == (46, 6, 6, 3)
    assert (edges.precision, edges.recall, edges.f1, edges.jaccard) == (0.5, 0.5, 0.5, 3 / 9)
    assert edges.false_positive_rate == pytest.approx(3 / 40)
    without = rows["edges", False]
    assert (without.n, without.n_true, without.n_found, without.n_both) == (29, 4, 4, 3)
    assert (without.precision, without.recall, without.jaccard) == (0.75, 0.75, 3 / 5)
    nodes = rows["nodes", True]  # known: a0.h0 a1.h0 a1.h1 m0; found: a0.h0 a1.h0 a1.h1 m1
    assert (nodes.n, nodes.n_true, nodes.n_found, nodes.n_both) == (6, 4, 4, 3)
    assert (rows["nodes", False].n, rows["nodes", False].n_true, rows["nodes", False].n_both) == (4, 3, 3)


def test_nothing_found_has_recall_but_no_precision() -> None:
    empty: Overlap = by_part(comparison.overlaps(circuit(()), circuit(KNOWN)))["edges", True]
    assert empty.precision is None and (empty.recall, empty.f1, empty.jaccard) == (0.0, 0.0, 0.0)


def test_attention_only_models_are_counted_once() -> None:
    known = circuit(("input->a0.h0<q>", "a0.h0->logits"), mlps=False)
    assert list(by_part(comparison.overlaps(known, known))) == [("edges", True), ("nodes", True)]
    assert [row.jaccard for row in comparison.overlaps(known, known)] == [1.0, 1.0]


def test_curves_of_edges_absolute_and_signed() -> None:
    known = circuit(KNOWN)
    strong = dict.fromkeys(KNOWN, 2.0) | {"input->m0": -2.0}
    scores = scores_of(known, **strong)
    rows = {
        (r.scope, r.mlps, r.rank): r for r in comparison.rankings(known, {"absolute": scores.abs(), "signed": scores})
    }
    perfect = rows["edges", True, "absolute"]
    assert (perfect.auc, perfect.average_precision) == (1.0, 1.0)
    assert (perfect.true_positives, perfect.false_positives) == ((0, 6, 6), (0, 0, 40))
    assert perfect.roc == ([0.0, 0.0, 1.0], [0.0, 1.0, 1.0])
    assert perfect.precision_recall == ([1.0, 1.0], [1.0, 6 / 46])
    assert rows["edges", True, "signed"].auc == pytest.approx(5 / 6), "the negative edge is last"
    assert rows["edges", False, "signed"].auc == 1.0, "and starts at the input and ends at an MLP"
    assert rows["edges", False, "signed"].n_true == 4 and rows["edges", False, "signed"].n_false == 25


def test_a_node_scores_as_its_strongest_outgoing_edge() -> None:
    """m1's only strong edge leads to the logits; a1.h1 a weak one; m0's strong edge goes in and does not count."""
    known = circuit(KNOWN)
    names = {"a0.h0->a1.h0<v>": 3.0, "a1.h0->logits": 2.0, "m1->logits": 1.0, "input->m0": 9.0, "a1.h1->logits": 0.5}
    scores = scores_of(known, **names)
    rows = {(r.scope, r.mlps): r for r in comparison.rankings(known, {"absolute": scores.abs()})}
    nodes = rows["nodes", True]  # a0.h0 a1.h0 | m1 | a1.h1 | m0 tied with a0.h1, both at 0.1
    assert (nodes.true_positives, nodes.false_positives) == ((0, 1, 2, 2, 3, 4), (0, 0, 0, 1, 1, 2))
    assert nodes.auc == pytest.approx((2 + 2 + 1 + 0.5) / 8)
    assert rows["nodes", False].auc == 1.0, "without MLPs a0.h1 alone is wrong"


def test_parts_without_anything_true_have_no_curve() -> None:
    known = circuit(("input->m0", "m0->logits"))
    rows = comparison.rankings(known, {"absolute": torch.where(known.graph().exists, 1.0, 0.0)})
    assert [(row.scope, row.mlps) for row in rows] == [("edges", True), ("nodes", True)]


def test_classes_by_hand() -> None:
    known = circuit(KNOWN, roles=ROLES)
    scores = scores_of(known, **{name: 1.0 for name in KNOWN[:3]})
    rows = {(row.role, row.mlps): row for row in comparison.classes(circuit(FOUND), known, scores)}
    assert set(rows) == {(role, mlps) for role in ("early", "mover", "memory") for mlps in (True, False)}
    early, mover = rows["early", True], rows["mover", True]
    assert (early.nodes, early.nodes_found, early.edges, early.edges_found, early.auc) == (1, 1, 2, 2, 1.0)
    assert (mover.nodes, mover.nodes_found, mover.edges, mover.edges_found) == (2, 2, 4, 2)
    assert mover.auc == pytest.approx(0.75), "two edges first, two tied with all wrong ones"
    memory = rows["memory", False]
    assert (memory.nodes_found, memory.edges, memory.auc) == (0, 0, None)
    assert all(row.auc is None for row in comparison.classes(circuit(FOUND), known, None))


def test_edits_are_the_difference_strongest_first() -> None:
    known = circuit(KNOWN, roles=ROLES)
    scores = scores_of(known, **{"m0->a1.h1<k>": -5.0, "a1.h1->logits": 4.0, "m1->logits": 3.0})
    missing, extra = comparison.edits(circuit(FOUND), known, scores)
    assert [(edge.edge, edge.place) for edge in missing[:2]] == [("m0->a1.h1<k>", 1), ("a1.h1->logits", 2)]
    assert missing[0].score == -5.0 and (missing[0].sender_role, missing[0].receiver_role) == ("memory", "mover")
    assert {edge.edge for edge in missing} == set(KNOWN) - set(FOUND)
    assert {edge.edge for edge in extra} == set(FOUND) - set(KNOWN) and extra[0].edge == "m1->logits"


def test_without_scores_edits_have_those_of_the_found_circuit() -> None:
    missing, extra = comparison.edits(circuit(FOUND, score=-0.5), circuit(KNOWN), None)
    assert {(edge.score, edge.place) for edge in missing} == {(None, None)}
    assert {(edge.score, edge.place) for edge in extra} == {(-0.5, None)}
