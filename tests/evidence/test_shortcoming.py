"""What keeps a task from being one that a model does, on numbers made by hand."""

import pytest
import torch

from acdc_engine.evidence.shortcoming import chance_of, shortcomings
from acdc_engine.prompts.prompt_set import PromptSet

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
