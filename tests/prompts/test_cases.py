"""Files that strangers brought and that were refused or failed (tests/cases/README.md): each says what it should."""

from pathlib import Path
from typing import Any

import pytest

from acdc_engine.errors import PromptError, TaskError
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.pairs_file import load_pairs

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


def test_ids_beside_texts_win_where_they_name_the_same_words(tmp_path: Path, make_tokenizer: Any) -> None:
    tokenizer = make_tokenizer()
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
