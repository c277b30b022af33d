"""A table of edges as CSV (RFC 4180): for spreadsheets, pandas and R."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from acdc_engine.errors import CircuitFileError
from acdc_engine.formats.attributed import FIGURES
from acdc_engine.formats.carried import Carried, finished
from acdc_engine.formats.format import Format, Source, check_size, needs_model, writer
from acdc_engine.formats.tables import COLUMNS, check_columns, edge_of, roles_of, rows_of
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_check import nodes_of_edges
from acdc_engine.graph.circuit_records import ModelRecord


def csv_text(circuit: Circuit) -> str:
    """The table as CSV (RFC 4180): a header, commas, lines that end in CR LF, empty cells where unknown.

    Texts are written as they are, also where a spreadsheet would take them for a formula.
    """
    file = io.StringIO()
    writing = csv.DictWriter(file, COLUMNS)
    writing.writeheader()
    writing.writerows(rows_of(circuit))
    return file.getvalue()


def circuit_from_csv(path: str | Path, model: ModelRecord | None = None) -> Circuit:
    """Reads a circuit from a table of edges in CSV; `sender` and `receiver` are enough.

    Args:
        path: The file.
        model: The model, which the file does not say.

    Raises:
        CircuitFileError: The file cannot be read, or is no circuit of that model; the line is named.
    """
    path = Path(path)
    rows = _csv_rows(path)
    if model is None:
        raise needs_model(path, "a table of edges in CSV")
    base = Circuit(model=model, source=f"{path.name}, a table of edges", nodes=(), edges=())
    layout = base.layout()
    edges = tuple(edge_of(path, layout, place, row) for place, row in rows)
    roles = roles_of(path, layout, edges)
    bare = tuple(edge.model_copy(update={"sender_role": None, "receiver_role": None}) for edge in edges)
    return finished(Carried(base), nodes_of_edges(layout, bare, roles), bare, path)


def is_csv(source: Source) -> bool:
    """Whether a file's first line has columns called sender and receiver."""
    names = source.head.removeprefix(b"\xef\xbb\xbf").split(b"\n")[0].replace(b'"', b"").strip().split(b",")
    return b"sender" in names and b"receiver" in names


def _csv_rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The rows with their lines, without empty cells; figures as numbers."""
    check_size(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")  # spreadsheets write a byte order mark
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except UnicodeDecodeError as error:
        raise CircuitFileError(f"{path} is no CSV: byte {error.start} is not UTF-8.") from error
    except csv.Error as error:
        raise CircuitFileError(f"{path} is no CSV: {error}. Quote texts that hold quotes or line breaks.") from error
    header = [name.strip() for name in lines[0]] if lines else []
    check_columns(path, header)
    rows = []
    for place, cells in enumerate(lines[1:], 2):
        if not cells:
            continue  # an empty line
        if len(cells) != len(header):
            raise CircuitFileError(f"{path}: row {place} has {len(cells)} cells, the header has {len(header)}.")
        row: dict[str, Any] = {key: cell for key, cell in zip(header, cells, strict=True) if cell and key in COLUMNS}
        for name in FIGURES:
            if name in row:
                row[name] = _number(path, place, name, row[name])
        rows.append((f"row {place}", row))
    return rows


def _number(path: Path, place: int, name: str, cell: str) -> float:
    try:
        return float(cell)
    except ValueError as error:
        raise CircuitFileError(
            f"{path}: row {place}: {name} is {cell[:60]!r}, no number. Write it with a point, or leave it empty where "
            "it is not known."
        ) from error


FORMAT = Format(
    name="csv",
    suffix="csv",
    title="table of edges, CSV: spreadsheets, pandas, R",
    write=writer(csv_text),
    read=circuit_from_csv,
    recognises=is_csv,
    lossy="everything but the edges, their figures and the roles at their ends; reading needs --model or --like",
)
