"""Prompts to records and back: the same tokens, or an error that names the record."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acdc_engine.errors import CircuitFileError
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.provenance import prompt_sets_of, prompts_hash, records_of
from tests.tiny_models import VOCAB, random_prompts

TOKEN = st.integers(0, VOCAB - 1)


@st.composite
def rows(draw: Any) -> dict[str, Any]:
    """Ragged prompts, read anywhere; answers of every number, or none at all."""
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    right, wrong = (st.lists(TOKEN, min_size=1, max_size=3) if draw(st.booleans()) else None for _ in range(2))
    return {
        "clean": [draw(st.lists(TOKEN, min_size=m, max_size=m)) for m in lengths],
        "corrupt": [draw(st.lists(TOKEN, min_size=m, max_size=m)) for m in lengths],
        "answers": [draw(right) for _ in lengths] if right is not None else [],
        "wrong_answers": [draw(wrong) for _ in lengths] if wrong is not None else [],
        "read_at": [draw(st.integers(0, m - 1)) for m in lengths],
    }


@given(rows(), rows(), rows())
def test_round_trip(first: dict[str, Any], second: dict[str, Any], third: dict[str, Any]) -> None:
    splits = tuple(PromptSet.from_tokens(**one) for one in (first, second, third))
    records = records_of(*splits)
    again = prompt_sets_of(records, VOCAB)
    assert prompts_hash(*again) == prompts_hash(*splits)
    for before, after in zip(splits, again, strict=True):
        assert (
            after is not None and torch.equal(before.clean, after.clean) and torch.equal(before.read_at, after.read_at)
        )
        assert torch.equal(before.answers, after.answers)
    assert records_of(*again) == records


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"corrupt": (1, 2)},
            r"The prompts of split discovery: Clean and corrupt prompts must have",
        ),
        ({"read_at": 7}, r"The prompts of split discovery: The metric can only be read inside a prompt"),
        ({"answers": (61,)}, r"prompts\.2: answers holds the token 61, and the model's tokens are 0 to 60"),
        ({"wrong_answers": (-1,)}, r"prompts\.2: wrong_answers holds the token -1"),
        ({"answers": ()}, r"The prompts of split discovery: Either every prompt has answers or none has"),
    ],
)
def test_records_that_are_no_prompts(change: dict[str, Any], message: str) -> None:
    records = list(records_of(random_prompts(3), random_prompts(2)))
    records[2] = records[2].model_copy(update=change)
    with pytest.raises(CircuitFileError, match=message):
        prompt_sets_of(records, VOCAB)


def test_a_split_without_prompts() -> None:
    """Held-out prompts may be missing, as after an experiment without; those that the search saw may not."""
    seen = records_of(random_prompts(3), None)
    assert prompt_sets_of(seen, VOCAB)[1] is None and prompts_hash(*prompt_sets_of(seen, VOCAB)).count("+") == 0
    with pytest.raises(CircuitFileError, match=r'holds no prompts of split "discovery".*--task'):
        prompt_sets_of([record.model_copy(update={"split": "held_out"}) for record in seen], VOCAB)


def test_names_of_templates_come_back_and_do_not_count_in_the_hash() -> None:
    tokens = [[1, 2], [3]], [[4, 5], [6]]
    plain, named = PromptSet.from_tokens(*tokens), PromptSet.from_tokens(*tokens, templates=["ABBA", "BABA"])
    assert prompts_hash(plain, plain) == prompts_hash(named, named)
    records = records_of(named, named.select([1]))
    assert [record.template for record in records] == ["ABBA", "BABA", "BABA"]
    again = prompt_sets_of(records, VOCAB)
    assert [prompts.templates for prompts in again if prompts] == [("ABBA", "BABA"), ("BABA",)]
    assert [batch.templates for batch in again[0].batches(1)] == [("ABBA",), ("BABA",)]
