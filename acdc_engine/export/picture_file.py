"""Writing pictures: which formats there are, and the same picture as the same file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.files import write_with

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE_FORMATS = ("png", "svg", "pdf")


def check_picture(fmt: str, path: Path | None = None) -> None:
    """Refuses a picture that could not be drawn, before anything is computed for it.

    Args:
        fmt: The format.
        path: The file, where its name says the format.

    Raises:
        CircuitFileError: Unknown format.
    """
    if fmt not in PICTURE_FORMATS:
        where = "" if path is None else f" for {path}"
        raise CircuitFileError(f"No picture format {fmt!r}{where}. Known: {', '.join(PICTURE_FORMATS)}.")


def write_figure(figure: Figure, path: Path, fmt: str, *, overwrite: bool) -> None:
    """Writes a figure; without the date and with fixed ids the same figure gives the same file.

    Raises:
        CircuitFileError: The file exists or cannot be written.
    """
    import matplotlib

    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(fmt)

    def write(temporary: Path) -> None:
        figure.savefig(temporary, format=fmt, dpi=160, metadata=metadata)

    with matplotlib.rc_context({"svg.hashsalt": "acdc-engine", "svg.fonttype": "none"}):
        write_with(path, write, overwrite=overwrite)


def format_of(path: Path) -> str:
    """The format that a file's name ends with."""
    return path.suffix.lstrip(".").lower()
