"""A circuit from a file of another tool, with the model that the file does not name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from acdc_engine.errors import CircuitFileError, ModelNeededError
from acdc_engine.formats.registry import import_circuit
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_records import ModelRecord
from acdc_engine.run.progress import Reporter, reporter_of


def import_with_model(
    path: str | Path,
    fmt: str | None = None,
    *,
    model: str | None = None,
    like: str | Path | None = None,
    ungroup_kv: bool = False,
    progress: bool | Reporter = False,
) -> Circuit:
    """Reads a circuit from any format; the model is loaded only if the file does not describe it.

    Args:
        path: The file.
        fmt: Its format; by default what the content shows.
        model: The model's name or folder.
        like: Instead, a circuit of the same model: a file, run folder or name such as gpt2/ioi.
        ungroup_kv: With `model`: one k and v per query head, where the model shares them.
        progress: Show progress on stderr, or on a reporter of one's own (`acdc_engine.run.progress`).

    Raises:
        CircuitFileError: Both `model` and `like` are given; or as for `import_circuit`.
        ModelError: The model cannot be loaded.
    """
    if model is not None and like is not None:
        raise CircuitFileError("--model and --like both say of which model the circuit is: give one of them.")
    donor = None if like is None else import_circuit(like).model
    try:
        return import_circuit(path, fmt=fmt, model=donor)
    except ModelNeededError:
        if model is None:
            raise
    with reporter_of(progress).stage("Loading the model"):
        record = record_of(model, ungroup_kv)
    return import_circuit(path, fmt=fmt, model=record)


def record_of(model: Any, ungroup_kv: bool = False) -> ModelRecord:
    """The record of a model, which is loaded on the CPU unless it is a view already.

    Args:
        model: As for `load_model`.
        ungroup_kv: One k and v per query head, where the model shares them.

    Raises:
        ModelError: The model cannot be loaded.
    """
    from acdc_engine.model.load import load_model
    from acdc_engine.run.records import model_record

    return model_record(load_model(model, device="cpu", ungroup_kv=ungroup_kv))
