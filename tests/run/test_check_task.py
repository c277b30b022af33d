"""Example pairs, and whether a model does a task: against plain forward passes, and what is refused before any runs."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from acdc_engine.errors import AcdcError, DeviceError, MethodError, PromptError, TaskError
from acdc_engine.evidence.figures import Shortcoming
from acdc_engine.model.load import load_model
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.card import TaskCard, parse_card
from acdc_engine.prompts.drafts import sample_pairs
from acdc_engine.prompts.find import find_task, list_tasks
from acdc_engine.prompts.tokens import token_ids
from acdc_engine.run import check_task as module
from acdc_engine.run.check_task import TaskCheck, Unfit, check_task, check_tasks, task_examples
from tests.fake_tokenizer import FakeTokenizer
from tests.tiny_task import CARD, SECOND, tiny_view, write_card


def two_templates(tmp_path: Path) -> TaskCard:
    path = tmp_path / "two.toml"
    path.write_text(CARD.replace('"tiny"', '"two"') + SECOND)
    return find_task(path)


def by_hand(view: TransformerView, card: TaskCard, n: int, template: str | None) -> tuple[int, int, float, float]:
    """Prompts, right ones, logit difference clean and corrupt, one prompt at a time."""
    right, clean, corrupt = 0, [], []
    for draft in sample_pairs(card, view.tokenizer, n, 0):
        pair = draft.pair
        if template not in (None, pair.template):
            continue
        a, b = (token_ids(view.tokenizer, texts[0])[0] for texts in (pair.answers, pair.wrong_answers))
        on_clean, on_corrupt = (
            view.logits(torch.tensor([token_ids(view.tokenizer, text)]))[0, -1] for text in (pair.clean, pair.corrupt)
        )
        right += bool(on_clean[a] > on_clean[b])
        clean.append(float(on_clean[a] - on_clean[b]))
        corrupt.append(float(on_corrupt[a] - on_corrupt[b]))
    return len(clean), right, sum(clean) / len(clean), sum(corrupt) / len(corrupt)


def test_figures_are_those_of_plain_forward_passes(tmp_path: Path) -> None:
    view, card = tiny_view(), two_templates(tmp_path)
    found = check_task(card, view, n=11, batch_size=4)
    assert [figures.name for figures in found.templates] == ["ABBA", "BABA"]
    for figures, template in zip((*found.templates, found.whole), ("ABBA", "BABA", None), strict=True):
        n, right, clean, corrupt = by_hand(view, card, 11, template)
        assert (figures.prompts, figures.right) == (n, right)
        assert figures.metric_clean == pytest.approx(clean, abs=1e-4)
        assert figures.metric_corrupt == pytest.approx(corrupt, abs=1e-4)
    assert (found.task, found.metric, found.chance) == ("two", "logit_diff", 0.5)
    assert found.pairs == 2 * 12 * 11 and found.seconds > 0


def test_a_model_that_does_it_and_one_that_does_not(tmp_path: Path) -> None:
    compiled = check_task(find_task("tracr_reverse"), load_model("tracr-reverse", device="cpu"))
    assert compiled.does_it and compiled.shortcomings == ()
    assert compiled.whole.right == compiled.whole.prompts == 32
    assert [figures.name for figures in compiled.templates] == sorted(f.name for f in compiled.templates)
    random = check_task(two_templates(tmp_path), tiny_view())
    assert not random.does_it and "chance" in {found.kind for found in random.shortcomings}


def test_a_task_with_fewer_pairs_than_asked_for() -> None:
    pairs = [{"clean": f"{a} or {a}", "corrupt": f"{b} or {a}", "template": t} for a, b, t in ("xyq", "yxp", "zxp")]
    card = parse_card({"name": "few", "description": "d", "metric": "kl", "pairs": pairs}, "few")
    found = check_task(card, tiny_view())
    assert found.pairs == found.whole.prompts == 3
    assert [(f.name, f.prompts, f.right) for f in found.templates] == [("q", 1, None), ("p", 2, None)]
    assert found.whole.metric_clean == pytest.approx(0, abs=1e-6) and found.whole.metric_corrupt < 0


def test_several_tasks_one_of_which_does_not_fit(tmp_path: Path) -> None:
    view = dataclasses.replace(tiny_view(), tokenizer=FakeTokenizer(digits=None))
    fits, does_not = check_tasks([write_card(tmp_path), "greater_than"], view, n=6)
    assert isinstance(fits, TaskCheck) and fits.task == "tiny" and fits.whole.prompts == 6
    assert isinstance(does_not, Unfit) and (does_not.task, does_not.model) == ("greater_than", view.name)
    with pytest.raises(PromptError, match="needs a tokenizer that splits years") as error:
        check_tasks(["greater_than"], view)
    assert str(error.value) == does_not.reason


def test_all_tasks_that_have_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def note(card: TaskCard, view: TransformerView, **_: Any) -> None:
        asked.append(card.name)
        raise PromptError("no")

    monkeypatch.setattr(module, "check_task", note)
    assert [one.task for one in check_tasks((), tiny_view())] == asked
    assert set(list_tasks()) <= set(asked)


@pytest.mark.parametrize(
    ("tasks", "settings", "error", "message"),
    [
        (["ioi"], {"n": 0}, MethodError, "n must be at least 1, not 0"),
        (["ioi"], {"batch_size": -1}, MethodError, "batch_size must be at least 1, not -1"),
        (["ioi"], {"device": "tpu"}, DeviceError, "tpu"),
        (["ioi"], {"dtype": "float8"}, DeviceError, "float8"),
        (
            ["ioj", "ioi", "no.toml"],
            {},
            TaskError,
            r"There is no task 'ioj'(.|\n)*\nThe task card no\.toml cannot be read",
        ),
    ],
)
def test_what_is_wrong_is_said_before_the_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tasks: list[str], settings: dict[str, Any], error: type[AcdcError], message: str
) -> None:
    monkeypatch.setattr(module, "load_model", lambda *a, **k: pytest.fail("the model was loaded"))
    with pytest.raises(error, match=message):
        check_tasks(tasks, **settings)


def test_the_beginning_of_sequence_token_can_be_asked_for(tmp_path: Path) -> None:
    path = write_card(tmp_path)
    plain, same, with_bos = (check_tasks([path], tiny_view(), n=4, prepend_bos=bos)[0] for bos in (None, False, True))
    assert isinstance(plain, TaskCheck) and isinstance(same, TaskCheck) and isinstance(with_bos, TaskCheck)
    assert plain.whole == same.whole != with_bos.whole


def test_the_flag_that_helps_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found_wrong(*arguments: Any) -> list[Shortcoming]:
        # The tiny model does no task: here it does it with the token in front, which moves its figures.
        return [] if arguments[2].mean() != without else [Shortcoming("chance", "It does not.")]

    card, view = find_task(write_card(tmp_path)), tiny_view()
    without = torch.tensor(check_task(card, view, n=8).whole.metric_clean)
    monkeypatch.setattr(module, "shortcomings", found_wrong)
    found = check_task(card, view, n=8)
    right = check_task(card, view, n=8, prepend_bos=True).whole
    assert not found.does_it and found.command is None
    assert found.notes == (
        f"With a beginning-of-sequence token in front the model does the task ({right.right} of 8 right): give --bos.",
    )
    assert check_task(card, view, n=8, prepend_bos=True).notes == ()


def test_the_command_that_will_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "shortcomings", lambda *_: [])
    words = "\n".join(f'{{"clean": "{a} is", "corrupt": "{b} is"}}' for a, b in zip("abcdef", "ghijkl", strict=True))
    path = tmp_path / "few pairs.jsonl"
    path.write_text(words)
    (found,) = check_tasks([path], tiny_view())
    assert isinstance(found, TaskCheck) and found.sizes == (2, 4) and found.does_it
    assert found.command is not None and found.command.startswith(f'discover("{path}", model, n=2, n_held_out=4) in ')
    monkeypatch.setattr(module, "load_model", lambda *a, **k: tiny_view())
    monkeypatch.setattr("acdc_engine.run.prepare.load_tokenizer", lambda model: FakeTokenizer())
    (found,) = check_tasks([path], "gpt2", prepend_bos=True)
    assert isinstance(found, TaskCheck)
    assert found.command == f"acdc discover '{path}' --model gpt2 --n 2 --n-held-out 4 --bos"
    (whole,) = check_tasks([write_card(tmp_path)], "gpt2")
    assert isinstance(whole, TaskCheck) and whole.sizes == (32, 64)
    assert whole.command == f"acdc discover {tmp_path / 'tiny.toml'} --model gpt2"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load_tokenizer", lambda model: FakeTokenizer())


@pytest.mark.usefixtures("fake")
def test_examples_are_the_tokens_of_the_prompts(tmp_path: Path) -> None:
    found = task_examples(write_card(tmp_path), n=3)
    assert found.card.name == "tiny" and len(found.pairs) == 3
    for pair in found.pairs:
        assert pair.template == "ABBA" and len(pair.clean) == len(pair.corrupt) == 10
        a, b = pair.answers[0], pair.wrong_answers[0]
        assert pair.clean == ("Then", a, " and", b, " met", " and", b, " gave", " it", " to")
        assert [i for i in range(10) if pair.clean[i] != pair.corrupt[i]] == [6]
        assert pair.read_at == 9
    assert len(set(found.pairs)) == 3


@pytest.mark.usefixtures("fake")
def test_another_position_and_the_beginning_of_sequence_token(tmp_path: Path) -> None:
    path = write_card(tmp_path)
    path.write_text(path.read_text() + "read_at = 7\n")
    found = task_examples(path, n=1, prepend_bos=True)
    (pair,) = found.pairs
    assert pair.clean[0] == pair.corrupt[0] == "<bos>"
    assert pair.clean[pair.read_at] == " gave"


def test_no_examples_asked_for() -> None:
    with pytest.raises(MethodError, match="n must be at least 1, not 0"):
        task_examples("ioi", n=0)
