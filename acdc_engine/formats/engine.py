"""The engine's own circuit file; `graphs/schema.json` is its JSON schema."""

from __future__ import annotations

from pathlib import Path

from acdc_engine.formats.format import Format, Source
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.records import ModelRecord


def write_engine(circuit: Circuit, path: Path) -> None:
    """Writes the circuit file with its checksum."""
    circuit.save(path, overwrite=True)


def read_engine(path: Path, model: ModelRecord | None = None) -> Circuit:
    """Reads a circuit file, which says itself of which model it is."""
    return Circuit.load(path)


def is_engine(source: Source) -> bool:
    """Whether a file is a circuit file, of any version."""
    return isinstance(source.json, dict) and "format" in source.json


FORMAT = Format(
    name="engine",
    suffix="json",
    title="circuit file of this engine, JSON; its schema is graphs/schema.json",
    write=write_engine,
    read=read_engine,
    recognises=is_engine,
    lossy="",
)
