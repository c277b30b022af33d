"""Circuit files by path, by run folder, or by the name under which they come with the engine."""

from pathlib import Path

from acdc_engine.errors import CircuitFileError, nearest
from acdc_engine.shipped import graphs_folder

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


def find_known(name: str | Path) -> Path:
    """Path of a known circuit.

    Args:
        name: A file, or the name of a circuit that comes with the engine: `gpt2/ioi`, also as `graphs/gpt2/ioi.json`.

    Raises:
        CircuitFileError: Neither; the circuits there are are listed.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = known_graphs()
    asked = path.as_posix().removeprefix("graphs/").removesuffix(".json")
    if asked in shipped:
        return shipped[asked]
    raise CircuitFileError(
        f"No circuit file {path}, and none of that name comes with the engine.{nearest(asked, shipped)}"
    )


def find_circuit(name: str | Path) -> Path:
    """Path of a circuit file.

    Args:
        name: A file, the folder of a finished run, or the name of a circuit that comes with the engine.

    Raises:
        CircuitFileError: None of these, or a folder without a circuit.
    """
    path = Path(name)
    if not path.is_dir():
        return find_known(path)
    # With it comes torch, which showing a circuit file does not need.
    from acdc_engine.run.folder import CIRCUIT, SCORES, SO_FAR, TRACE

    if (path / CIRCUIT).is_file():
        return path / CIRCUIT
    if any((path / left).is_file() for left in (SO_FAR, TRACE, SCORES)):
        advice = "it is of a run that has not finished. The command that began it goes on with it."
    elif runs := sorted(folder.parent.name for folder in path.glob(f"*/{CIRCUIT}")):
        advice = (
            f"give one of the runs in it: {', '.join(runs[:_MOST_NAMED])}{', ...' if len(runs) > _MOST_NAMED else '.'}"
        )
    else:
        advice = "it is no folder of a finished run. Give a run's folder or a circuit file."
    raise CircuitFileError(f"{path} has no {CIRCUIT}: {advice}")


def name_of(path: Path) -> str:
    """What to call a circuit file: its folder's name and its own, as in `gpt2/ioi`."""
    return f"{path.resolve().parent.name}/{path.stem}"
