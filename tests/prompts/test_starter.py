"""What `acdc tasks new` writes: it loads, can be split, and never takes a file's place."""

import json
from pathlib import Path

import pytest

from acdc_engine.errors import TaskError
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.find import find_task, write_new_task
from tests.fake_tokenizer import FakeTokenizer


def test_the_card_loads_and_gives_the_prompts_of_a_default_run(tmp_path: Path) -> None:
    write_new_task("mine", tmp_path / "mine.toml", pairs=False)
    card = find_task(tmp_path / "mine.toml")
    assert card.name == "mine"
    splits = build_splits(card, FakeTokenizer(), 32, 64, seed=0)
    assert [len(split) for split in splits] == [32, 64]
    assert {pair.template for split in splits for pair in split.pairs} == {"plural", "singular"}


def test_the_pairs_differ_in_the_noun_alone_and_share_no_text(tmp_path: Path) -> None:
    write_new_task("mine", tmp_path / "mine.jsonl", pairs=True)
    pairs = [json.loads(line) for line in (tmp_path / "mine.jsonl").read_text().splitlines()]
    texts = [pair[key] for pair in pairs for key in ("clean", "corrupt")]
    assert len(pairs) == 24 and len(set(texts)) == 48
    for pair in pairs:
        differ = [a != b for a, b in zip(pair["clean"].split(), pair["corrupt"].split(), strict=True)]
        assert differ == [False, True, False, False, False]
        plural = pair["clean"].split()[1] == pair["corrupt"].split()[1] + "s" or "children" in pair["clean"]
        assert (pair["answers"], pair["wrong_answers"]) == (([" are"], [" is"]) if plural else ([" is"], [" are"]))


@pytest.mark.parametrize("name", ["My_task", "1st", "a-b", "", "x.toml", "../x", "a\nb"])
def test_names_that_cannot_be(name: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="lower-case letters, digits and underscores, a letter first, not "):
        write_new_task(name, tmp_path / "x.toml", pairs=False)


def test_files_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("first")
    with pytest.raises(TaskError, match=r"mine\.toml exists already, and is left as it is"):
        write_new_task("mine_2", path, pairs=False)
    assert path.read_text() == "first"
    with pytest.raises(TaskError, match=r"no/x\.toml cannot be written: No such file or directory"):
        write_new_task("mine_2", tmp_path / "no" / "x.toml", pairs=True)
