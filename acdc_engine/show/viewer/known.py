"""A known circuit beside the one that is shown: whether the two are of one model."""

from __future__ import annotations

from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.records import MODEL_SIZES


def check_same_model(circuit: Circuit, known: Circuit) -> None:
    """Refuses a known circuit of a model of other sizes.

    Raises:
        CircuitFileError: With what differs.
    """
    ours, theirs = circuit.model, known.model
    wrong = [key for key in MODEL_SIZES if getattr(ours, key) != getattr(theirs, key)]
    if wrong:
        sizes = "; ".join(f"{key} {getattr(ours, key)} and {getattr(theirs, key)}" for key in wrong)
        raise CircuitFileError(
            f"A known circuit must be one of the same model: this is a circuit of {ours.name}, the known one of "
            f"{theirs.name}, and the models differ: {sizes}. Leave the known circuit out, or give one of "
            f"{ours.name}."
            + (" Find the circuit with or without --ungroup-kv, as the known one." if "ungrouped_kv" in wrong else "")
        )
