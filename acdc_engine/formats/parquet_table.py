"""A table of edges as Parquet: typed columns, and the rest of the circuit file in the schema's metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from acdc_engine.errors import CircuitFileError
from acdc_engine.formats.attributed import CARRIED, carried_text
from acdc_engine.formats.carried import Carried, finished, read_carried
from acdc_engine.formats.format import Format, Source, check_size, needs_model
from acdc_engine.formats.from_graph import checked
from acdc_engine.formats.tables import COLUMNS, TEXTS, check_columns, edge_of, roles_of, rows_of
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_check import nodes_of_edges
from acdc_engine.graph.circuit_records import CircuitNode, ModelRecord

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

_NODES = "acdc_engine_nodes"
_MOST_ROWS = 5_000_000


def write_parquet(circuit: Circuit, path: Path) -> None:
    """Writes the table as Parquet; all else of the circuit is JSON in the schema's metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

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
    table = _parquet(path)
    about = {key.decode(): value for key, value in (table.schema.metadata or {}).items()}
    carried = read_carried(path, _text(about.get(CARRIED)))
    if carried is None and model is None:
        raise needs_model(path, f"a table of edges in Parquet without the engine's metadata {CARRIED!r}")
    if carried is None:
        assert model is not None
        carried = Carried(Circuit(model=model, source=f"{path.name}, a table of edges", nodes=(), edges=()))
    layout = carried.circuit.layout()
    edges = tuple(
        edge_of(path, layout, f"row {place}", {key: value for key, value in row.items() if value is not None})
        for place, row in enumerate(table.to_pylist())
    )
    roles = roles_of(path, layout, edges)
    bare = tuple(edge.model_copy(update={"sender_role": None, "receiver_role": None}) for edge in edges)
    nodes = nodes_of_edges(layout, bare, roles) if _NODES not in about else _nodes(path, about[_NODES])
    return finished(carried, nodes, bare, path)


def is_parquet(source: Source) -> bool:
    """Whether a file is Parquet."""
    return source.head.startswith(b"PAR1")


def _parquet(path: Path) -> pa.Table:
    """The known columns of a Parquet file, of their types."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_size(path)
    try:
        with pq.ParquetFile(path) as file:
            if file.metadata.num_rows > _MOST_ROWS:
                raise CircuitFileError(f"{path} has {file.metadata.num_rows:,} rows; at most {_MOST_ROWS:,} are read.")
            schema = file.schema_arrow
            check_columns(path, schema.names)
            kept = [name for name in COLUMNS if name in schema.names]
            for name in kept:
                _check_type(path, name, schema.field(name).type)
            table = file.read(kept)
    except (pa.ArrowException, OSError) as error:
        raise CircuitFileError(
            f"{path} is no Parquet file that can be read: {str(error)[:300]}. Copy it again from where it was written."
        ) from error
    types = _schema()
    return table.cast(pa.schema([types.field(name) for name in kept], metadata=table.schema.metadata))


def _check_type(path: Path, name: str, kind: pa.DataType) -> None:
    import pyarrow.types as types  # type: ignore[import-untyped]

    value = kind.value_type if types.is_dictionary(kind) else kind
    texts = types.is_string(value) or types.is_large_string(value) or types.is_string_view(value)
    numbers = types.is_floating(value) or types.is_integer(value)
    if not (types.is_null(kind) or (texts if name in TEXTS else numbers)):
        wanted = "texts" if name in TEXTS else "numbers"
        raise CircuitFileError(f"{path}: the column {name} holds {kind}; it must hold {wanted}.")


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
