"""The minimality pass: what it returns meets the target, and every single edge was tried on its own."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from acdc_engine.graph.blocks import Graph, GraphShape
from acdc_engine.graph.connectivity import clean, is_clean
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.evaluator import Circuits, Variants
from acdc_engine.patch.judge import Judge, Target
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.score import get_method, score_edges
from acdc_engine.search.minimal import Minimal, minimal, singles
from acdc_engine.search.order import best_first, smallest_of_order
from acdc_engine.search.strategies import Found, Search
from tests.tiny_models import random_prompts, random_scores, view


def start(name: str, target: Target, metric: str = "logit_diff", ablation: str = "patch") -> tuple[Judge, Found]:
    prompts = random_prompts(4)
    judge = Judge(CircuitEvaluator(view(name), prompts, ablation), get_metric(metric))
    graph = view(name).graph
    scores = score_edges(view(name), prompts, get_metric(metric), get_method("eap-ig"), rms=True).both
    return judge, smallest_of_order(Search(judge, scores, target), best_first(graph, scores, "absolute"))


def one_by_one(judge: Judge, mask: Tensor) -> dict[tuple[int, int], float]:
    """Faithfulness without each edge, each run alone and from the input on."""
    out = {}
    for u, v in mask.nonzero().tolist():
        without = mask.clone()
        without[u, v] = False
        out[(u, v)] = judge.faithfulness(clean(judge.graph, without)[None])[0]
    return out


@pytest.mark.parametrize("name", ["gpt2", "llama_grouped", "gemma3", "phi", "mixtral"])
@pytest.mark.parametrize("metric", ["logit_diff", "kl"])
def test_what_is_left_is_one_minimal(name: str, metric: str) -> None:
    target = Target(0.8)
    judge, found = start(name, target, metric)
    graph, seen = judge.graph, []
    left = minimal(judge, found, target, lambda *step: seen.append(step))
    assert is_clean(graph, left.found.mask) and not bool((left.found.mask & ~found.mask).any())
    assert target.met(left.found.faithfulness) and left.needed.all()
    assert left.found.faithfulness == pytest.approx(judge.faithfulness(left.found.mask[None])[0], abs=1e-4)
    for edge, f in one_by_one(judge, left.found.mask).items():
        assert not target.met(f), f"{graph.edge_name(*edge)} can go: f {f}"
    sizes = [run.size for _, run, _ in seen]
    assert sizes == sorted(sizes, reverse=True) and all(met for _, _, met in seen)


@pytest.mark.parametrize("ablation", ["patch", "mean", "zero"])
def test_the_table_equals_one_by_one(ablation: str) -> None:
    target = Target(0.7)
    judge, found = start("llama_grouped", target, ablation=ablation)
    shown: list[tuple[int, int]] = []
    table = singles(judge, found, target, lambda *at: shown.append(at))
    wanted = one_by_one(judge, found.mask)
    assert len(table.without) == len(wanted)
    for row, needed, f in zip(table.without, table.needed.tolist(), wanted.values(), strict=True):
        assert judge.faithfulness_of(row) == pytest.approx(f, abs=1e-4)
        assert needed == (not target.met(f))
    assert judge.faithfulness_of(table.whole) == pytest.approx(found.faithfulness, abs=1e-4)
    assert shown[-1] == (found.size, found.size)
    assert singles(judge, found, None).needed.all(), "no target, no claim"


class Scripted(Judge):
    """A judge whose faithfulness is a function of masks; counts what it is asked."""

    def __init__(self, graph: Graph, f: Callable[[Tensor], Tensor], gradient: Callable[[Tensor], Tensor]) -> None:
        self.graph, self.clean, self.ablated, self.range = graph, torch.ones(1), torch.zeros(1), 1.0
        self.groups, self.corrections, self.evaluations = torch.ones(1, 1, dtype=torch.bool), (0.0,), 0
        self._f, self._gradient = f, gradient

    def values(self, circuits: Circuits) -> Tensor:
        assert isinstance(circuits, Variants)
        self.evaluations += len(circuits)
        return self._f(circuits.masks().flatten(1)).float()[:, None]

    def contributions(self, mask: Tensor) -> Tensor:
        return self._gradient(mask)


@pytest.mark.parametrize("gradient_knows", [True, False])
def test_few_evaluations_where_most_can_go(gradient_knows: bool) -> None:
    """Faithfulness depends on one path; everything else goes at once, after one try each where the gradient errs."""
    graph = view("llama").graph
    path = torch.tensor([graph.parse_edge(name) for name in ("input->a0.h0<v>", "a0.h0->m1", "m1->logits")])
    only = torch.zeros(2, *graph.exists.shape).index_put((torch.tensor(0), *path.T), torch.tensor(1.0))
    flat = only[0].flatten().nonzero().flatten()
    gradient = only if gradient_knows else random_scores(graph, 1)
    judge = Scripted(graph, lambda masks: masks[:, flat].all(-1), lambda _: gradient)
    left: Minimal = minimal(judge, Found(graph.exists.clone(), 1.0), Target(0.9))
    assert left.found.mask.nonzero().tolist() == only[0].nonzero().tolist()
    assert judge.evaluations < (20 if gradient_knows else 1.1 * graph.n_edges)


def test_few_evaluations_where_edges_stand_in_for_each_other() -> None:
    """Of every six edges one can go, whichever it is. All tried again after each few that go: 80 evaluations an edge.

    The gradient sees nothing of it, and an edge's own test becomes wrong when another of the six goes.
    """
    graph = Graph(GraphShape(4, 6, 6))
    edges = graph.exists.flatten().nonzero().flatten()
    sixes = edges[: len(edges) // 6 * 6].view(-1, 6)
    judge = Scripted(
        graph,
        lambda masks: 1.0 - 0.5 * ((~masks[:, sixes]).sum(-1) > 1).any(-1).float(),
        lambda mask: torch.zeros(2, *mask.shape),
    )
    left = minimal(judge, Found(graph.exists.clone(), 1.0), Target(0.9))
    assert left.needed.all() and judge.evaluations < 3 * graph.n_edges
