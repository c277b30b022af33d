"""The formats a circuit can be written in and read from, by name; `docs/formats.md` tells more of each.

A format's module ends with `FORMAT = Format(...)`, which is listed here.
"""

from __future__ import annotations

from pathlib import Path

from acdc_engine.errors import CircuitFileError, nearest
from acdc_engine.formats import (
    auto_circuit,
    csv_table,
    cytoscape_json,
    eap_pt,
    engine,
    from_dot,
    from_eap,
    gexf,
    graphml,
    networkx_json,
    neuronpedia,
    parquet_table,
)
from acdc_engine.formats.format import Format, Source
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_file import FORMAT as FILE_FORMAT
from acdc_engine.graph.circuit_file import read_content
from acdc_engine.graph.files import find_circuit, write_with
from acdc_engine.graph.records import ModelRecord

FORMATS: dict[str, Format] = {
    fmt.name: fmt
    for fmt in (
        engine.FORMAT,
        networkx_json.FORMAT,
        graphml.FORMAT,
        gexf.FORMAT,
        cytoscape_json.FORMAT,
        from_dot.FORMAT,
        csv_table.FORMAT,
        parquet_table.FORMAT,
        from_eap.FORMAT,
        eap_pt.FORMAT,
        auto_circuit.FORMAT,
        neuronpedia.FORMAT,
    )
}


def format_named(name: str) -> Format:
    """A format by its name.

    Raises:
        CircuitFileError: There is none of that name; the names there are are listed.
    """
    if name not in FORMATS:
        raise CircuitFileError(f"No format {name!r}.{nearest(name, FORMATS)}")
    return FORMATS[name]


def default_name(stem: str, fmt: str) -> str:
    """File name for an export: `circuit.eap.json` for the circuit file `circuit.json` and format `eap`."""
    return f"{stem}.{format_named(fmt).suffix}"


def export(circuit: Circuit, fmt: str, path: str | Path, *, overwrite: bool = False) -> None:
    """Writes a circuit in another format, complete or not at all.

    Args:
        circuit: What to write.
        fmt: One of `FORMATS`.
        path: Where to; its folder must exist.
        overwrite: Replace a file of that name.

    Raises:
        CircuitFileError: Unknown format, one that is only read or cannot hold this circuit, or the file exists or
            cannot be written.
    """
    write = format_named(fmt).write
    if write is None:
        raise CircuitFileError(f"The format {fmt} is read only: acdc import reads it.")
    write_with(Path(path), lambda temporary: write(circuit, temporary), overwrite=overwrite)


def import_circuit(path: str | Path, *, fmt: str | None = None, model: ModelRecord | None = None) -> Circuit:
    """Reads a circuit from any format.

    Args:
        path: The file, the folder of a run, or the name of a circuit that comes with the engine, such as `gpt2/ioi`.
        fmt: One of `FORMATS`; by default what the content shows.
        model: The model, for files that do not say it. Not needed for, and not compared with, the engine's own.

    Raises:
        ModelNeededError: The file does not say of which model it is, and no model is given.
        CircuitFileError: Unknown format, or the file is of none, is damaged, or does not fit the model; the node or
            edge is named.
    """
    named = None if fmt is None else format_named(fmt)
    path = find_circuit(path)
    known = named or recognised(path)
    if known.read is None:
        raise CircuitFileError(f"{path}: the format {known.name} cannot be read back: {known.lossy}.")
    return known.read(path, model)


def opened(circuit: Circuit | str | Path, *, model: ModelRecord | None = None) -> tuple[Circuit, Path | None]:
    """A circuit however it is given, with its file.

    Args:
        circuit: A circuit, or as for `import_circuit`.
        model: Likewise.

    Returns:
        The circuit; its file, or None where it was given as an object.

    Raises:
        CircuitFileError: As for `import_circuit`.
    """
    if isinstance(circuit, Circuit):
        return circuit, None
    path = find_circuit(circuit)
    return import_circuit(path, model=model), path


def recognised(path: Path) -> Format:
    """The format of a file, by its content.

    Raises:
        CircuitFileError: It cannot be read, or is of none.
    """
    source = Source(path)
    for fmt in FORMATS.values():
        if fmt.recognises is not None and fmt.recognises(source):
            return fmt
    if source.json is None and (source.head.lstrip().startswith((b"{", b"[")) or path.suffix == ".json"):
        read_content(path)  # which says what is wrong with the JSON
    raise CircuitFileError(
        f'{path} is no circuit file: it is neither of this engine ("format": "{FILE_FORMAT}", as acdc discover writes '
        f"circuit.json) nor of a format that can be read ({', '.join(FORMATS)}). If it is one of them, name it with "
        "acdc import --from."
    )
