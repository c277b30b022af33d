"""Scores at places in the prompt: they add up to those without, and are gradients of the exact intervention."""

import pytest
import torch

from acdc_engine.score import get_method, score_edges
from tests.patch.test_spans import placed
from tests.score.test_brute_force import double_view, finite_differences, some_edges
from tests.tiny_models import CORE, METRIC, random_prompts, relative, view


@pytest.mark.parametrize("method", ["eap", "eap-ig", "eap-ig-path", "gim", "clean-corrupted"])
@pytest.mark.parametrize("name", ["gpt2", "llama_grouped", "gemma3", "phi"])
def test_spans_add_up_to_plain_scores(name: str, method: str) -> None:
    plain = random_prompts(5, 7, ragged=True)
    v, prompts, how = view(name), placed(plain), get_method(method)
    graph = v.graph.at(prompts.spans)
    found = score_edges(v, prompts, METRIC, how, batch_size=2, rms=True, per_example=True)
    wanted = score_edges(v, plain, METRIC, how, batch_size=2, rms=True, per_example=True)
    assert found.receivers == graph.receivers and found.mean.shape == graph.exists.shape
    assert found.per_example is not None and wanted.per_example is not None

    def added(scores: torch.Tensor) -> torch.Tensor:
        spans = scores[..., :-1].unflatten(-1, (-1, graph.n_spans)).sum(-1)
        return torch.cat([spans, scores[..., -1:]], -1)

    assert relative(added(found.mean), wanted.mean) < 1e-5
    assert relative(added(found.per_example), wanted.per_example) < 1e-5
    assert relative(found.both[1], found.per_example.square().mean(0).sqrt()) < 1e-5
    summed = score_edges(v, prompts, METRIC, how)
    assert relative(summed.mean, found.mean) < 1e-5


@pytest.mark.parametrize("name", CORE)
def test_eap_is_the_mask_gradient_at_the_clean_run(name: str) -> None:
    v, prompts = double_view(name), placed(random_prompts(3, 7))
    graph = v.graph.at(prompts.spans)
    edges = some_edges(graph.exists, 12)
    scores = score_edges(v, prompts, METRIC, get_method("eap")).mean
    wanted = finite_differences(v, prompts, graph.exists, edges, "logit_diff")
    assert relative(scores[edges[:, 0], edges[:, 1]], wanted.float()) < 2e-3
