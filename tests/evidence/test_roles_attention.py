"""Roles told by where a head looks: targets by hand, patterns made by hand, random tokens."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from acdc_engine.evidence.attention_roles import AttentionTally, attention_targets
from acdc_engine.evidence.random_tokens import LONGEST, SEQUENCES, repeated_tokens
from acdc_engine.graph.records import RoleName
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.prompt_set import PromptSet
from tests.fake_tokenizer import FakeTokenizer
from tests.tiny_models import VOCAB, random_prompts, view

REPEATED = torch.tensor([[9, 1, 2, 3, 4, 1, 2, 3, 4]])
"""BOS, four tokens, the same four."""
LENGTH = torch.tensor([9])


def pairs(target: Tensor) -> set[tuple[int, int]]:
    return {(q, p) for _, q, p in target.nonzero().tolist()}


def means(pattern: Tensor, tokens: Tensor = REPEATED, lengths: Tensor = LENGTH) -> dict[RoleName, float]:
    """Scores of one head that has this pattern `[queries, pos]` on every prompt."""
    tally = AttentionTally()
    tally.add(0, pattern.expand(len(tokens), 1, -1, -1), attention_targets(tokens, lengths))
    return tally.means(0, [5])[5]


def test_targets_by_hand() -> None:
    found = attention_targets(REPEATED, LENGTH)
    assert pairs(found["previous token"]) == {(q, q - 1) for q in range(2, 9)}
    assert pairs(found["duplicate token"]) == {(5, 1), (6, 2), (7, 3), (8, 4)}
    assert pairs(found["induction"]) == {(5, 2), (6, 3), (7, 4), (8, 5)}


def test_every_earlier_occurrence_counts_but_not_the_first_position_nor_oneself() -> None:
    found = attention_targets(torch.tensor([[7, 7, 7, 1, 2, 3, 4, 7]]), torch.tensor([8]))
    assert pairs(found["duplicate token"]) == {(2, 1), (7, 1), (7, 2)}
    assert pairs(found["induction"]) == {(7, 2), (7, 3)}  # (2, 2) would be the position itself


def test_padding_and_short_prompts_do_not_count() -> None:
    tokens = torch.cat([REPEATED, REPEATED, REPEATED])
    found = attention_targets(tokens, torch.tensor([9, 8, 7]))
    assert [int(found["induction"][row].sum()) for row in range(3)] == [4, 3, 0]
    assert [int(found["previous token"][row].sum()) for row in range(3)] == [7, 6, 0]


def test_repetitions_that_the_corrupt_prompt_has_too_do_not_count() -> None:
    """The repeated 1 is replaced, 2, 3 and 4 stay."""
    corrupt = REPEATED.clone()
    corrupt[0, 5] = 8
    found = attention_targets(REPEATED, LENGTH, corrupt)
    assert pairs(found["duplicate token"]) == {(5, 1)}
    assert pairs(found["induction"]) == {(5, 2)}
    assert len(pairs(found["previous token"])) == 7


@pytest.mark.parametrize("role", ["previous token", "duplicate token", "induction"])
def test_a_head_that_does_just_this_scores_one_and_no_other_role(role: RoleName) -> None:
    pattern = torch.zeros(9, 9)
    targets = attention_targets(REPEATED, LENGTH)[role][0]
    pattern[targets] = 1.0
    pattern[~targets.any(-1), 0] = 1.0
    found = means(pattern)
    assert found[role] == pytest.approx(1.0)
    assert all(value == 0.0 for other, value in found.items() if other != role)


def test_looking_everywhere_alike_scores_by_chance() -> None:
    uniform = torch.ones(9, 9).tril() / torch.arange(1, 10)[:, None]
    found = means(uniform)
    assert found["previous token"] == pytest.approx(sum(1 / (q + 1) for q in range(2, 9)) / 7)
    repeated = (1 / 6 + 1 / 7 + 1 / 8 + 1 / 9) / 4
    assert found["duplicate token"] == pytest.approx(repeated)
    assert found["induction"] == pytest.approx(repeated)


def test_a_role_that_no_position_tells_of_is_left_out() -> None:
    found = means(torch.eye(9), torch.arange(9)[None])
    assert found == {"previous token": 0.0}
    assert means(torch.eye(1), torch.tensor([[3]]), torch.tensor([1])) == {}


def test_means_are_over_positions_of_all_batches() -> None:
    """Seven positions that look back, and six of a shorter prompt that do not."""
    back = torch.zeros(9, 9)
    back[range(1, 9), range(8)] = 1.0
    tally = AttentionTally()
    tally.add(0, back[None, None], attention_targets(REPEATED, LENGTH))
    tally.add(0, torch.eye(9)[None, None], attention_targets(REPEATED, torch.tensor([8])))
    assert tally.means(0, [0])[0]["previous token"] == pytest.approx(7 / 13)


# Random tokens


def model(**changes: Any) -> TransformerView:
    return replace(view("llama_grouped"), **{"tokenizer": None, "max_positions": 64, **changes})


def prompts(length: int, first: int | None = None) -> PromptSet:
    made = random_prompts(3, length)
    if first is None:
        return made
    rows = [[first, *row[1:]] for row in made.clean.tolist()]
    return PromptSet.from_tokens(rows, rows)


@pytest.mark.parametrize(("task", "wanted"), [(7, 8), (21, 10), (31, 15), (60, LONGEST)])
def test_sequences_are_as_long_as_the_task_is_within_bounds(task: int, wanted: int) -> None:
    found = repeated_tokens(model(), prompts(task), seed=0)
    assert found is not None and found.shape == (SEQUENCES, 2 * wanted)
    assert torch.equal(found[:, :wanted], found[:, wanted:])
    assert all(len(set(row)) == wanted for row in found[:, :wanted].tolist())


def test_sequences_are_no_longer_than_the_model() -> None:
    found = repeated_tokens(model(max_positions=19), prompts(60), seed=0)
    assert found is not None and found.shape[1] == 18


def test_a_seed_gives_the_same_tokens() -> None:
    drawn = [repeated_tokens(model(), prompts(20), seed) for seed in (1, 1, 2)]
    assert drawn[0] is not None and drawn[1] is not None and drawn[2] is not None
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_bos_comes_first_where_the_task_has_it_and_only_there() -> None:
    with_bos = model(tokenizer=FakeTokenizer(bos=1), max_positions=17)
    found = repeated_tokens(with_bos, prompts(20, first=1), seed=0)
    assert found is not None and found.shape[1] == 17
    assert found[:, 0].tolist() == [1] * SEQUENCES and not (found[:, 1:] == 1).any()
    without = repeated_tokens(with_bos, prompts(20, first=5), seed=0)
    assert without is not None and without.shape[1] == 16 and len(set(without[:, 0].tolist())) > 1


class Special(FakeTokenizer):
    """Forty of the model's 61 tokens are words, twenty of them special."""

    all_special_ids = range(20)

    def __len__(self) -> int:
        return 40


def test_special_tokens_and_padding_of_the_vocabulary_are_not_drawn() -> None:
    found = repeated_tokens(model(tokenizer=Special()), prompts(14), seed=0)
    assert found is not None and int(found.min()) >= 20 and int(found.max()) < 40


@pytest.mark.parametrize("changes", [{"max_positions": 15}, {"d_vocab_in": 15}])
def test_too_few_positions_or_tokens(changes: dict[str, int]) -> None:
    assert repeated_tokens(model(**changes), prompts(14), seed=0) is None
    assert VOCAB > 16 and repeated_tokens(model(max_positions=16, d_vocab_in=16), prompts(14), seed=0) is not None
