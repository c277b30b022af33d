"""Prompts to records and back: the same tokens, or an error that names the record."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.evidence_records import PromptRecord
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


@given(rows(), rows())
def test_round_trip(first: dict[str, Any], second: dict[str, Any]) -> None:
    discovery, held_out = PromptSet.from_tokens(**first), PromptSet.from_tokens(**second)
    records = records_of(discovery, held_out)
    again = prompt_sets_of(records, VOCAB)
    assert prompts_hash(*again) == prompts_hash(discovery, held_out)
    for before, after in zip((discovery, held_out), again, strict=True):
        assert torch.equal(before.clean, after.clean) and torch.equal(before.read_at, after.read_at)
        assert torch.equal(before.answers, after.answers)
    assert records_of(*again) == records


def test_by_hand() -> None:
    prompts = PromptSet.from_tokens([[1, 2], [3]], [[4, 5], [6]], answers=[[7, 8], [9]])
    records = records_of(prompts, prompts.select([1]))
    assert records == (
        PromptRecord(split="discovery", clean=(1, 2), corrupt=(4, 5), read_at=1, answers=(7, 8)),
        PromptRecord(split="discovery", clean=(3,), corrupt=(6,), read_at=0, answers=(9,)),
        PromptRecord(split="held_out", clean=(3,), corrupt=(6,), read_at=0, answers=(9,)),
    )
    # Splits may be mixed in the file; their rows keep their order.
    discovery, held_out = prompt_sets_of((records[0], records[2], records[1]), VOCAB)
    assert discovery.fingerprint() == prompts.fingerprint() and len(held_out) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"corrupt": (1, 2)}, r"prompts\.2: the clean prompt has 7 tokens and the corrupt one 2; they must"),
        ({"read_at": 7}, r"prompts\.2: read_at is 7, outside the prompt's 7 tokens"),
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
    records = [record for record in records_of(random_prompts(3), random_prompts(2)) if record.split == "discovery"]
    with pytest.raises(CircuitFileError, match=r'holds no prompts of split "held_out".*--task'):
        prompt_sets_of(records, VOCAB)


def test_names_of_templates_come_back_and_do_not_count_in_the_hash() -> None:
    tokens = [[1, 2], [3]], [[4, 5], [6]]
    plain, named = PromptSet.from_tokens(*tokens), PromptSet.from_tokens(*tokens, templates=["ABBA", "BABA"])
    assert prompts_hash(plain, plain) == prompts_hash(named, named)
    records = records_of(named, named.select([1]))
    assert [record.template for record in records] == ["ABBA", "BABA", "BABA"]
    again = prompt_sets_of(records, VOCAB)
    assert [prompts.templates for prompts in again] == [("ABBA", "BABA"), ("BABA",)]
    assert [batch.templates for batch in again[0].batches(1)] == [("ABBA",), ("BABA",)]


def test_records_of_older_files_are_read_and_written_as_they_were() -> None:
    old = records_of(*[PromptSet.from_tokens([[1, 2]], [[4, 5]])] * 2)[0].model_dump(mode="json")
    assert "template" not in old
    assert PromptRecord.model_validate(old).template is None
    records = [PromptRecord.model_validate(old | {"split": split}) for split in ("discovery", "held_out")]
    assert [prompts.templates for prompts in prompt_sets_of(records, VOCAB)] == [(), ()]
    with_one = [*records, records[0].model_copy(update={"template": "ABBA"})]
    assert prompt_sets_of(with_one, VOCAB)[0].templates == ("not named", "ABBA")
