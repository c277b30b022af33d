"""A circuit from any file that the engine can read."""

from __future__ import annotations

from pathlib import Path

from acdc_engine.errors import CircuitFileError
from acdc_engine.formats.from_eap import circuit_from_eap, is_eap, parsed
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_file import FORMAT
from acdc_engine.graph.circuit_records import ModelRecord


def read_circuit(path: str | Path, model: ModelRecord | None = None) -> Circuit:
    """Reads a circuit file of this engine, or the JSON of EAP-IG and MIB; its content tells which.

    Args:
        path: The file.
        model: The model, which EAP-IG's JSON does not name. Not needed for, and not compared with, the engine's own.

    Raises:
        CircuitFileError: The file is neither, is damaged, or does not fit the model; the key is named.
    """
    path = Path(path)
    content = parsed(path)
    if is_eap(content):
        if model is None:
            raise CircuitFileError(
                f"{path} is a circuit of EAP-IG or MIB, which does not say of which model: give it with --model."
            )
        return circuit_from_eap(path, model)
    if not isinstance(content, dict) or "format" not in content:
        raise CircuitFileError(
            f'{path} is no circuit file: it is neither of this engine ("format": "{FORMAT}", as acdc discover writes '
            "circuit.json) nor of EAP-IG or MIB (with the keys cfg, nodes and edges)."
        )
    return Circuit.load(path)
