"""Random circuits: clean, of exactly the size asked for, and what the circuit's p-value makes of them."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from acdc_engine.errors import MethodError
from acdc_engine.evidence.random_circuits import RandomPaths, random_baseline, random_circuits
from acdc_engine.graph.blocks import Graph, GraphShape
from acdc_engine.graph.connectivity import clean
from tests.evidence.judges import tiny_judge


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    groups = draw(st.integers(1, 3))
    heads = groups * draw(st.integers(1, 3))
    return Graph(GraphShape(draw(st.integers(1, 4)), heads, groups, draw(st.booleans()), draw(st.booleans())))


@settings(max_examples=150)
@given(graphs(), st.data(), st.integers(0, 1000))
def test_clean_and_of_exactly_that_size(graph: Graph, data: st.DataObject, seed: int) -> None:
    size = data.draw(st.integers(1, graph.n_edges) | st.integers(1, 5) | st.integers(graph.n_edges - 5, graph.n_edges))
    assume(size >= 1)
    found = random_circuits(graph, size, 3, seed)
    assert torch.equal(clean(graph, found), found)
    assert found.flatten(1).sum(1).tolist() == [size] * 3
    assert torch.equal(found, random_circuits(graph, size, 3, seed))


@pytest.mark.parametrize("size", [6, 40, 150, 300])
def test_seeds_and_circuits_of_one_seed_differ(size: int) -> None:
    graph = Graph(GraphShape(4, 4, 2))
    one, two = random_circuits(graph, size, 4, 0), random_circuits(graph, size, 4, 1)
    assert len({bytes(circuit.numpy()) for circuit in torch.cat([one, two])}) == 8


def test_a_large_graph() -> None:
    graph = Graph(GraphShape(30, 9, 3))
    for size in (100, 20_000, 60_000):
        found = random_circuits(graph, size, 2, 0)
        assert torch.equal(clean(graph, found), found) and found.flatten(1).sum(1).tolist() == [size] * 2


def test_paths_lead_from_input_to_logits_and_take_every_edge_alike() -> None:
    """From input a path of this graph takes each of 5 edges (q, k, v, m0 and logits) in a fifth of the cases."""
    graph = Graph(GraphShape(1, 1, 1))
    owners, edges = RandomPaths(graph, np.random.default_rng(0)).draw(2000)
    from_input = np.bincount(edges[edges < graph.n_receivers], minlength=graph.n_receivers)
    assert np.allclose(from_input / 2000, 0.2, atol=0.03)
    for path in range(50):
        mask = torch.zeros_like(graph.exists)
        mask.flatten()[torch.from_numpy(edges[owners == path])] = True
        assert torch.equal(clean(graph, mask), mask) and mask.any()


def test_sizes_there_are_no_circuits_of() -> None:
    graph = Graph(GraphShape(1, 1, 1, mlps=False))
    for size in (0, 6):
        with pytest.raises(MethodError, match=f"no random circuits of {size} edges: this graph's have 1 to 5"):
            random_circuits(graph, size, 1, 0)


def baseline_of(monkeypatch: pytest.MonkeyPatch, found: float, drawn: list[float]) -> float:
    """The p-value where faithfulness is given: of the circuit first, of the random ones after it."""
    judge = tiny_judge()
    rows = iter([found, *drawn])

    def faithfulness(masks: Tensor) -> list[float]:
        return [next(rows) for _ in masks]

    monkeypatch.setattr(judge, "faithfulness", faithfulness)
    mask, done = random_circuits(judge.graph, 9, 1, 0)[0], list[int]()
    baseline = random_baseline(judge, mask, len(drawn), 7, done.append)
    assert baseline.faithfulness == tuple(drawn) and baseline.seed == 7 and sum(done) == len(drawn)
    return baseline.p_value


def test_p_value_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 0.8, 1.2 is as near to 1, 0.9 and 1.0 are nearer; 1.3 and 0 are not: (1 + 3) / (1 + 5)."""
    assert baseline_of(monkeypatch, 0.8, [0.0, 1.2, 0.9, 1.3, 1.0]) == pytest.approx(4 / 6)
    assert baseline_of(monkeypatch, 0.99, [0.0] * 19) == pytest.approx(1 / 20)


def test_random_circuits_are_really_run() -> None:
    judge = tiny_judge()
    baseline = random_baseline(judge, random_circuits(judge.graph, 25, 1, 3)[0], 9, 4)
    alone = [judge.faithfulness(one[None])[0] for one in random_circuits(judge.graph, 25, 9, 4)]
    assert baseline.faithfulness == pytest.approx(alone, abs=1e-4)
