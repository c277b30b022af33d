"""Files of prompt pairs: three formats, one card; every problem with its line."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acdc_engine.errors import PromptError, TaskError
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.card import TaskCard, parse_card
from acdc_engine.prompts.pairs_file import _read_pairs, load_pairs
from tests.fake_tokenizer import FakeTokenizer

Data = dict[str, Any]
NAMES = ["Ann", "Bob", "Cem", "Dora", "Eva", "Finn", "Gita", "Hans", "Ida", "Jon", "Kim", "Lea"]
OBJECT = '{"clean": ..., "corrupt": ..., "answers": [...], "wrong_answers": [...]}'


def pair(i: int, **more: Any) -> Data:
    a, b = NAMES[i], NAMES[i - 1]
    return {
        "clean": f"{a} {i} told",
        "corrupt": f"{b} {i} told",
        "answers": f" {a}",
        "wrong_answers": [f" {b}"],
        **more,
    }


def write(folder: Path, *lines: Any, name: str = "my_pairs.jsonl") -> Path:
    path = folder / name
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def problems(path: Path) -> list[str]:
    with pytest.raises(TaskError) as error:
        load_pairs(path)
    head, *lines = str(error.value).split("\n")
    count = "a problem" if len(lines) == 1 else f"{len(lines)} problems"
    assert head == f"The pairs file {path} has {count}:"
    return [line.removeprefix("  ") for line in lines]


def test_a_file_becomes_a_card(tmp_path: Path) -> None:
    path = write(tmp_path, pair(1), "", pair(2, read_at=0, answers=[" Cem", " Ann"]), pair(3, template="other"), "")
    card = load_pairs(path)
    assert (card.name, card.description) == ("my_pairs", "The 3 prompt pairs of my_pairs.jsonl.")
    assert [p.where for p in card.pairs] == ["line 1", "line 3", "line 4"]
    assert card.pairs[1].answers == (" Cem", " Ann") and card.pairs[1].read_at == 0
    discovery, held_out = build_splits(card, FakeTokenizer(), 2, 1, seed=0)
    assert sorted(p.clean for p in (*discovery.pairs, *held_out.pairs)) == ["Bob 1 told", "Cem 2 told", "Dora 3 told"]


def test_the_task_is_called_like_the_file(tmp_path: Path) -> None:
    for file, task in (
        ("IOI-pairs v2.jsonl", "ioi_pairs_v2"),
        ("2024 été.jsonl", "pairs_2024_t"),
        ("__x__.JSONL", "x"),
    ):
        assert load_pairs(write(tmp_path, pair(1), name=file)).name == task


def test_the_metric_follows_from_the_answers(tmp_path: Path) -> None:
    line = pair(1)
    for key, metric in (("read_at", "logit_diff"), ("wrong_answers", "nll"), ("answers", "kl")):
        line.pop(key, None)
        assert load_pairs(write(tmp_path, line)).metric == metric


def test_every_problem_has_its_line(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        pair(1),
        pair(1, answers=" Gita"),
        {"clean": "a b", "answers": " x", "wrong_answers": " y"},
        '{"clean": "a b"',
        "[1]",
        pair(2, answers=3),
        pair(3, anwsers=" x"),
        pair(4, read_at="3"),
        {"clean": "q", "corrupt": "q r", "answers": [" y"]},
        pair(5, clean=[1, 2], answers=[[1]]),
        pair(6, clean="", wrong_answers=[""]),
        pair(7, wrong_answer=" x"),
        "12",
    )
    found = problems(path)
    assert [line for line in found if not line.startswith("line 7")] == [
        "line 2: the same prompts as line 1 with other answers, reading position, group or spans: keep one of the "
        "two, with all its answers.",
        "line 3: corrupt: missing.",
        "line 4: not JSON: Expecting ',' delimiter (column 16).",
        f"line 5: a pair is an object such as {OBJECT}, not a list.",
        "line 6: answers[0]: Input should be a valid string (found 3).",
        "line 8: read_at: Input should be a valid integer (found '3').",
        "line 9: wrong_answers: missing, and the metric logit_diff needs them: give them in all or in none.",
        "line 10: clean: Input should be a valid string (found [1, 2]).",
        "line 10: answers[0]: Input should be a valid string (found [1]).",
        "line 11: clean: String should have at least 1 character (found '').",
        "line 11: wrong_answers[0]: String should have at least 1 character (found '').",
        "line 12: wrong_answers and wrong_answer are both wrong_answers: keep one of them.",
        f"line 13: a pair is an object such as {OBJECT}, not 12.",
    ]
    (unknown,) = (line for line in found if line.startswith("line 7"))
    assert unknown.startswith("line 7: anwsers: unknown field. Did you mean 'answers' or 'answer'? Known: ")


def test_the_list_of_problems_is_cut(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"has 45 problems:(\n  line \d+: not JSON: .*){40}\n  \.\.\. and 5 more\.$"):
        load_pairs(write(tmp_path, *["{"] * 45))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"The pairs file .*none\.jsonl cannot be read: No such file or directory\."):
        load_pairs(tmp_path / "none.jsonl")
    path = write(tmp_path, "")
    assert problems(path) == ["it has no pairs."]
    path.write_bytes(b'{}\n{"clean": "\xff"}\n')
    with pytest.raises(TaskError) as error:
        load_pairs(path)
    assert str(error.value) == (
        f'The pairs file {path} cannot be read: line 2: not UTF-8 text: the byte 0xff after \'{{"clean": "\' (in '
        "Windows-1252 and Latin-1 files it is 'ÿ'). Save the file as UTF-8."
    )
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(pair(1)).encode())  # a byte order mark, as Windows writes it
    assert len(load_pairs(path).pairs) == 1


def test_auto_circuits_format(tmp_path: Path) -> None:
    data = {"seq_labels": ["a"], "word_idxs": {"x": 3, "prompts": [1]}, "prompts": [pair(1), pair(2)]}
    card = load_pairs(write(tmp_path, json.dumps(data, indent=2), name="a.json"))
    assert [p.where for p in card.pairs] == ["pair 1", "pair 2"]
    assert load_pairs(write(tmp_path, data, name="a.json")).fingerprint() == card.fingerprint()  # layout does not count


def test_other_json_is_refused(tmp_path: Path) -> None:
    assert "pair 1: clean: missing." in problems(write(tmp_path, '{"pairs":', "[]}", name="a.json"))
    assert problems(write(tmp_path, '{"prompts":', "[}", name="a.json")) == [
        "line 2: not JSON: Expecting value (column 2)."
    ]
    assert problems(write(tmp_path, {"prompts": []}, name="a.json")) == ["it has no pairs."]
    # Compiled models' prompts are token ids there.
    tokens = {"clean": [0, 3], "corrupt": [0, 4], "answers": [[3]], "wrong_answers": [[4]]}
    assert problems(write(tmp_path, {"prompts": [tokens]}, name="a.json"))[0] == (
        "pair 1: clean: Input should be a valid string (found [0, 3])."
    )


def test_eap_igs_csv_gives_token_ids(tmp_path: Path) -> None:
    tokenizer = FakeTokenizer()
    ann, bob = (tokenizer(f" {name}", add_special_tokens=False)["input_ids"][0] for name in ("Ann", "Bob"))
    path = write(
        tmp_path,
        ",clean,corrupted,corrupted_hard,correct_idx,incorrect_idx",
        f'7,"Ann, Bob","Cem, Bob",x,{ann},{bob}',
        "",
        f'8,"Ann; Bob","Cem; Bob",y,"[{bob}]","[{ann}, {ann + 50}]"',
        name="ioi.csv",
    )
    card = load_pairs(path)
    assert card.metric == "logit_diff" and [p.where for p in card.pairs] == ["line 2", "line 4"]
    assert card.pairs[1].wrong_answer_ids == (ann, ann + 50)
    with pytest.raises(PromptError) as error:
        build_splits(card, tokenizer, 1, 0, seed=0)
    assert str(error.value).startswith("1 of the 2 prompts of task 'ioi' do not fit this model:\n  line 4:\n")
    assert f"    the tokenizer has no token {ann + 50}\n" in str(error.value)
    assert str(error.value).endswith("take them out of the file; or go on without them: --drop-misfits.")
    kept = card.model_copy(update={"pairs": card.pairs[:1]})
    discovery, _ = build_splits(kept, tokenizer, 1, 0, seed=0)
    assert (discovery.answers.tolist(), discovery.wrong_answers.tolist()) == ([[ann]], [[bob]])
    assert (discovery.pairs[0].answers, discovery.pairs[0].wrong_answers) == ((" Ann",), (" Bob",))


def test_csv_with_texts(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "clean,corrupt,correct,incorrect,read_at",
        "a b,a c, 1,\"[' 2', ' 3']\",-2",
        '"a\nd",a e,[x], y,',
        name="t.csv",
    )
    first, second = load_pairs(path).pairs
    assert (first.answers, first.wrong_answers, first.read_at) == ((" 1",), (" 2", " 3"), -2)
    assert (second.clean, second.answers, second.read_at, second.where) == ("a\nd", ("[x]",), -1, "line 3")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            ["clean,corrupted,label", "a,b,52"],
            "line 1: no column is known to hold right answers; 'label' cannot be used.",
        ),
        (
            ["clean,corrupted,correct_idx", "a,b,52"],
            "line 1: correct_idx without incorrect_idx is, in EAP-IG's greater-",
        ),
        (["clean,corrupted,answers,correct", "a"], "line 1: answers and correct are both answers: keep one of"),
        (["clean,corrupt,corrupted", "a"], "line 1: corrupt and corrupted are both corrupt: keep one of"),
        (["clean,corrupt,anwsers,wrong_answers", "a"], "line 1: anwsers: unknown column. Did you mean 'answers' or "),
        (["clean,clean,corrupt", "a"], "line 1: clean and clean are both clean: keep one of them."),
        (["clean,answers", "a"], "line 1: corrupt: missing."),
        (["clean,corrupt", "a"], "line 2: it has 1 cells, and the header has 2."),
        (["clean,corrupt", '"a'], "line 2: not CSV: unexpected end of data."),
        (["clean,corrupt", ",b"], "line 2: clean: missing."),
        (["clean,corrupt,answers", "a,b,[1]"], "line 2: answers[0]: Input should be a valid string (found 1)."),
        (["clean,corrupt,answer_ids", "a,b,x"], "line 2: answer_ids[0]: Input should be a valid integer (found 'x')."),
        (["clean,corrupt,answer_ids", "a,b,-1"], "line 2: answer_ids[0]: Input should be greater than or equal to 0"),
        (["clean,corrupt,wrong_answers", "a,b, x"], "line 2: wrong_answers: wrong answers without right ones."),
    ],
)
def test_what_csv_can_have_wrong(tmp_path: Path, lines: list[str], expected: str) -> None:
    assert any(line.startswith(expected) for line in problems(write(tmp_path, *lines, name="x.csv")))


def test_lengths_are_told_apart_by_line_for_all_pairs_not_only_those_drawn(tmp_path: Path) -> None:
    lines = [pair(i) for i in range(1, 12)]
    lines[6]["corrupt"] = "Petrovich 7 told"
    lines[9]["answers"] = [" Ann", " Petrovich"]
    with pytest.raises(PromptError) as error:
        build_splits(load_pairs(write(tmp_path, *lines)), FakeTokenizer(), 1, 0, seed=0)
    assert str(error.value) == (
        "2 of the 11 prompts of task 'my_pairs' do not fit this model:\n"
        "  line 7:\n"
        "    clean has 3 tokens and corrupt 4: both must have as many\n"
        "    clean   [3] 'Hans' ' 7' ' told'\n"
        "    corrupt [4] 'Petr' 'ovich' ' 7' ' told'\n"
        "  line 10:\n"
        "    the answer ' Petrovich' is not one token: ' Petr' 'ovich'\n"
        "    clean   [4] 'Kim' ' 1' '0' ' told'\n"
        "    corrupt [4] 'Jon' ' 1' '0' ' told'\n"
        "Correct these pairs or take them out of the file; or go on without them: --drop-misfits."
    )
    with pytest.raises(PromptError, match=r"\n  \.\.\. and 1 more: line 11\.\nCorrect"):
        build_splits(load_pairs(write(tmp_path, *(x | {"read_at": 9} for x in lines))), FakeTokenizer(), 1, 0, seed=0)


def test_a_card_can_write_its_pairs_out() -> None:
    data: Data = {"name": "x", "description": "x", "pairs": [pair(1), pair(2)]}
    card = parse_card(data, "x.toml")
    assert len(build_splits(card, FakeTokenizer(), 1, 1, 0)[0]) == 1
    data["pairs"][1]["corrupt"] = "Petrovich 2 told"
    with pytest.raises(PromptError, match=r"  prompt 1 \(template pairs\):\n    clean has 3 tokens and corrupt 4"):
        build_splits(parse_card(data, "x.toml"), FakeTokenizer(), 1, 1, 0)
    data["pairs"][1] |= {"clean": "", "lenght": 3}
    with pytest.raises(TaskError) as error:
        parse_card(data, "x.toml")
    assert "  pairs[1].clean: String should have at least 1 character (found '').\n" in str(error.value)
    assert "  pairs[1].lenght: unknown key. Did you mean 'clean'? Known: answer_ids, " in str(error.value)


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1, max_size=8)
PAIRS = st.lists(
    st.fixed_dictionaries(
        {
            "clean": TEXT,
            "corrupt": TEXT,
            "answers": st.lists(TEXT, min_size=1, max_size=2),
            "wrong_answers": st.lists(TEXT, min_size=1, max_size=2),
            "read_at": st.integers(-3, 3),
        }
    ),
    min_size=1,
    max_size=4,
)


@given(PAIRS)
def test_all_three_formats_say_the_same(pairs: list[Data]) -> None:
    lines = list(_read_pairs("\n".join(json.dumps(p) for p in pairs), ".jsonl"))
    assert [fields for _, fields, _ in lines] == pairs
    places = [f"line {i + 1}" for i in range(len(pairs))]
    assert [where for where, _, _ in lines] == (places if len(pairs) > 1 else ["pair 1"])
    for indent in (None, 1):
        text = json.dumps({"a": pairs, "prompts": pairs}, indent=indent)
        assert [fields for _, fields, _ in _read_pairs(text, ".json")] == pairs
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(pairs[0]))
    writer.writeheader()
    writer.writerows(pairs)
    assert [fields for _, fields, _ in _read_pairs(out.getvalue(), ".csv")] == pairs


@given(st.binary(max_size=60), st.sampled_from([".jsonl", ".json", ".csv", ".tsv", ".txt"]))
def test_any_file_is_a_card_or_a_task_error(tmp_path_factory: pytest.TempPathFactory, data: bytes, ending: str) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{ending}"
    path.write_bytes(data)
    try:
        assert isinstance(load_pairs(path), TaskCard)
    except TaskError as error:
        assert str(path) in str(error)


def test_a_group_names_the_template(tmp_path: Path) -> None:
    lines = [pair(i, group=i % 2) for i in range(1, 9)]
    discovery, held_out = build_splits(load_pairs(write(tmp_path, *lines)), FakeTokenizer(), 4, 4, seed=0)
    assert sorted(discovery.templates) == sorted(held_out.templates) == ["0", "0", "1", "1"], "numbers are names too"
    table = write(tmp_path, "clean,corrupt,answers,group", "a b,a c, x,1", "d b,d c, x,0", name="pairs.csv")
    assert [text.template for text in load_pairs(table).pairs] == ["1", "0"]
    assert problems(write(tmp_path, pair(1, group="a", template="b"))) == [
        "pair 1: group and template are both template: keep one of them."
    ]
