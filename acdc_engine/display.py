"""How results show themselves, at a prompt and in a notebook.

Records must not import what draws them (`graph` is below `show`). So the package's `__init__`, which is above all, says
here who does it; `show` is imported when the first result is shown.
"""

from collections.abc import Callable

_by: dict[str, Callable[..., str]] = {}


def install(
    line_of: Callable[[object], str], html_of: Callable[[object], str], meaning_of: Callable[[str, str], str]
) -> None:
    """Says what shows results.

    Args:
        line_of: Says in one line what a result is.
        html_of: Renders it for a notebook.
        meaning_of: See `meaning_of`.
    """
    _by.update(line=line_of, html=html_of, meaning=meaning_of)


def meaning_of(kind: str, name: str) -> str:
    """What a name stands for, in its register's words; empty for one that is not known here.

    Args:
        kind: "metric", "scoring method", "strategy" or "ablation".
        name: As circuit files have it.
    """
    return _by["meaning"](kind, name)


class Shown:
    """A result that says in one line what it is, and that notebooks show as a picture with its figures.

    Results hold thousands of numbers, which Python would print all of.
    """

    def __repr__(self) -> str:
        return _by["line"](self)

    __str__ = __repr__

    def _repr_html_(self) -> str:
        return _by["html"](self)
