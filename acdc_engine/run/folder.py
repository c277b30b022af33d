"""The folder a run leaves: scores, a line per search step, the circuit. Nothing half-written under a final name."""

import json
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from acdc_engine.errors import CircuitFileError, RunFolderError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import write_with

CIRCUIT, SO_FAR, SCORES, TRACE = "circuit.json", "circuit-so-far.json", "scores.safetensors", "trace.jsonl"
OURS = ("circuit.", "circuit-so-far.", "scores.", "trace.", ".circuit", ".scores")
"""How the names of a run's files begin: results, exports beside them, and what a killed process left unfinished."""
ROOM = 64 * 2**20
"""Free space asked for before a run starts, in bytes."""
_AGAIN = "Make room there or choose another --out, and run again."


class RunFolder:
    """A run's folder, made when the first result is there.

    Args:
        path: The folder.
        overwrite: Replace the results of an earlier run in it.

    Raises:
        RunFolderError: The folder holds a run or other files already, or cannot be written.
    """

    def __init__(self, path: str | Path, overwrite: bool = False) -> None:
        """See the class."""
        self.path = Path(path)
        self._trace: IO[str] | None = None
        try:
            if self.path.is_file():
                raise RunFolderError(f"{self.path} is a file; --out names a folder.")
            names = {entry.name for entry in self.path.iterdir()} if self.path.is_dir() else set()
            parent = next(p for p in (self.path.absolute(), *self.path.absolute().parents) if p.exists())
        except OSError as error:
            raise RunFolderError(f"Cannot write to {self.path}: {error.strerror}. Choose another --out.") from error
        foreign = sorted(name for name in names if not name.startswith(OURS))
        if names and (foreign or not overwrite):
            held = "a run" if not foreign else f"other files ({', '.join(foreign[:3])})"
            hint = ", or add --overwrite to replace the run" if not foreign else ""
            raise RunFolderError(f"{self.path} exists and holds {held}. Choose another --out{hint}.")
        self._check_room(parent)

    def _check_room(self, parent: Path) -> None:
        if not parent.is_dir():
            raise RunFolderError(f"Cannot write to {self.path}: {parent} is a file. Choose another --out.")
        try:
            free = shutil.disk_usage(parent).free
        except OSError as error:
            raise RunFolderError(f"Cannot write to {self.path}: {error.strerror}. Choose another --out.") from error
        if not os.access(parent, os.W_OK | os.X_OK):
            raise RunFolderError(f"Cannot write to {self.path}: no permission in {parent}. Choose another --out.")
        if free < ROOM:
            raise RunFolderError(
                f"Only {free / 2**20:.0f} MB are free where {self.path} would be; a run asks for {ROOM // 2**20} MB. "
                "Make room or choose another --out."
            )

    def __enter__(self) -> "RunFolder":
        """Makes the folder and opens the trace; an earlier circuit stays until there is a new one to take its place."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for name in (SO_FAR, SCORES, TRACE):
                (self.path / name).unlink(missing_ok=True)
            self._trace = open(self.path / TRACE, "a", encoding="utf-8")
        except OSError as error:
            raise RunFolderError(f"Cannot write to {self.path}: {error.strerror}. Choose another --out.") from error
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Closes the trace."""
        if self._trace is not None:
            self._trace.close()

    def trace(self, record: dict[str, Any]) -> None:
        """Appends one line, whole and at once."""
        assert self._trace is not None, "trace is open inside the with block"
        try:
            self._trace.write(json.dumps(record) + "\n")
            self._trace.flush()
        except OSError as error:
            raise RunFolderError(f"Cannot write {self.path / TRACE}: {error.strerror}. {_AGAIN}") from error

    def save_scores(self, tensors: dict[str, Any], metadata: dict[str, str]) -> None:
        """Writes the edge scores.

        Raises:
            RunFolderError: The disk refuses.
        """
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        try:
            write_with(self.path / SCORES, lambda temporary: save_file(tensors, temporary, metadata), overwrite=True)
        except (CircuitFileError, SafetensorError) as error:
            raise RunFolderError(f"{error} {_AGAIN}") from error

    def save_circuit(self, circuit: Circuit, name: str = CIRCUIT) -> Path:
        """Writes a circuit under its final name, complete or not at all.

        Raises:
            RunFolderError: The disk refuses.
        """
        try:
            circuit.save(self.path / name, overwrite=True)
            if name == CIRCUIT:
                (self.path / SO_FAR).unlink(missing_ok=True)
        except (CircuitFileError, OSError) as error:
            raise RunFolderError(f"{error} {_AGAIN}") from error
        return self.path / name
