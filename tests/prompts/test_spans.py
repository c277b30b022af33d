"""Spans: which place of its prompt every token is of; every token of one, whatever the words and the tokenizer."""

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from acdc_engine.prompts.build import build_splits, split_prompts
from acdc_engine.prompts.card import parse_card
from acdc_engine.prompts.drafts import drafts
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.prompts.template import PairTemplate, Template
from tests.fake_tokenizer import FakeTokenizer
from tests.prompts.cards import Data, card_data


def named(prompts: PromptSet, tokenizer: Any, row: int = 0) -> list[tuple[str, str]]:
    """Every token of a clean prompt with the name of its span."""
    ids = prompts.clean[row, : prompts.lengths[row]].tolist()
    return [(tokenizer.decode([token]), name) for token, name in zip(ids, prompts.span_names()[row], strict=True)]


def runs(found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Neighbours of one span joined."""
    joined: list[tuple[str, str]] = []
    for text, name in found:
        if joined and joined[-1][1] == name:
            joined[-1] = (joined[-1][0] + text, name)
        else:
            joined.append((text, name))
    return joined


def of_card(data: Data, where: str = "spans", tokenizer: Any = None, **more: Any) -> PromptSet:
    return build_splits(parse_card(data, "x"), tokenizer or FakeTokenizer(), 4, 0, seed=0, where=where, **more)[0]


def test_slots_and_the_text_between_them() -> None:
    tokenizer = FakeTokenizer()
    prompts = of_card(card_data(), tokenizer=tokenizer)
    a, b = prompts.pairs[0].answers[0], prompts.pairs[0].wrong_answers[0]
    place = prompts.pairs[0].clean.split(a if prompts.templates[0] == "ABBA" else b)[0].removeprefix("At the")
    assert prompts.templates[0] == "ABBA"
    assert runs(named(prompts, tokenizer)) == [
        *(("At the", "At the"), (place, "place"), (a, "A"), (" and", "and"), (b, "B"), (" met;", "met")),
        *((b, "B.2"), (" gave it", "gave it to"), (" to", "end")),
    ]
    second = [name for _, name in runs(named(prompts, tokenizer, 1))]
    assert second == ["At the", "place", "B", "and", "A", "met", "B.2", "gave it to", "end"], "BABA has the same ones"
    assert prompts.spans is not None and prompts.spans.names[prompts.spans.end] == "end"


def test_all_splits_have_the_same_spans() -> None:
    found = split_prompts(parse_card(card_data(), "x"), FakeTokenizer(), 4, 4, 0, n_validation=2, where="spans")
    assert found.validation is not None
    assert found.discovery.spans is found.held_out.spans is found.validation.spans is not None
    assert "place" in found.discovery.spans.names


def test_a_beginning_of_sequence_token_is_a_span() -> None:
    for where in ("spans", "tokens"):
        prompts = of_card(card_data() | {"prepend_bos": True, "words": one_token_each()}, where)
        assert [row[0] for row in prompts.span_names()] == ["bos"] * 4


def one_token_each() -> Data:
    return card_data()["words"] | {"places": {"words": ["park", "pub", "yard", "lake"]}}


def test_names_of_a_templates_parts() -> None:
    def names(text: str) -> list[str]:
        return [name for name in Template.parse(text).span_names() if name]

    assert names("When {A} and {B} met, {B} and {A} saw {B}") == [
        *("When", "A", "and", "B", "met", "B.2", "and.2", "A.2", "saw", "B.3")
    ]
    assert names("{A}{B} {C}: {X.capital}") == ["A", "B", "C", ":", "X.capital"], "spaces are the next word's"
    assert names("A: {A}\n\n{A}\t{A}") == ["A.4", "A", "blank", "A.2", "blank.2", "A.3"]
    assert names("the end {x} end") == ["the end", "x", "end.2"], "end is the position that is read"
    assert names("{end} {bos} {rest} bos") == ["end.2", "bos.2", "rest.2", "bos.3"]
    assert names("{x} (self, isn't well-known){y}") == ["x", "self isn't well-known", "y"]
    assert names("{x} one two three four five six seven {y}") == ["x", "one two three four five six", "y"]
    assert names("{x} -> @<{y}>>>>>>>>>>{x}") == ["x", "-gtatlt", "y", "gt" * 8, "x.2"], "what stands behind an @"


WORDS = st.sampled_from(["Ann", "Petrovich", "Valentina", "x", "1234", "of it", "Bob"])
TEXTS = st.text("ab ,;\n.' (é", max_size=8)


@given(st.lists(TEXTS, min_size=2, max_size=6), st.data())
def test_spans_tile_the_prompts_of_any_template(texts: list[str], data: st.DataObject) -> None:
    slots = data.draw(st.lists(st.sampled_from("ABC"), min_size=len(texts) - 1, max_size=len(texts) - 1))
    body = "".join(f"{text}{{{slot}}}" for text, slot in zip(texts, slots, strict=False)) + texts[-1]
    values = {name: data.draw(WORDS) for name in "ABC"}
    pattern = PairTemplate.parse("t", body, body, [" x"], [" y"]).named()
    draft = pattern.fill(values)
    ranges = draft.spans
    assert all(a.stop <= b.start for a, b in zip(ranges, ranges[1:], strict=False))
    covered = {i for part in ranges for i in range(part.start, part.stop)}
    assert all(draft.pair.clean[i] == " " for i in set(range(len(draft.pair.clean))) - covered)
    assert [part.name[0] for part in ranges if part.kind == "slot"] == slots


def test_every_draft_of_a_card_has_spans() -> None:
    found = list(drafts(parse_card(card_data(), "x"), FakeTokenizer(), random.Random(0)))
    assert found and all(draft.spans for draft in found)
