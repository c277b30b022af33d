"""Files of `torch.save` that hold tensors and plain values, read without trusting them."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acdc_engine.errors import CircuitFileError
from acdc_engine.formats.register import LARGEST_FILE, Source, check_size

if TYPE_CHECKING:
    from torch import Tensor

_LARGEST_INDEX = 64 * 2**20
"""Bytes of the part that is not tensors."""
_MOST_VALUES = 5_000_000
_DEEPEST = 20
_LARGEST_INT = 2**63


def index_of(source: Source) -> bytes:
    """The part of a file of torch.save that holds its keys, as it is: nothing in it is run. Empty for other files."""
    if not source.head.startswith(b"PK"):
        return b""
    try:
        with zipfile.ZipFile(source.path) as archive:
            return archive.read(_check_archive(source.path, archive))
    except (CircuitFileError, zipfile.BadZipFile, OSError, RuntimeError, ValueError, NotImplementedError):
        return b""


def torch_content(path: Path, what: str) -> Any:
    """The content of a file of torch.save: dicts, lists, texts, numbers and tensors on the CPU, nothing else.

    Raises:
        CircuitFileError: It is missing, too large, not `what` it should be, damaged, or holds anything else.
    """
    import torch

    check_size(path)
    try:
        with zipfile.ZipFile(path) as archive:
            _check_archive(path, archive)
    except (zipfile.BadZipFile, OSError, RuntimeError, ValueError, NotImplementedError) as error:
        raise CircuitFileError(
            f"{path} is not {what}: it is no file of torch.save ({error}). Copy it again from where it was written."
        ) from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a made-up file can make the reader fail in any way
        # What torch says advises to read the file all the same, and run what is in it.
        found = re.search(r"GLOBAL ([\w.]{1,100})", str(error))
        what_else = f"it holds {found[1]}" if found else "it is damaged, or holds something else"
        raise CircuitFileError(
            f"{path} is not {what}: {what_else}. Only tensors, dicts, lists, texts and numbers are read from such "
            "files, because anything else can run code."
        ) from error
    _check_plain(path, content)
    return content


def check_tensor(path: Path, key: str, value: Any, shape: tuple[int, ...], kind: str) -> Tensor:
    """The value at a key of a file, refused where it is no plain tensor of that shape and kind: bool or numbers."""
    import torch

    if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.device.type != "cpu":
        raise CircuitFileError(f"{path}: {key} is no plain tensor, but a {type(value).__name__}.")
    if tuple(value.shape) != shape:
        raise CircuitFileError(f"{path}: {key} has shape {list(value.shape)}, and {list(shape)} fits this model.")
    fits = value.dtype == torch.bool if kind == "bool" else value.dtype.is_floating_point
    if not fits or value.is_quantized:
        raise CircuitFileError(f"{path}: {key} is of kind {value.dtype}, and must be {kind}.")
    return value


def _check_archive(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """The entry with the keys. torch.save compresses nothing, so what is compressed is there to fill the memory."""
    entries = archive.infolist()
    index = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
    if len(index) != 1:
        raise CircuitFileError(f"{path} is no file of torch.save: it has {len(index)} entries data.pkl instead of 1.")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CircuitFileError(f"{path} is no file of torch.save: it has compressed entries. Write it with torch.save.")
    if sum(entry.file_size for entry in entries) > LARGEST_FILE or index[0].file_size > _LARGEST_INDEX:
        raise CircuitFileError(f"{path} says that it holds more than it has bytes, or too many keys: it is not read.")
    return index[0]


def _check_plain(path: Path, content: Any) -> None:
    """Refuses what would take forever to walk through or to print, such as lists that hold one list many times."""
    from torch import Tensor

    todo, seen = [(content, 0)], 0
    while todo:
        value, depth = todo.pop()
        seen += 1
        if seen > _MOST_VALUES or depth > _DEEPEST:
            raise CircuitFileError(f"{path} is nested too deeply, or repeats its parts: it is not read.")
        if isinstance(value, dict):
            todo += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, list | tuple | set):
            todo += [(part, depth + 1) for part in value]
        elif isinstance(value, int) and abs(value) >= _LARGEST_INT:
            raise CircuitFileError(f"{path} holds a whole number of more than 63 bits: it is not read.")
        elif not isinstance(value, str | bytes | int | float | Tensor | None):
            raise CircuitFileError(f"{path} holds a value of type {type(value).__name__}, which no circuit has.")
