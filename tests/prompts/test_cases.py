"""Files that strangers brought and that were refused or failed (tests/cases/README.md): each says what it should."""

import json
from pathlib import Path
from typing import Any

import pytest

from acdc_engine.errors import PromptError, TaskError, TooFewPairsError
from acdc_engine.prompts import build
from acdc_engine.prompts.build import build_splits, split_prompts
from acdc_engine.prompts.card import parse_card
from acdc_engine.prompts.check import Limits
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.pairs_file import load_pairs
from tests.fake_tokenizer import FakeTokenizer

CASES = Path(__file__).parent.parent / "cases"


def test_json_lines_are_read_under_any_name(tmp_path: Path) -> None:
    card = find_task(CASES / "lines.json")
    assert len(card.pairs) == 30 and [pair.where for pair in card.pairs[:2]] == ["line 1", "line 2"]
    for name in ("lines.txt", "lines.ndjson", "lines"):
        path = tmp_path / name
        path.write_bytes((CASES / "lines.json").read_bytes())
        assert find_task(path).pairs == card.pairs
    path = tmp_path / "lines.jsonl"
    path.write_text(f"[{', '.join(path.with_name('lines').read_text().strip().split(chr(10)))}]")
    assert [pair.model_copy(update={"where": ""}) for pair in find_task(path).pairs] == [
        pair.model_copy(update={"where": ""}) for pair in card.pairs
    ]
    (tmp_path / "notes.txt").write_text("The clean prompts, and the corrupt ones.\n")
    with pytest.raises(TaskError, match=r"notes\.txt cannot be read as a task by its ending '\.txt'"):
        find_task(tmp_path / "notes.txt")


@pytest.mark.parametrize(("separator", "name"), [(";", "a.csv"), ("\t", "a.tsv"), ("\t", "a.txt"), ("|", "a.csv")])
def test_tables_are_read_with_any_separator(tmp_path: Path, separator: str, name: str) -> None:
    card = find_task(CASES / "semicolon.csv")
    assert len(card.pairs) == 31 - 1 and card.pairs[0].clean.startswith("When Emma and Mark went to the park, Mark")
    assert (card.pairs[0].answer_ids, card.pairs[0].wrong_answer_ids) == ((1,), (2,))
    path = tmp_path / name
    path.write_text((CASES / "semicolon.csv").read_text().replace(";", separator))
    assert find_task(path).pairs == card.pairs


def test_a_table_without_the_columns_says_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("sentence;label\na;b\n")
    with pytest.raises(TaskError) as error:
        load_pairs(path)
    assert str(error.value).endswith("line 1: the columns, with a comma between them, are 'sentence;label'.")


def test_half_a_character_is_named_with_its_line() -> None:
    with pytest.raises(TaskError) as error:
        find_task(CASES / "surrogate.jsonl")
    assert str(error.value).endswith(
        "has a problem:\n  line 1: clean: its character 6 is half of a surrogate pair, \\ud800, which is no text: "
        "write the whole character or take it out."
    )


def test_ids_of_another_tokenizer_are_said_with_their_text_here(smollm2_tokenizer: Any) -> None:
    card = find_task(CASES / "both_answers.csv")
    assert card.pairs[0].answers == ("utensils",) and card.pairs[0].answer_ids == (310,)
    with pytest.raises(PromptError) as error:
        build_splits(card, smollm2_tokenizer, 1, 1, seed=0)
    here = smollm2_tokenizer.decode([310])
    assert (
        f"the answer ids and the answers 'utensils' name different words (310 is {here!r} here): the ids are another "
        "tokenizer's." in str(error.value)
    )


def test_ids_beside_texts_win_where_they_name_the_same_words(tmp_path: Path) -> None:
    tokenizer = FakeTokenizer()
    right, wrong = (tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in ("animals", "trees"))
    path = tmp_path / "both.csv"
    path.write_text(
        "clean,answers,answers_idx,corrupted,corrupted_answers,corrupted_answers_idx\n"
        f"\", cats and other\",['animals'],{right},\", oaks and other\",['trees'],{wrong}\n"
    )
    found, _ = build_splits(find_task(path), tokenizer, 1, 0, seed=0)
    assert (found.answers.tolist(), found.wrong_answers.tolist()) == ([right], [wrong])
    assert (found.pairs[0].answers, found.pairs[0].wrong_answers) == ((" animals",), (" trees",))


@pytest.mark.parametrize("ending", ["\r\n", "\r"])
@pytest.mark.parametrize("name", ["lines.json", "semicolon.csv", "past_tense.toml"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_of_other_systems_are_read(tmp_path: Path, name: str, ending: str, encoding: str) -> None:
    if name.endswith(".toml") and ending == "\r":
        pytest.skip("no line end of TOML")
    path = tmp_path / name
    path.write_bytes((CASES / name).read_text().replace("\n", ending).encode(encoding))
    assert find_task(path) == find_task(CASES / name)


def test_exact_duplicates_count_once_and_are_said(smollm2_tokenizer: Any) -> None:
    card = find_task(CASES / "duplicates.json")
    assert len(card.pairs) == 46
    found = split_prompts(card, smollm2_tokenizer, None, None, seed=0)
    both = (*found.discovery.pairs, *found.held_out.pairs)
    assert len(both) == len({(pair.clean, pair.corrupt) for pair in both}) == 40
    assert found.notes[0].startswith("6 of the 46 pairs say the same as others and count once: pair ")


def test_rows_that_differ_in_their_answers_alone_are_an_error(tmp_path: Path) -> None:
    pairs = json.loads((CASES / "duplicates.json").read_text())["prompts"]
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps([*pairs, {**pairs[0], "answers": [" Tom"]}]))
    with pytest.raises(TaskError, match="pair 47: the same prompts as pair 1 with other answers"):
        find_task(path)


def test_misfits_are_listed_or_left_out(smollm2_tokenizer: Any) -> None:
    card = find_task(CASES / "misfits.jsonl")
    with pytest.raises(PromptError) as error:
        split_prompts(card, smollm2_tokenizer, None, None, seed=0)
    assert str(error.value).startswith("12 of the 60 prompts of task 'misfits' do not fit this model:\n  line 1:\n")
    assert str(error.value).endswith("or go on without them: --drop-misfits.")
    found = split_prompts(card, smollm2_tokenizer, None, None, seed=0, drop_misfits=True)
    assert found.left_out is not None and (found.left_out.count, found.left_out.of) == (12, 60)
    assert sum(found.left_out.reasons.values()) == 12
    assert str(found.left_out) in found.notes
    assert len(found.discovery) + len(found.held_out) == 48
    assert not any("Bartholomew" in f"{pair}" for pair in (*found.discovery.pairs, *found.held_out.pairs))


@pytest.mark.parametrize(("name", "sizes"), [("linked_rows.jsonl", (12, 12)), ("past_tense.toml", (4, 6))])
def test_default_sizes_are_the_largest_that_fit(name: str, sizes: tuple[int, int], smollm2_tokenizer: Any) -> None:
    card = find_task(CASES / name)
    found = split_prompts(card, smollm2_tokenizer, None, None, seed=0)
    assert (len(found.discovery), len(found.held_out)) == sizes
    assert found.notes == (
        f"The task can give {sizes[0]} discovery and {sizes[1]} held-out pairs that share no text, and these are used "
        "instead of the usual 32 and 64.",
    )
    again = split_prompts(card, smollm2_tokenizer, *sizes, seed=0)
    assert again.notes == () and again.discovery.fingerprint() == found.discovery.fingerprint()
    with pytest.raises(TooFewPairsError, match=f"64 held-out pairs and can give {sizes[0]} and {sizes[1]}:"):
        split_prompts(card, smollm2_tokenizer, 32, 64, seed=0)


def test_what_the_model_cannot_take_is_refused_by_line_with_the_numbers(tmp_path: Path) -> None:
    tokenizer, path = FakeTokenizer(), tmp_path / "long.csv"
    rows = ["a b c,a d c, e, f", "a b c d e,a d c d e, e, f", "g b c,g d c, e, far", "a b zed,a d zed, e, f"]
    path.write_text("\n".join(["clean,corrupt,answers,wrong_answers", *rows]))
    card = find_task(path)
    split_prompts(card, tokenizer, 1, 1, seed=0)
    far, zed = tokenizer.vocabulary.index(" far"), tokenizer.vocabulary.index(" zed")
    with pytest.raises(PromptError) as error:
        split_prompts(card, tokenizer, 1, 1, seed=0, limits=Limits(positions=4, embedded=zed, logits=far))
    text = str(error.value)
    assert text.startswith("3 of the 4 prompts of task 'long' do not fit this model:\n  line 3:\n")
    assert "    the prompt has 5 tokens, and the model takes up to 4\n" in text
    assert f"  line 4:\n    the model's logits end at token {far - 1}, and the answers hold {far} (' far')\n" in text
    assert (
        f"  line 5:\n    the model's embedding ends at token {zed - 1}, and the prompts hold {zed} (' zed')\n" in text
    )
    found = split_prompts(card, tokenizer, 1, 0, seed=0, limits=Limits(4, zed, far), drop_misfits=True)
    assert found.left_out is not None and found.left_out.reasons == {
        "longer than the model takes": 1,
        "an answer that the model has no logit for": 1,
        "a token that the model has no embedding for": 1,
    }
    with pytest.raises(PromptError, match="the prompt has 4 tokens, and the model takes up to 3"):
        one = card.model_copy(update={"pairs": card.pairs[:1], "prepend_bos": True})
        split_prompts(one, tokenizer, 1, 0, seed=0, limits=Limits(3, 100, 100))


def test_a_large_file_is_drawn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_LOOKED_AT", 30)
    pairs = [{"clean": f"a{i} b", "corrupt": f"c{i} b"} for i in range(200)]
    card = parse_card({"name": "x", "description": "x", "metric": "kl", "pairs": pairs}, "x")
    tokenizer, split = FakeTokenizer(digits=None), list[str]()

    class Counting(FakeTokenizer):
        def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]:
            split.append(text)
            return dict(tokenizer(text, add_special_tokens=add_special_tokens))

    found = split_prompts(card, Counting(), None, None, seed=0)
    assert found.notes[0] == "30 of the 200 pairs were drawn; the others are not used."
    assert len(found.discovery) + len(found.held_out) == 30
    assert len({text for text in split if text}) == 60


def notes_of(clean: str, answer: str, tokenizer: Any) -> tuple[str, ...]:
    pair = {"clean": f"Ann {clean}", "corrupt": f"Bob {clean}", "answers": answer}
    card = parse_card({"name": "x", "description": "x", "metric": "nll", "pairs": [pair]}, "x")
    return split_prompts(card, tokenizer, 1, 0, seed=0).notes


def test_spaces_that_are_often_meant_otherwise_are_said(smollm2_tokenizer: Any) -> None:
    for clean, answer in (("told", " Cem"), ("is 1", "7"), ("told:", "Cem")):
        assert notes_of(clean, answer, FakeTokenizer(digits=1)) == ()
    assert notes_of("told", "Cat", smollm2_tokenizer) == (
        "1 answers follow their prompts without a space: 'Ann toldCat'. Is it missing in the file?",
    )
    with pytest.raises(PromptError, match="the prompt ends in a space, with which the answer is to begin instead"):
        notes_of("told ", "Cem", FakeTokenizer())
