"""What makes two runs the same run."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from acdc_engine.experiment import Experiment
from acdc_engine.patch.memory import Facts, differences, fingerprint_of
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.find import find_task
from acdc_engine.run.folder import asked_facts, loaded_facts
from acdc_engine.run.settings import Settings
from tests.tiny_task import tiny_view, write_card


def test_every_setting_counts_but_those_about_starting_and_stopping(tmp_path: Path) -> None:
    """A setting that is added to `Settings` counts without anybody having to think of it here."""
    card = find_task(write_card(tmp_path))
    asked = asked_facts(card, Settings(), "gpt2")
    names = {field.name for field in dataclasses.fields(Settings)}
    assert set(asked) == names - {"force", "minutes"} | {"task", "task card", "model"}
    assert asked_facts(card, Settings(force=True), "gpt2") == asked
    assert asked_facts(card, Settings(seed=1), "gpt2") != asked


@pytest.mark.parametrize("model", [object(), None])
def test_what_an_object_holds_is_known_only_when_it_is_loaded(model: Any, tmp_path: Path) -> None:
    assert "model" not in asked_facts(find_task(write_card(tmp_path)), Settings(), model)


def test_numbers_of_numpy_are_those_of_python(tmp_path: Path) -> None:
    card = find_task(write_card(tmp_path))
    numpy = Settings(faithfulness=np.float64(0.5))
    object.__setattr__(numpy, "n", np.int64(8))  # which the type hook of the tests would refuse
    theirs, ours = asked_facts(card, numpy, "m"), asked_facts(card, Settings(n=8, faithfulness=0.5), "m")
    assert theirs == ours and fingerprint_of(theirs) == fingerprint_of(ours)


def test_a_cards_content_counts(tmp_path: Path) -> None:
    card = find_task(write_card(tmp_path))
    other = card.model_copy(update={"words": {"names": card.words["names"].model_copy(update={"words": ("Ann",)})}})
    assert list(differences(asked_facts(card, Settings(), "m"), asked_facts(other, Settings(), "m"))) == ["task card"]


def test_weights_prompts_and_machine_are_facts(tmp_path: Path) -> None:
    card, view = find_task(write_card(tmp_path)), tiny_view()
    prompts, held_out = build_splits(card, view.tokenizer, 4, 4, 0)
    facts = loaded_facts(Experiment(view, prompts, held_out))
    assert facts["weights"] == view.weights_hash() and facts["threads"] == torch.get_num_threads()
    assert facts["torch"] == torch.__version__ and facts["number format"] == "float32"
    swapped = loaded_facts(Experiment(view, held_out, prompts))
    assert list(differences(facts, swapped)) == ["prompts"]
    other = loaded_facts(Experiment(tiny_view("gpt2"), prompts, held_out))
    assert set(differences(facts, other)) == {"model", "weights"}


def test_differences_are_told_with_both_values() -> None:
    there: Facts = {"n": 8, "task card": "0123456789" * 6, "same": 1}
    here: Facts = {"n": 16, "task card": "abcdefghij" * 6, "same": 1, "new": None, "newer": 2}
    assert differences(there, here) == {
        "n": "8 there and 16 here",
        "task card": "01234567 there and abcdefgh here",
        "newer": "None there and 2 here",
    }


def test_the_order_of_facts_does_not_count() -> None:
    assert fingerprint_of({"a": 1, "b": "x"}) == fingerprint_of({"b": "x", "a": 1}) != fingerprint_of({"a": 1})
