"""Settings: every value of a wrong kind is refused by name."""

import inspect
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, get_type_hints

import jaxtyping
import numpy as np
import pytest

from acdc_engine.cli.discover import discover as command
from acdc_engine.errors import MethodError
from acdc_engine.run.curve import _FIXED
from acdc_engine.run.discover import discover
from acdc_engine.run.settings import CurveSettings, DiscoverSettings, Settings


@pytest.fixture(autouse=True)
def as_a_user_runs_it() -> Iterator[None]:
    """Without the checks of annotations that pytest adds (conftest.py): they would come first."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.mark.parametrize("name", ["n", "n_held_out", "batch_size", "seed", "size", "steps"])
@pytest.mark.parametrize(("value", "kind"), [("8", "str"), (8.0, "float"), (True, "bool"), ([8], "list")])
def test_what_must_be_an_integer(name: str, value: Any, kind: str) -> None:
    with pytest.raises(MethodError) as caught:
        Settings.of({"strategy": "top-k", name: value})
    assert str(caught.value) == f"{name} must be an integer, not {value!r} of type {kind}."


@pytest.mark.parametrize("name", ["faithfulness", "threshold"])
@pytest.mark.parametrize(("value", "kind"), [("0.9", "str"), (True, "bool"), ((0.9,), "tuple")])
def test_what_must_be_a_number(name: str, value: Any, kind: str) -> None:
    with pytest.raises(MethodError) as caught:
        Settings.of({"strategy": "threshold", name: value})
    assert str(caught.value) == f"{name} must be a number, not {value!r} of type {kind}."


@pytest.mark.parametrize("name", ["method", "strategy", "rank", "ablation", "metric", "device", "dtype"])
def test_what_must_be_a_text(name: str) -> None:
    with pytest.raises(MethodError, match=rf"{name} must be a text, not \['x'\] of type list"):
        Settings.of({name: ["x"]})


@pytest.mark.parametrize("name", ["batch_size", "seed", "faithfulness", "method"])
def test_what_cannot_be_left_open(name: str) -> None:
    with pytest.raises(MethodError, match=f"{name} must be .*, not None of type NoneType"):
        Settings.of({name: None})


def test_numbers_of_other_libraries_will_do() -> None:
    assert Settings(n=np.int64(8), faithfulness=1, steps=None, size=None).n == 8  # type: ignore[arg-type]


def test_unknown_settings() -> None:
    with pytest.raises(MethodError, match=r"There is no setting 'faithfullness'\. Did you mean 'faithfulness'"):
        Settings.of({"faithfullness": 0.9})


@pytest.mark.parametrize("name", ["n", "n_held_out", "batch_size"])
def test_counts_below_one(name: str) -> None:
    with pytest.raises(MethodError, match=f"{name} must be at least 1, not 0"):
        Settings.of({name: 0})


@pytest.mark.parametrize("name", ["n_random", "seed"])
def test_what_cannot_be_negative(name: str) -> None:
    with pytest.raises(MethodError, match=f"{name} must be at least 0, not -1"):
        Settings.of({name: -1})


def test_signatures_editors_and_the_command_line_have_the_same_settings() -> None:
    """`discover(...)` completes every field of `Settings`, same type and default; so does `acdc discover`."""
    names = {field.name: field for field in fields(Settings)}
    assert get_type_hints(DiscoverSettings) == get_type_hints(Settings)
    assert {name for name in names if name not in get_type_hints(CurveSettings)} == {*_FIXED, "n_random"}
    shown = inspect.signature(discover).parameters
    assert list(shown) == ["task", "model", "out", "overwrite", "progress", *names]
    assert all(shown[name].default == field.default for name, field in names.items())
    asked = inspect.signature(command).parameters
    assert all(asked[name].default == field.default for name, field in names.items() if name != "edge_tests")
    assert asked["no_edge_tests"].default is not Settings().edge_tests
    assert discover.__doc__ is not None and not [name for name in names if name not in discover.__doc__]


def test_an_unknown_setting_comes_with_the_nearest() -> None:
    with pytest.raises(MethodError, match=r"There is no setting 'faithfullness'\. Did you mean 'faithfulness'"):
        discover("ioi", faithfullness=0.9)  # type: ignore[call-arg]
