"""The card's schema: what is refused, and in which words. Every problem is listed, not just the first."""

from pathlib import Path
from typing import Any

import pytest

from acdc_engine.errors import TaskError
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.card import as_hashed, load_card, parse_card, settled
from acdc_engine.prompts.card_problems import answers_needed
from acdc_engine.prompts.metrics import METRICS, get_metric
from tests.fake_tokenizer import FakeTokenizer
from tests.prompts.cards import card_data

Data = dict[str, Any]


def problems(data: Data) -> list[str]:
    with pytest.raises(TaskError) as error:
        parse_card(data, where="x.toml")
    head, *lines = str(error.value).split("\n")
    count = "a problem" if len(lines) == 1 else f"{len(lines)} problems"
    assert head == f"The task card x.toml has {count}:"
    return [line.removeprefix("  ") for line in lines]


def test_a_sound_card_is_read() -> None:
    card = parse_card(card_data(), where="x.toml")
    assert card.metric == "logit_diff" and not card.prepend_bos
    assert [t.name for t in card.templates] == ["ABBA", "BABA"]


def test_what_metrics_need_is_what_they_say() -> None:
    for metric in map(get_metric, METRICS.names):
        assert answers_needed(metric.name) == (metric.needs_answers, metric.needs_wrong_answers)


def test_unknown_and_missing_keys_are_all_listed_with_their_path() -> None:
    data = card_data()
    data["metrik"] = "kl"
    data["templates"][1]["clen"] = data["templates"][1].pop("clean")
    data["words"]["names"]["only_single_tokens"] = True
    del data["description"]
    found = problems(data)
    (metric,) = (line for line in found if line.startswith("metrik: unknown key. Did you mean 'metric' or "))
    keys = "answers, clean, corrupt, name, read_at, wrong_answers"
    listed = "words.names.only_single_tokens: unknown key. Did you mean 'only_single_token'? Known: only_single_token, "
    assert set(found) - {metric} == {
        "description: missing.",
        "templates[1].clean: missing.",
        f"templates[1].clen: unknown key. Did you mean 'clean'? Known: {keys}.",
        f"{listed}words.",
    }


def test_wrong_types_and_values_say_what_was_found() -> None:
    data = card_data()
    data["prepend_bos"] = "perhaps"
    data["name"] = "Small Task"
    data["words"]["names"]["words"] += ["Bob", "", " Eva", "Finn "]
    data["templates"][0]["clean"] = "At {A"
    data["templates"][1]["wrong_answers"] = [" {B}", " {}"]
    found = problems(data)
    assert any(p.startswith("prepend_bos: ") and "(found 'perhaps')" in p for p in found)
    assert any(p.startswith("name: ") and "(found 'Small Task')" in p for p in found)
    assert [p for p in found if p.startswith(("words", "templates"))] == [
        "words.names.words: 'Bob' is in it 2 times.",
        "words.names.words: '' is empty or ends in a space.",
        "words.names.words: 'Finn ' is empty or ends in a space.",
        "templates[0].clean: the brace '{' at column 4 has no partner (as text write '{{')",
        "templates[1].wrong_answers[1]: the slot '{}' at column 2 needs a name of letters, digits and underscores",
    ]
    data = card_data()
    data["words"]["names"]["words"][1] = " Bob"
    assert problems(data) == ["words.names.words: words stand without the space in front: ' Bob'."]


def test_an_unknown_metric() -> None:
    (found,) = problems(card_data() | {"metric": "logitdiff"})
    assert found.startswith("metric: Unknown metric 'logitdiff'. Did you mean 'logit_diff' or 'prob_diff'? Known: ")


def test_slots_and_words_must_fit_together() -> None:
    data = card_data()
    data["slots"]["place"] = "place"
    data["slots"]["idle"] = "names"
    data["distinct"] = [["A", "B", "C", "X"], ["A"]]
    data["templates"][0]["answers"] = [" {AA}"]
    assert set(problems(data)) == {
        "slots.place: there is no word list 'place'. Did you mean 'places'? Known: names, places.",
        "slots.idle: nothing uses it.",
        "words.places: nothing uses it.",
        "distinct[0]: there is no slot, cell or row 'X'. Known: A, B, C, idle, place.",
        "distinct[1]: needs two or more slots, cells or rows of one table, each once, not ['A'].",
        "templates[0]: there is no slot or cell {AA}. Did you mean 'A'? Known: A, B, C, idle, place.",
    }


@pytest.mark.parametrize(
    ("corrupt", "message"),
    [
        (
            "{A} or {B} met; {C} gave it to",
            "met; {} gave it to' and corrupt 'At the {} {} or {} met; {} gave it to': m",
        ),
        ("{A} and {B} met; {C} gave it to{C}", "gave it to' and corrupt 'At the {} {} and {} met; {} gave it to{}': m"),
        ("{A} and {B} met; {B} gave it to", "corrupt: it has the same slots as clean, so nothing would be corrupted."),
    ],
)
def test_clean_and_corrupt_differ_in_slots_only(corrupt: str, message: str) -> None:
    data = card_data()
    data["templates"][0]["corrupt"] = f"At the {{place}} {corrupt}"
    (found,) = problems(data)
    assert found.startswith("templates[0]: c") and message in found


def test_a_replacement_must_not_be_the_same_word() -> None:
    data = card_data()
    data["distinct"] = [["A", "B"]]
    assert problems(data) == [
        f"templates[{i}].corrupt: {{B}} is replaced by {{C}}, and both can be the same word: "
        "put them, or their rows, in one distinct group."
        for i in (0, 1)
    ]
    data["slots"]["C"] = "others"
    data["words"]["others"] = {"words": ["Eva", "Finn"]}
    parse_card(data, where="x.toml")  # lists without a common word need no distinct group


def test_answers_and_names() -> None:
    data = card_data()
    data["templates"][1]["name"] = "ABBA"
    data["templates"][0]["wrong_answers"] = []
    data["templates"][1]["wrong_answers"] = [" {A}"]
    assert problems(data) == [
        "templates[0].name: more than one template is called 'ABBA'.",
        "templates[1].name: more than one template is called 'ABBA'.",
        "templates[1].wrong_answers: the same answer is right and wrong.",
        "templates[0].wrong_answers: missing, and the metric logit_diff needs them: give them in all or in none.",
    ]


OTHERS = "missing, and others have them: give them in all or in none."


@pytest.mark.parametrize(
    ("metric", "missing", "expected"),
    [
        (
            "nll",
            ["answers", "wrong_answers"],
            ["answers: missing, and the metric nll needs them: give them in all or in none."],
        ),
        ("kl", ["answers", "wrong_answers"], [f"answers: {OTHERS}", f"wrong_answers: {OTHERS}"]),
        ("kl", ["answers"], [f"answers: {OTHERS}", "wrong_answers: wrong answers without right ones."]),
        ("nll", ["wrong_answers"], [f"wrong_answers: {OTHERS}"]),
    ],
)
def test_answers_are_in_all_templates_or_in_none(metric: str, missing: list[str], expected: list[str]) -> None:
    data = card_data() | {"metric": metric}
    for key in missing:
        del data["templates"][1][key]
    assert set(problems(data)) >= {f"templates[1].{line}" for line in expected}


def test_answers_that_no_template_has() -> None:
    data = card_data()
    for template in data["templates"]:
        del template["wrong_answers"]
    why = "wrong_answers: missing, and the metric logit_diff needs them: add them, or use nll or kl."
    assert problems(data) == [f"templates[{i}].{why}" for i in (0, 1)]


def test_a_card_has_one_source_of_prompts() -> None:
    one = "templates: a card has either [[templates]], [[pairs]] or a generator, and this one "
    assert problems({"name": "x", "description": "x"}) == [f"{one}none of them."]
    pair = {"clean": "a", "corrupt": "b"}
    assert problems(card_data() | {"pairs": [pair], "generator": "x"}) == [f"{one}templates and pairs and generator."]
    assert problems(card_data() | {"parameters": {"nouns": ["war"]}}) == [
        "parameters: a card with templates has no parameters."
    ]
    found = problems({"name": "x", "description": "x", "generator": "greater_then", "distinct": [["A", "B"]]})
    assert found[0] == "distinct: a card with generator has no distinct."
    assert found[1].startswith("generator: Unknown generator 'greater_then'. Did you mean 'greater_than'?")
    assert found[1].endswith("A generator of your own comes in a plug-in (docs/tasks.md).")


def test_a_generators_parameters_are_checked() -> None:
    data = {
        "name": "x",
        "description": "x",
        "generator": "greater_than",
        "parameters": {"noun": ["war"], "centuries": ["late", 1732]},
    }
    found = problems(data)
    assert "parameters.nouns: missing." in found
    assert "parameters.noun: unknown key. Did you mean 'nouns'? Known: centuries, nouns." in found
    assert any(p.startswith("parameters.centuries[0]: ") and "(found 'late')" in p for p in found)
    assert any(p.startswith("parameters.centuries[1]: ") and "(found 1732)" in p for p in found)


def test_fingerprint_follows_the_content() -> None:
    first = parse_card(card_data(), where="x.toml").fingerprint()
    assert first == parse_card(card_data(), where="elsewhere.toml").fingerprint()
    data = card_data()
    data["slots"] = dict(reversed(data["slots"].items()))
    assert parse_card(data, where="x.toml").fingerprint() == first
    data["templates"][0]["answers"] = [" {A}", " {C}"]
    assert parse_card(data, where="x.toml").fingerprint() != first


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    with pytest.raises(TaskError, match=r"card\.toml cannot be read: No such file or directory\.$"):
        load_card(path)
    path.write_text('name = "x"\nmetric = \n')
    with pytest.raises(TaskError, match=r"card\.toml is not valid TOML: .*line 2, column 10"):
        load_card(path)
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(TaskError, match=r"card\.toml cannot be read: line 1: not UTF-8 text: the byte 0xff after"):
        load_card(path)


@pytest.mark.parametrize("habit", [False, True])
@pytest.mark.parametrize("in_card", [None, False, True])
@pytest.mark.parametrize("asked", [None, False, True])
def test_who_decides(habit: bool, in_card: bool | None, asked: bool | None) -> None:
    data = card_data() | ({} if in_card is None else {"prepend_bos": in_card})
    card = settled(parse_card(data, "x"), FakeTokenizer(adds_bos=habit), asked)
    expected = next(said for said in (asked, in_card, habit) if said is not None)
    assert card.prepend_bos is expected
    prompts, _ = build_splits(card, FakeTokenizer(adds_bos=habit), 4, 0, seed=0)
    assert ((prompts.clean[:, 0] == 1) == expected).all()


def test_a_card_that_leaves_it_open_has_the_hash_that_cards_had_before() -> None:
    card = parse_card(card_data(), "x")
    for said in (False, True):
        before = parse_card(card_data() | {"prepend_bos": said}, "x").fingerprint()
        found = as_hashed(card, before)
        assert found is not None and found.prepend_bos is said and found.fingerprint() == before
    assert as_hashed(card, "0" * 64) is None
