"""The speculative sweep against the paper's loop, one test at a time and from the input on."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.connectivity import clean
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.evaluator import Circuits, Variants
from acdc_engine.patch.judge import Judge, Target
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.search.acdc import Tally, acdc
from acdc_engine.search.order import Rank, best_first, first_edges
from acdc_engine.search.strategies import Choice, Found, Progress, Search, find_circuit
from tests.micro_models import mask_of
from tests.tiny_models import random_mask, random_prompts, random_scores, view


def judge_of(name: str, metric: str = "logit_diff", n: int = 3) -> Judge:
    return Judge(CircuitEvaluator(view(name), random_prompts(n, 6)), get_metric(metric))


def one_by_one(judge: Judge, start: Tensor, threshold: float) -> tuple[Tensor, int, int]:
    """Algorithm 1 of the paper, literally; also the evaluations and the untested edges."""
    graph, mask = judge.graph, start.clone()
    current = float(judge.values(mask[None])[0].mean())
    tested = untested = 0
    for receiver in reversed(range(graph.n_receivers)):
        for sender in reversed(range(graph.n_senders)):
            if not mask[sender, receiver]:
                continue
            fed = list(graph.fed(receiver))
            if receiver != graph.logits and not mask[fed].any():
                mask[sender, receiver] = False
                untested += 1
                continue
            without = mask.clone()
            without[sender, receiver] = False
            value = float(judge.values(without[None])[0].mean())
            tested += 1
            if current - value < threshold:
                mask, current = without, value
    return mask, tested, untested


def searching(judge: Judge, progress: Progress = lambda done, total: None) -> Search:
    return Search(judge, torch.empty(2, 0, 0), Target(), progress=progress)


@pytest.mark.parametrize("name", ["gpt2", "llama_grouped", "gemma3", "phi", "olmo2"])
@pytest.mark.parametrize("metric", ["logit_diff", "kl"])
@pytest.mark.parametrize("threshold", [0.003, 0.03, 0.3])
def test_the_same_edges_as_one_by_one(name: str, metric: str, threshold: float) -> None:
    judge = judge_of(name, metric)
    graph = judge.graph
    start = clean(graph, random_mask(graph, 0.6, 0))
    wanted, tested, untested = one_by_one(judge, start, threshold)
    seen: list[tuple[int, int]] = []
    found, tally = acdc(searching(judge, lambda done, total: seen.append((done, total))), start, threshold)
    assert torch.equal(found.mask, clean(graph, wanted))
    assert (tally.tested, tally.untested) == (tested, untested) and int(start.sum()) == tested + untested
    assert seen == sorted(seen) and all(total == int(start.sum()) for _, total in seen)
    assert tally.batches < max(2, tested) and tally.evaluations >= tested
    assert found.faithfulness == pytest.approx(judge.faithfulness(found.mask[None])[0], abs=1e-4)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), threshold=st.sampled_from([0.001, 0.02, 0.1, 1.0]), share=st.floats(0.1, 1.0))
def test_the_same_edges_from_any_start(seed: int, threshold: float, share: float) -> None:
    judge = judge_of("gpt2", n=2)
    graph = judge.graph
    start = clean(graph, random_mask(graph, share * 0.5, seed))
    wanted, tested, untested = one_by_one(judge, start, threshold)
    found, tally = acdc(searching(judge), start, threshold)
    assert torch.equal(found.mask, clean(graph, wanted)) and (tally.tested, tally.untested) == (tested, untested)


class Scripted(Judge):
    """A judge whose metric is the sum of the kept edges' weights."""

    def __init__(self, graph: Graph, weights: dict[str, float]) -> None:
        self.graph, self.clean = graph, torch.zeros(1)
        self.weights = torch.zeros_like(graph.exists, dtype=torch.float32)
        for name, weight in weights.items():
            self.weights[graph.parse_edge(name)] = weight

    def values(self, circuits: Circuits) -> Tensor:
        assert isinstance(circuits, Variants)
        return (circuits.masks() * self.weights).sum((1, 2))[:, None]

    def faithfulness_of(self, values: Tensor) -> float:
        return float(values.mean())


def test_edges_into_unread_nodes_go_untested() -> None:
    """m1 has one reader. Once that edge is gone, whatever reads into m1 is not worth an evaluation."""
    graph = view("gpt2").graph
    start = mask_of(graph, "input->m1 a0.h0->m1 m1->logits input->logits input->a0.h0<q>")
    judge = Scripted(graph, {"m1->logits": 0.1, "input->m1": 5.0, "a0.h0->m1": 5.0, "input->logits": 3.0})
    found, tally = acdc(searching(judge), start, 0.5)
    assert [graph.edge_name(u, v) for u, v in found.mask.nonzero().tolist()] == ["input->logits"]
    assert (tally.tested, tally.untested) == (2, 3)
    found, _ = acdc(searching(judge), start, 0.05)
    assert graph.parse_edge("input->m1") in [tuple(e) for e in found.mask.nonzero().tolist()]


@pytest.mark.parametrize(("metric", "rank"), [("logit_diff", "absolute"), ("kl", "rms")])
def test_candidates_are_ranked_as_the_objective_asks(metric: str, rank: Rank, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mean and root mean square that disagree; the sweep begins with the clean circuit of the best by one of them."""
    judge = judge_of("gpt2", metric)
    graph, begun = judge.graph, []

    def watched(search: Search, start: Tensor, threshold: float) -> tuple[Found, Tally]:
        begun.append(start)
        return Found(start, 1.0), Tally()

    monkeypatch.setattr("acdc_engine.search.acdc.acdc", watched)
    scores = random_scores(graph, 3) * graph.exists
    find_circuit(Search(judge, scores, Target()), Choice.of("acdc", threshold=0.1, candidates=40))
    assert torch.equal(begun[0], first_edges(graph, best_first(graph, scores, rank), 40))
    other: Rank = "rms" if rank == "absolute" else "absolute"
    assert not torch.equal(begun[0], first_edges(graph, best_first(graph, scores, other), 40))
