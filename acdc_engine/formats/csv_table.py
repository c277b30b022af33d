"""A table of edges as CSV (RFC 4180): for spreadsheets, pandas and R."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

from acdc_engine.errors import CircuitFileError
from acdc_engine.formats.carried import only_model
from acdc_engine.formats.format import Format, Source, check_size, writer
from acdc_engine.formats.tables import check_columns, check_rows, circuit_of
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.records import ModelRecord
from acdc_engine.graph.views import COLUMNS, FIGURES, rows_of


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
    carried = only_model(path, "a table of edges", model, "a table of edges in CSV")
    check_rows(path, len(rows), carried.circuit.layout().n_edges)
    return circuit_of(path, carried, rows, None)


def is_csv(source: Source) -> bool:
    """Whether a file's first line has columns called sender and receiver; those not parted by commas are refused."""
    line = source.head.removeprefix(b"\xef\xbb\xbf").split(b"\n")[0].replace(b'"', b"").strip()
    names = re.split(rb"[,;\t]", line)
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
        if "_" in cell:  # Python reads 1_0 as 10
            raise ValueError(cell)
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
