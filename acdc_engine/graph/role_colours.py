"""The colour of each role, the same in every picture of every circuit.

Pale on light ground and deep on dark, so that names on them can be read (contrast at least 5 to 1). Any two, and each
and the plain boxes, are at least 11 (light) or 8 (dark) apart in CIE L*a*b*, with normal sight and under protanopia and
deuteranopia as Machado, Oliveira and Fernandes 2009 simulate them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


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
"""By role, as circuit files name it; docs/roles.md says what each does."""
OTHER_FILL = Fill("#c4c8cc", "#50565c")
"""Of all other roles."""


def fill_of(role: str) -> Fill:
    """The colours of a role, whichever circuit it is in."""
    return ROLE_FILLS.get(role, OTHER_FILL)


def legend_of(roles: Iterable[str | None]) -> dict[str, Fill]:
    """What the colours of some roles mean, in a fixed order; roles that share the neutral one are one entry, the last.

    Args:
        roles: Of nodes; those without are None.
    """
    there = {role: None for role in roles if role}
    found = {role: fill for role, fill in ROLE_FILLS.items() if role in there}
    others = [role for role in there if role not in ROLE_FILLS]
    if others:
        found["other roles" if others[1:] else others[0]] = OTHER_FILL
    return found
