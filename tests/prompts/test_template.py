"""The template language, by hand and as a property."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acdc_engine.errors import TaskError
from acdc_engine.prompts.template import PairTemplate, Template


def test_parse_splits_fixed_text_and_slots() -> None:
    template = Template.parse("When {A} met {B_2}, {A} left")
    assert template.texts == ("When ", " met ", ", ", " left")
    assert template.slots == ("A", "B_2", "A")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ab {A", "the brace '{' at column 4 has no partner (as text write '{{')"),
        ("ab A}", "the brace '}' at column 5 has no partner (as text write '}}')"),
        ("a {} b", "the slot '{}' at column 3 needs a name of letters, digits and underscores"),
        ("a {x y}", "the slot '{x y}' at column 3 needs a name of letters, digits and underscores"),
    ],
)
def test_syntax_errors(text: str, message: str) -> None:
    with pytest.raises(TaskError) as error:
        Template.parse(text)
    assert str(error.value) == message


@given(st.text())
def test_any_text_survives_when_its_braces_are_doubled(text: str) -> None:
    escaped = text.replace("{", "{{").replace("}", "}}")
    assert Template.parse(escaped).fill({}) == (text, ())


def test_a_pair_knows_where_it_differs() -> None:
    pattern = PairTemplate.parse("p", "{A} saw {B}, {B}", "{A} saw {B}, {C}", [" {A}"], [" {B}", " x"])
    assert pattern.all_slots == ["A", "B", "C"]
    assert pattern.replaced == [("B", "C")]
    draft = pattern.fill({"A": "Ann", "B": "Bob", "C": "Cemal"})
    assert draft.pair.clean == "Ann saw Bob, Bob"
    assert draft.pair.corrupt == "Ann saw Bob, Cemal"
    assert (draft.pair.answers, draft.pair.wrong_answers) == ((" Ann",), (" Bob", " x"))
    assert draft.clean_ranges == ((13, 16),) and draft.corrupt_ranges == ((13, 18),)
