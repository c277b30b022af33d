"""The aligned batch, by hand."""

from typing import Any

import jaxtyping
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acdc_engine.errors import PromptError
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.prompts.template import PromptPair


def small() -> PromptSet:
    return PromptSet.from_tokens(
        clean=[[5, 6, 7], [8, 9], [3]],
        corrupt=[[5, 4, 7], [8, 2], [1]],
        answers=[[10], [11, 12], [13]],
        wrong_answers=[[14, 15], [16], [17]],
    )


def test_from_tokens_pads_on_the_right() -> None:
    prompts = small()
    assert prompts.clean.tolist() == [[5, 6, 7], [8, 9, 0], [3, 0, 0]]
    assert prompts.corrupt.tolist() == [[5, 4, 7], [8, 2, 0], [1, 0, 0]]
    assert prompts.lengths.tolist() == [3, 2, 1]
    assert prompts.read_at.tolist() == [2, 1, 0]
    assert prompts.answers.tolist() == [[10, -1], [11, 12], [13, -1]]
    assert prompts.wrong_answers.tolist() == [[14, 15], [16, -1], [17, -1]]
    assert len(prompts) == 3 and prompts.device == torch.device("cpu")


def test_empty_and_without_answers() -> None:
    prompts, empty = PromptSet.from_tokens([[1, 2]], [[1, 3]], read_at=[0]), PromptSet.from_tokens([], [])
    assert prompts.answers.shape == prompts.wrong_answers.shape == (1, 0)
    assert len(empty) == 0 and list(empty.batches(4)) == [] and len(empty.select([])) == 0
    with pytest.raises(PromptError, match=r"batch size must be at least 1, not 0"):
        list(empty.batches(0))


def test_select_keeps_order_and_trims() -> None:
    pairs = [PromptPair(str(i), "", (), (), "t") for i in range(3)]
    prompts = PromptSet.from_tokens([[5, 6, 7], [8, 9], [3]], [[5, 4, 7], [8, 2], [1]], pairs=pairs)
    chosen = prompts.select([2, 1])
    assert chosen.clean.tolist() == [[3, 0], [8, 9]]
    assert [p.clean for p in chosen.pairs] == ["2", "1"]


@given(st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=6), min_size=1, max_size=9), st.integers(1, 10))
def test_batches_put_together_are_the_set(rows: list[list[int]], batch_size: int) -> None:
    prompts = PromptSet.from_tokens(rows, [[x + 1 for x in row] for row in rows], answers=[row[:1] for row in rows])
    back = [b.clean[i, :length].tolist() for b in prompts.batches(batch_size) for i, length in enumerate(b.lengths)]
    assert back == rows
    assert all(b.clean.shape[1] == int(b.lengths.max()) for b in prompts.batches(batch_size))


def test_fingerprint_follows_tokens_not_padding() -> None:
    prompts = small()
    alone = PromptSet.from_tokens([[8, 9]], [[8, 2]], [[11, 12]], [[16]])
    assert prompts.select([1]).fingerprint() == alone.fingerprint()
    wide = PromptSet(
        pairs=(),
        clean=torch.nn.functional.pad(alone.clean, (0, 3), value=7),
        corrupt=torch.nn.functional.pad(alone.corrupt, (0, 3), value=9),
        lengths=alone.lengths,
        read_at=alone.read_at,
        answers=alone.answers,
        wrong_answers=alone.wrong_answers,
    )
    assert wide.fingerprint() == alone.fingerprint()
    changed = [
        PromptSet.from_tokens([[8, 8]], [[8, 2]], [[11, 12]], [[16]]),
        PromptSet.from_tokens([[8, 9]], [[8, 3]], [[11, 12]], [[16]]),
        PromptSet.from_tokens([[8, 9]], [[8, 2]], [[11, 13]], [[16]]),
        PromptSet.from_tokens([[8, 9]], [[8, 2]], [[11, 12]], [[17]]),
        PromptSet.from_tokens([[8, 9]], [[8, 2]], [[11, 12]], [[16]], read_at=[0]),
        prompts.select([1, 0]),
    ]
    assert len({alone.fingerprint(), *(p.fingerprint() for p in changed)}) == 7


TOKENS = torch.tensor([[9, 5, 6, 7], [9, 8, 9, 9], [9, 3, 4, 9]])
CORRUPT = torch.tensor([[9, 5, 4, 7], [9, 7, 9, 9], [9, 2, 4, 9]])


@pytest.mark.parametrize(
    "given",
    [
        {"lengths": torch.tensor([4, 2, 3])},
        {"lengths": [4, 2, 3], "read_at": -1},
        {"padding": 9, "read_at": [3, -1, 2]},
    ],
)
@pytest.mark.parametrize("answers", [torch.tensor([1, 2, 3]), torch.tensor([[1, -1], [2, -1], [3, -1]]), [1, 2, 3]])
def test_tensors_of_ones_own(given: dict[str, Any], answers: Any) -> None:
    prompts = PromptSet.from_tokens(TOKENS, CORRUPT, answers, torch.tensor([4, 5, 6], dtype=torch.int32), **given)
    rows = [[9, 5, 6, 7], [9, 8], [9, 3, 4]], [[9, 5, 4, 7], [9, 7], [9, 2, 4]]
    by_hand = PromptSet.from_tokens(*rows, [[1], [2], [3]], [[4], [5], [6]])
    assert prompts.fingerprint() == by_hand.fingerprint()
    assert prompts.clean.dtype == prompts.lengths.dtype == prompts.answers.dtype == torch.long


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (([[1, 2]], [[1, 2, 3]]), r"same number of tokens: prompt 0 has 2 and 3"),
        (([[1, 2]], []), r"There are 1 clean prompts and 0 corrupt ones"),
        (([[], [1]], [[], [2]]), r"Lengths must lie in 1..1, not \[0, 1\]"),
        (([[1], [2]], [[2], [3]], [[1], [1]], [[2], []]), "Either every prompt has wrong_answers or none has"),
        (([[1], [2]], [[2], [3]], [[1]]), "^answers has 1 rows for 2 prompts: give one row each"),
        (([[1, -100]], [[1, 3]]), "Token ids are not negative: prompt 0 has -100"),
        (([[1.0]], [[1.0]]), r"clean is to be token ids, a list of whole numbers for each prompt; row 0 is \[1.0\]"),
        ((TOKENS.float(), CORRUPT), r"clean is to be token ids, .*, not float32 of shape \[3, 4\]"),
        ((TOKENS[0], CORRUPT[0]), r"whole numbers \[prompts, positions\], not int64 of shape \[4\]"),
    ],
)
def test_tokens_that_do_not_fit_are_refused(given: tuple[Any, ...], message: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users have no type checks at run time
    with pytest.raises(PromptError, match=message):
        PromptSet.from_tokens(*given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"read_at": [2]}, r"inside a prompt: prompt 0 has 2 tokens, and position 2, counted from 0, is none"),
        ({"read_at": -3}, r"only be read inside a prompt: .* position -1,"),
        ({"read_at": [0, 1]}, r"read_at is to be a whole number for each of the 1 prompts, not \[0, 1\]"),
        ({"lengths": [3]}, r"Lengths must lie in 1..2, not 3 \(prompt 0\)"),
        ({"lengths": [2], "padding": 0}, "lengths of the prompts, or the id that they are padded with, not both"),
        ({"pairs": [PromptPair("", "", (), (), "t")] * 2}, r"2 text pairs were given for 1 rows"),
        ({"templates": ["a", "b"]}, r"2 template names were given for 1 rows"),
    ],
)
def test_what_does_not_fit_the_tokens_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        PromptSet.from_tokens([[1, 2]], [[1, 3]], **given)


def test_padding_on_the_left_is_refused() -> None:
    with pytest.raises(PromptError, match=r"begin with 2 tokens of padding \(0\).*padding_side"):
        PromptSet.from_tokens([[1, 2, 3], [0, 0, 4]], [[1, 2, 4], [0, 0, 5]], padding=0)
