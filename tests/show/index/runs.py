"""Folders of runs, made up."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from acdc_engine.graph.blocks import Graph, GraphShape
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.nodes import nodes_of_edges
from acdc_engine.graph.records import CircuitEdge, ModelRecord
from tests.made_circuits import GPT2, SMOLLM2, made_circuit

TINY = GraphShape(2, 4, 2)
"""Four heads in two key/value groups."""


def save(folder: Path, circuit: Circuit) -> Path:
    """Writes a run's folder; returns its circuit file."""
    folder.mkdir(parents=True)
    circuit.save(folder / "circuit.json")
    return folder / "circuit.json"


def lean(n_edges: int, seed: int = 0, shape: GraphShape = GPT2) -> Circuit:
    """A made-up circuit without example prompts: their attention patterns are most of a file, and of its reading."""
    return made_circuit(n_edges, seed, shape).model_copy(update={"examples": ()})


def named(
    circuit: Circuit, task: str | None = None, model: str | None = None, faithfulness: float | None = None
) -> Circuit:
    """The circuit as one of another task or model, or with another held-out faithfulness."""
    assert circuit.task is not None and circuit.evaluation is not None
    held_out = circuit.evaluation.held_out
    if faithfulness is not None:
        held_out = held_out.model_copy(update={"faithfulness": faithfulness})
    return circuit.model_copy(
        update={
            "task": circuit.task.model_copy(update={"name": task or circuit.task.name}),
            "model": circuit.model.model_copy(update={"name": model or circuit.model.name}),
            "evaluation": circuit.evaluation.model_copy(update={"held_out": held_out}),
        }
    )


def tiny_model(shape: GraphShape, name: str = "tiny") -> ModelRecord:
    return ModelRecord.model_validate({"name": name, "d_model": 8, "d_vocab": 11, **asdict(shape)})


def bare(effects: Mapping[str, float | None], shape: GraphShape = TINY) -> Circuit:
    """A hand-written circuit of edges such as `input->m0` with their effects."""
    ends = [name.split("->") for name in effects]
    edges = tuple(
        CircuitEdge(sender=sender, receiver=receiver, effect=effect)
        for (sender, receiver), effect in zip(ends, effects.values(), strict=True)
    )
    return Circuit(model=tiny_model(shape), nodes=nodes_of_edges(Graph(shape), edges), edges=edges)


def some_runs(folder: Path) -> Path:
    """Three runs: two of GPT-2's shape, one of SmolLM2's."""
    save(folder / "a", named(lean(20, 1), "ioi", "gpt2", 0.95))
    save(folder / "b", named(lean(40, 2), "induction", "gpt2", 0.5))
    save(folder / "c", named(lean(30, 3, SMOLLM2), "ioi", "smollm2-135m", 1.25))
    return folder
