"""How many pairs a task can give: the default sizes fit always, and what an error says can be asked for."""

import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acdc_engine.errors import TooFewPairsError
from acdc_engine.prompts.build import Splits, split_prompts
from acdc_engine.prompts.card import TaskCard, parse_card
from acdc_engine.run.check_task import check_task
from tests.fake_tokenizer import FakeTokenizer
from tests.tiny_task import tiny_view

WORDS = "abcdefghij"

PAIRS = st.lists(
    st.tuples(st.sampled_from(WORDS), st.sampled_from(WORDS), st.sampled_from("pqr")).filter(lambda p: p[0] != p[1]),
    min_size=1,
    max_size=25,
    unique_by=lambda pair: pair[:2],
)


def card_of(pairs: list[tuple[str, str, str]]) -> TaskCard:
    written = [{"clean": f"{a} is", "corrupt": f"{b} is", "template": name} for a, b, name in pairs]
    return parse_card({"name": "x", "description": "x", "metric": "kl", "pairs": written}, "x")


def table_of(words: str, templates: int) -> TaskCard:
    """Cards whose corruption takes any other row: all texts of a template are tied together."""
    data: dict[str, Any] = {"name": "x", "description": "x", "metric": "kl", "distinct": [["X", "Y"]]}
    data |= {"slots": {"X": "words", "Y": "words"}, "words": {"words": {"words": list(words)}}}
    texts = [{"name": f"t{i}", "clean": f"{i} {{X}} is", "corrupt": f"{i} {{Y}} is"} for i in range(templates)]
    return parse_card(data | {"templates": texts}, "x")


def sizes_of(splits: Splits) -> tuple[int, int]:
    return len(splits.discovery), len(splits.held_out)


def check_sizes(card: TaskCard, tokenizer: Any, asked: tuple[int, int]) -> None:
    """What any card must keep."""
    try:
        default = split_prompts(card, tokenizer, None, None, seed=0)
    except TooFewPairsError as error:
        assert "can give none that are kept apart" in str(error)
        with pytest.raises(TooFewPairsError):
            split_prompts(card, tokenizer, 1, 1, seed=0)
    else:
        again = split_prompts(card, tokenizer, *sizes_of(default), seed=0)
        assert min(sizes_of(default)) >= 1
        assert again.discovery.fingerprint() == default.discovery.fingerprint()
        assert again.held_out.fingerprint() == default.held_out.fingerprint()
        texts = [{t for p in s.pairs for t in (p.clean, p.corrupt)} for s in (default.discovery, default.held_out)]
        assert not texts[0] & texts[1]
        one = split_prompts(card, tokenizer, 1, None, seed=0)
        assert len(one.discovery) == 1 and len(one.held_out) >= 1
    try:
        assert sizes_of(split_prompts(card, tokenizer, *asked, seed=0)) == asked
    except TooFewPairsError as error:
        possible = re.search(r"can give (\d+) and (\d+):", str(error))
        if possible:
            n, n_held_out = map(int, possible.groups())
            assert n <= asked[0] and n_held_out <= asked[1] and (n, n_held_out) != asked
            assert sizes_of(split_prompts(card, tokenizer, n, n_held_out, seed=0)) == (n, n_held_out)


@settings(max_examples=100, deadline=None)
@given(PAIRS, st.integers(1, 20), st.integers(1, 20))
def test_sizes_of_any_file(pairs: list[tuple[str, str, str]], n: int, n_held_out: int) -> None:
    check_sizes(card_of(pairs), FakeTokenizer(), (n, n_held_out))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 10), st.integers(1, 3), st.integers(1, 20), st.integers(1, 20))
def test_sizes_of_any_card(words: int, templates: int, n: int, n_held_out: int) -> None:
    check_sizes(table_of(WORDS[:words], templates), FakeTokenizer(), (n, n_held_out))


@settings(max_examples=10, deadline=None)
@given(PAIRS)
def test_check_counts_what_discover_uses(pairs: list[tuple[str, str, str]]) -> None:
    card, view = card_of(pairs), tiny_view()
    found = check_task(card, view, n=4)
    try:
        splits = split_prompts(card, view.tokenizer, None, None, seed=0)
    except TooFewPairsError as error:
        assert found.sizes is None and not found.does_it
        assert [one.text for one in found.shortcomings if one.kind == "split"] == [str(error)]
    else:
        assert found.sizes == sizes_of(splits)


def test_templates_that_have_too_few_pairs_are_made_up_for_by_the_others() -> None:
    names = "p" * 2 + "q" * 28
    written = [{"clean": f"{i} is", "corrupt": f"{i + 100} is", "template": name} for i, name in enumerate(names)]
    card = parse_card({"name": "x", "description": "x", "metric": "kl", "pairs": written}, "x")
    found = split_prompts(card, FakeTokenizer(digits=None), 10, 20, seed=0)
    assert sizes_of(found) == (10, 20)
    counts = Counter(pair.template for pair in (*found.discovery.pairs, *found.held_out.pairs))
    assert counts == {"p": 2, "q": 28}
    default = split_prompts(card, FakeTokenizer(digits=None), None, None, seed=0)
    assert sum(sizes_of(default)) == 30


def test_one_corrupt_prompt_for_all_cannot_be_split() -> None:
    card = card_of([(word, "j", "p") for word in "abcdefgh"])
    with pytest.raises(TooFewPairsError) as error:
        split_prompts(card, FakeTokenizer(), None, None, seed=0)
    assert str(error.value) == (
        "Task 'x' was asked for 32 discovery and 64 held-out pairs and can give none that are kept apart: it has 8 "
        "pairs in 1 group that share no text. A text that is in one split cannot be in the other: add pairs, with "
        "texts of their own."
    )
