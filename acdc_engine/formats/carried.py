"""What other formats carry of a circuit file beside nodes and edges, read back; and whether those were edited."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from acdc_engine.errors import CircuitFileError
from acdc_engine.formats.attributed import CARRIED, content_checksum
from acdc_engine.formats.format import needs_model
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_file import explain_faults
from acdc_engine.graph.editing import whole_unknown
from acdc_engine.graph.nodes import with_roles
from acdc_engine.graph.records import CircuitEdge, CircuitNode, ModelRecord

MOST_TEXT = 128 * 2**20
"""Characters that the roles of nodes may have, written at every edge: those of 30,000 edges at 2,000 each end."""


@dataclass(frozen=True)
class Carried:
    """A circuit file without nodes and edges.

    Attributes:
        circuit: It, with no nodes and no edges.
        edge_roles: Whether roles stand at edges, as well as at nodes.
        checksum: Of the circuit as it was exported; None for graphs that are not this engine's.
    """

    circuit: Circuit
    edge_roles: bool = True
    checksum: str | None = None


def read_carried(path: Path, text: object) -> Carried | None:
    """Reads what `acdc_engine.formats.attributed.carried_text` wrote.

    Args:
        path: The file, for messages.
        text: The text; None where the file has none.

    Raises:
        CircuitFileError: It is damaged, or not of this version.
    """
    if text is None:
        return None
    advice = "Export the circuit again, or remove the attribute and give the model with --model."
    try:
        content: Any = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError) as error:
        raise CircuitFileError(f"{path}: its attribute {CARRIED!r} is no JSON: {error}. {advice}") from error
    if not isinstance(content, dict) or not isinstance(content.get("circuit"), dict):
        raise CircuitFileError(f"{path}: its attribute {CARRIED!r} is not what acdc export writes there. {advice}")
    empty = {**content["circuit"], "nodes": [], "edges": []}
    try:
        circuit = Circuit.model_validate_json(json.dumps(empty), strict=True)
    except ValidationError as error:
        faults = explain_faults(error, Circuit)
        raise CircuitFileError(f"{path}: its attribute {CARRIED!r} does not follow the format:\n{faults}") from error
    except CircuitFileError as error:
        raise CircuitFileError(f"{path}: its attribute {CARRIED!r}: {error}") from error
    checksum = content.get("checksum")
    return Carried(circuit, bool(content.get("edge_roles")), checksum if isinstance(checksum, str) else "")


def only_model(path: Path, what: str, model: ModelRecord | None, lacking: str) -> Carried:
    """What there is of the circuit of a file that carries nothing: the model that the user gave.

    Args:
        path: The file.
        what: What it is, for the circuit's `source`.
        model: The model.
        lacking: What it is, for the error.

    Raises:
        ModelNeededError: None was given.
    """
    if model is None:
        raise needs_model(path, lacking)
    return Carried(Circuit(model=model, source=f"{path.name}, {what}", nodes=(), edges=()))


def finished(
    carried: Carried, nodes: Iterable[CircuitNode], edges: Iterable[CircuitEdge], path: Path, gained: int = 0
) -> Circuit:
    """Puts a circuit together.

    Where nodes or edges are no longer those that were exported, what was measured on the whole circuit is left out, and
    `source` says so.

    Args:
        carried: Everything else.
        nodes: The nodes.
        edges: The edges.
        path: The file, for messages.
        gained: How many edges into shared keys or values reach more heads than the file says.

    Raises:
        CircuitFileError: They make no circuit.
    """
    nodes, edges, base = tuple(nodes), tuple(edges), carried.circuit
    _check_roles(path, nodes, edges)
    if carried.edge_roles:
        edges = with_roles(base.layout(), nodes, edges)
    parts = {name: getattr(base, name) for name in type(base).model_fields}
    try:
        circuit = Circuit(**{**parts, "nodes": nodes, "edges": edges})
    except CircuitFileError as error:
        raise CircuitFileError(f"{path}: {error}") from error
    notes = []
    if carried.checksum is not None and content_checksum(circuit) != carried.checksum:
        circuit = circuit.model_copy(update=whole_unknown(circuit))
        notes.append(f"{path.name}, whose nodes or edges were edited after acdc export wrote it")
    if gained:
        notes.append(f"{gained} edges into shared keys or values, there for some heads only, now reach all of a group")
    return circuit.model_copy(update={"source": "; ".join(filter(None, (base.source, *notes)))}) if notes else circuit


def _check_roles(path: Path, nodes: Iterable[CircuitNode], edges: Iterable[CircuitEdge]) -> None:
    """Refuses a role so long that to write it at every edge of its node would fill the memory."""
    lengths = {node.name: len(node.role or "") for node in nodes}
    size = sum(lengths.get(edge.sender, 0) + lengths.get(edge.receiver.partition("<")[0], 0) for edge in edges)
    if size > MOST_TEXT:
        longest = max(lengths, key=lengths.__getitem__)
        raise CircuitFileError(
            f"{path}: the roles of its nodes, written at every edge, have {size:,} characters; at most "
            f"{MOST_TEXT:,} are read. {longest} has a role of {lengths[longest]:,} characters: shorten it."
        )
