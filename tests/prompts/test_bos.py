"""The beginning-of-sequence token: what is asked for, else what the card says, else the tokenizer's habit."""

from collections.abc import Callable
from typing import Any

import pytest

from acdc_engine.prompts.bos import adds_bos, as_hashed, settled
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.card import parse_card

Data = dict[str, Any]


def test_habits_of_tokenizers(make_tokenizer: Any, smollm2_tokenizer: Any) -> None:
    assert not adds_bos(smollm2_tokenizer) and not adds_bos(make_tokenizer())
    assert adds_bos(make_tokenizer(adds_bos=True)) and not adds_bos(make_tokenizer(bos=None))


@pytest.mark.parametrize("habit", [False, True])
@pytest.mark.parametrize("in_card", [None, False, True])
@pytest.mark.parametrize("asked", [None, False, True])
def test_who_decides(
    card_data: Callable[[], Data], make_tokenizer: Any, habit: bool, in_card: bool | None, asked: bool | None
) -> None:
    data = card_data() | ({} if in_card is None else {"prepend_bos": in_card})
    card = settled(parse_card(data, "x"), make_tokenizer(adds_bos=habit), asked)
    expected = next(said for said in (asked, in_card, habit) if said is not None)
    assert card.prepend_bos is expected
    prompts, _ = build_splits(card, make_tokenizer(adds_bos=habit), 4, 0, seed=0)
    assert ((prompts.clean[:, 0] == 1) == expected).all()


def test_a_card_that_leaves_it_open_has_the_hash_that_cards_had_before(card_data: Callable[[], Data]) -> None:
    card = parse_card(card_data(), "x")
    for said in (False, True):
        before = parse_card(card_data() | {"prepend_bos": said}, "x").fingerprint()
        found = as_hashed(card, before)
        assert found is not None and found.prepend_bos is said and found.fingerprint() == before
    assert as_hashed(card, "0" * 64) is None
