"""The aligned batch, by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acdc_engine.errors import PromptError
from acdc_engine.prompts.pair import PromptPair
from acdc_engine.prompts.prompt_set import PromptSet


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


def test_answers_may_be_left_out() -> None:
    prompts = PromptSet.from_tokens([[1, 2]], [[1, 3]], read_at=[0])
    assert prompts.answers.shape == prompts.wrong_answers.shape == (1, 0)
    assert prompts.read_at.tolist() == [0]


def test_an_empty_set_is_a_set() -> None:
    empty = PromptSet.from_tokens([], [])
    assert len(empty) == 0 and list(empty.batches(4)) == [] and len(empty.select([])) == 0


def test_select_keeps_order_and_trims() -> None:
    pairs = [PromptPair(str(i), "", (), (), "t") for i in range(3)]
    prompts = PromptSet.from_tokens([[5, 6, 7], [8, 9], [3]], [[5, 4, 7], [8, 2], [1]], pairs=pairs)
    chosen = prompts.select([2, 1])
    assert chosen.clean.tolist() == [[3, 0], [8, 9]]
    assert [p.clean for p in chosen.pairs] == ["2", "1"]


def test_batches_trim_to_their_own_longest() -> None:
    first, second = small().batches(2)
    assert first.clean.shape == (2, 3) and second.clean.shape == (1, 1)
    assert second.answers.tolist() == [[13, -1]]
    with pytest.raises(PromptError, match=r"batch size must be at least 1, not 0"):
        list(small().batches(0))


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


def test_to_moves_every_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[torch.Tensor, str]] = []
    prompts = small()

    def pretend(tensor: torch.Tensor, device: str) -> torch.Tensor:
        asked.append((tensor, device))
        return tensor

    monkeypatch.setattr(torch.Tensor, "to", pretend)
    moved = prompts.to("cuda:1")
    assert [device for _, device in asked] == ["cuda:1"] * 6
    assert {id(t) for t, _ in asked} == {id(t) for t in vars(prompts).values() if isinstance(t, torch.Tensor)}
    assert moved.fingerprint() == prompts.fingerprint()


def test_sets_that_do_not_fit_are_refused() -> None:
    with pytest.raises(PromptError, match=r"same number of tokens: \[2\] and \[3\]"):
        PromptSet.from_tokens([[1, 2]], [[1, 2, 3]])
    with pytest.raises(PromptError, match=r"Lengths must lie in 1..1, not \[0, 1\]"):
        PromptSet.from_tokens([[], [1]], [[], [2]])
    with pytest.raises(PromptError, match=r"only be read inside a prompt: positions \[2\] for lengths \[2\]"):
        PromptSet.from_tokens([[1, 2]], [[1, 3]], read_at=[2])
    with pytest.raises(PromptError, match=r"Either every prompt has wrong_answers or none has"):
        PromptSet.from_tokens([[1], [2]], [[2], [3]], [[1], [1]], [[2], []])
    with pytest.raises(PromptError, match=r"1 text pairs were given for 2 rows"):
        PromptSet.from_tokens([[1], [2]], [[2], [3]], pairs=[PromptPair("", "", (), (), "t")])
    with pytest.raises(PromptError, match=r"^answers has 1 rows for 2 prompts: give one row each"):
        PromptSet.from_tokens([[1], [2]], [[2], [3]], [[1]])
