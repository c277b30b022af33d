"""EAP-IG along the path of the senders: by hand, against the slow twin, and what its scores add up to."""

from math import exp, log

import pytest
import torch

from acdc_engine.prompts.metrics import get_metric
from acdc_engine.score import get_method, score_edges
from tests.micro_models import edge_values, head_feeds_query
from tests.patch.slow_twin import slow_run
from tests.score.test_receivers import SPLIT, split_gradients
from tests.tiny_models import CORE, METRIC, random_prompts, relative, view


def written(alpha: float) -> float:
    """What a1.h0 of `head_feeds_query` leaves in x at position 1: the question is alpha ln 3, its odds 3^alpha to 1."""
    weight = 3**alpha / (1 + 3**alpha)
    return 2 + 6 * weight + 2 * (1 - weight)


def slope(x: float) -> float:
    """Of log p of the first of three tokens with logits x, 0 and 0."""
    return 2 / (exp(x) + 2)


@pytest.mark.parametrize(("method", "straight"), [("eap-ig-path", False), ("eap-ig", True)])
def test_increments_by_hand(method: str, straight: bool) -> None:
    """Two steps: gradients at 1/4 and 3/4, each with what the head's write moves by in its own half."""
    v, prompts = head_feeds_query()
    halves = (written(0.5) - written(0), written(1) - written(0.5))
    first, second = (sum(halves) / 2,) * 2 if straight else halves
    wanted = first * slope(written(0.25)) + second * slope(written(0.75))
    scores = score_edges(v, prompts, get_metric("nll"), get_method(method, 2)).mean
    assert edge_values(v, scores)["a1.h0->logits"] == pytest.approx(wanted, rel=1e-4)


def test_the_only_edge_into_the_logits_gets_the_change_of_the_metric() -> None:
    v, prompts = head_feeds_query()
    scores = score_edges(v, prompts, get_metric("nll"), get_method("eap-ig-path", 40)).mean
    change = log(1 - slope(written(1))) - log(1 - slope(written(0)))
    assert edge_values(v, scores)["a1.h0->logits"] == pytest.approx(change, rel=1e-4)


@pytest.mark.parametrize("name", SPLIT)
def test_scores_are_sums_over_steps_of_differences_times_split_gradients(name: str) -> None:
    v, prompts, steps = view(name), random_prompts(3, 6), 3
    ends = v.embed(prompts.corrupt), v.embed(prompts.clean)
    runs = [slow_run(v, torch.lerp(*ends, k / steps)).values for k in range(steps + 1)]
    wanted = torch.zeros(v.graph.n_senders, v.graph.n_receivers)
    for k in range(steps):
        gradients = split_gradients(v, prompts, torch.lerp(*ends, (k + 0.5) / steps))
        for sender, receiver in v.graph.exists.nonzero().tolist():
            change = runs[k + 1][sender] - runs[k][sender]
            wanted[sender, receiver] += (change * gradients[receiver]).sum() / len(prompts)
    assert relative(score_edges(v, prompts, METRIC, get_method("eap-ig-path", steps)).mean, wanted) < 1e-4


@pytest.mark.parametrize("name", sorted({*CORE} - {"mixtral"}))
def test_scores_into_the_logits_add_up_to_the_change_of_the_metric(name: str) -> None:
    """Where what senders write has no jumps: experts are chosen."""
    v, prompts, metric = view(name), random_prompts(4), get_metric("prob_diff")
    logits = (v.logits(tokens)[torch.arange(4), prompts.read_at] for tokens in (prompts.clean, prompts.corrupt))
    clean, corrupt = (metric(one, prompts).mean() for one in logits)

    def missing(method: str, steps: int) -> float:
        into = score_edges(v, prompts, metric, get_method(method, steps)).mean[:, v.graph.logits]
        return abs(float(into.sum() / (clean - corrupt)) - 1)

    assert missing("eap-ig-path", 60) < 0.02 < missing("eap-ig", 60)


@pytest.mark.parametrize("metric", ["kl", "logit_diff"])
def test_what_comes_before_the_first_change_and_batches_do_not_matter(metric: str) -> None:
    """`kl` compares with the clean run, whose logits the first batch must not leave to the second."""
    v, prompts = view("gemma3"), random_prompts(5, 9, ragged=True)
    prompts.corrupt[:, :3] = prompts.clean[:, :3]
    prompts.corrupt[:, 4] = (prompts.clean[:, 4] + 3) % 40
    method = get_method("eap-ig-path", 3)
    whole = score_edges(v, prompts, get_metric(metric), method, batch_size=3, per_example=True)
    assert whole.per_example is not None and whole.settings == {"alphas": [1 / 6, 0.5, 5 / 6]}
    for i in range(len(prompts)):
        alone = score_edges(v, prompts.select([i]), get_metric(metric), method).mean
        assert relative(whole.per_example[i], alone) < 1e-4
