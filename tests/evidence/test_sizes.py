"""Sizes around a circuit's own, each as if it were judged alone; CPR and CMD by hand and against a loop like MIB's."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from acdc_engine.errors import MethodError
from acdc_engine.evidence import sizes as sizes_module
from acdc_engine.evidence.figures import figures_of
from acdc_engine.evidence.random_circuits import random_circuits
from acdc_engine.evidence.sizes import MIB_SIZES, areas, check_sizes, sizes_of
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import clean
from acdc_engine.patch.judge import Judge
from tests.run.circuit_files import HELD_OUT, circuit, judge_of, mask_of
from tests.tiny_models import view


@pytest.fixture(scope="module")
def judge() -> Judge:
    return judge_of(HELD_OUT)


def scores() -> Tensor:
    return torch.randn(view("llama_grouped").graph.exists.shape, generator=torch.Generator().manual_seed(0))


def with_effects(**effects: float) -> Circuit:
    """A circuit by hand: input -> a0.h0 -> logits and input -> m0 -> logits, with these effects of its edges."""
    names = {"head_in": "input->a0.h0<q>", "head_out": "a0.h0->logits", "mlp_in": "input->m0", "mlp_out": "m0->logits"}
    by_name = {f"{e.sender}->{e.receiver}": e for e in circuit().edges}
    edges = []
    for key, name in names.items():
        sender, receiver = name.split("->")
        model = by_name.get(name) or circuit().edges[0]
        edges.append(model.model_copy(update={"sender": sender, "receiver": receiver, "effect": effects[key]}))
    return circuit().model_copy(update={"edges": tuple(edges)})


def masks_of(kept: Circuit, given: Tensor | None) -> dict[int, Tensor]:
    """By edges after cleaning, from the definitions: strongest first, others by score."""
    graph = view("llama_grouped").graph
    found = {}
    edges = sorted(kept.edges, key=lambda edge: -abs(edge.effect or 0))
    for count in range(len(edges) + 1):
        mask = clean(graph, mask_of(*(f"{e.sender}->{e.receiver}" for e in edges[:count])))
        found[int(mask.sum())] = mask
    if given is not None:
        others = sorted((-float(given[s, r]), s, r) for s, r in (graph.exists & ~kept.mask()).nonzero().tolist())
        for factor in (2, 4, 8):
            mask = kept.mask()
            for _, sender, receiver in others[: (factor - 1) * len(edges)]:
                mask[sender, receiver] = True
            found[int(clean(graph, mask).sum())] = clean(graph, mask)
    return found


def test_figures_are_those_of_each_circuit_judged_alone(judge: Judge) -> None:
    found = sizes_of(judge, circuit(), scores(), seed=3)
    expected = masks_of(circuit(), scores())
    kinds = [point.kind for point in found]
    assert kinds == sorted(kinds, key=["part", "circuit", "more"].index) and kinds.count("circuit") == 1
    assert kinds.count("part") >= 2 and kinds.count("more") >= 1
    assert [point.edges for point in found] == sorted({point.edges for point in found})
    for point in found:
        alone = figures_of(judge, expected[point.edges], seed=3)
        assert point.faithfulness == pytest.approx(alone.faithfulness, abs=1e-5)
        assert point.kl_recovered == pytest.approx(alone.kl_recovered, abs=1e-5)
        assert (point.faithfulness_interval is None) == (alone.faithfulness_interval is None)
        if point.faithfulness_interval and alone.faithfulness_interval:
            assert point.faithfulness_interval.low == pytest.approx(alone.faithfulness_interval.low, abs=1e-4)
        drawn = random_circuits(judge.graph, point.edges, 5 if point.edges <= 200 else 2, 3)
        assert point.random == pytest.approx([judge.faithfulness(mask[None])[0] for mask in drawn], abs=1e-5)
        assert point.requested >= point.edges


def test_the_part_of_a_circuit_by_hand(judge: Judge) -> None:
    """By |effect|: the head's path, of two edges, then the MLP's; three edges clean to two."""
    kept = with_effects(head_in=-4.0, head_out=3.0, mlp_in=2.0, mlp_out=1.0)
    part, whole = sizes_of(judge, kept)
    assert (part.kind, part.requested, part.edges) == ("part", 3, 2)
    assert (whole.kind, whole.requested, whole.edges) == ("circuit", 4, 4)
    head = mask_of("input->a0.h0<q>", "a0.h0->logits")
    assert part.faithfulness == pytest.approx(judge.faithfulness(head[None])[0], abs=1e-6)


def test_parts_begin_where_something_is_left(judge: Judge) -> None:
    """The three strongest edges join nothing: there is no part."""
    kept = with_effects(head_in=4.0, mlp_in=3.0, head_out=0.1, mlp_out=0.2)
    assert [(p.kind, p.requested, p.edges) for p in sizes_of(judge, kept)] == [("part", 3, 2), ("circuit", 4, 4)]
    disjoint = kept.model_copy(update={"edges": (kept.edges[0], kept.edges[3])})
    assert sizes_of(judge, disjoint) == ()


def test_larger_circuits_take_the_best_scores_and_stop_at_the_most(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice the circuit's four edges, then seven, the most: the best first, and only what lies on a path."""
    monkeypatch.setattr(sizes_module, "_MOST_EDGES", 7 + 4)
    kept, given = with_effects(head_in=4.0, head_out=3.0, mlp_in=2.0, mlp_out=1.0), -scores().abs() - 1
    best = ["input->logits", "a0.h0->m0", "input->m1", "a0.h1->m1", "m1->logits", "input->a0.h1<q>", "a0.h2->m1"]
    for place, name in enumerate(best):
        given[mask_of(name)] = -0.1 * place  # the strongest by |score| are others, which work against the metric
    more = [point for point in sizes_of(judge, kept, given) if point.kind == "more"]
    assert [(point.requested, point.edges) for point in more] == [(8, 6), (11, 10)]
    mask = kept.mask() | mask_of("input->logits", "a0.h0->m0")
    assert more[0].faithfulness == pytest.approx(judge.faithfulness(mask[None])[0], abs=1e-5)


def test_large_circuits_have_fewer_random_ones_and_the_work_is_counted(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizes_module, "_DRAWS", ((1, 5), (2, 3)))
    kept = with_effects(head_in=4.0, head_out=3.0, mlp_in=2.0, mlp_out=1.0)
    before = judge.evaluator.exact_evaluations
    part, whole = sizes_of(judge, kept)
    assert len(part.random) == 3 and whole.random == ()
    assert judge.evaluator.exact_evaluations == before + 2 + 3


def test_without_strengths_there_are_no_parts(judge: Judge) -> None:
    """The order of a file says nothing of strength."""
    unknown = {"score": None, "effect": None}
    bare = circuit().model_copy(update={"edges": tuple(edge.model_copy(update=unknown) for edge in circuit().edges)})
    assert [point.kind for point in sizes_of(judge, bare)] == ["circuit"]
    assert sizes_of(judge, bare.model_copy(update={"edges": ()})) == ()


def single(*values: float) -> list[tuple[float]]:
    return [(value,) for value in values]


@pytest.mark.parametrize(
    ("fractions", "values", "cpr", "cmd"),
    [
        # 0.1 to 0.5: mean of 0.2 and 1.2 over 0.4; 0.5 to 1: mean of 1.2 and 1 over 0.5. Distances 0.8, 0.2, 0:
        # 0.4 * 0.5 and 0.5 * 0.1; the crossing of 1 between 0.1 and 0.5 earns nothing.
        ([0.1, 0.5, 1.0], single(0.2, 1.2, 1.0), 0.28 + 0.55, 0.2 + 0.05),
        # MIB's own number for a perfect method: nothing is added below the first size.
        (MIB_SIZES, single(*[1.0] * 10), 0.999, 0.0),
        # No circuit at the first two sizes; the step from 0 to 0 has no area, 0 to 0.5 has 0.5 * (0 + 1) / 2.
        ([0.0, 0.0, 0.5, 0.5, 1.0], single(0.0, 0.0, 1.0, 1.0, 1.0), 0.75, 0.25),
        # 0 and 2 are 1 on average, but both are 1 away from the model.
        ([0.5, 1.0], [(0.0, 2.0), (1.0,)], 0.5, 0.25),
    ],
)
def test_areas_by_hand(fractions: Sequence[float], values: Any, cpr: float, cmd: float) -> None:
    found = areas(fractions, values)
    assert (found.cpr, found.cmd) == pytest.approx((cpr, cmd))


@given(st.lists(st.floats(-3, 3), min_size=10, max_size=10))
def test_against_a_loop_like_mibs(values: list[float]) -> None:
    under = away = 0.0
    for i in range(9):
        width = MIB_SIZES[i + 1] - MIB_SIZES[i]
        under += width * (values[i] + values[i + 1]) / 2
        away += width * (abs(1 - values[i]) + abs(1 - values[i + 1])) / 2
    found = areas(MIB_SIZES, single(*values))
    assert found.cpr == pytest.approx(under, abs=1e-12) and found.cmd == pytest.approx(away, abs=1e-12)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([], r"at least two sizes, not 0 \(none\)"),
        ([0.0, 1.0], "above 0 and at most 1, not 0, 1"),
        ([math.nan, 1.0], "above 0 and at most 1, not nan, 1"),
        ([0.5, 0.5, 1.0], r"must grow from each to the next, not 0\.5, 0\.5, 1"),
    ],
)
def test_sizes_that_give_no_area(sizes: list[float], message: str) -> None:
    with pytest.raises(MethodError, match=message):
        check_sizes(sizes)
    assert check_sizes([0.1, 1.0]) == (0.1, 1.0)


@pytest.mark.parametrize(
    ("fractions", "values", "message"),
    [
        ([0.1, 1.0], single(1.0), "2 sizes and 1 with circuits"),
        ([0.1, 1.0], [(), (1.0,)], "2 sizes and 1 with circuits"),
        ([0.5, 0.1], single(1.0, 1.0), r"never fall, unlike \[0\.5, 0\.1\]"),
        ([0.5, 1.1], single(1.0, 1.0), r"lie in \[0, 1\]"),
        ([0.25, 1.0], single(math.nan, 1.0), r"at 25\.00% of the edges is not finite: \[nan\]"),
    ],
)
def test_curves_without_an_area(fractions: list[float], values: list[tuple[float]], message: str) -> None:
    with pytest.raises(MethodError, match=message):
        areas(fractions, values)
