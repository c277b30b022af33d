"""Tables of edges, one row each: what CSV and Parquet have in common."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from acdc_engine.errors import CircuitFileError, GraphError, nearest
from acdc_engine.formats.carried import Carried, finished
from acdc_engine.formats.from_graph import checked
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.nodes import nodes_of_edges, targets_of
from acdc_engine.graph.records import CircuitEdge, CircuitNode
from acdc_engine.graph.views import COLUMNS

TEXTS = ("sender", "receiver", "kind", "sender_role", "receiver_role")


def edge_of(path: Path, layout: Graph, place: str, row: dict[str, Any]) -> CircuitEdge:
    """An edge of the model's graph from the known cells of a row."""
    where = f"{path}: {place}"
    kind = row.pop("kind", None)
    edge: CircuitEdge = checked(CircuitEdge, row, where)
    try:
        layout.parse_edge(f"{edge.sender}->{edge.receiver}")
    except GraphError as error:
        raise CircuitFileError(f"{where} cannot exist in this model's graph: {str(error)[:300]}") from error
    known = targets_of(layout, edge.receiver)[0]
    if kind not in (None, known):
        raise CircuitFileError(f"{where}: kind is {kind!r}, but the receiver {edge.receiver} is of kind {known!r}.")
    return edge


def circuit_of(
    path: Path, carried: Carried, rows: Iterable[tuple[str, dict[str, Any]]], nodes: Iterable[CircuitNode] | None
) -> Circuit:
    """A circuit from a table.

    Args:
        path: The file.
        carried: What the file says beside the table.
        rows: The known cells, each row with its place for messages.
        nodes: The nodes; None where the file does not list them: then those of the edges.

    Raises:
        CircuitFileError: It is no circuit of that model; the row is named.
    """
    layout = carried.circuit.layout()
    edges = tuple(edge_of(path, layout, place, row) for place, row in rows)
    roles = roles_of(path, layout, edges)
    bare = tuple(edge.model_copy(update={"sender_role": None, "receiver_role": None}) for edge in edges)
    return finished(carried, nodes_of_edges(layout, bare, roles) if nodes is None else nodes, bare, path)


def check_rows(path: Path, n_rows: int, n_edges: int) -> None:
    """Refuses a table with more rows than the model's graph has edges, before each row becomes a record."""
    if n_rows > n_edges:
        raise CircuitFileError(
            f"{path} has {n_rows:,} rows, but the model's graph has {n_edges:,} edges, and each may be listed once. "
            "Remove rows that are there twice, or give the model that the table is of."
        )


def roles_of(path: Path, layout: Graph, edges: Iterable[CircuitEdge]) -> dict[str, str]:
    """Roles of nodes, as far as edges tell them: a receiver that several heads share has all of theirs."""
    roles: dict[str, str] = {}
    for edge in edges:
        ends = [(edge.sender, edge.sender_role)]
        targets = targets_of(layout, edge.receiver)[1]
        if len(targets) == 1:
            ends.append((targets[0], edge.receiver_role))
        for name, role in ends:
            if role is not None and roles.setdefault(name, role) != role:
                raise CircuitFileError(
                    f"{path}: {name} has the role {roles[name][:60]!r} at one edge and {role[:60]!r} at another. Write "
                    "the same at all, or leave the columns of roles out."
                )
    return roles


def check_columns(path: Path, header: list[str]) -> None:
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
