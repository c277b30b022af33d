"""The known circuit that a found one is set against: the one that comes with the engine, or one by name."""

from functools import cache
from pathlib import Path

from acdc_engine.formats.register import import_circuit
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import find_circuit, known_graphs
from acdc_engine.graph.records import MODEL_SIZES, ModelRecord
from acdc_engine.graph.result_records import Comparison


def known_for(circuit: Circuit) -> Path | None:
    """The file of the known circuit of the same model and task that comes with the engine; None where there is none.

    Models are the same if their names, without owner and folder, and their sizes are. `gpt2/ioi` is for the task `ioi`,
    and `tracr-sort/sort` also for `tracr_sort`.
    """
    if circuit.task is None:
        return None
    for path in known_graphs().values():
        if circuit.task.name in (path.stem, path.parent.name.replace("-", "_")):
            known = _load(path)
            if _same(circuit.model, known.model) and known.edges:
                return path
    return None


def known_beside(path: Path | None, circuit: Circuit) -> Path | None:
    """The known circuit to set a circuit file against: that of `known_for`, unless the file holds it.

    Args:
        path: The file; None for a circuit that came without one.
        circuit: What it holds; a copy of the known one with figures from `acdc evaluate` is that one too.
    """
    known = known_for(circuit)
    if known is None or (path is not None and known.samefile(path)):
        return None
    return None if _is(circuit, _load(known)) else known


def against_known(path: Path, circuit: Circuit, known: str | None = None) -> tuple[Comparison, Circuit] | None:
    """Compares a circuit file with a known circuit.

    Args:
        path: The file; scores of all edges are those beside it.
        circuit: What it holds.
        known: File or name of the known circuit; None for that of `known_beside`.

    Returns:
        The comparison and the known circuit; None where none is given and none found.

    Raises:
        CircuitFileError: The given one cannot be read or is of another model.
    """
    # Late: it loads torch, which finding a known circuit needs not.
    from acdc_engine.run.compare import compare

    other = known_beside(path, circuit) if known is None else find_circuit(known)
    return None if other is None else (compare(path, other), import_circuit(other, model=circuit.model))


@cache
def _load(path: Path) -> Circuit:
    """A known circuit, read once for all circuits that are set against it."""
    return Circuit.load(path)


def _is(circuit: Circuit, known: Circuit) -> bool:
    """Whether a circuit is the known one, whatever was measured of it: its own edges, not found by a search."""
    written = circuit.search is None and circuit.source is not None and circuit.source == known.source
    return written and {(e.sender, e.receiver) for e in circuit.edges} == {(e.sender, e.receiver) for e in known.edges}


def _same(ours: ModelRecord, theirs: ModelRecord) -> bool:
    names = {plain_name(model.name) for model in (ours, theirs)}
    return len(names) == 1 and all(getattr(ours, key) == getattr(theirs, key) for key in MODEL_SIZES)


def plain_name(name: str) -> str:
    """`gpt2` for `openai-community/gpt2` and for a local folder of that name."""
    return name.rstrip("/").rpartition("/")[2].lower()
