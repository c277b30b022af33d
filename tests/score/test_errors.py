"""Bad settings and numbers end in errors that say what to do."""

from typing import Any

import pytest
import torch
from torch import Tensor

from acdc_engine.errors import MethodError, MetricError, PromptError, ScoreError
from acdc_engine.model.bridge import view_of
from acdc_engine.model.view import TransformerView
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.score import get_method, score_edges
from tests.tiny_models import METRIC, hf_model, random_prompts, view


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"name": "epa"},
            r"method 'epa'\. Did you mean 'eap'.*Known: clean-corrupted, eap, eap-ig, eap-ig-path, gim\.",
        ),
        ({"name": "eap", "steps": 5}, "Method 'eap' takes no steps or alphas; use 'eap-ig'"),
        ({"name": "clean-corrupted", "alphas": [0.5]}, "Method 'clean-corrupted' takes no steps or alphas"),
        ({"name": "eap-ig", "steps": 0}, "number of integration steps must be at least 1, not 0"),
        ({"name": "eap-ig", "steps": 2, "alphas": [0.5]}, "Give either steps or alphas, not both"),
        ({"name": "eap-ig", "alphas": [0.2, 1.5]}, r"from 0 \(corrupt\) to 1 \(clean\), not \[0.2, 1.5\]"),
        ({"name": "eap-ig", "alphas": [-0.1]}, r"not \[-0.1\]"),
        ({"name": "eap-ig", "alphas": [float("nan")]}, r"not \[nan\]"),
        ({"name": "eap-ig", "alphas": []}, r"one or more numbers .* not \[\]"),
    ],
)
def test_method_settings(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(MethodError, match=text):
        get_method(**settings)


def test_kl_has_no_gradient_where_eap_looks() -> None:
    kl = get_metric("kl")
    with pytest.raises(MetricError, match=r"'kl' has zero gradient at the clean run.*'eap' looks.*--method eap-ig"):
        score_edges(view("gpt2"), random_prompts(1), kl, get_method("eap"))
    with pytest.raises(MetricError, match="zero gradient at the clean run"):
        score_edges(view("gpt2"), random_prompts(1), kl, get_method("eap-ig", alphas=[1.0, 1.0]))
    for method in (get_method("eap-ig"), get_method("clean-corrupted")):
        assert bool(score_edges(view("gpt2"), random_prompts(1), kl, method).mean.any())


def poisoned(part: str) -> TransformerView:
    """A Llama with a NaN among its weights, put there after it was loaded and checked."""
    v = view_of(hf_model("llama_grouped"), "poisoned")
    layer = v.layers[1]
    assert layer.mlp is not None
    attention = {"values": layer.attention.w_v, "output": layer.attention.w_o}
    weights: Tensor = attention[part] if part in attention else next(layer.mlp.parameters())
    weights.data[(0,) * weights.dim()] = torch.nan
    return v


@pytest.mark.parametrize("method", [get_method("eap"), get_method("eap-ig", steps=2)], ids=lambda m: m.name)
@pytest.mark.parametrize(
    ("part", "where"),
    [("values", "the attention of layer 1"), ("output", "the attention of layer 1"), ("mlp", "the MLP of layer 1")],
)
def test_nan_in_a_layer_is_reported_with_the_layer(method: Any, part: str, where: str) -> None:
    with pytest.raises(ScoreError, match=rf"in the clean run, first in {where} \(torch.float32\).*--dtype float32"):
        score_edges(poisoned(part), random_prompts(2), METRIC, method)


def test_nan_in_the_embedding_of_a_token_that_only_the_corrupt_prompts_have() -> None:
    model, prompts = hf_model("gpt2"), random_prompts(1)
    only_corrupt = set(prompts.corrupt[0].tolist()) - set(prompts.clean[0].tolist())
    v = view_of(model, "poisoned")
    model.transformer.wte.weight.data[only_corrupt.pop()] = torch.inf
    with pytest.raises(ScoreError, match="in the corrupt run, first in the embedding"):
        score_edges(v, prompts, METRIC, get_method("eap"))


def test_nan_behind_the_last_layer() -> None:
    v = view_of(hf_model("llama_grouped"), "poisoned")
    v.unembed_weight.data[5, 0] = torch.nan
    with pytest.raises(ScoreError, match="in the clean run, first in the final norm or the unembedding"):
        CircuitEvaluator(v, random_prompts(2))
    with pytest.raises(ScoreError, match="scores are NaN or infinite, the latest of them into logits"):
        score_edges(v, random_prompts(2), get_metric("nll"), get_method("eap"))


def test_no_prompts() -> None:
    nothing = random_prompts(1).select([])
    with pytest.raises(PromptError, match="no prompts to score edges on"):
        score_edges(view("gpt2"), nothing, METRIC, get_method("eap"))
    with pytest.raises(PromptError, match="no prompts to run circuits on"):
        CircuitEvaluator(view("gpt2"), nothing)
