"""Settings: what is refused, by name; as a command that finds the circuit again, and as run.toml."""

import inspect
import shlex
import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from acdc_engine import cli
from acdc_engine.errors import MethodError, PromptError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.prompts.check import WHERE
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.metrics import METRICS
from acdc_engine.run.curve import _FIXED
from acdc_engine.run.discover import discover
from acdc_engine.run.prepare import prompts_of
from acdc_engine.run.settings import (
    RUN_FILE,
    CurveSettings,
    DiscoverSettings,
    Settings,
    choices_of,
    command_of,
    read_run_file,
    run_file_text,
)
from tests.fake_tokenizer import FakeTokenizer
from tests.tiny_task import tiny_view, write_card

pytestmark = pytest.mark.usefixtures("unchecked")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("n", "8", "n must be an integer, not '8' of type str."),
        ("steps", 8.0, "steps must be an integer, not 8.0 of type float."),
        ("size", True, "size must be an integer, not True of type bool."),
        ("faithfulness", "0.9", "faithfulness must be a number, not '0.9' of type str."),
        ("threshold", True, "threshold must be a number, not True of type bool."),
        ("method", ["x"], "method must be a text, not ['x'] of type list."),
        ("device", 1, "device must be a text, not 1 of type int."),
        ("batch_size", None, "batch_size must be an integer, not None of type NoneType."),
        ("faithfulness", None, "faithfulness must be a number, not None of type NoneType."),
        ("n_held_out", 0, "n_held_out must be at least 1, not 0."),
        ("seed", -1, "seed must be at least 0, not -1."),
    ],
)
def test_what_is_of_another_kind_or_too_small(name: str, value: Any, message: str) -> None:
    with pytest.raises(MethodError) as caught:
        Settings.of({name: value})
    assert str(caught.value) == message


def test_every_setting_has_its_words() -> None:
    """And they name every choice that comes with the engine."""
    words = {field.name: field.metadata["help"] for field in fields(Settings)}
    assert all(said.endswith(".") for said in words.values())
    for name, said in words.items():
        assert name == "device" or all(choice in said for choice in choices_of(name))
    assert all(entry.name in words["metric"] for entry in METRICS.own())


def test_numbers_of_other_libraries_will_do() -> None:
    assert Settings(n=np.int64(8), faithfulness=1, steps=None, size=None).n == 8  # type: ignore[arg-type]


def test_each_template_needs_a_target() -> None:
    assert Settings(each_template=True).choice.aims and Settings(each_template=True, strategy="greedy").choice.aims
    for given in (Settings(strategy="acdc", threshold=0.1), Settings(strategy="top-k", size=40)):
        with pytest.raises(MethodError, match="aims at no target here, and each_template is about the target"):
            replace(given, each_template=True)


def test_places_in_the_prompt(tmp_path: Path) -> None:
    assert Settings().where == "none" and set(choices_of("where")) == set(WHERE)
    with pytest.raises(PromptError, match=r"^where must be none, spans or tokens, not 'slots'\.$"):
        Settings(where="slots")
    card = find_task(write_card(tmp_path))
    for where in WHERE:
        settings = Settings(n=4, n_held_out=2, n_validation=0, where=where)
        _, found = prompts_of(card, tiny_view(), settings)
        assert found.discovery.spans is found.held_out.spans
        assert (found.discovery.spans is None) == (where == "none")


def test_unknown_settings() -> None:
    with pytest.raises(MethodError, match=r"There is no setting 'faithfullness'\. Did you mean 'faithfulness'"):
        Settings.of({"faithfullness": 0.9})


def test_signatures_editors_and_the_command_line_have_the_same_settings() -> None:
    """`discover(...)` completes every field of `Settings`, same type and default; so does `acdc discover`."""
    names = {field.name: field for field in fields(Settings)}
    assert get_type_hints(DiscoverSettings) == get_type_hints(Settings)
    assert {name for name in names if name not in get_type_hints(CurveSettings)} == {*_FIXED, "n_random"}
    shown = inspect.signature(discover).parameters
    assert list(shown) == ["task", "model", "out", "overwrite", "progress", *names]
    assert all(shown[name].default == field.default for name, field in names.items())
    root: Any = typer.main.get_command(cli.app)
    asked = {option.name: option.default for option in root.commands["discover"].params}
    assert all(asked[name] == field.default for name, field in names.items())
    assert discover.__doc__ is not None and not [name for name in names if name not in discover.__doc__]


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


RUNNER = CliRunner()


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    settings = Settings(strategy="top-k", size=30, n=8, faithfulness=0.95, prepend_bos=True, edge_tests=False)
    asked = read_run_file(written(tmp_path, run_file_text('a "b"\\c é.toml', "gpt2", settings, 2)))
    assert (asked.pop("task"), asked.pop("model"), asked.pop("threads")) == ('a "b"\\c é.toml', "gpt2", 2)
    assert Settings.of(asked) == settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("faithfullness = 0.9", r"faithfullness: unknown key\. Did you mean 'faithfulness'"),
        ('n = "many"', r"n: Input should be a valid integer \(found 'many'\)"),
        ("out = 'runs/x'", "out: unknown key"),
        ("force = 1", r"force: Input should be a valid boolean \(found 1\)"),
        ("n == 3", "is not TOML"),
    ],
)
def test_what_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(MethodError, match=message):
        read_run_file(written(tmp_path, text))
    with pytest.raises(MethodError, match=r"Cannot read .*gone\.toml: No such file"):
        read_run_file(tmp_path / "gone.toml")


def test_a_run_leaves_the_file_that_repeats_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("acdc_engine.run.prepare.load_model", lambda *a, **k: tiny_view())
    monkeypatch.setattr("acdc_engine.run.prepare.load_tokenizer", lambda model: FakeTokenizer())
    monkeypatch.setattr("acdc_engine.show.report.report_html", lambda circuit, **_: "a report")
    write_card(tmp_path)
    asked = ["tiny.toml", "--n", "6", "--n-held-out", "5", "--strategy", "top-k", "--size", "20", "--force"]
    first = RUNNER.invoke(cli.app, ["discover", *asked, "--no-edge-tests", "--random", "2", "--out", "first"])
    assert first.exit_code == 0, first.output
    content = tomllib.loads((tmp_path / "first" / RUN_FILE).read_text())
    assert (content["task"], content["model"], content["size"], content["n_random"]) == (
        "tiny.toml", "smollm2-135m", 20, 2,
    )  # fmt: skip
    again = RUNNER.invoke(cli.app, ["discover", "--config", f"first/{RUN_FILE}", "--out", "again"])
    assert again.exit_code == 0, again.output
    there, here = Circuit.load("first/circuit.json"), Circuit.load("again/circuit.json")
    assert there.edges == here.edges and there.evaluation == here.evaluation and there.command == here.command
    smaller = RUNNER.invoke(cli.app, ["discover", "--config", f"first/{RUN_FILE}", "--out", "b", "--size", "12"])
    assert smaller.exit_code == 0 and len(Circuit.load("b/circuit.json").edges) <= 12
