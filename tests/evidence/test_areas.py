"""CPR and CMD: numbers worked out by hand, a loop that adds up trapezoids as MIB's code does, and what is refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acdc_engine.errors import MethodError
from acdc_engine.evidence.areas import MIB_SIZES, areas, check_sizes, edges_at


def single(*values: float) -> list[tuple[float]]:
    return [(value,) for value in values]


def test_by_hand() -> None:
    """0.1 to 0.5: mean of 0.2 and 1.2 over 0.4 = 0.28; 0.5 to 1: mean of 1.2 and 1 over 0.5 = 0.55."""
    found = areas([0.1, 0.5, 1.0], single(0.2, 1.2, 1.0))
    assert found.cpr == pytest.approx(0.28 + 0.55)
    # Distances 0.8, 0.2, 0: 0.4 * 0.5 + 0.5 * 0.1. The crossing of 1 between 0.1 and 0.5 earns nothing.
    assert found.cmd == pytest.approx(0.2 + 0.05)


def test_nothing_is_added_below_the_first_size() -> None:
    """MIB's own number for a perfect method: 0.999, not 1."""
    perfect = areas(MIB_SIZES, single(*[1.0] * 10))
    assert perfect.cpr == pytest.approx(0.999) and perfect.cmd == 0


def test_fractions_left_over_may_start_at_nothing_and_repeat() -> None:
    """No circuit at the first two sizes; the step from 0 to 0 has no area, 0 to 0.5 has 0.5 * (0 + 1) / 2."""
    found = areas([0.0, 0.0, 0.5, 0.5, 1.0], single(0.0, 0.0, 1.0, 1.0, 1.0))
    assert found.cpr == pytest.approx(0.75) and found.cmd == pytest.approx(0.25)


def test_several_circuits_of_a_size_are_averaged_and_their_distances_too() -> None:
    """f 0 and 2 are 1 on average, but both are 1 away from the model."""
    found = areas([0.5, 1.0], [(0.0, 2.0), (1.0,)])
    assert found.cpr == pytest.approx(0.5) and found.cmd == pytest.approx(0.25)


@given(st.lists(st.floats(-3, 3), min_size=10, max_size=10))
def test_against_a_loop_like_mibs(values: list[float]) -> None:
    under = away = 0.0
    for i in range(9):
        width = MIB_SIZES[i + 1] - MIB_SIZES[i]
        under += width * (values[i] + values[i + 1]) / 2
        away += width * (abs(1 - values[i]) + abs(1 - values[i + 1])) / 2
    found = areas(MIB_SIZES, single(*values))
    assert found.cpr == pytest.approx(under, abs=1e-12) and found.cmd == pytest.approx(away, abs=1e-12)


@pytest.mark.parametrize(("fraction", "edges"), [(0.001, 32), (0.002, 64), (1.0, 32_491), (0.00001, 0)])
def test_sizes_in_edges_are_rounded_down(fraction: float, edges: int) -> None:
    assert edges_at(fraction, 32_491) == edges


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([], r"at least two sizes, not 0 \(none\)"),
        ([0.5], r"at least two sizes, not 1 \(0\.5\)"),
        ([0.0, 1.0], "above 0 and at most 1, not 0, 1"),
        ([0.5, 1.5], r"above 0 and at most 1, not 0\.5, 1\.5"),
        ([math.nan, 1.0], "above 0 and at most 1, not nan, 1"),
        ([0.5, 0.5, 1.0], r"must grow from each to the next, not 0\.5, 0\.5, 1"),
        ([1.0, 0.5], "must grow"),
    ],
)
def test_sizes_that_give_no_area(sizes: list[float], message: str) -> None:
    with pytest.raises(MethodError, match=message):
        check_sizes(sizes)
    assert check_sizes([0.1, 1.0]) == (0.1, 1.0)


@pytest.mark.parametrize(
    ("fractions", "values", "message"),
    [
        ([0.1, 1.0], single(1.0), "2 sizes and 1 with circuits"),
        ([1.0], single(1.0), "1 sizes and 1 with circuits"),
        ([0.1, 1.0], [(), (1.0,)], "2 sizes and 1 with circuits"),
        ([0.5, 0.1], single(1.0, 1.0), r"never fall, unlike \[0\.5, 0\.1\]"),
        ([0.5, 1.1], single(1.0, 1.0), r"lie in \[0, 1\]"),
        ([0.25, 1.0], single(math.nan, 1.0), r"at 25\.00% of the edges is not finite: \[nan\]"),
    ],
)
def test_curves_without_an_area(fractions: list[float], values: list[tuple[float]], message: str) -> None:
    with pytest.raises(MethodError, match=message):
        areas(fractions, values)
