"""Numbers shown beside one another can be told apart, and so can the colours of roles, with every kind of sight."""

import math
from itertools import combinations
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acdc_engine.graph.further_records import Inner
from acdc_engine.graph.records import CircuitEdge, RoleName
from acdc_engine.graph.style import (
    OTHER_FILL,
    ROLE_FILLS,
    faint_edges,
    faint_words,
    fill_of,
    in_core,
    legend_of,
    opacity_of,
    style_of,
    texts_of,
)
from tests.made_circuits import made_circuit

INK = ("#222222", "#e8ebee")
"""Of names in boxes, in light and dark."""
GROUNDS = (("#ffffff", "#e8e8e8"), ("#14181c", "#2f363d"))
"""Boxes of heads without a role, and of MLPs."""
SIGHT = {
    "normal": np.eye(3),
    # Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.119192, 0.9503041]])


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


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(colour: str, sight: str) -> np.ndarray:
    """CIE 1976 L*a*b* of a colour as somebody sees it."""
    seen = XYZ @ np.clip(SIGHT[sight] @ linear(colour), 0, 1) / (XYZ @ np.ones(3))
    f = np.where(seen > (6 / 29) ** 3, np.cbrt(seen), seen / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one: str, other: str) -> float:
    """Of WCAG, 1 to 21."""
    light, dark = sorted((float(XYZ[1] @ linear(colour)) for colour in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("sight", SIGHT)
def test_no_two_look_alike(theme: int, sight: str) -> None:
    colours = [fill[theme] for fill in (*ROLE_FILLS.values(), OTHER_FILL)]
    apart = {
        pair: float(np.linalg.norm(lab(pair[0], sight) - lab(pair[1], sight)))
        for pair in (*combinations(colours, 2), *((one, ground) for one in colours for ground in GROUNDS[theme]))
    }
    assert min(apart.values()) >= (11, 8)[theme], min(apart.items(), key=lambda item: item[1])


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_names_in_them_can_be_read(theme: int) -> None:
    for fill in (*ROLE_FILLS.values(), OTHER_FILL):
        assert contrast(fill[theme], INK[theme]) >= 5


def test_every_measured_role_has_one_and_others_share_one() -> None:
    assert set(get_args(RoleName)) < set(ROLE_FILLS)
    assert fill_of("year attention") == fill_of("anything") == OTHER_FILL
    assert len({*ROLE_FILLS.values(), OTHER_FILL}) == len(ROLE_FILLS) + 1


def test_a_legend_has_a_fixed_order_and_others_last() -> None:
    roles = ["argument mover", "name mover", None, "induction", "name mover"]
    assert list(legend_of(roles)) == ["induction", "name mover", "argument mover"]
    assert list(legend_of([*roles, "early head"])) == ["induction", "name mover", "other roles"]
    assert legend_of(roles)["argument mover"] == OTHER_FILL
    assert legend_of([None]) == {}


def test_edges_outside_the_core_are_faint_where_the_search_was_repeated() -> None:
    edge = CircuitEdge(sender="input", receiver="m0")
    assert in_core(edge) is None
    rates = {rate: edge.model_copy(update={"inclusion": rate}) for rate in (0.875, 0.9, 1.0)}
    assert [in_core(one) for one in rates.values()] == [False, True, True]
    made = made_circuit(12)
    in_all, seldom = (made.edges[0].model_copy(update={"inclusion": 1.0}), made.edges[1])
    seldom = seldom.model_copy(update={"inclusion": 0.5})
    circuit = made.model_copy(update={"edges": (in_all, seldom)})
    faint = faint_edges(circuit)
    assert faint == {seldom.name} and faint_words(circuit) == "in under 90% of repeats"
    assert opacity_of(seldom, 0.8, faint) < opacity_of(in_all, 0.8, faint) == 0.8


def test_edges_outside_the_inner_circuit_are_faint() -> None:
    circuit = made_circuit(12)
    strong = tuple(edge.name for edge in circuit.edges[:3])
    inner = Inner(edges=strong, nodes=2, checksum="0" * 64)
    nested = circuit.model_copy(update={"inner": inner})
    assert faint_edges(nested) == {edge.name for edge in circuit.edges[3:]}
    assert faint_words(nested) == "outside the inner circuit"
