"""Edge scores on models worked out on paper (tests/micro_models.py has the clean and corrupt runs)."""

from math import sqrt

import pytest

from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.score import Method, get_method, score_edges
from tests.micro_models import LN3, copying_head, edge_values, head_feeds_query, shared_values


def scores_of(model: tuple[TransformerView, PromptSet], method: Method) -> dict[str, float]:
    view, prompts = model
    return edge_values(view, score_edges(view, prompts, get_metric("logit_diff"), method).mean)


EAP, CORRUPT = get_method("eap"), get_method("eap-ig", alphas=[0.0])


def test_copying_head_at_the_clean_run() -> None:
    """The gradient at the logits' input is (1, -1, 0) everywhere.

    a0.h0->logits: ((3, 1) - (0, 6)) . (1, -1) = 8. input->v, at position 0: weight 3/4 times
    ((4, 0) - (0, 8)) . (1, -1) = 9. input->k, at position 0: the weight's slope w (1 - w) = 3/16 times
    ((4, 0) - (0, 4)) . (1, -1) = 8 times the flag's difference ln 3. Position 1 is the same in both prompts.
    """
    wanted = {"a0.h0->logits": 8, "input->a0.h0<v>": 9, "input->a0.h0<k>": 1.5 * LN3}
    assert scores_of(copying_head(), EAP) == pytest.approx(wanted, abs=1e-5)


def test_copying_head_at_the_corrupt_run_and_at_both_ends() -> None:
    """w = 1/2: v has 1/2 * 12 = 6; k has 1/4 * ((0, 8) - (0, 4)) . (1, -1) = -1 times ln 3."""
    at_corrupt = {"a0.h0->logits": 8, "input->a0.h0<v>": 6, "input->a0.h0<k>": -LN3}
    both = {"a0.h0->logits": 8, "input->a0.h0<v>": 7.5, "input->a0.h0<k>": 0.25 * LN3}
    assert scores_of(copying_head(), CORRUPT) == pytest.approx(at_corrupt, abs=1e-5)
    assert scores_of(copying_head(), get_method("clean-corrupted")) == pytest.approx(both, abs=1e-5)


@pytest.mark.parametrize(("method", "weight"), [(EAP, 3 / 4), (CORRUPT, 1 / 2)], ids=["clean", "corrupt"])
def test_a_head_that_feeds_a_query(method: Method, weight: float) -> None:
    """The question changes by ln 3, the score with it (keys 1 and 0), the metric by (6 - 2) w (1 - w) of that.

    input->a0.h0<v>: half the signal's difference, 2 ln 3, arrives: the same number.
    """
    slope = 4 * weight * (1 - weight)
    wanted = {"a1.h0->logits": 1, "a0.h0->a1.h0<q>": slope * LN3, "input->a0.h0<v>": slope * LN3}
    assert scores_of(head_feeds_query(), method) == pytest.approx(wanted, abs=1e-5)


def test_integrated_gradients_halfway() -> None:
    """One midpoint: the question is ln 3 / 2, the odds are sqrt 3 to 1, w (1 - w) = sqrt 3 / (1 + sqrt 3)^2."""
    found = scores_of(head_feeds_query(), get_method("eap-ig", steps=1))
    assert found["a0.h0->a1.h0<q>"] == pytest.approx(4 * LN3 * sqrt(3) / (1 + sqrt(3)) ** 2, abs=1e-5)


def test_integrated_gradients_add_up_to_the_change_of_the_metric() -> None:
    """The path is the only one, so the integral of its gradient is the whole change, 7 - 6."""
    found = scores_of(head_feeds_query(), get_method("eap-ig", steps=50))
    assert found["a0.h0->a1.h0<q>"] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("method", [EAP, CORRUPT], ids=["clean", "corrupt"])
def test_shared_values(method: Method) -> None:
    """Everything is linear: scores are what the edges carry. Each head's write counts once at the logits, twice in m0.

    The shared value: half of (3 * 1 + 3 * 3) times the difference 2 at position 0, which is the whole change, 12.
    """
    wanted = {
        "input->a0.kv0<v>": 12,
        "a0.h0->m0": 2,
        "a0.h1->m0": 6,
        "a0.h0->logits": 1,
        "a0.h1->logits": 3,
        "m0->logits": 8,
    }
    assert scores_of(shared_values(), method) == pytest.approx(wanted, abs=1e-5)


def test_ungrouped_values_share_the_score() -> None:
    found = scores_of(shared_values(ungrouped=True), EAP)
    assert (found["input->a0.h0<v>"], found["input->a0.h1<v>"]) == pytest.approx((3, 9), abs=1e-5)
