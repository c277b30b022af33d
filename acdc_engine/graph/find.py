"""Circuits by file, by run folder, or by the name under which they come with the engine: for whatever takes a circuit.

Also the names of the files that a run leaves in its folder.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from acdc_engine.errors import AcdcWarning, CircuitFileError, nearest
from acdc_engine.shipped import graphs_folder

CIRCUIT, SO_FAR, SCORES, TRACE = "circuit.json", "circuit-so-far.json", "scores.safetensors", "trace.jsonl"
"""What a run leaves in its folder: its circuit; until it has finished, the best one so far; scores of all edges; what
the model was asked and answered."""
_NO_CIRCUITS = ("schema.json", "model.json")
_MOST_NAMED = 10


def known_graphs() -> dict[str, Path]:
    """The circuit files of the folder `graphs/` by name, such as `gpt2/ioi`.

    Raises:
        AcdcError: This installation has no such folder.
    """
    folder = graphs_folder()
    files = sorted(path for path in folder.glob("*/*.json") if path.name not in _NO_CIRCUITS)
    return {f"{path.parent.name}/{path.stem}": path for path in files}


def find_circuit(name: str | os.PathLike[str]) -> Path:
    """Path of a circuit file.

    Warns (`AcdcWarning`) where it is the best circuit so far of a run that has not finished.

    Args:
        name: A file, the folder of a run, or the name of a circuit that comes with the engine: `gpt2/ioi`, also as
            `graphs/gpt2/ioi.json`. What exists comes before a name.

    Raises:
        CircuitFileError: None of these, or a folder without a circuit; what is there is said, or which circuits there
            are.
    """
    if not isinstance(name, str | os.PathLike):
        raise CircuitFileError(
            f"A circuit is given as a Circuit, a file, the folder of a run or a name such as gpt2/ioi, not as {name!r} "
            f"of type {type(name).__name__}."
        )
    path = Path(name)
    # Not Path.is_dir and so on: these raise where a folder may not be looked into or a name is too long.
    if os.path.isdir(path):
        return _in_folder(path)
    if os.path.exists(path):
        return path
    shipped = known_graphs()
    asked = path.as_posix().removeprefix("graphs/").removesuffix(".json")
    if asked in shipped:
        return shipped[asked]
    raise CircuitFileError(
        f"No circuit file {path}, no folder of that name, and no circuit of that name comes with the engine."
        f"{nearest(asked, shipped)}"
    )


def name_of(path: Path) -> str:
    """What to call a circuit file: its folder's name and its own, as in `gpt2/ioi`."""
    return f"{path.resolve().parent.name}/{path.stem}"


def _in_folder(folder: Path) -> Path:
    """The circuit in a run's folder."""
    if os.path.exists(folder / CIRCUIT):
        return folder / CIRCUIT
    if os.path.exists(folder / SO_FAR):
        warnings.warn(
            f"the run in {folder} has not finished: this is its best circuit so far ({SO_FAR}). The command that began "
            "it goes on with it.",
            AcdcWarning,
            stacklevel=4,
        )
        return folder / SO_FAR
    try:
        there = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise CircuitFileError(f"Cannot look into the folder {folder}: {error.strerror or error}.") from error
    left = [name for name in (TRACE, SCORES) if name in there]
    runs = [name for name in there if any(os.path.exists(folder / name / file) for file in (CIRCUIT, SO_FAR))]
    if left:
        advice = (
            f"its run has not finished and no circuit has been found yet (it has {' and '.join(left)}). The command "
            "that began it goes on with it."
        )
    elif runs:
        advice = f"give one of the runs in it: {_listed(runs)}"
    else:
        holds = f"it holds {_listed(there)}" if there else "it is empty."
        advice = f"it is no folder of a run; {holds} Give a run's folder, a circuit file or a name such as gpt2/ioi."
    raise CircuitFileError(f"{folder} has no {CIRCUIT}: {advice}")


def _listed(names: list[str]) -> str:
    """The first names, as the end of a sentence."""
    return f"{', '.join(names[:_MOST_NAMED])}{', ...' if len(names) > _MOST_NAMED else '.'}"
