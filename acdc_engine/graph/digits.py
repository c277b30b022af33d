"""How many digits numbers need, so that those shown beside one another can be told apart."""

from __future__ import annotations

import math
from collections.abc import Iterable

SIGNIFICANT = 7
"""Digits that a float32 has; more would be made up."""
SMALL = 1e-3
"""Numbers that are all smaller are written with an exponent, where fixed decimals would not do."""


def style_of(values: Iterable[float], decimals: int = 3) -> str:
    """The format, such as `.3f`, that numbers standing beside one another share.

    Two digits of the largest difference between them show, and of the number itself where there is no difference.

    Args:
        values: The numbers. Add 0 where their size counts and not what they differ by.
        decimals: At least so many.
    """
    known = [value for value in values if math.isfinite(value)]
    largest = max(map(abs, known), default=0.0)
    if not largest:
        return f".{decimals}f"
    power = math.floor(math.log10(largest))
    difference = max(known) - min(known) or largest
    wanted = min(1 - math.floor(math.log10(difference) + 1e-3), SIGNIFICANT - 1 - power)
    if wanted <= decimals:
        return f".{decimals}f"
    return f".{max(1, wanted + power)}e" if largest < SMALL else f".{wanted}f"


def texts_of(*values: float, decimals: int = 3) -> list[str]:
    """The numbers as text, all in the style of `style_of`."""
    style = style_of(values, decimals)
    return [format(value, style) for value in values]


def column_style(values: Iterable[float | None], decimals: int = 4) -> str:
    """The format of a column of effects or scores, whose size counts: two digits of the largest show."""
    return style_of([0.0, *(value for value in values if value is not None)], decimals)
