"""The formats a circuit can be written in, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from acdc_engine.errors import CircuitFileError, nearest
from acdc_engine.export.draw import draw
from acdc_engine.export.picture_file import PICTURE_FORMATS
from acdc_engine.formats.dot import dot_text
from acdc_engine.formats.eap import eap_text
from acdc_engine.formats.graphml import graphml_text
from acdc_engine.formats.networkx_json import networkx_json_text
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import write_text

TEXT_FORMATS: dict[str, Callable[[Circuit], str]] = {
    "networkx-json": networkx_json_text,
    "graphml": graphml_text,
    "dot": dot_text,
    "eap": eap_text,
}
FORMATS = (*TEXT_FORMATS, *PICTURE_FORMATS)
_SUFFIXES = {"networkx-json": "networkx.json", "eap": "eap.json"}


def default_name(stem: str, fmt: str) -> str:
    """File name for an export: `circuit.eap.json` for the circuit file `circuit.json` and format `eap`."""
    return f"{stem}.{_SUFFIXES.get(fmt, fmt)}"


def export(circuit: Circuit, fmt: str, path: str | Path, *, overwrite: bool = False) -> None:
    """Writes a circuit in another format, complete or not at all.

    Args:
        circuit: What to write.
        fmt: One of `FORMATS`.
        path: Where to; its folder must exist.
        overwrite: Replace a file of that name.

    Raises:
        CircuitFileError: Unknown format, or the file exists or cannot be written.
    """
    if fmt in TEXT_FORMATS:
        write_text(Path(path), TEXT_FORMATS[fmt](circuit), overwrite=overwrite)
    elif fmt in PICTURE_FORMATS:
        draw(circuit, path, fmt=fmt, overwrite=overwrite)
    else:
        raise CircuitFileError(f"No export format {fmt!r}.{nearest(fmt, FORMATS)}")
