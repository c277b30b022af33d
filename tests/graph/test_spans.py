"""Spans: names of places in prompts."""

import pytest
import torch

from acdc_engine.errors import PromptError
from acdc_engine.graph.spans import Spans
from acdc_engine.prompts.prompt_set import PromptSet, with_common_spans

ABBA = ["bos", "A", "B", "and", "B.2", "end"]
BABA = ["bos", "B", "A", "and", "and", "B.2", "end"]


def test_names_stand_as_in_the_prompts_and_who_can_look_back_at_whom_is_known() -> None:
    spans = Spans.of([ABBA, BABA], [5, 6])
    assert spans.names == ("bos", "A", "B", "and", "B.2", "end") and spans.end == 5 and len(spans) == 6
    place = spans.names.index
    assert spans.leads[place("A")][place("B")] and spans.leads[place("B")][place("A")], "in one template each"
    assert spans.leads[place("and")][place("and")] and not spans.leads[place("B.2")][place("and")]
    assert not spans.leads[place("end")][place("bos")] and all(spans.leads[place("bos")])


@pytest.mark.parametrize(
    ("tokens", "read_at", "text"),
    [
        ([["a", "end"], ["a", "last"]], [1, 1], "must have one name in all prompts: in prompt 0 it is 'end'"),
        ([["end", "end"]], [1], "has the reading position alone: 'end' has 2 tokens in prompt 0"),
        ([["a@b", "end"]], [1], "A span cannot be called 'a@b'"),
        ([["", "end"]], [1], "A span cannot be called ''"),
    ],
)
def test_refuses(tokens: list[list[str]], read_at: list[int], text: str) -> None:
    with pytest.raises(PromptError, match=text):
        Spans.of(tokens, read_at)


def test_refuses_what_no_prompt_has() -> None:
    with pytest.raises(PromptError, match="Two spans are called 'a'"):
        Spans(("a", "a"), ((True,) * 2,) * 2, 0)
    with pytest.raises(PromptError, match="read at span 1, and there are 1"):
        Spans(("a",), ((True,),), 1)
    with pytest.raises(PromptError, match="for all pairs of 2 spans"):
        Spans(("a", "b"), ((True, True),), 1)


def test_prompt_sets_carry_spans() -> None:
    clean = [list(range(1, 7)), list(range(1, 8))]
    plain = PromptSet.from_tokens(clean, clean)
    prompts = PromptSet.from_tokens(clean, clean, spans=[ABBA, BABA])
    assert plain.spans is None and plain.span_names() == [[], []]
    assert prompts.span_names() == [ABBA, BABA] and prompts.span_at is not None
    assert prompts.span_at.tolist()[0] == [0, 1, 2, 3, 4, 5, -1]
    short = prompts.select([0])
    assert short.span_names() == [ABBA] and short.spans is prompts.spans
    assert short.span_at is not None and short.span_at.shape == (1, 6)
    other = prompts.placed([[name.lower() for name in row] for row in (ABBA, BABA)])
    assert len({plain.fingerprint(), prompts.fingerprint(), other.fingerprint()}) == 3
    assert prompts.to("cpu").span_names() == prompts.span_names() and torch.equal(prompts.clean, plain.clean)
    with pytest.raises(PromptError, match="prompt 1 has 7 tokens and 6 names"):
        plain.placed([ABBA, ABBA])
    with pytest.raises(PromptError, match="for 1 prompts, and there are 2"):
        plain.placed([ABBA])
    with pytest.raises(PromptError, match="No span is called 'C': there are bos"):
        plain.placed([ABBA, [*BABA[:-2], "C", "end"]], prompts.spans)


def test_an_experiment_has_one_order_of_spans() -> None:
    """Given one by one, splits order theirs by themselves: a mask would mean another thing on each."""
    here = PromptSet.from_tokens([[1, 2, 3, 4]] * 2, [[1, 2, 5, 4]] * 2, spans=[["a", "b", "b", "end"]] * 2)
    there = PromptSet.from_tokens([[1, 2, 3, 4]], [[1, 2, 5, 4]], spans=[["b", "c", "a", "end"]])
    first, (second, none) = with_common_spans(here, there, None)
    assert second is not None and none is None
    assert first.spans is second.spans and set(first.spans.names if first.spans else ()) == {"a", "b", "c", "end"}
    assert first.span_names() == here.span_names() and second.span_names() == there.span_names()
    assert with_common_spans(here, here) == (here, [here])
    with pytest.raises(PromptError, match="Spans are given for some of the discovery, held-out and validation prompts"):
        with_common_spans(here, PromptSet.from_tokens([[1, 2]], [[1, 3]]))


def test_given_spans_must_be_read_where_these_prompts_are() -> None:
    prompts = PromptSet.from_tokens([[1, 2, 3]], [[1, 4, 3]], spans=[["a", "b", "end"]])
    with pytest.raises(PromptError, match="read at span 'end', and at the reading positions of these prompts lies 'b'"):
        PromptSet.from_tokens([[1, 2, 3]], [[1, 4, 3]], read_at=1).placed([["a", "b", "end"]], prompts.spans)
