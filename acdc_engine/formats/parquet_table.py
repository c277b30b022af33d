"""A table of edges as Parquet: typed columns, and the rest of the circuit file in the schema's metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acdc_engine.errors import CircuitFileError
from acdc_engine.formats.attributed import CARRIED, carried_text
from acdc_engine.formats.carried import MOST_TEXT, only_model, read_carried
from acdc_engine.formats.format import LARGEST_FILE, Format, Source, check_size
from acdc_engine.formats.from_graph import checked
from acdc_engine.formats.tables import TEXTS, check_columns, check_rows, circuit_of
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.records import CircuitNode, ModelRecord
from acdc_engine.graph.views import COLUMNS, rows_of

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

_NODES = b"acdc_engine_nodes"
_MOST_ROWS = 1_000_000
"""As records they take about 2 GB, and all edges of GPT-2 small are 32,491. A few KB can hold many more."""


def write_parquet(circuit: Circuit, path: Path) -> None:
    """Writes the table as Parquet; all else of the circuit is JSON in the schema's metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    nodes = json.dumps([node.model_dump(mode="json") for node in circuit.nodes])
    schema = _schema().with_metadata({CARRIED: carried_text(circuit), _NODES: nodes})
    pq.write_table(pa.Table.from_pylist(rows_of(circuit), schema=schema), path)


def circuit_from_parquet(path: str | Path, model: ModelRecord | None = None) -> Circuit:
    """Reads a circuit from a table of edges in Parquet.

    Args:
        path: The file.
        model: The model, where the file does not say it.

    Raises:
        CircuitFileError: The file cannot be read, or is no circuit of that model; the row is named.
    """
    path = Path(path)
    with _opened(path) as file:
        kept = _columns(path, file.schema_arrow)
        about = file.schema_arrow.metadata or {}
        carried = read_carried(path, _text(about.get(CARRIED.encode())))
        if carried is None:
            lacking = f"a table of edges in Parquet without the engine's metadata {CARRIED!r}"
            carried = only_model(path, "a table of edges", model, lacking)
        _check_rows(path, file.metadata, carried.circuit.layout().n_edges)
        rows = _rows(path, file.read(kept))
    nodes = _nodes(path, about[_NODES]) if _NODES in about else None
    return circuit_of(path, carried, ((f"row {place}", row) for place, row in enumerate(rows)), nodes)


def is_parquet(source: Source) -> bool:
    """Whether a file is Parquet."""
    return source.head.startswith(b"PAR1")


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    """A Parquet file whose texts are read as dictionaries: a text that every row repeats is in memory once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_size(path)
    try:
        metadata = pq.read_metadata(path)
        paths = {metadata.schema.column(place).path for place in range(metadata.num_columns)}
        with pq.ParquetFile(path, metadata=metadata, read_dictionary=[name for name in TEXTS if name in paths]) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise CircuitFileError(
            f"{path} is no Parquet file that can be read: {str(error)[:300]}. Copy it again from where it was written."
        ) from error


def _columns(path: Path, schema: pa.Schema) -> list[str]:
    """The known columns that are there, of the right types."""
    check_columns(path, schema.names)
    kept = [name for name in COLUMNS if name in schema.names]
    for name in kept:
        _check_type(path, name, schema.field(name).type)
    return kept


def _check_type(path: Path, name: str, kind: pa.DataType) -> None:
    import pyarrow.types as types  # type: ignore[import-untyped]

    value = kind.value_type if types.is_dictionary(kind) else kind
    texts = types.is_string(value) or types.is_large_string(value) or types.is_string_view(value)
    numbers = types.is_floating(value) or types.is_integer(value)
    if not (types.is_null(value) or (texts if name in TEXTS else numbers)):
        wanted = "texts" if name in TEXTS else "numbers"
        raise CircuitFileError(f"{path}: the column {name} holds {value}; it must hold {wanted}.")


def _check_rows(path: Path, file: pq.FileMetaData, n_edges: int) -> None:
    """Refuses a file that would be large in memory, however small it is on the disk, before its columns are read."""
    groups = [file.row_group(place) for place in range(file.num_row_groups)]
    n_rows = max(file.num_rows, sum(group.num_rows for group in groups))
    if n_rows > _MOST_ROWS:
        raise CircuitFileError(
            f"{path} has {n_rows:,} rows; at most {_MOST_ROWS:,} are read. Keep the edges of a circuit."
        )
    check_rows(path, n_rows, n_edges)
    size = sum(group.total_byte_size for group in groups)
    if size > LARGEST_FILE:
        raise CircuitFileError(
            f"{path} has {size / 2**20:,.0f} MB unpacked; tables of more than {LARGEST_FILE // 2**20} MB are not read."
        )


def _rows(path: Path, table: pa.Table) -> list[dict[str, Any]]:
    """The known cells of every row. Equal texts are one object."""
    rows: list[dict[str, Any]] = [{} for _ in range(table.num_rows)]
    for name, column in zip(table.column_names, table.columns, strict=True):
        values = _texts(path, name, column) if name in TEXTS else column.cast("float64", safe=False).to_pylist()
        for row, value in zip(rows, values, strict=True):
            if value is not None:
                row[name] = value
    return rows


def _texts(path: Path, name: str, column: pa.ChunkedArray) -> list[str | None]:
    """The texts of a column; refused where one is so long that to have it in every row would fill the memory."""
    import pyarrow as pa

    if pa.types.is_null(column.type):
        return [None] * len(column)
    texts: list[str | None] = []
    for chunk in column.dictionary_encode().chunks:
        try:
            known = [*chunk.dictionary.to_pylist(), None]
        except UnicodeDecodeError as error:
            raise CircuitFileError(
                f"{path}: the column {name} holds texts that are not UTF-8. Write it again."
            ) from error
        texts += [known[-1 if place is None else place] for place in chunk.indices.to_pylist()]
    size = sum(len(text) for text in texts if text is not None)
    if size > MOST_TEXT:
        raise CircuitFileError(
            f"{path}: the column {name} has {size:,} characters in all rows; at most {MOST_TEXT:,} are read. Its "
            f"longest text has {max(len(text or '') for text in texts):,}: shorten it."
        )
    return texts


def _nodes(path: Path, text: bytes) -> list[CircuitNode]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CircuitFileError(
            f"{path}: its metadata {_NODES!r} is no JSON: {error}. Export the circuit again."
        ) from error
    if not isinstance(content, list):
        raise CircuitFileError(f"{path}: its metadata {_NODES!r} is no list. Export the circuit again.")
    return [checked(CircuitNode, item, f"{path}: node {place}") for place, item in enumerate(content)]


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema([(name, pa.string() if name in TEXTS else pa.float64()) for name in COLUMNS])


FORMAT = Format(
    name="parquet",
    suffix="parquet",
    title="table of edges, Parquet: pandas, polars, DuckDB, Arrow",
    write=write_parquet,
    read=circuit_from_parquet,
    recognises=is_parquet,
    lossy="",
)
