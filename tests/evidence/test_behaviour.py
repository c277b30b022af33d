"""What is asked of a model before a circuit is searched: on numbers made by hand, and on tiny models."""

import pytest
import torch

from acdc_engine.errors import BehaviourError, MetricError
from acdc_engine.evidence.behaviour import chance_of, check_behaviour, shortcomings
from acdc_engine.evidence.figures import figures_of
from acdc_engine.patch.judge import Judge
from acdc_engine.prompts.prompt_set import PromptSet
from tests.evidence.judges import answered_by_the_model, judge_of
from tests.tiny_models import random_prompts


def reading(metric: str, read_at: int) -> Judge:
    drawn = random_prompts()
    return judge_of(PromptSet.from_tokens(drawn.clean, drawn.corrupt, read_at=read_at), metric)


def test_without_answers_the_corruption_alone_is_judged() -> None:
    j = reading("kl", read_at=3)
    found = check_behaviour(j)
    assert found.accuracy is None and found.chance == 0
    assert found.metric_clean == pytest.approx(0, abs=1e-6) and found.metric_ablated < -1e-4
    assert figures_of(j, j.graph.exists).accuracy_clean is None
    with pytest.raises(MetricError, match=r"'nll' needs right answers; .* add answers to the task, or use 'kl'\."):
        reading("nll", read_at=3)


def test_before_what_is_corrupted_nothing_can_be_read() -> None:
    with pytest.raises(BehaviourError, match="The corrupt metric equals the clean one"):
        reading("kl", read_at=0)


CLEAN = torch.tensor([1.0, 2.0, 3.0, 2.0, 1.0, 2.0])


def kinds(right: int | None, clean: torch.Tensor, corrupt: torch.Tensor) -> list[str]:
    return [found.kind for found in shortcomings(right, 0.5, clean, corrupt, "logit_diff")]


@pytest.mark.parametrize(
    ("right", "corrupt", "found"),
    [
        (6, CLEAN - 1, []),  # 0.5^6 = 0.016
        (None, CLEAN - 1, []),
        (5, CLEAN - 1, ["chance"]),  # 7 * 0.5^6 = 0.11
        (6, CLEAN, ["corruption"]),
        (6, CLEAN + 1, ["corruption"]),
        (6, CLEAN - torch.tensor([3.0, -2.9, 0, 0, 0, 0]), ["corruption"]),  # lower by luck
        (3, CLEAN + 1, ["chance", "corruption"]),
    ],
)
def test_both_are_tested_at_five_per_cent(right: int | None, corrupt: torch.Tensor, found: list[str]) -> None:
    assert kinds(right, CLEAN, corrupt) == found


def test_four_prompts_cannot_tell_from_a_half() -> None:
    assert kinds(4, CLEAN[:4], CLEAN[:4] - 1) == ["too few"]  # 0.5^4 = 0.0625
    assert kinds(5, CLEAN[:5], CLEAN[:5] - 1) == []  # 0.5^5 = 0.031
    assert kinds(None, CLEAN[:1], CLEAN[:1]) == []  # a single pair says nothing of the corruption


def test_the_texts_have_the_numbers() -> None:
    chance, corruption = shortcomings(3, 0.5, CLEAN, CLEAN + 1, "nll")
    assert chance.text == (
        "The model does not do this task: 3 of 6 clean prompts answered rightly (50%, chance 50%), not reliably better "
        "than guessing."
    )
    assert corruption.text == "The corruption does not hurt: nll is 1.833 on clean and 2.833 on corrupt prompts."


def test_chance() -> None:
    tokens = [[0, 1], [0, 1]]
    with_wrong = PromptSet.from_tokens(tokens, tokens, [[2], [2, 3, 4]], [[5], [6]])
    assert chance_of(with_wrong, 100) == pytest.approx((1 / 2 + 3 / 4) / 2)
    without = PromptSet.from_tokens(tokens, tokens, [[2], [2, 3, 4]])
    assert chance_of(without, 100) == pytest.approx(0.02)


def test_a_model_that_does_the_task_passes() -> None:
    found = check_behaviour(judge_of(answered_by_the_model(True)))
    assert found.accuracy == 1 and found.chance == 0.5 and found.metric_clean > found.metric_ablated


def test_a_model_that_does_not_do_the_task_is_stopped_with_the_numbers() -> None:
    j = judge_of(answered_by_the_model(False))
    with pytest.raises(BehaviourError, match=r"task: 0 of 8 .* rightly \(0%, chance 50%\).*logit_diff -\d.*--force"):
        check_behaviour(j)
    assert check_behaviour(j, force=True).accuracy == 0


def test_a_corruption_that_does_not_hurt_is_stopped() -> None:
    j = judge_of(answered_by_the_model(True))
    j.ablated = j.clean + torch.linspace(-1, 1.2, 8)
    with pytest.raises(BehaviourError, match="The corruption does not hurt"):
        check_behaviour(j)


def test_corrupt_equal_to_clean_is_refused_even_by_force() -> None:
    drawn = random_prompts()
    same = PromptSet.from_tokens(drawn.clean, drawn.clean, drawn.answers, drawn.wrong_answers)
    with pytest.raises(BehaviourError, match="The corrupt metric equals the clean one"):
        judge_of(same)


def test_too_few_prompts_to_tell_from_chance() -> None:
    with pytest.raises(BehaviourError, match=r"4 of 4 clean prompts are answered rightly, but so few.*more with --n"):
        check_behaviour(judge_of(answered_by_the_model(True, 4)))
