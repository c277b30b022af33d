"""Edge scores against finite differences of the exact intervention: the slow, obvious twin."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from acdc_engine.graph.connectivity import clean
from acdc_engine.model.bridge import view_of
from acdc_engine.model.view import TransformerView
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.score import get_method, score_edges
from tests.tiny_models import CONFIGS, METRIC, hf_model, random_mask, random_prompts, relative, view


def double_view(name: str) -> TransformerView:
    """Float64: finite differences need the digits."""
    return view_of(hf_model(name).double(), name)


def finite_differences(
    v: TransformerView, prompts: PromptSet, mask: Tensor, edges: Tensor, metric: str, step: float = 1e-3
) -> Tensor:
    """Central differences of the exact metric with respect to single mask entries."""
    evaluator = CircuitEvaluator(v, prompts)
    out = []
    for u, r in edges.tolist():
        values = []
        for sign in (1, -1):
            weights = mask.to(torch.float64)
            weights[u, r] += sign * step
            values.append(float(evaluator.differentiated(weights, get_metric(metric))[0].mean()))
        out.append((values[0] - values[1]) / (2 * step))
    return torch.tensor(out)


def some_edges(mask: Tensor, n: int, seed: int = 0) -> Tensor:
    edges = mask.nonzero()
    return edges[torch.randperm(len(edges), generator=torch.Generator().manual_seed(seed))[:n]]


@pytest.mark.parametrize("name", CONFIGS)
def test_eap_is_the_mask_gradient_at_the_clean_run(name: str) -> None:
    v, prompts = double_view(name), random_prompts(3, 6)
    edges = some_edges(v.graph.exists, 12)
    scores = score_edges(v, prompts, METRIC, get_method("eap")).mean
    wanted = finite_differences(v, prompts, v.graph.exists, edges, "logit_diff")
    assert relative(scores[edges[:, 0], edges[:, 1]], wanted.float()) < 2e-3


@pytest.mark.parametrize("name", ["gpt2", "llama_grouped", "gemma3", "olmo2", "phi"])
@pytest.mark.parametrize("metric", ["logit_diff", "kl"])
def test_gradients_inside_a_circuit_equal_finite_differences(name: str, metric: str) -> None:
    v, prompts = double_view(name), random_prompts(3, 6)
    mask = clean(v.graph, random_mask(v.graph, 0.7, 4))
    edges = some_edges(mask, 16)
    ours = CircuitEvaluator(v, prompts).edge_gradients(mask, get_metric(metric))[0][edges[:, 0], edges[:, 1]]
    assert relative(ours, finite_differences(v, prompts, mask, edges, metric).float()) < 2e-3


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("metric", ["logit_diff", "prob_diff", "nll"])
def test_mask_gradient_of_the_full_graph_is_eap(name: str, metric: str) -> None:
    v, prompts = view(name), random_prompts(4, ragged=True)
    inside = CircuitEvaluator(v, prompts, batch_size=3).edge_gradients(v.graph.exists, get_metric(metric))[0]
    assert relative(inside, score_edges(v, prompts, get_metric(metric), get_method("eap")).mean) < 1e-4


@pytest.mark.parametrize("name", CONFIGS)
def test_integrated_gradients_are_the_mean_over_points(name: str) -> None:
    """Each point alone is checked above or here; the sum over points is done in factored form and must not differ."""
    v, prompts = view(name), random_prompts(4)
    alphas = (0.0, 0.3, 1.0)
    single = torch.stack([score_edges(v, prompts, METRIC, get_method("eap-ig", alphas=[a])).mean for a in alphas])
    assert relative(score_edges(v, prompts, METRIC, get_method("eap-ig", alphas=alphas)).mean, single.mean(0)) < 1e-5


@pytest.mark.parametrize("name", ["llama_grouped", "qwen3"])
def test_grouped_scores_are_sums_over_the_group(name: str) -> None:
    native, ungrouped = view(name), view(name, ungroup_kv=True)
    a = score_edges(native, random_prompts(), METRIC, get_method("eap")).mean
    b = score_edges(ungrouped, random_prompts(), METRIC, get_method("eap")).mean
    for layer in range(2):
        for part in ("k", "v"):
            wide = b[:, ungrouped.graph.part(layer, part)]
            narrow = a[:, native.graph.part(layer, part)]
            assert relative(wide.unflatten(1, (2, 2)).sum(-1), narrow) < 1e-4


def test_padding_changes_nothing() -> None:
    prompts = random_prompts(6, ragged=True)
    for name in ("gpt2", "gemma3"):
        whole = score_edges(view(name), prompts, METRIC, get_method("eap-ig"), batch_size=6, per_example=True)
        assert whole.per_example is not None
        for i in range(len(prompts)):
            alone = score_edges(view(name), prompts.select([i]), METRIC, get_method("eap-ig")).mean
            assert relative(whole.per_example[i], alone) < 1e-4


def test_blocks_of_tokens_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    v, prompts = replace(view("llama_grouped")), random_prompts(5)
    whole = score_edges(v, prompts, METRIC, get_method("eap")).mean
    per_token = v.graph.n_senders * v.d_model * 4
    for tokens in (1, 3, 10):
        monkeypatch.setitem(vars(v), "room", replace(v.room, block=tokens * per_token))
        assert relative(score_edges(v, prompts, METRIC, get_method("eap")).mean, whole) < 1e-5
