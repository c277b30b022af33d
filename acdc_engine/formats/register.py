"""The register of formats: circuits written for other tools and, where their files hold enough, read from them.

A format is a class; its name and its help are given where it enters the register, and nowhere else:

    @FORMATS.add("mine", "JSON of my tool")
    class Mine(Format):
        suffix, lost = "mine.json", "all but the edges"

        def text(self, circuit: Circuit) -> str: ...

`docs/formats.md` tells more of each.
"""

from __future__ import annotations

import json
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

from acdc_engine.errors import CircuitFileError, ModelNeededError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import FORMAT as FILE_FORMAT
from acdc_engine.graph.files import check_readable, find_circuit, read_json, write_with
from acdc_engine.graph.records import ModelRecord
from acdc_engine.registers import Entry, Register

_HEAD = 64 * 2**10


class Format:
    """A format that circuits are written in; one that overrides `read` is read as well.

    Attributes:
        suffix: How its files' names end, without a dot in front: `graphml`, `eap.json`.
        lost: What such a file does not hold of a circuit, in words that can be printed; "" if nothing.
        places: Whether it holds the places in the prompt of a circuit with spans; else that is written without them,
            see `Circuit.plain`.
    """

    suffix: ClassVar[str]
    lost: ClassVar[str]
    places: ClassVar[bool] = False

    def text(self, circuit: Circuit) -> str:
        """The whole file, where it is one of UTF-8 text."""
        raise NotImplementedError

    def write(self, circuit: Circuit, path: Path) -> None:
        """Writes a circuit to a path, which is a temporary name: `export` makes it final."""
        path.write_bytes(self.text(circuit).encode())

    def read(self, path: Path, model: ModelRecord | None) -> Circuit:
        """Reads a circuit.

        Args:
            path: The file.
            model: The model, where the user gave one.

        Raises:
            ModelNeededError: The file does not say of which model it is, and none is given (see `needs_model`).
            CircuitFileError: It cannot be read, or is no circuit of that model; the node or edge is named.
        """
        raise NotImplementedError

    def recognises(self, source: Source) -> bool:
        """Whether a file looks like one of this format, by its content; it must not raise."""
        return False


FORMATS: Register[type[Format]] = Register("format", "acdc_engine.formats", CircuitFileError)


class Source:
    """A file of unknown format: looked at once, however many formats are asked whether it is theirs.

    Raises:
        CircuitFileError: At the first look: it is missing, a folder, unreadable or too large.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def head(self) -> bytes:
        """The first 64 KB."""
        check_readable(self.path)
        with self.path.open("rb") as file:
            return file.read(_HEAD)

    @cached_property
    def json(self) -> Any:
        """The parsed content; None where it is not JSON."""
        if not self.head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
            return None
        try:
            return json.loads(self.path.read_bytes().decode())
        except (ValueError, RecursionError):
            return None


@FORMATS.add("engine", "circuit file of this engine, JSON; its schema is graphs/schema.json")
class _Engine(Format):
    suffix, lost, places = "json", "", True

    def write(self, circuit: Circuit, path: Path) -> None:
        circuit.save(path, overwrite=True)

    def read(self, path: Path, model: ModelRecord | None) -> Circuit:
        return Circuit.load(path)

    def recognises(self, source: Source) -> bool:
        return isinstance(source.json, dict) and "format" in source.json


def is_read(entry: Entry[type[Format]]) -> bool:
    """Whether circuits are read from a format, and not only written in it."""
    return entry.value.read is not Format.read


def default_name(stem: str, fmt: str) -> str:
    """File name for an export: `circuit.eap.json` for the circuit file `circuit.json` and format `eap`."""
    return f"{stem}.{FORMATS[fmt].value.suffix}"


def export(circuit: Circuit, fmt: str, path: str | Path, *, overwrite: bool = False) -> None:
    """Writes a circuit in another format, complete or not at all.

    Args:
        circuit: What to write.
        fmt: One of `FORMATS`.
        path: Where to; its folder must exist.
        overwrite: Replace a file of that name.

    Raises:
        CircuitFileError: Unknown format, one that cannot hold this circuit, or the file exists or cannot be written.
    """
    chosen, written = FORMATS[fmt].value(), as_written(circuit, fmt)
    write_with(Path(path), lambda temporary: chosen.write(written, temporary), overwrite=overwrite)


def as_written(circuit: Circuit, fmt: str) -> Circuit:
    """What a format holds of a circuit: without its places, where it has none for them."""
    return circuit if FORMATS[fmt].value.places else circuit.plain()


def import_circuit(path: str | Path, *, fmt: str | None = None, model: ModelRecord | None = None) -> Circuit:
    """Reads a circuit from any format that is read.

    Args:
        path: The file, the folder of a run, or the name of a circuit that comes with the engine, such as `gpt2/ioi`.
        fmt: One of `FORMATS`; by default what the content shows.
        model: The model, for files that do not say it. Not needed for, and not compared with, the engine's own.

    Raises:
        ModelNeededError: The file does not say of which model it is, and no model is given.
        CircuitFileError: Unknown format, or the file is of none, of one that is only written, is damaged, or does not
            fit the model; the node or edge is named.
    """
    named = None if fmt is None else FORMATS[fmt]
    path = find_circuit(path)
    known = named or recognised(path)
    if not is_read(known):
        raise CircuitFileError(
            f"{path}: {known.name} ({known.help}) is a format that circuits are written in, and not read from. Take "
            "the circuit file that it was exported from, or write its edges in a format that is read: a table (csv), "
            "or what networkx.node_link_data makes of the graph (networkx-json)."
        )
    return known.value().read(path, model)


def opened(circuit: Circuit | str | Path, *, model: ModelRecord | None = None) -> tuple[Circuit, Path | None]:
    """A circuit however it is given (see `import_circuit`), with its file; None where it was given as an object."""
    if isinstance(circuit, Circuit):
        return circuit, None
    path = find_circuit(circuit)
    return import_circuit(path, model=model), path


def recognised(path: Path) -> Entry[type[Format]]:
    """The format of a file, by its content; a CircuitFileError where it cannot be read, or is of none."""
    source = Source(path)
    # Packages of others are imported only where none of the engine's own is the answer.
    for entry in chain(FORMATS.own(), FORMATS):
        if entry.value().recognises(source):
            return entry
    if source.json is None and (source.head.lstrip().startswith((b"{", b"[")) or path.suffix == ".json"):
        read_json(path)  # which says what is wrong with the JSON
    raise CircuitFileError(
        f'{path} is no circuit file: it is neither of this engine ("format": "{FILE_FORMAT}", as acdc discover writes '
        f"circuit.json) nor of a format that can be read ({', '.join(e.name for e in FORMATS if is_read(e))}). If it "
        f"is one of them, name it with acdc import --from.{FORMATS.reasons}"
    )


def needs_model(path: Path, what: str) -> ModelNeededError:
    """The error of a file that does not say of which model it is; `what` is such as `a table of edges in CSV`."""
    return ModelNeededError(
        f"{path} is {what}, which does not say of which model: give it with --model, or with --like a circuit file of "
        "the same model. Where a command has neither option, first make a circuit file: acdc import FILE --model NAME "
        "--out circuit.json."
    )
