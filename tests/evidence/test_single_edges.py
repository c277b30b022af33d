"""Stability and necessity of edges, against loops."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from acdc_engine.errors import MethodError
from acdc_engine.evidence import single_edges as module
from acdc_engine.evidence.single_edges import necessity, resample_weights, score_stability
from acdc_engine.patch.judge import Target


def slow_stability(scores: Tensor, mask: Tensor, rank: str, count: int, resamples: int, seed: int) -> Tensor:
    """One resample after the other, one edge after the other; edges that score nothing anywhere are not ranked."""
    out = torch.full(mask.shape, torch.nan)
    ranked = [(s, r) for s, r in mask.new_ones(mask.shape).nonzero().tolist() if scores[:, s, r].any() or mask[s, r]]
    for sender, receiver in mask.nonzero().tolist():
        selected = 0
        for weights in resample_weights(len(scores), resamples, seed):
            mean = (weights[:, None, None] * scores).sum(0)
            strength = {edge: float(mean[edge].abs() if rank == "absolute" else mean[edge]) for edge in ranked}
            stronger = sum(value > strength[sender, receiver] for value in strength.values())
            selected += stronger < count
        out[sender, receiver] = selected / resamples
    return out


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from(("signed", "absolute")), st.integers(1, 20))
def test_stability_equals_the_obvious_loop(seed: int, rank: str, count: int) -> None:
    """Whole numbers and 8 prompts, so that means are exact and ties are frequent."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(-2, 3, (8, 3, 4), generator=generator).float()
    scores[:, 0] = 0
    mask = torch.rand(3, 4, generator=generator) < 0.4
    found = score_stability(scores, mask, "signed" if rank == "signed" else "absolute", count, 12, seed)
    assert torch.equal(found.nan_to_num(-1), slow_stability(scores, mask, rank, count, 12, seed).nan_to_num(-1))


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.randint(-9, 9, (16, 5, 6), generator=torch.Generator().manual_seed(0)).float()
    mask = torch.ones(5, 6, dtype=torch.bool)
    whole = score_stability(scores, mask, "signed", 7, 50)
    monkeypatch.setattr(module, "_CHUNK_NUMBERS", 70)
    assert torch.equal(score_stability(scores, mask, "signed", 7, 50), whole)


def slow_necessity(without: Tensor, whole: Tensor, clean: Tensor, ablated: Tensor, target: Target) -> list[float]:
    missed, counted = [0] * len(without), 0
    for weights in resample_weights(len(whole), 80, 1).double():

        def f(values: Tensor, weights: Tensor = weights) -> float:
            low = float(weights @ ablated.double())
            return (float(weights @ values.double()) - low) / (float(weights @ clean.double()) - low)

        if target.met(f(whole)):
            counted += 1
            missed = [count + (not target.met(f(values))) for count, values in zip(missed, without, strict=True)]
    return [count / counted for count in missed]


@pytest.mark.parametrize("seed", range(5))
def test_necessity_equals_the_obvious_loop(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    clean, ablated = 4 + torch.randn(12, generator=generator), torch.randn(12, generator=generator)
    whole = clean + 0.5 * torch.randn(12, generator=generator)
    without = whole - torch.rand(6, 1, generator=generator) + 0.3 * torch.randn(6, 12, generator=generator)
    found = necessity(without, whole, clean, ablated, Target(0.9), 80, 1)
    assert found.tolist() == pytest.approx(slow_necessity(without, whole, clean, ablated, Target(0.9)))


def test_corrected_necessity_is_that_of_a_metric_which_is_so_much_more() -> None:
    """With a span of 4 in every prompt .1 more of every f is .4 more of the metric."""
    generator = torch.Generator().manual_seed(0)
    clean, ablated = torch.full((12,), 4.0), torch.zeros(12)
    whole = 3.6 + 0.3 * torch.randn(12, generator=generator)
    without = whole - 0.6 * torch.rand(6, 1, generator=generator) + 0.3 * torch.randn(6, 12, generator=generator)
    found = necessity(without, whole, clean, ablated, Target(0.9), 200, corrections=(0.1,))
    assert found.tolist() == pytest.approx(
        necessity(without + 0.4, whole + 0.4, clean, ablated, Target(0.9), 200).tolist()
    )
    assert (
        0 < found.min() < found.max()
        and found.tolist() != necessity(without, whole, clean, ablated, Target(0.9), 200).tolist()
    )


def test_needed_not_needed_and_needed_by_some_prompts() -> None:
    """Without the third edge f is 1 on three prompts and 0 on one: 0.75 on the whole, 1 where that one is not drawn."""
    clean, ablated = torch.ones(4), torch.zeros(4)
    without = torch.stack([torch.zeros(4), torch.full((4,), 0.95), torch.tensor([1.0, 1.0, 1.0, 0.0])])
    found = necessity(without, torch.ones(4), clean, ablated, Target(0.9), 4000)
    assert found[:2].tolist() == [1, 0] and float(found[2]) == pytest.approx(1 - 0.75**4, abs=0.03)


def test_a_circuit_that_never_meets_the_target_says_nothing_about_its_edges() -> None:
    assert necessity(torch.zeros(2, 4), torch.full((4,), 0.5), torch.ones(4), torch.zeros(4), Target()).isnan().all()


def test_resamples_without_a_range_are_left_out() -> None:
    """Clean equals ablated on the first prompt: where only that one is drawn f is 0 / 0 or infinite."""
    clean, ablated = torch.tensor([0.0, 1.0]), torch.zeros(2)
    found = necessity(torch.tensor([[1.0, 0.0]]), torch.tensor([0.0, 1.0]), clean, ablated, Target(0.9))
    assert 0 < float(found[0]) < 1


def test_nothing_to_resample() -> None:
    with pytest.raises(MethodError, match="at least 1, not 0"):
        score_stability(torch.zeros(3, 2, 2), torch.ones(2, 2, dtype=torch.bool), "signed", 0, 5)
