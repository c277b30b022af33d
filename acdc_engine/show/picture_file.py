"""Writing pictures: which formats there are, and the same picture as the same file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.files import write_with

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE_FORMATS = ("png", "svg", "pdf")
_SETTINGS: dict[Any, Any] = {"svg.hashsalt": "acdc-engine", "svg.fonttype": "none", "pdf.fonttype": 42}
_METADATA = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}


def check_picture(fmt: str, path: Path | None = None) -> None:
    """Refuses a picture that could not be drawn, before anything is computed for it.

    Args:
        fmt: The format.
        path: The file, where its name says the format.

    Raises:
        CircuitFileError: Unknown format.
    """
    known = ", ".join(PICTURE_FORMATS)
    if fmt == "" and path is not None:
        raise CircuitFileError(f"{path} does not say what picture it is: end its name in one of {known}.")
    if fmt not in PICTURE_FORMATS:
        where = "" if path is None else f" for {path}"
        raise CircuitFileError(f"No picture format {fmt!r}{where}. Known: {known}.")


def write_figure(figure: Figure, path: Path, fmt: str, *, overwrite: bool, dpi: int = 160) -> None:
    """Writes a figure; without the date and with fixed ids the same figure gives the same file.

    Text stays text in SVG, and PDF embeds the font as TrueType: journals refuse Type 3.

    Args:
        figure: What to write.
        path: Where to.
        fmt: One of `PICTURE_FORMATS`.
        overwrite: Replace a file of that name.
        dpi: Pixels per inch of a png.

    Raises:
        CircuitFileError: The file exists or cannot be written.
    """
    import matplotlib

    def write(temporary: Path) -> None:
        figure.savefig(temporary, format=fmt, dpi=dpi, metadata=_METADATA.get(fmt))

    with matplotlib.rc_context(_SETTINGS):
        write_with(path, write, overwrite=overwrite)


def svg_text(figure: Figure) -> str:
    """A figure as the text of an SVG file; the same figure gives the same text."""
    import matplotlib

    written = io.StringIO()
    with matplotlib.rc_context(_SETTINGS):
        figure.savefig(written, format="svg", metadata=_METADATA["svg"])
    return written.getvalue()


def format_of(path: Path) -> str:
    """The format that a file's name ends with."""
    return path.suffix.lstrip(".").lower()
