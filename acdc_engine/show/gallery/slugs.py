"""Names of runs as names of folders and parts of addresses."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

LONGEST = 60
_RESERVED = re.compile(r"con|prn|aux|nul|com\d|lpt\d")
"""Names that Windows keeps for devices."""


def slugs(names: Iterable[str]) -> list[str]:
    """Turns names into unique ones of the letters a to z, digits and hyphens, whatever the names hold.

    Args:
        names: Such as `smollm2/IOI seed 3`, which becomes `smollm2-ioi-seed-3`.

    Returns:
        One for each name, in order; the second of two that would be the same ends in -2.
    """
    taken: set[str] = set()
    made = []
    for name in names:
        plain = slug = _slug(name)
        count = 1
        while slug in taken:
            count += 1
            slug = f"{plain}-{count}"
        taken.add(slug)
        made.append(slug)
    return made


def _slug(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", letters).strip("-")[:LONGEST].strip("-") or "run"
    return f"{slug}-run" if _RESERVED.fullmatch(slug) else slug
