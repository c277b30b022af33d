"""Numbers shown beside one another can be told apart."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acdc_engine.graph.digits import style_of, texts_of


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ((3.2, 0.5), ["3.200", "0.500"]),
        ((3.456, 3.45603), ["3.456000", "3.456030"]),
        ((1.157e-6, 1.12e-6), ["1.157e-06", "1.120e-06"]),
        ((4e-5, 1e-5), ["4.0e-05", "1.0e-05"]),
        ((0.00003, 0.2), ["0.000", "0.200"]),
        ((1.157e-6,), ["1.2e-06"]),
        ((0.0, 0.0), ["0.000", "0.000"]),
        ((-12.5, -12.499), ["-12.5000", "-12.4990"]),
        ((1e9, 2e9), ["1000000000.000", "2000000000.000"]),
        ((), []),
    ],
)
def test_by_hand(values: tuple[float, ...], shown: list[str]) -> None:
    assert texts_of(*values) == shown


def test_what_is_not_finite_does_not_count() -> None:
    assert texts_of(math.nan, 1.5, math.inf) == ["nan", "1.500", "inf"]


@given(st.floats(-1e3, 1e3, width=32), st.floats(-8, 2))
def test_a_difference_shows(value: float, power: float) -> None:
    other = value + 10**power
    if abs(other - value) > 2e-6 * max(abs(value), abs(other)):
        first, second = texts_of(value, other)
        assert first != second
    if abs(other - value) > 2e-5 * max(abs(value), abs(other)):
        first, second = texts_of(value, other)
        assert abs((float(second) - float(first)) - (other - value)) <= 0.11 * abs(other - value)


def test_decimals_are_at_least_as_many_as_asked_for() -> None:
    assert style_of([1.0, 2.0], 4) == ".4f"
    assert style_of([0.0, 3e-5], 4) == ".1e"
