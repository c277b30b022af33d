"""Spans: which place of its prompt every token is of; every token of one, whatever the words and the tokenizer."""

import json
import random
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acdc_engine.errors import PromptError, TaskError
from acdc_engine.prompts.build import build_splits, split_prompts
from acdc_engine.prompts.card import parse_card
from acdc_engine.prompts.check import Rules, check, encode
from acdc_engine.prompts.drafts import drafts
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.pairs_file import load_pairs
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.prompts.template import Draft, NamedRange, PairTemplate, PromptPair, Template
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


def of_card(data: Data, where: str = "spans", tokenizer: Any = None, n: int = 4) -> PromptSet:
    return build_splits(parse_card(data, "x"), tokenizer or FakeTokenizer(), n, 0, seed=0, where=where)[0]


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
    assert prompts.spans is not None
    assert prompts.spans.names[prompts.spans.end] == "end"


def test_all_splits_have_the_same_spans() -> None:
    found = split_prompts(parse_card(card_data(), "x"), FakeTokenizer(), 4, 4, 0, n_validation=2, where="spans")
    spans = found.discovery.spans
    assert spans is not None and found.validation is not None
    assert found.held_out.spans is spans and found.validation.spans is spans
    assert "place" in spans.names


def test_a_beginning_of_sequence_token_is_a_span() -> None:
    for where in ("spans", "tokens"):
        prompts = of_card(card_data() | {"prepend_bos": True, "words": one_token_each()}, where)
        assert [row[0] for row in prompts.span_names()] == ["bos"] * 4


def one_token_each() -> Data:
    return {**card_data()["words"], "places": {"words": ["park", "pub", "yard", "lake"]}}


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
    assert all(a.stop <= b.start for a, b in pairwise(ranges))
    covered = {i for part in ranges for i in range(part.start, part.stop)}
    assert all(draft.pair.clean[i] == " " for i in set(range(len(draft.pair.clean))) - covered)
    assert [part.name[0] for part in ranges if part.kind == "slot"] == slots
    tokenizer = FakeTokenizer()
    (row,) = check([draft], Rules(tokenizer, "t", where="spans"))
    assert [i for i, name in enumerate(row.spans) if name == "end"] == [len(row.clean) - 1]
    at = 0
    for token, name in zip(row.clean, row.spans, strict=True):
        behind = at + len(tokenizer.decode([token]))
        inside = {part.name for part in ranges if part.start <= at and behind <= part.stop}
        assert name == "end" or not inside or inside == {name}
        at = behind
    assert at == len(draft.pair.clean)


def test_every_draft_of_a_card_has_spans() -> None:
    found = list(drafts(parse_card(card_data(), "x"), FakeTokenizer(), random.Random(0)))
    assert found and all(draft.spans for draft in found)


@pytest.mark.parametrize("fast", [False, True])
def test_a_token_of_slot_and_text_is_the_slots(fast: bool, smollm2_tokenizer: Any) -> None:
    """`isn't` is `isn` and `'t`: the slot takes the whole token, whichever way tokens are found."""
    pattern = PairTemplate.parse("t", "It {x}n't {y} ok", "It {x}n't {z} ok", [" a"], []).named()
    draft = pattern.fill({"x": "is", "y": "so", "z": "as"})
    tokenizer = smollm2_tokenizer if fast else Slow(smollm2_tokenizer)
    found = named(encode([draft], Rules(tokenizer, "t", where="spans")), smollm2_tokenizer)
    assert found == [("It", "It"), (" isn", "x"), ("'t", "n't"), (" so", "y"), (" ok", "end")]


class Slow:
    """A tokenizer without offsets."""

    def __init__(self, tokenizer: Any) -> None:
        self.bos_token_id, self.decode = tokenizer.bos_token_id, tokenizer.decode
        self.convert_ids_to_tokens, self._tokenizer = tokenizer.convert_ids_to_tokens, tokenizer

    def __call__(self, text: str, *, add_special_tokens: bool) -> Any:
        return self._tokenizer(text, add_special_tokens=add_special_tokens)


@pytest.mark.parametrize("task", ["ioi", "docstring", "greater_than", "sentiment", "mcqa"])
def test_offsets_and_beginnings_say_the_same(task: str, smollm2_tokenizer: Any) -> None:
    both = [
        build_splits(find_task(task), tokenizer, 6, 0, 0, where="spans")[0].span_names()
        for tokenizer in (smollm2_tokenizer, Slow(smollm2_tokenizer))
    ]
    assert both[0] == both[1]


def test_other_names_for_a_cards_spans() -> None:
    tokenizer = FakeTokenizer()
    renamed = {"subject": ["B", "B.2"], "A": ["At the", "A"], "gave": "gave it to"}
    plain, other = (of_card(card_data() | extra, tokenizer=tokenizer) for extra in ({}, {"spans": renamed}))
    new = {"B": "subject", "B.2": "subject", "At the": "A", "gave it to": "gave"}
    assert other.span_names() == [[new.get(name, name) for name in row] for row in plain.span_names()]
    assert other.spans is not None and "subject" in other.spans.names
    cards = [parse_card(card_data() | extra, "x") for extra in ({}, {"spans": renamed})]
    assert cards[0].fingerprint() == cards[1].fingerprint()


THERE = "There are: 'At the', 'place', 'A', 'and', 'B', 'met', 'B.2', 'gave it to'."


@pytest.mark.parametrize(
    ("spans", "said"),
    [
        ({"x": "B.3"}, f"spans.x: the templates have no span 'B.3'. Did you mean 'B.2' or 'B'? {THERE}"),
        ({"x": ["A", "A"]}, "spans.x: 'A' is listed 2 times: a span has one name."),
        (
            {"x": "A", "y": ["A", "B"]},
            "spans.x: 'A' is listed 2 times: a span has one name.\n"
            "spans.y: 'A' is listed 2 times: a span has one name.",
        ),
        ({"B": "A"}, "spans.B: a span of the templates is called 'B' already: list it here, or rename it."),
        (
            {"a@b": "A"},
            "spans.a@b: A span cannot be called 'a@b': a name has no @, <, >, nor a blank at either end, for it is "
            "written behind an edge, as in a5.h5->a7.h3<v>@B.2.",
        ),
        ({"end": "A"}, "spans.end: 'end' is the name of the position that is read, alone: choose another one."),
        ({"bos": "A"}, "spans.bos: 'bos' is the name of the beginning-of-sequence token: choose another one."),
        ({"rest": "A"}, "spans.rest: 'rest' is the name of what lies in no span: choose another one."),
        ({"x": ["A", "end"]}, "spans.x: 'end' keeps its name: it is the position that is read."),
        ({"x": []}, "spans.x: Tuple should have at least 1 item after validation, not 0 (found [])."),
    ],
)
def test_bad_names_in_a_card(spans: Data, said: str) -> None:
    with pytest.raises(TaskError) as error:
        parse_card(card_data() | {"spans": spans}, "x")
    assert [line.strip() for line in str(error.value).split("\n")[1:]] == said.split("\n")


def test_two_names_can_change_places() -> None:
    assert parse_card(card_data() | {"spans": {"A": "B", "B": ["A"]}}, "x").spans == {"A": ("B",), "B": ("A",)}


def test_only_templates_have_names_to_change() -> None:
    pairs = [{"clean": "a b", "corrupt": "c b", "answers": "d"}]
    with pytest.raises(TaskError, match=r"spans: a card with pairs has no spans\."):
        parse_card(
            {"name": "x", "description": "x", "metric": "nll", "pairs": pairs, "spans": {"x": "A"}},
            "x",
        )


PAIR: Data = {"clean": "Ann and Bob met", "corrupt": "Ann and Tom met", "answers": [" a"], "wrong_answers": [" b"]}


def pairs_file(folder: Path, *spans: Any, **more: Any) -> Path:
    """Pairs that differ in a word, each with spans."""
    path = folder / "pairs.jsonl"
    names = ["Bob", "Eva", "Kim", "Lea"]
    lines = [
        {**PAIR, "clean": f"Ann and {name} met", **({} if given is None else {"spans": given}), **more}
        for name, given in zip(names, spans, strict=False)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


BY_TOKENS = [{"name": "who", "first": 0, "last": 0}, {"name": "other", "first": 2, "last": 2}]
BY_CHARACTERS = [{"name": "who", "start": 0, "stop": 3}, {"name": "other", "start": 8, "stop": 11}]


def placed(path: Path, tokenizer: Any = None, n: int = 2, **more: Any) -> PromptSet:
    return split_prompts(load_pairs(path), tokenizer or FakeTokenizer(), n, 0, 0, where="spans", **more).discovery


@pytest.mark.parametrize("given", [BY_TOKENS, BY_CHARACTERS, [BY_TOKENS[0], BY_CHARACTERS[1]]])
def test_spans_of_pairs(given: Data, tmp_path: Path, smollm2_tokenizer: Any) -> None:
    path = pairs_file(tmp_path, given, None)
    prompts = placed(path)
    assert dict(zip((pair.clean for pair in prompts.pairs), prompts.span_names(), strict=True)) == {
        "Ann and Bob met": ["who", "rest", "other", "end"],
        "Ann and Eva met": ["rest", "rest", "rest", "end"],
    }
    assert ["who", "rest", "other", "end"] in placed(path, smollm2_tokenizer).span_names()
    without = load_pairs(pairs_file(tmp_path, None, None))
    assert load_pairs(pairs_file(tmp_path, given, None)).fingerprint() == without.fingerprint()


def test_blanks_beside_a_word_are_nobodys_quarrel(tmp_path: Path) -> None:
    given = [{"name": "who", "start": 0, "stop": 4}, {"name": "and", "start": 4, "stop": 8}]
    assert placed(pairs_file(tmp_path, given), n=1).span_names() == [["who", "and", "rest", "end"]]


def test_the_position_read_keeps_a_name_of_its_own(tmp_path: Path) -> None:
    last = [{"name": "last", "first": 3, "last": 3}]
    assert placed(pairs_file(tmp_path, last, last)).span_names() == [["rest"] * 3 + ["last"]] * 2
    wider = [{"name": "last", "first": 2, "last": 3}]
    assert placed(pairs_file(tmp_path, wider, wider)).span_names() == [["rest", "rest", "last", "end"]] * 2
    within = [{"name": "x", "first": 0, "last": 3}]
    assert placed(pairs_file(tmp_path, within, read_at=1), n=1).span_names() == [["x", "end", "x", "x"]]


def test_spans_of_a_cards_pairs_and_of_tables(tmp_path: Path) -> None:
    pairs = [{**PAIR, "spans": BY_TOKENS}]
    card = parse_card({"name": "x", "description": "x", "pairs": pairs}, "x")
    assert build_splits(card, FakeTokenizer(), 1, 0, 0, where="spans")[0].span_names()[0][0] == "who"
    path = tmp_path / "pairs.csv"
    path.write_text(f'clean,corrupt,answers,spans\n{PAIR["clean"]},{PAIR["corrupt"]}, a,"{BY_TOKENS!s}"\n')
    assert placed(path, n=1).span_names() == [["who", "rest", "other", "end"]]


@pytest.mark.parametrize(
    ("spans", "said"),
    [
        (
            [{"name": "a", "first": 0, "last": 2}, {"name": "b", "first": 2, "last": 3}],
            "spans: 'a' and 'b' overlap: they are the tokens 0 to 2 and 2 to 3.",
        ),
        (
            [{"name": "b", "start": 2, "stop": 5}, {"name": "a", "start": 0, "stop": 3}],
            "spans: 'a' and 'b' overlap: they are the characters 0 to 2 and 2 to 4.",
        ),
        (
            [{"name": "a", "start": 12, "stop": 16}],
            "spans: 'a' runs past the prompt: its stop is 16, and the prompt has 15 characters.",
        ),
        (
            [{"name": "a", "first": 0, "last": 0}, {"name": "a", "start": 8, "stop": 11}],
            "spans: 2 of them are called 'a': each needs a name of its own.",
        ),
        (
            [{"name": "", "first": 0, "last": 0}],
            "spans[0].name: A span cannot be called '': a name has no @, <, >, nor a blank at either end, for it is "
            "written behind an edge, as in a5.h5->a7.h3<v>@B.2.",
        ),
        (
            [{"name": "bos", "first": 0, "last": 0}],
            "spans[0].name: 'bos' is the name of the beginning-of-sequence token: choose another one.",
        ),
        (
            [{"name": "a", "first": 0, "stop": 2}],
            "spans[0]: give its first and last token, or start and stop, which count characters.",
        ),
        ([{"name": "a", "first": 2, "last": 1}], "spans[0]: it is empty: first is 2 and last 1."),
        ([{"name": "a", "start": 2, "stop": 2}], "spans[0]: it is empty: start is 2 and stop 2."),
        (
            [{"name": "a", "first": -1, "last": 1}],
            "spans[0].first: Input should be greater than or equal to 0 (found -1).",
        ),
        ("a", "spans: Input should be a valid tuple (found 'a')."),
        ([{"nme": "a", "first": 0, "last": 1}], "spans[0].name: missing.\nspans[0].nme: unknown key."),
    ],
)
def test_bad_spans_in_a_file(spans: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError) as error:
        load_pairs(pairs_file(tmp_path, BY_TOKENS, spans, spans))
    head, *lines = str(error.value).split("\n")
    expected = [f"  line {line}: {text}" for line in (2, 3) for text in said.split("\n")]
    assert lines == expected and f"has {len(expected)} problems:" in head


def test_what_only_tokens_tell_is_listed_together(tmp_path: Path) -> None:
    past = [{"name": "a", "first": 3, "last": 9}]
    shared = [{"name": "a", "first": 0, "last": 1}, {"name": "b", "start": 4, "stop": 7}]
    wide = [{"name": "end", "first": 2, "last": 3}]
    path = pairs_file(tmp_path, BY_TOKENS, past, shared, wide)
    with pytest.raises(PromptError) as error:
        placed(path, n=1)
    text = str(error.value)
    assert text.startswith("3 of the 4 prompts of task 'pairs' do not fit this model:")
    for said in (
        "line 2:\n    the span 'a' runs to token 9, and the prompt has 4, counted from 0\n",
        "line 3:\n    the spans 'a' and 'b' have token 1 (' and') in common\n",
        "line 4:\n    'end' is the token that is read alone, token 3, and the span given has others: [2]\n",
    ):
        assert said in text
    found = split_prompts(load_pairs(path), FakeTokenizer(), 1, 0, 0, where="spans", drop_misfits=True)
    assert found.left_out is not None and found.discovery.span_names() == [["who", "rest", "other", "end"]]
    assert list(found.left_out.reasons) == ["a span runs past the prompt", "spans overlap", "a span is called 'end'"]
    assert len(split_prompts(load_pairs(path), FakeTokenizer(), 4, 0, 0).discovery) == 4, "where nobody asks"


def test_the_position_read_has_one_name_in_all_prompts(tmp_path: Path) -> None:
    last = [{"name": "last", "first": 3, "last": 3}]
    with pytest.raises(PromptError) as error:
        placed(pairs_file(tmp_path, last, BY_TOKENS, last), n=3)
    found = re.sub(r"line \d", "line N", str(error.value))
    parts = ("'last' (line N and 1 more)", "'end' (line N)")
    assert any(
        found == "The position that is read must be a span of one name in all prompts of task 'pairs'; it is "
        f"{first} and {second}. Give the span that is this token alone in all pairs or in none, where it is called "
        "'end'."
        for first, second in (parts, parts[::-1])
    )


def unplaced(task: str) -> str:
    return (
        f"Nothing says what the places in the prompts of task '{task}' are called, and --where spans tells them apart. "
        "Give spans in the pairs, or in what the generator yields (docs/tasks.md, Places in a prompt); or use --where "
        "tokens, for prompts of one length, or --where none."
    )


def test_pairs_without_spans(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=re.escape(unplaced("pairs"))):
        placed(pairs_file(tmp_path, None, []))


def test_spans_of_a_generators_drafts() -> None:
    def names(*spans: NamedRange) -> list[str]:
        pair = PromptPair("Ann and Bob met", "Ann and Tom met", (" a",), (" b",), "t")
        draft = Draft(pair, ((8, 11),), ((8, 11),), spans=spans)
        return encode([draft], Rules(FakeTokenizer(), "made", where="spans")).span_names()[0]

    parts = (
        NamedRange("names", 0, 3),
        NamedRange("names", 2, 3, in_tokens=True),
        NamedRange("met", 3, 4, in_tokens=True),
    )
    assert names(*parts[:2]) == ["names", "rest", "names", "end"], "a span may have several parts"
    assert names(*parts) == ["names", "rest", "names", "met"]
    with pytest.raises(PromptError, match=re.escape(unplaced("made"))):
        names()


def test_every_position_by_its_number() -> None:
    prompts = of_card(card_data() | {"words": one_token_each()}, "tokens")
    assert prompts.span_names() == [[*(f"t{i}" for i in range(11)), "end"]] * 4
    data = card_data() | {"words": one_token_each()}
    for template in data["templates"]:
        template |= {"read_at": 2, "answers": [" {A}"]}
    assert of_card(data, "tokens").span_names()[0][:5] == ["t0", "t1", "end", "t3", "t4"]


def test_positions_of_prompts_of_several_lengths() -> None:
    with pytest.raises(PromptError) as error:
        of_card(card_data(), "tokens")
    assert re.fullmatch(
        r"--where tokens is for prompts of one length, read at one position, and of those of task 'small' some have "
        r"1\d tokens \(prompt 0.*\) and 1\d tokens \(prompt \d.*\)\. Use --where spans, for which both may differ, "
        r"where the task names its places, or words that are one token each \(only_single_token\)\.",
        str(error.value),
    )
    data = card_data() | {"words": one_token_each()}
    data["templates"][1]["read_at"] = -2
    with pytest.raises(PromptError, match=r"some are read at position 11 \(prompt 0 and 1 more\) and position 10 \("):
        of_card(data, "tokens")


def test_a_place_that_there_is_not() -> None:
    with pytest.raises(PromptError, match=r"^where must be none, spans or tokens, not 'slots'\.$"):
        of_card(card_data(), "slots")


def test_nothing_is_told_apart_unless_asked() -> None:
    prompts = of_card(card_data(), "none")
    assert prompts.spans is None and prompts.span_at is None
