"""Example pairs, token by token."""

from pathlib import Path

import pytest

from acdc_engine.errors import MethodError
from acdc_engine.run import check_task
from acdc_engine.run.check_task import task_examples
from tests.fake_tokenizer import FakeTokenizer
from tests.tiny_task import CARD


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_task, "load_tokenizer", lambda model: FakeTokenizer())


def write(tmp_path: Path, extra: str = "") -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(CARD + extra)
    return path


def test_examples_are_the_tokens_of_the_prompts(tmp_path: Path) -> None:
    found = task_examples(write(tmp_path), n=3)
    assert found.card.name == "tiny" and len(found.pairs) == 3
    for pair in found.pairs:
        assert pair.template == "ABBA" and len(pair.clean) == len(pair.corrupt) == 10
        a, b = pair.answers[0], pair.wrong_answers[0]
        assert pair.clean == ("Then", a, " and", b, " met", " and", b, " gave", " it", " to")
        assert [i for i in range(10) if pair.clean[i] != pair.corrupt[i]] == [6]
        assert pair.read_at == 9
    assert len(set(found.pairs)) == 3


def test_another_position_and_the_beginning_of_sequence_token(tmp_path: Path) -> None:
    found = task_examples(write(tmp_path, "read_at = 7\n"), n=1, prepend_bos=True)
    (pair,) = found.pairs
    assert pair.clean[0] == pair.corrupt[0] == "<bos>"
    assert pair.clean[pair.read_at] == " gave"


def test_the_same_seed_gives_the_same_examples(tmp_path: Path) -> None:
    first, same, other = (task_examples(write(tmp_path), seed=seed).pairs for seed in (1, 1, 2))
    assert first == same != other


def test_no_examples_asked_for() -> None:
    with pytest.raises(MethodError, match="n must be at least 1, not 0"):
        task_examples("ioi", n=0)
