"""The tests of Shi et al.: p-values by hand, power and level on made-up scores, and what cannot be tested."""

from itertools import pairwise
from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from acdc_engine.evidence import hypotheses
from acdc_engine.evidence.hypotheses import _equivalence, _independence, _minimality, holm, minimality_runs, run_tests
from acdc_engine.evidence.random_circuits import random_circuits
from acdc_engine.graph.connectivity import clean
from acdc_engine.patch.evaluator import Variants
from acdc_engine.patch.judge import Judge
from acdc_engine.prompts.metrics import get_metric
from tests.evidence.judges import tiny_judge
from tests.micro_models import mask_of
from tests.tiny_models import view


def judge_of(scores: Tensor, metric: str = "logit_diff") -> Judge:
    """A judge whose model scores the prompts so, and one less under ablation."""
    judge = Judge.__new__(Judge)
    judge.metric, judge.clean, judge.ablated, judge.range = get_metric(metric), scores, scores - 1, 1.0
    judge.groups, judge.corrections = torch.ones(1, len(scores), dtype=torch.bool), (0.0,)
    return judge


def normal(n: int, seed: int) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed))


def test_holm_by_hand() -> None:
    """Sorted .01, .03, .04: 3 * .01, 2 * .03, and 1 * .04 is not below the .06 before it."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1, 1] and holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_is_never_weaker_than_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= a <= min(1, len(p_values) * p) + 1e-12 for p, a in zip(p_values, adjusted, strict=True))
    assert all(a <= b for (_, a), (_, b) in pairwise(sorted(zip(p_values, adjusted, strict=True))))


def test_equivalence_by_hand() -> None:
    """Above on 9 of 10 prompts: as far from a half are 0, 1, 9 and 10, with C(10, k) .6^k .4^(10-k) each."""
    scores = normal(10, 0)
    circuit = scores + torch.tensor([1.0] * 9 + [-1.0])
    found = _equivalence(judge_of(scores), circuit)
    wanted = sum(comb(10, k) * 0.6**k * 0.4 ** (10 - k) for k in (0, 1, 9, 10))
    assert found.p_value == pytest.approx(wanted) and found.statistic == 0.9
    assert found.finding == "The circuit's logit_diff is above the model's on 9 of 10 prompts."
    below = _equivalence(judge_of(scores), 2 * scores - circuit)
    assert below.p_value == pytest.approx(wanted) and below.statistic == pytest.approx(0.1)
    assert "is above" in found.if_rejected and "is below" in below.if_rejected


def test_ties_count_half_for_either_side() -> None:
    scores = normal(20, 0)
    found = _equivalence(judge_of(scores), scores + 1e-7)
    assert found.statistic == 0.5 and found.p_value == 1 and "20 ties" in found.finding


def test_equivalence_means_nothing_where_the_model_is_the_maximum() -> None:
    found = _equivalence(judge_of(torch.zeros(20), "kl"), -normal(20, 0).abs())
    assert found.p_value == 1 and found.finding == (
        "Not tested: kl has its maximum at the model, so no circuit can be above it."
    )


def test_independence_is_rejected_for_dependent_scores_without_correlation() -> None:
    """The square of a symmetric score is uncorrelated with it."""
    scores = normal(60, 1)
    found = _independence(judge_of(scores), scores**2)
    assert found.p_value < 0.001 and found.statistic > 0


def test_independence_keeps_its_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 40 pairs of independent scores, 2 should fall at 5 %; 7 or more do with probability 0.3 %."""
    monkeypatch.setattr(hypotheses, "_PERMUTATIONS", 499)
    fallen = sum(
        _independence(judge_of(normal(15, seed)), normal(15, 1000 + seed)).p_value <= 0.05 for seed in range(40)
    )
    assert fallen <= 6


def test_hsic_equals_its_definition() -> None:
    scores, others = normal(12, 0), normal(12, 1)

    def kernel(values: Tensor) -> Tensor:
        distances = torch.tensor([[abs(a - b) for a in values.tolist()] for b in values.tolist()]).double()
        width = np.median([float(d) for d in distances.flatten() if d > 0])
        return torch.exp(-(distances**2) / (2 * width**2))

    centre = torch.eye(12).double() - 1 / 12
    wanted = torch.trace(kernel(others) @ centre @ kernel(scores) @ centre) / 11**2
    assert _independence(judge_of(scores), others).statistic == pytest.approx(float(wanted), rel=1e-6)


@pytest.mark.parametrize(("model", "complement", "whose"), [(0, 1, "model"), (1, 0, "complement")])
def test_a_score_that_never_changes_depends_on_nothing(model: int, complement: int, whose: str) -> None:
    found = _independence(judge_of(model * normal(12, 0)), complement * normal(12, 1))
    assert found.p_value == 1 and f"the {whose}'s logit_diff is the same on all prompts" in found.finding


PATHS = "input->a0.kv0<v> a0.h0->logits input->a1.kv1<v> a1.h2->logits"


def test_edges_that_lead_nowhere_are_superfluous() -> None:
    judge = tiny_judge()
    mask = mask_of(judge.graph, PATHS + " input->m1")
    whole = judge.values(mask[None])[0]
    found = _minimality(judge, mask, whole)
    assert found.statistic == 0 and found.p_value < 1e-6
    assert found.finding.startswith("The weakest of 5 edges, input->m1, changes logit_diff by ")
    assert "more than 0 of 50 random edges; an edge should beat 90% of them" in found.finding


def test_edges_that_carry_everything_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every effect is 1 and every random one 0: each edge beats all of them, so no tail is small."""
    judge = tiny_judge()
    mask = mask_of(judge.graph, PATHS)

    def values(circuits: Variants) -> Tensor:
        return (circuits.masks() & mask).flatten(1).sum(1)[:, None].float().expand(-1, 12)

    monkeypatch.setattr(judge, "values", values)
    found = _minimality(judge, mask, torch.full((12,), 4.0))
    assert found.p_value == 1 and found.statistic == 1


def test_what_minimality_runs() -> None:
    judge = tiny_judge()
    mask = random_circuits(judge.graph, 20, 1, 0)[0]
    whole, before = judge.values(mask[None])[0], judge.evaluator.exact_evaluations
    run: list[int] = []
    _minimality(judge, mask, whole, n_random_edges=8, progress=run.append)
    assert sum(run) == minimality_runs(20, 8) == 36 == judge.evaluator.exact_evaluations - before


def test_random_edges_lie_on_paths_of_the_inflated_circuit() -> None:
    graph = view("llama_grouped").graph
    mask = random_circuits(graph, 20, 1, 0)[0]
    found = hypotheses._inflated(graph, mask, 30, np.random.default_rng(0))
    pairs = Variants(mask, tuple(one for pair in found for one in pair)).masks().unflatten(0, (-1, 2))
    assert len(pairs) == 30
    assert torch.equal(clean(graph, pairs[:, 0]), pairs[:, 0]) and (pairs[:, 0] & mask == mask).all()
    assert (pairs[:, 1] & mask == mask).all() and ((pairs[:, 0] & ~pairs[:, 1]).flatten(1).sum(1) == 1).all()


def test_of_large_circuits_some_edges_are_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hypotheses, "EDGES_UP_TO", 5)
    judge = tiny_judge()
    mask = random_circuits(judge.graph, 40, 1, 0)[0]
    found = _minimality(judge, mask, judge.values(mask[None])[0], n_random_edges=4)
    assert found.finding.startswith("The weakest of 5 edges")


def test_minimality_that_cannot_be_tested() -> None:
    judge = tiny_judge()
    exists = judge.graph.exists
    whole = _minimality(judge, exists, judge.clean)
    assert whole.p_value == 1 and "holds the whole graph, so no random edge can be added" in whole.finding
    assert "has no edges" in _minimality(judge, exists & False, judge.ablated).finding


def test_too_few_prompts_run_nothing() -> None:
    judge = tiny_judge(9)
    tests = run_tests(judge, judge.graph.exists)
    assert judge.evaluator.exact_evaluations == 0 and len(tests) == 3
    assert all(not test.rejected and test.p_value == test.p_adjusted == 1 for test in tests)
    assert tests[1].details.startswith("Not tested: 9 prompts are too few for a test; at least 10 are needed.")


def test_all_three_together_are_corrected_and_say_what_they_mean() -> None:
    judge = tiny_judge(24)
    tests = run_tests(judge, mask_of(judge.graph, PATHS + " input->m1"), seed=1)
    assert [test.name for test in tests] == ["equivalence", "independence", "minimality"]
    assert [test.p_adjusted for test in tests] == holm([test.p_value for test in tests])
    assert all(test.rejected == (test.p_adjusted <= 0.05) for test in tests)
    assert tests[2].rejected and tests[2].details.endswith("the circuit holds edges it does not need.")
