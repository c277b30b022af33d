"""The folder of `acdc diff --models`: the result, the circuits, and what an earlier run has left of either."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from pydantic import JsonValue, ValidationError

from acdc_engine.errors import RunFolderError
from acdc_engine.graph.checkpoint_records import Checkpoint, Checkpoints
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import check_target
from acdc_engine.graph.records import ModelRecord
from acdc_engine.patch.trace import differences
from acdc_engine.run.folder import check_place

RESULT, PAGE = "checkpoints.json", "checkpoints.html"
"""What it holds beside the circuits: the result, and its page (of the command)."""
Known = tuple[Checkpoint, Circuit | None]
"""A model by itself, and its circuit."""
_IN_A_ROW = dict.fromkeys(("before", "last", "in_last", "in_last_interval"))
"""What is said of a model beside others."""


@dataclass(frozen=True)
class CheckpointFolder:
    """Where to write, and what is there.

    Attributes:
        path: The folder.
        known: Models of the same settings, each by itself.
        replaced: Circuit files of a comparison of other settings, which go when there is something in their place.
        free: Names of circuit files that may be written although there is a file.
        overwrite: So may any.
    """

    path: Path
    known: tuple[Known, ...]
    replaced: frozenset[str]
    free: frozenset[str]
    overwrite: bool

    @classmethod
    def at(
        cls, path: Path, names: Sequence[str], facts: Mapping[str, JsonValue], overwrite: bool
    ) -> "CheckpointFolder":
        """Looks into the folder, and makes it; `names` are what the models are called.

        Raises:
            RunFolderError: It holds a result of other settings, or one that cannot be read, and may not overwrite it.
            CircuitFileError: It holds another file of a name that is written.
        """
        check_place(path)
        earlier, same = _earlier(path, facts, overwrite)
        there = () if earlier is None else (*earlier.models, *earlier.others)
        files = frozenset(one.file for one in there if one.file is not None)
        path.mkdir(parents=True, exist_ok=True)
        ours = set() if earlier is None else {RESULT, PAGE, *files}
        for name in (RESULT, PAGE, *(f"{_plain(name)}.json" for name in names)):
            check_target(path / name, overwrite=overwrite or name in ours)
        known = tuple(_by_itself(path, there)) if same else ()
        return cls(path, known, frozenset() if same else files, files, overwrite)

    def known_of(self, model: ModelRecord) -> Known | None:
        """What is known of a model of these weights: of that name where there are several, or as one of that name."""
        alike = [one for one in self.known if one[0].model.weights_hash == model.weights_hash]
        for record, circuit in sorted(alike, key=lambda one: one[0].model.name != model.name):
            file = record.file if record.model.name == model.name else None
            known = record.model_copy(update={"model": model, "file": file})
            return known, None if circuit is None else circuit.model_copy(update={"model": model})
        return None

    def file_of(self, record: Checkpoint, name: str, others: Sequence[Checkpoint]) -> str:
        """What a circuit's file is called, or is to be called: as the model, and as no other file."""
        if record.file is not None:
            return record.file
        taken = {RESULT, *(one.file for one in others), *(one.file for one, _ in self.known)}
        for number in count(1):
            file = f"{_plain(name)}{f'-{number}' if number > 1 else ''}.json"
            if file not in taken and (self.overwrite or file in self.free or not (self.path / file).exists()):
                return file
        raise AssertionError("numbers do not end")

    def save(self, found: Checkpoints, circuit: Circuit | None = None) -> Checkpoints:
        """Writes the result, with what is known of models that are not in it, and the circuit of its last model.

        A page of an earlier result goes, and circuits of one that is replaced.
        """
        for name in {PAGE, *self.replaced} - {one.file for one in found.models}:
            (self.path / name).unlink(missing_ok=True)
        done = {(one.model.name, one.model.weights_hash) for one in found.models}
        others = (one for one, _ in self.known if (one.model.name, one.model.weights_hash) not in done)
        found = found.model_copy(update={"others": tuple(others)})
        found.save(self.path / RESULT, overwrite=True)
        if circuit is not None:
            circuit.save(self.path / str(found.models[-1].file), overwrite=True)
        return found


def _by_itself(folder: Path, there: Sequence[Checkpoint]) -> list[Known]:
    """Models of which all is there: a process may have ended before it wrote the circuit."""
    found = list[Known]()
    for one in there:
        path = None if one.file is None else folder / one.file
        circuit = Circuit.load(path) if path is not None and path.is_file() else None
        if path is None or (circuit is not None and circuit.model == one.model):
            found.append((one.model_copy(update=_IN_A_ROW), circuit))
    return found


def _earlier(folder: Path, facts: Mapping[str, JsonValue], overwrite: bool) -> tuple[Checkpoints | None, bool]:
    """The result that lies in the folder, and whether it is of the same settings."""
    path = folder / RESULT
    if not path.exists():
        return None, False
    instead = "Choose another --out, or add --overwrite to replace it."
    try:
        found = Checkpoints.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        if overwrite:
            return None, False
        raise RunFolderError(
            f"{path} is there and cannot be read as a result of acdc diff --models. {instead}"
        ) from error
    others = differences(found.facts, facts)
    if others and not overwrite:
        told = "; ".join(f"{name}: {what}" for name, what in others.items())
        raise RunFolderError(f"{folder} holds a comparison of other settings ({told}). {instead}")
    return found, not others


def _plain(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "model"
