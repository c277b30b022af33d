"""What a format is, and a file whose format is not known yet."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from acdc_engine.errors import CircuitFileError, ModelNeededError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.records import ModelRecord

LARGEST_FILE = 512 * 2**20
"""Bytes. EAP-IG's JSON of a model of 32 layers and 32 heads, all of whose edges it lists, has about 120 MB."""
_HEAD = 64 * 2**10


@dataclass(frozen=True)
class Format:
    """A format that circuits are written in, read from, or both.

    Attributes:
        name: What `--to` and `--from` call it, such as `graphml`.
        suffix: How its files' names end, without a dot in front: `graphml`, `eap.json`.
        title: One line: what it is and which tools read it.
        write: Writes a circuit to a path, which is a temporary name: the register makes it final. None where the
            engine only reads the format.
        read: Reads a circuit. It gets the model where the user gave one, and raises CircuitFileError (with
            `needs_model`) where it needs one and has none. None where nothing can be read back, and `lossy` says why.
        recognises: Whether a file looks like one of this format, by its content; it must not raise. Needed where there
            is `read`.
        lossy: What a circuit loses on the way there and back, in words that can be printed; "" if nothing.
    """

    name: str
    suffix: str
    title: str
    write: Callable[[Circuit, Path], object] | None
    read: Callable[[Path, ModelRecord | None], Circuit] | None
    recognises: Callable[[Source], bool] | None
    lossy: str


class Source:
    """A file of unknown format: looked at once, however many formats are asked whether it is theirs.

    Raises:
        CircuitFileError: At the first look: it is missing, a folder, unreadable or larger than `LARGEST_FILE`.
    """

    def __init__(self, path: Path) -> None:
        """Looks at nothing yet."""
        self.path = path

    @cached_property
    def head(self) -> bytes:
        """The first 64 KB."""
        check_size(self.path)
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


def writer(text_of: Callable[[Circuit], str]) -> Callable[[Circuit, Path], object]:
    """Makes the `write` of a format that is one UTF-8 text."""
    return lambda circuit, path: path.write_bytes(text_of(circuit).encode())


def check_size(path: Path) -> None:
    """Refuses what is no readable file, and files too large to be a circuit.

    Raises:
        CircuitFileError: Which of these it is.
    """
    try:
        with path.open("rb"):
            size = path.stat().st_size
    except FileNotFoundError:
        raise CircuitFileError(f"No circuit file {path}.") from None
    except IsADirectoryError:
        raise CircuitFileError(f"{path} is a folder, not a circuit file.") from None
    except OSError as error:
        raise CircuitFileError(f"Cannot read {path}: {error.strerror or error}.") from error
    if size > LARGEST_FILE:
        raise CircuitFileError(
            f"{path} has {size / 2**20:,.0f} MB; circuits of more than {LARGEST_FILE // 2**20} MB are not read."
        )


def needs_model(path: Path, what: str) -> ModelNeededError:
    """The error of a file that does not say of which model it is.

    Args:
        path: The file.
        what: What it is, as in `GraphML without this engine's attributes`.
    """
    return ModelNeededError(
        f"{path} is {what}, which does not say of which model: give it with --model, or with --like a circuit file of "
        "the same model. Where a command has neither option, first make a circuit file: acdc import FILE --model NAME "
        "--out circuit.json."
    )
