"""Known circuits beside a found one: which of them fits, and those on the same ruler as points of a curve."""

from dataclasses import dataclass
from pathlib import Path

from acdc_engine.errors import CircuitFileError
from acdc_engine.formats.registry import import_circuit, opened
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_records import MODEL_SIZES, Figures, ModelRecord
from acdc_engine.graph.comparison_records import Comparison
from acdc_engine.graph.curve_records import KnownCircuit
from acdc_engine.graph.find import CIRCUIT, SO_FAR, find_circuit, known_graphs
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.bos import as_hashed
from acdc_engine.prompts.card import TaskCard


def known_for(circuit: Circuit) -> Path | None:
    """The file of the known circuit of the same model and task that comes with the engine; None where there is none.

    Models are the same if their names, without owner and folder, and their sizes are. `gpt2/ioi` is for the task `ioi`,
    and `tracr-sort/sort` also for `tracr_sort`.
    """
    if circuit.task is None:
        return None
    for path in known_graphs().values():
        if circuit.task.name in (path.stem, path.parent.name.replace("-", "_")):
            known = Circuit.load(path)
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
    return None if _is(circuit, import_circuit(known, model=circuit.model)) else known


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


def _is(circuit: Circuit, known: Circuit) -> bool:
    """Whether a circuit is the known one, whatever was measured of it: its own edges, not found by a search."""
    written = circuit.search is None and circuit.source is not None and circuit.source == known.source
    return written and {(e.sender, e.receiver) for e in circuit.edges} == {(e.sender, e.receiver) for e in known.edges}


def _same(ours: ModelRecord, theirs: ModelRecord) -> bool:
    names = {model.name.rstrip("/").rpartition("/")[2].lower() for model in (ours, theirs)}
    return len(names) == 1 and all(getattr(ours, key) == getattr(theirs, key) for key in MODEL_SIZES)


@dataclass(frozen=True)
class KnownFile:
    """A circuit file with held-out figures."""

    path: Path
    circuit: Circuit
    held_out: Figures


def read_known(given: Circuit | str | Path, place: int, card: TaskCard, metric: str, ablation: str) -> KnownFile:
    """Reads a circuit to compare with; looks at everything but the model, which is not loaded yet.

    Args:
        given: A circuit, its file, the folder of its run or its name.
        place: Its place among them, which names a circuit given as an object.
        card: Task of the curve.
        metric: Name of the curve's metric.
        ablation: The curve's ablation.

    Raises:
        CircuitFileError: It cannot be read, has no edges or no held-out figures, or was found for another task, with
            another task card, metric or ablation.
    """
    circuit, file = opened(given)
    path = file or Path(f"circuit {place}")
    if circuit.evaluation is None or circuit.task is None or circuit.metric is None:
        raise CircuitFileError(
            f"{path} has no held-out figures, so it is no point on a curve. acdc discover writes circuits with them."
        )
    if not circuit.edges:
        raise CircuitFileError(f"{path} has no edges, so it is no point on a curve.")
    if circuit.task.name != card.name:
        raise CircuitFileError(
            f"{path} is a circuit for the task {circuit.task.name}, the curve is one for {card.name}."
        )
    if not _is_of(card, circuit.task.card_hash):
        raise CircuitFileError(
            f"{path} was found with another version of the task card {card.name} (or another --bos): its "
            "figures do not compare with the curve's. Find it again with this card."
        )
    for what, theirs, ours in (("metric", circuit.metric.name, metric), ("ablation", circuit.ablation, ablation)):
        if theirs != ours:
            raise CircuitFileError(
                f"{path} was judged with {what} {theirs}, the curve is with {ours}: the figures do not compare. Give "
                f"--{what} {theirs}, or leave the circuit out."
            )
    return KnownFile(path, circuit, circuit.evaluation.held_out)


def _is_of(card: TaskCard, card_hash: str | None) -> bool:
    """Whether a file's circuit was found with this card; what the card leaves open a run has decided."""
    if card_hash is None or card.fingerprint() == card_hash:
        return True
    return card.prepend_bos is None and as_hashed(card, card_hash) is not None


def check_model(known: list[KnownFile], view: TransformerView) -> None:
    """Compares the circuits' model with the one that was loaded.

    Raises:
        CircuitFileError: Another graph, or other weights.
    """
    own_hash = view.weights_hash() if known else None
    for file in known:
        model = file.circuit.model
        if file.circuit.shape() != view.shape:
            raise CircuitFileError(
                f"{file.path} is a circuit of {model.name} with {file.circuit.shape()}; this model is {view.name} "
                f"with {view.shape}. Give the same --model and --ungroup-kv, or leave the circuit out."
            )
        if model.weights_hash not in (None, own_hash):
            raise CircuitFileError(
                f"{file.path} is a circuit of {model.name} with other weights, or in another number format, than "
                f"{view.name} ({view.dtype}). Give the same --model and --dtype, or leave the circuit out."
            )


def known_circuit(file: KnownFile, held_out_hash: str) -> KnownCircuit:
    """The point; called after its folder, as runs call all their circuits circuit.json."""
    circuit, figures = file.circuit, file.held_out
    prompts = circuit.task.prompts_hash if circuit.task is not None else None
    name = file.path.absolute().parent.name if file.path.name in (CIRCUIT, SO_FAR) else file.path.stem
    return KnownCircuit(
        name=name,
        edges=len(circuit.edges),
        strategy=None if circuit.search is None else circuit.search.strategy,
        n_held_out=figures.n_prompts,
        faithfulness=figures.faithfulness,
        faithfulness_interval=figures.faithfulness_interval,
        kl_recovered=figures.kl_recovered,
        same_prompts=prompts is not None and prompts.split("+")[-1] == held_out_hash,
    )
