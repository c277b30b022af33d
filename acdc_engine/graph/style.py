"""How numbers, edges and roles look: the same in text, pictures, pages and DOT."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from acdc_engine.graph.circuit import Circuit
    from acdc_engine.graph.records import CircuitEdge

_SIGNIFICANT = 7  # digits that a float32 has; more would be made up
_SMALL = 1e-3  # numbers that are all smaller are written with an exponent, where fixed decimals would not do

# Blue and vermilion of Okabe and Ito's palette: told apart with every kind of colour blindness.
_POSITIVE = "#0072B2"
_NEGATIVE = "#D55E00"
_UNKNOWN = "#777777"

CORE = 0.9
"""Share of the repeats of a search that have an edge of the core."""
_FAINT = 0.3  # opacity of other edges, as a share of their usual one
Measure = Literal["effect", "score"]


class Fill(NamedTuple):
    """Colours of a box, as #rrggbb."""

    light: str
    dark: str


ROLE_FILLS = {
    "previous token": Fill("#f7ee93", "#3b2f0c"),
    "duplicate token": Fill("#e6b284", "#9e4c09"),
    "induction": Fill("#99f1bf", "#19624b"),
    "S-inhibition": Fill("#ab93b6", "#701d9e"),
    "name mover": Fill("#5bcbfd", "#0e6c7b"),
    "backup name mover": Fill("#d0e5fd", "#0e3168"),
    "negative name mover": Fill("#ec798a", "#730140"),
    "copying": Fill("#5e9fef", "#0654dd"),
    "copy suppression": Fill("#98a248", "#6c633a"),
}
"""The colours of each role, as circuit files name it; docs/roles.md says what each does.

Pale on light ground and deep on dark, so that names on them can be read (contrast at least 5 to 1). Any two, and each
and the plain boxes, are at least 11 (light) or 8 (dark) apart in CIE L*a*b*, with normal sight and under protanopia and
deuteranopia as Machado, Oliveira and Fernandes 2009 simulate them.
"""
OTHER_FILL = Fill("#c4c8cc", "#50565c")
"""Of all other roles."""


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
    wanted = min(1 - math.floor(math.log10(difference) + 1e-3), _SIGNIFICANT - 1 - power)
    if wanted <= decimals:
        return f".{decimals}f"
    return f".{max(1, wanted + power)}e" if largest < _SMALL else f".{wanted}f"


def texts_of(*values: float, decimals: int = 3) -> list[str]:
    """The numbers as text, all in the style of `style_of`."""
    style = style_of(values, decimals)
    return [format(value, style) for value in values]


def column_style(values: Iterable[float | None], decimals: int = 4) -> str:
    """The format of a column of effects or scores, whose size counts: two digits of the largest show."""
    return style_of([0.0, *(value for value in values if value is not None)], decimals)


def measure_of(circuit: Circuit) -> Measure | None:
    """What edges are ranked by, one measure for all because the two are not on one scale.

    It is `effect` where every edge has one, else `score` where any has one, else None.
    """
    if circuit.edges and all(edge.effect is not None for edge in circuit.edges):
        return "effect"
    return "score" if any(edge.score is not None for edge in circuit.edges) else None


def strength_of(edge: CircuitEdge, measure: Measure | None) -> float | None:
    """The edge's effect or score; None where it is unknown."""
    return None if measure is None else (edge.effect if measure == "effect" else edge.score)


def by_strength(circuit: Circuit) -> list[CircuitEdge]:
    """The edges with the largest absolute strength first, unknown ones last, ties in the file's order."""
    measure = measure_of(circuit)
    return sorted(circuit.edges, key=lambda edge: -abs(strength_of(edge, measure) or 0.0))


def relative_strengths(circuit: Circuit) -> dict[CircuitEdge, float]:
    """Absolute strength of each edge as a share of the strongest; 0.5 for all when none is known."""
    measure = measure_of(circuit)
    known = {edge: abs(strength_of(edge, measure) or 0.0) for edge in circuit.edges}
    largest = max(known.values(), default=0.0)
    return {edge: value / largest if largest else 0.5 for edge, value in known.items()}


def colour_of(strength: float | None) -> str:
    """Blue where the edge supports the behaviour, orange where it works against it, grey where unknown."""
    if strength is None:
        return _UNKNOWN
    return _POSITIVE if strength >= 0 else _NEGATIVE


def fill_of(role: str) -> Fill:
    """The colours of a role, whichever circuit it is in."""
    return ROLE_FILLS.get(role, OTHER_FILL)


def legend_of(roles: Iterable[str | None]) -> dict[str, Fill]:
    """What the colours of some roles mean, in a fixed order; those that share the neutral one are the last entry."""
    there = {role: None for role in roles if role}
    found = {role: fill for role, fill in ROLE_FILLS.items() if role in there}
    others = [role for role in there if role not in ROLE_FILLS]
    if others:
        found["other roles" if others[1:] else others[0]] = OTHER_FILL
    return found


def in_core(edge: CircuitEdge) -> bool | None:
    """Whether so many repeats of the search have an edge; None where the search was not repeated."""
    return None if edge.inclusion is None else edge.inclusion >= CORE - 1e-6


def faint_edges(circuit: Circuit) -> frozenset[str]:
    """Names of the edges whose lines are faint: outside the inner circuit; or the core, where there were repeats."""
    if circuit.inner is not None:
        return frozenset(edge.name for edge in circuit.edges).difference(circuit.inner.edges)
    return frozenset(edge.name for edge in circuit.edges if in_core(edge) is False)


def faint_words(circuit: Circuit) -> str:
    """What it means that an edge is faint."""
    return f"in under {CORE:.0%} of repeats" if circuit.inner is None else "outside the inner circuit"


def opacity_of(edge: CircuitEdge, usual: float, faint: Collection[str]) -> float:
    """How opaque its line is, among those of which some are `faint_edges`."""
    return usual * (_FAINT if edge.name in faint else 1.0)
