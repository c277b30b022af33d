"""A known circuit beside the one that is shown: whether the two lie in one graph."""

from __future__ import annotations

from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.circuit import Circuit

_SIZES = ("n_layers", "n_heads", "n_kv_heads", "parallel", "mlps", "ungrouped_kv")


def check_same_graph(circuit: Circuit, known: Circuit) -> None:
    """Refuses a known circuit whose graph is another.

    Raises:
        CircuitFileError: With what differs.
    """
    ours, theirs = circuit.model, known.model
    wrong = [key for key in _SIZES if getattr(ours, key) != getattr(theirs, key)]
    if wrong:
        sizes = "; ".join(f"{key} {getattr(ours, key)} and {getattr(theirs, key)}" for key in wrong)
        raise CircuitFileError(
            f"A known circuit must be one of the same graph: this is a circuit of {ours.name}, the known one of "
            f"{theirs.name}, and their graphs differ: {sizes}. Leave the known circuit out, or give one of "
            f"{ours.name}."
            + (" Find the circuit with or without --ungroup-kv, as the known one." if "ungrouped_kv" in wrong else "")
        )
