"""What all pictures share: formats, the same picture as the same file, and texts of strangers that fit into it."""

from __future__ import annotations

import base64
import io
import textwrap
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.files import write_with
from acdc_engine.show.visible import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE_FORMATS = ("png", "svg", "pdf")
LETTER = 0.6
"""Width of a letter as a share of the font's size: a little more than the mean of DejaVu Sans."""
_SETTINGS: dict[Any, Any] = {"svg.hashsalt": "acdc-engine", "svg.fonttype": "none", "pdf.fonttype": 42}
_METADATA = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}


def picture_format(path: Path, fmt: str | None = None) -> str:
    """The format of a picture, by default that of the file's name; unknown ones are refused with a CircuitFileError."""
    fmt = fmt or path.suffix.lstrip(".").lower()
    known = ", ".join(PICTURE_FORMATS)
    if not fmt:
        raise CircuitFileError(f"{path} does not say what picture it is: end its name in one of {known}.")
    if fmt not in PICTURE_FORMATS:
        raise CircuitFileError(f"No picture format {fmt!r} for {path}. Known: {known}.")
    return fmt


def write_figure(figure: Figure, path: Path, fmt: str | None = None, *, overwrite: bool, dpi: int = 160) -> None:
    """Writes a figure, by default as what the file's name ends in; the same one gives the same file: it has no date.

    Text stays text in SVG, and PDF embeds the font as TrueType: journals refuse Type 3.

    Raises:
        CircuitFileError: Unknown format, or the file exists or cannot be written.
    """
    import matplotlib

    fmt = picture_format(path, fmt)
    with matplotlib.rc_context(_SETTINGS):
        write_with(
            path,
            lambda temporary: figure.savefig(temporary, format=fmt, dpi=dpi, metadata=_METADATA.get(fmt)),
            overwrite=overwrite,
        )


def svg_text(figure: Figure) -> str:
    """A figure as the text of an SVG file; the same figure gives the same text."""
    import matplotlib

    written = io.StringIO()
    with matplotlib.rc_context(_SETTINGS):
        figure.savefig(written, format="svg", metadata=_METADATA["svg"])
    return written.getvalue()


def on_page(figure: Figure, alt: str, note: str = "") -> dict[str, object]:
    """An image of a page: its data URI, what it shows, what it leaves out, and its natural width in pixels of CSS."""
    data, width = base64.b64encode(svg_text(figure).encode()).decode(), round(96 * figure.get_figwidth())
    return {"uri": f"data:image/svg+xml;base64,{data}", "alt": alt, "note": note, "width": width}


def drawn(text: str, most: int) -> str:
    """Returns a text as one line of at most `most` characters; what the font cannot show is written as escapes."""
    line = " ".join(text[: 4 * most].split())
    shown = "".join(
        character if ord(character) in _letters() else character.encode("unicode_escape").decode("ascii")
        for character in plain(line[: most + 1])
    )
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def letters_in(inches: float, points: float) -> int:
    """How many letters of that size fit beside each other, at least 6."""
    return max(6, int(inches * 72 / (LETTER * points)))


def wrapped(text: str, inches: float, points: float, most: int = 4) -> list[str]:
    """Breaks a text into lines that fit; at most so many."""
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, letters_in(inches, points))]
    return lines if len(lines) <= most else [*lines[: most - 1], lines[most - 1][:-1] + "…"]


@cache
def _letters() -> frozenset[int]:
    """Code points of the font that pictures are drawn with."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties())).get_charmap())
