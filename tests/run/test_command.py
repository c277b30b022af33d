"""The command in a circuit file does the same again."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from acdc_engine import cli
from acdc_engine.run.settings import Settings, command_of

CHANGED: list[dict[str, Any]] = [
    {},
    {"strategy": "acdc", "threshold": 0.03, "candidates": 2000, "seed": 7},
    {"strategy": "greedy", "size": 40, "rank": "signed", "steps": 3, "n": 8, "n_held_out": 20},
    {"objective": "kl", "faithfulness": 0.96, "n_random": 0, "batch_size": 4, "dtype": "float64", "device": "cpu"},
    {"method": "eap", "metric": "prob_diff", "ablation": "mean", "ungroup_kv": True, "force": True},
    {"prepend_bos": True},
    {"prepend_bos": False},
]


@pytest.mark.parametrize("settings", CHANGED)
@pytest.mark.parametrize(
    ("task", "model"), [("ioi", "gpt2"), ("my tasks/a 'b' $c.toml", "models/with space"), (Path("x.toml"), Path("m"))]
)
def test_typed_again_it_asks_for_the_same(
    settings: dict[str, Any], task: Any, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def run(task: str, model: str, out: Path, overwrite: bool, progress: bool, **given: Any) -> None:
        asked.update(task=task, model=model, settings=Settings.of(given))
        raise KeyboardInterrupt

    monkeypatch.setattr("acdc_engine.run.discover.discover", run)
    monkeypatch.setattr("acdc_engine.run.discover.unfinished_run", lambda *a, **k: None)
    program, *words = shlex.split(command_of(task, model, Settings.of(settings)))
    assert program == "acdc" and CliRunner().invoke(cli.app, words).exit_code == 130
    assert asked == {"task": str(task), "model": str(model), "settings": Settings.of(settings)}


def test_only_what_was_changed_is_in_it() -> None:
    assert command_of("ioi", "gpt2", Settings()) == "acdc discover ioi --model gpt2"
    found = command_of("a b.toml", "gpt2", Settings(faithfulness=0.95, n_random=5))
    assert found == "acdc discover 'a b.toml' --model gpt2 --faithfulness 0.95 --random 5"


def test_a_model_without_a_name_is_said_in_words() -> None:
    found = command_of("ioi", object(), Settings(seed=3, metric="kl", force=True))
    assert found == 'discover("ioi", model, metric="kl", seed=3, force=True) in Python, with model a loaded object'
