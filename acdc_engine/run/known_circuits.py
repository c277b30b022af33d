"""Circuits found before, as points beside a curve: only those that the same ruler has measured."""

from dataclasses import dataclass
from pathlib import Path

from acdc_engine.errors import CircuitFileError
from acdc_engine.formats.registry import opened
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_records import Figures
from acdc_engine.graph.curve_records import KnownCircuit
from acdc_engine.graph.find import CIRCUIT, SO_FAR
from acdc_engine.prompts.bos import as_hashed
from acdc_engine.prompts.card import TaskCard
from acdc_engine.run.records import Run


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


def check_model(known: list[KnownFile], run: Run) -> None:
    """Compares the circuits' model with the one that was loaded.

    Raises:
        CircuitFileError: Another graph, or other weights.
    """
    own_hash = run.view.weights_hash() if known else None
    for file in known:
        model = file.circuit.model
        if file.circuit.shape() != run.view.shape:
            raise CircuitFileError(
                f"{file.path} is a circuit of {model.name} with {file.circuit.shape()}; this model is {run.view.name} "
                f"with {run.view.shape}. Give the same --model and --ungroup-kv, or leave the circuit out."
            )
        if model.weights_hash not in (None, own_hash):
            raise CircuitFileError(
                f"{file.path} is a circuit of {model.name} with other weights, or in another number format, than "
                f"{run.view.name} ({run.view.dtype}). Give the same --model and --dtype, or leave the circuit out."
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
