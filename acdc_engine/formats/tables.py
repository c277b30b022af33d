"""Tables of edges: CSV (RFC 4180) written and read, Parquet written; and rows of any file as a circuit."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from acdc_engine.errors import CircuitFileError, GraphError, nearest
from acdc_engine.formats.register import FORMATS, Format, Source, needs_model
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import check_readable, explain_faults
from acdc_engine.graph.nodes import nodes_of_edges, targets_of, with_roles
from acdc_engine.graph.records import COLUMNS, FIGURES, CircuitEdge, ModelRecord, SpansRecord

Rows = list[tuple[str, dict[str, Any]]]
"""The known cells of each edge, with its place for messages."""
_KEPT = "everything but the edges, their figures and the roles at their ends"
_TEXTS = ("sender", "receiver", "kind", "sender_role", "receiver_role")


@FORMATS.add("csv", "table of edges, CSV: spreadsheets, pandas, R")
class _Csv(Format):
    suffix, lost, places = "csv", f"{_KEPT}; reading needs --model or --like", True

    def text(self, circuit: Circuit) -> str:
        """A header, commas, lines that end in CR LF, empty cells where unknown; texts as they are, even formulas."""
        file = io.StringIO()
        writing = csv.DictWriter(file, circuit.columns)
        writing.writeheader()
        writing.writerows(circuit.rows())
        return file.getvalue()

    def read(self, path: Path, model: ModelRecord | None) -> Circuit:
        rows = _csv_rows(path)
        if model is None:
            raise needs_model(path, "a table of edges in CSV")
        return circuit_of(path, "a table of edges", model, rows)

    def recognises(self, source: Source) -> bool:
        """Tables that are not parted by commas are recognised too, and refused with that reason."""
        line = source.head.removeprefix(b"\xef\xbb\xbf").split(b"\n")[0].replace(b'"', b"").strip()
        names = re.split(rb"[,;\t]", line)
        return b"sender" in names and b"receiver" in names


@FORMATS.add("parquet", "table of edges, Parquet: pandas, polars, DuckDB, Arrow")
class _Parquet(Format):
    suffix, lost = "parquet", _KEPT

    def write(self, circuit: Circuit, path: Path) -> None:
        import pyarrow as pa  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]

        schema = pa.schema([(name, pa.string() if name in _TEXTS else pa.float64()) for name in COLUMNS])
        pq.write_table(pa.Table.from_pylist(circuit.rows(), schema=schema), path)

    def recognises(self, source: Source) -> bool:
        return source.head.startswith(b"PAR1")


def circuit_of(
    path: Path,
    what: str,
    model: ModelRecord,
    rows: Rows,
    roles: Mapping[str, str] | None = None,
    spans: SpansRecord | None = None,
) -> Circuit:
    """A circuit from a table of its edges, which have the model's own names; `sender` and `receiver` are enough.

    `what` it is goes into the circuit's `source`. Roles of nodes are by name, beside those at the ends of edges. With
    spans every edge has a `span` too.

    Raises:
        CircuitFileError: It is no circuit of that model; the edge is named.
    """
    empty: dict[str, Any] = {"model": model, "spans": spans, "version": 1 if spans is None else 2}
    try:
        layout = Circuit(nodes=(), edges=(), **empty).graph()
    except CircuitFileError as error:  # of spans
        raise CircuitFileError(f"{path}: {error}") from error
    if len(rows) > layout.n_edges:  # before each becomes a record
        raise CircuitFileError(
            f"{path} has {len(rows):,} rows, but the model's graph has {layout.n_edges:,} edges, and each may be "
            "listed once. Remove rows that are there twice, or give the model that the table is of."
        )
    edges = tuple(_edge_of(path, layout, place, row) for place, row in rows)
    known = _roles_of(path, layout, edges, roles or {})
    nodes = nodes_of_edges(layout, edges, known)
    try:
        edges = with_roles(layout, nodes, edges)
        return Circuit(source=f"{path.name}, {what}", nodes=nodes, edges=edges, **empty)
    except CircuitFileError as error:
        raise CircuitFileError(f"{path}: {error}") from error


def _edge_of(path: Path, layout: Graph, place: str, row: dict[str, Any]) -> CircuitEdge:
    """An edge of the model's graph from the known cells of a row, none of which is changed to fit."""
    where, kind = f"{path}: {place}", row.pop("kind", None)
    try:
        edge = CircuitEdge.model_validate_json(json.dumps(row), strict=True)
    except ValidationError as error:
        raise CircuitFileError(f"{where}:\n{explain_faults(error)}") from error
    except (TypeError, ValueError) as error:
        raise CircuitFileError(f"{where} has a value that is neither text nor number: {error}.") from error
    try:
        layout.parse_edge(edge.name)
    except GraphError as error:
        raise CircuitFileError(f"{where} cannot exist in this model's graph: {str(error)[:300]}") from error
    known = targets_of(layout, edge.into)[0]
    if kind not in (None, known):
        raise CircuitFileError(
            f"{where}: kind is {str(kind)[:60]!r}, but the receiver {edge.receiver} is of kind {known!r}."
        )
    return edge


def _roles_of(path: Path, layout: Graph, edges: Iterable[CircuitEdge], roles: Mapping[str, str]) -> dict[str, str]:
    """Roles of nodes, with those that edges tell: a receiver that several heads share has all of theirs."""
    found = dict(roles)
    for edge in edges:
        ends = [(edge.out_of, edge.sender_role)]
        targets = targets_of(layout, edge.into)[1]
        if len(targets) == 1:
            ends.append((targets[0], edge.receiver_role))
        for name, role in ends:
            if role is not None and found.setdefault(name, role) != role:
                raise CircuitFileError(
                    f"{path}: {name} has the role {found[name][:60]!r} at one edge and {role[:60]!r} at another. Write "
                    "the same at all, or leave the columns of roles out."
                )
    return found


def _csv_rows(path: Path) -> Rows:
    """The rows with their lines, without empty cells; figures as numbers."""
    check_readable(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")  # spreadsheets write a byte order mark
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except UnicodeDecodeError as error:
        raise CircuitFileError(f"{path} is no CSV: byte {error.start} is not UTF-8.") from error
    except csv.Error as error:
        raise CircuitFileError(f"{path} is no CSV: {error}. Quote texts that hold quotes or line breaks.") from error
    header = [name.strip() for name in lines[0]] if lines else []
    _check_columns(path, header)
    if "span" in header:
        raise has_places(path)
    rows = []
    for place, cells in enumerate(lines[1:], 2):
        if not cells:
            continue  # an empty line
        if len(cells) != len(header):
            raise CircuitFileError(f"{path}: row {place} has {len(cells)} cells, the header has {len(header)}.")
        row: dict[str, Any] = {key: cell for key, cell in zip(header, cells, strict=True) if cell and key in COLUMNS}
        row |= {name: _number(path, place, name, row[name]) for name in FIGURES if name in row}
        rows.append((f"row {place}", row))
    return rows


def has_places(path: Path) -> CircuitFileError:
    """The error of a file of a circuit with places, which it does not tell enough of."""
    return CircuitFileError(
        f"{path} has places in the prompt, and does not say which of them looks back at which. Take the circuit file "
        "that it was exported from, or export that as networkx-json, which says so; with a circuit that has these "
        "places, Circuit.from_edges(circuit, names) makes one in Python of edges such as a5.h3->a7.h1<v>@B.2."
    )


def _check_columns(path: Path, header: list[str]) -> None:
    """Refuses tables without ends of edges, and columns that are there twice; others of other programs are skipped."""
    for name in ("sender", "receiver"):
        if name not in header:
            shown = ", ".join(header)[:200] or "nothing"
            hint = nearest(name, [column[:60] for column in header[:50]]) if len(header) > 1 else ""
            raise CircuitFileError(
                f"{path} has no column {name}: it needs sender and receiver, and has {shown}.{hint} Cells are parted "
                "by commas."
            )
    twice = {name for name in header if name in COLUMNS and header.count(name) > 1}
    if twice:
        raise CircuitFileError(f"{path} has the column {min(twice)} twice. Keep one.")


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
