"""Splits: disjoint, seeded, balanced; what a card cannot give is said with the number it can."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acdc_engine.errors import PromptError, TooFewPairsError
from acdc_engine.prompts.build import build_splits, split_prompts
from acdc_engine.prompts.card import TaskCard, parse_card
from acdc_engine.prompts.prompt_set import PromptSet
from tests.fake_tokenizer import FakeTokenizer
from tests.prompts.cards import card_data

Data = dict[str, Any]
NAMES = ["Ann", "Bob", "Cem", "Dora", "Eva", "Finn", "Gita", "Hans"]


def card_with(data: Data, n_names: int, n_places: int, n_templates: int = 2) -> TaskCard:
    data["words"]["names"]["words"] = NAMES[:n_names]
    data["words"]["places"]["words"] = ["park", "Petrovich", "shop"][:n_places]
    data["templates"] = data["templates"][:n_templates]
    return parse_card(data, "x")


def texts(prompts: PromptSet) -> tuple[set[str], set[str]]:
    return {p.clean for p in prompts.pairs}, {p.corrupt for p in prompts.pairs}


def shared(one: PromptSet, other: PromptSet) -> set[str]:
    """Texts in both, clean or corrupt."""
    mine, others = ({text for p in split.pairs for text in (p.clean, p.corrupt)} for split in (one, other))
    return mine & others


@settings(max_examples=60, deadline=None)
@given(
    n_names=st.integers(3, 8),
    n_places=st.integers(1, 3),
    n_discovery=st.integers(1, 14),
    n_held_out=st.integers(0, 14),
    seed=st.integers(0, 10**6),
)
def test_properties(n_names: int, n_places: int, n_discovery: int, n_held_out: int, seed: int) -> None:
    card = card_with(card_data(), n_names, n_places)
    arguments = (card, FakeTokenizer(), n_discovery, n_held_out, seed)
    try:
        discovery, held_out = build_splits(*arguments)
    except PromptError as error:
        assert "and can give" in str(error)
        assert n_names < 5  # with five names and more there is always enough for 28 pairs
        return
    assert (len(discovery), len(held_out)) == (n_discovery, n_held_out)
    assert not shared(discovery, held_out)
    for prompts in (discovery, held_out):
        assert len(texts(prompts)[0]) == len(prompts)
        counts = Counter(p.template for p in prompts.pairs)
        assert abs(counts["ABBA"] - counts["BABA"]) <= 1
        # Clean and corrupt are the same but for the one name that was replaced, and the padding.
        assert ((prompts.clean != prompts.corrupt).sum(dim=1) == 1).all()
        for i, length in enumerate(prompts.lengths.tolist()):
            assert (prompts.clean[i, length:] == 0).all() and (prompts.clean[i, :length] > 0).all()
    again = build_splits(*arguments)
    assert [p.fingerprint() for p in again] == [discovery.fingerprint(), held_out.fingerprint()]


def test_the_number_possible_is_said() -> None:
    # One template, three names, one place: 3 * 2 clean prompts, each with its own corrupt prompt.
    card = card_with(card_data(), 3, 1, n_templates=1)
    with pytest.raises(PromptError) as error:
        build_splits(card, FakeTokenizer(), 4, 3, seed=0)
    assert str(error.value) == (
        "Task 'small' was asked for 4 discovery and 3 held-out pairs and can give 3 and 3: it has 6 "
        "different clean prompts in 6 groups that share no text. "
        "Ask for at most that many, or add words to its lists or templates."
    )
    discovery, held_out = build_splits(card, FakeTokenizer(), 3, 3, seed=0)
    assert len(texts(discovery)[0] | texts(held_out)[0]) == 6


def test_sizes_must_make_sense() -> None:
    for sizes in ((0, 5), (5, -1)):
        rule = "no fewer than 0 held-out and validation prompts are needed, not {}, {} and 0"
        with pytest.raises(PromptError, match=rule.format(*sizes)):
            build_splits(card_with(card_data(), 3, 1), FakeTokenizer(), *sizes, seed=0)


def test_a_large_card_whose_distinct_group_cannot_be_filled_ends() -> None:
    data = card_data()
    # D is never different from E: both lists hold the same single word. The other lists make the space large.
    data["words"]["names"]["words"] = [f"N{chr(97 + i)}{chr(97 + j)}" for i in range(8) for j in range(8)]
    data["words"] |= {"one": {"words": ["here"]}, "other": {"words": ["here"]}}
    data["slots"] |= {"D": "one", "E": "other"}
    data["distinct"].append(["D", "E"])
    for template in data["templates"]:
        template["clean"] = template["clean"].replace("gave", "{D} {E} gave")
        template["corrupt"] = template["corrupt"].replace("gave", "{D} {E} gave")
    with pytest.raises(PromptError, match=r"can give none that are kept apart: it has 0 different clean prompts"):
        build_splits(parse_card(data, "x"), FakeTokenizer(), 2, 2, seed=0)


def test_misfits_of_a_card_are_left_out() -> None:
    data = card_data()
    data["templates"][1]["answers"] = [" Ivanovich"]
    data["words"]["names"]["words"] = NAMES
    card = parse_card(data, "x")
    with pytest.raises(PromptError, match=r"the answer ' Ivanovich' is not one token(.|\n)*--drop-misfits"):
        split_prompts(card, FakeTokenizer(), 6, 6, seed=0)
    found = split_prompts(card, FakeTokenizer(), 6, 6, seed=0, drop_misfits=True)
    assert {pair.template for split in (found.discovery, found.held_out) for pair in split.pairs} == {"ABBA"}
    assert found.left_out is not None and found.left_out.reasons == {"an answer is not one token": found.left_out.count}
    del data["templates"][0]
    with pytest.raises(TooFewPairsError, match="it has 0 different clean prompts"):
        split_prompts(parse_card(data, "x"), FakeTokenizer(), 6, 6, seed=0, drop_misfits=True)
