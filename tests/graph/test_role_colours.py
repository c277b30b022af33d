"""Colours of roles: told apart with every kind of sight, readable, the same whatever else is in a circuit."""

from itertools import combinations
from typing import get_args

import numpy as np
import pytest

from acdc_engine.graph.role_colours import OTHER_FILL, ROLE_FILLS, fill_of, legend_of
from acdc_engine.graph.role_records import RoleName

INK = ("#222222", "#e8ebee")
"""Of names in boxes, in light and dark."""
GROUNDS = (("#ffffff", "#e8e8e8"), ("#14181c", "#2f363d"))
"""Boxes of heads without a role, and of MLPs."""
SIGHT = {
    "normal": np.eye(3),
    # Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}
XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.119192, 0.9503041]])


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
