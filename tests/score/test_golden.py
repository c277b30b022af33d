"""Edge scores against an independent implementation (tests/golden/README.md)."""

import pytest

from acdc_engine.score import Method, get_method, score_edges
from tests.tiny_models import METRIC, golden, golden_prompts, golden_view, relative

METHODS = {
    "score_eap": get_method("eap"),
    "score_eap_ig_inputs_5": get_method("eap-ig", alphas=[0.0, 0.2, 0.4, 0.6, 0.8]),
    "score_clean_corrupted": get_method("clean-corrupted"),
}


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox"])
@pytest.mark.parametrize("key", METHODS)
@pytest.mark.parametrize("batch_size", [1, 5, 12])
def test_scores_equal_the_reference(name: str, key: str, batch_size: int) -> None:
    method: Method = METHODS[key]
    view, prompts = golden_view(name), golden_prompts(name)
    scores = score_edges(view, prompts, METRIC, method, batch_size=batch_size, per_example=True)
    assert relative(scores.mean, golden(name)[key]) < 1e-4
    assert scores.per_example is not None and relative(scores.per_example.mean(0), golden(name)[key]) < 1e-4
