"""Testing an edge costs the host what the edge takes with it, not the size of the graph: counted, not timed."""

import numpy as np
import pytest
from torch import Tensor

from acdc_engine.graph import connectivity
from acdc_engine.patch import CircuitEvaluator, circuit_evaluator, memory
from acdc_engine.patch.evaluator import Circuits, Variants
from acdc_engine.patch.judge import Judge, Target
from acdc_engine.patch.memory import RememberingEvaluator
from acdc_engine.prompts.metrics import Metric, get_metric
from acdc_engine.search import Found, Search, minimal, singles
from acdc_engine.search.acdc import acdc
from acdc_engine.search.order import best_first, first_edges
from tests.tiny_models import random_prompts, random_scores, view


class Asked(CircuitEvaluator):
    """Notes how many edges the circuits that it is asked about differ in from their base."""

    differences: list[int]

    def values(self, circuits: Circuits, metric: Metric) -> Tensor:
        assert isinstance(circuits, Variants), "nothing is written out"
        self.differences += [len(one.remove) + len(one.add) for one in circuits.candidates]
        return super().values(circuits, metric)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> tuple[Judge, Found, Asked]:
    """A circuit of a model; from now on nothing may clean or write out whole masks."""
    v = view("llama_grouped")
    inner = Asked(v, random_prompts(2))
    inner.differences = []
    judge = Judge(RememberingEvaluator(inner), get_metric("logit_diff"))
    scores = random_scores(v.graph, 0)
    mask = first_edges(v.graph, best_first(v.graph, scores, "absolute"), v.graph.n_edges // 2)

    def never(*_: object) -> None:
        pytest.fail("a whole mask was cleaned or written out")

    monkeypatch.setattr(connectivity, "clean", never)
    monkeypatch.setattr(circuit_evaluator, "clean", never)
    monkeypatch.setattr(CircuitEvaluator, "_defined", never)
    return judge, Found(mask, 1.0), inner


def test_every_edge_singly(asked: tuple[Judge, Found, Asked]) -> None:
    judge, found, inner = asked
    singles(judge, found, None)
    assert len(inner.differences) == found.size + 1
    assert float(np.mean(inner.differences)) < 2, "an edge, and what hangs on it"


def test_the_base_is_hashed_once(asked: tuple[Judge, Found, Asked], monkeypatch: pytest.MonkeyPatch) -> None:
    judge, found, _ = asked
    hashed: list[int] = []
    original = memory._edges_hash

    def counted(edges: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> "np.ndarray[tuple[int], np.dtype[np.uint64]]":
        hashed.append(len(edges))
        return original(edges)

    monkeypatch.setattr(memory, "_edges_hash", counted)
    singles(judge, found, None)
    assert sum(length > found.size / 2 for length in hashed) == 1
    assert sum(hashed) < 4 * found.size


def test_sweeps_are_near_a_base(asked: tuple[Judge, Found, Asked], monkeypatch: pytest.MonkeyPatch) -> None:
    judge, found, inner = asked
    gradient = random_scores(judge.graph, 1)
    monkeypatch.setattr(Judge, "contributions", lambda self, mask: gradient)
    monkeypatch.setattr("acdc_engine.search.acdc.clean", lambda graph, mask: mask)
    minimal(judge, found, Target(0.5))
    acdc(Search(judge, gradient, Target()), found.mask, 0.1)
    assert inner.differences
