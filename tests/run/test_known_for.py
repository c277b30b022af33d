"""Which known circuit a found one is set against."""

from pathlib import Path
from typing import Any

import pytest

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import find_circuit, known_graphs
from acdc_engine.run.known_circuits import against_known, known_for
from tests.made_circuits import made_circuit

IOI = Circuit.load(find_circuit("gpt2/ioi")).model


def found(task: str, **model: Any) -> Circuit:
    made = made_circuit(20)
    assert made.task is not None
    task_record = made.task.model_copy(update={"name": task})
    return made.model_copy(update={"model": IOI.model_copy(update=model), "task": task_record})


@pytest.mark.parametrize("name", ["gpt2", "openai-community/gpt2", "/models/GPT2/"])
def test_the_same_model_by_any_path_and_the_same_task(name: str) -> None:
    assert known_for(found("ioi", name=name)) == find_circuit("gpt2/ioi")
    assert known_for(found("greater_than", name=name)) == find_circuit("gpt2/greater_than")


def test_compiled_tasks_are_called_after_their_model() -> None:
    for name, path in known_graphs().items():
        folder = name.split("/")[0]
        if folder.startswith("tracr-"):
            known = Circuit.load(path)
            task = found(folder.replace("-", "_")).task
            assert known_for(known.model_copy(update={"task": task})) == path


@pytest.mark.parametrize(
    "other",
    [
        found("sentiment"),
        found("ioi", name="gpt2-medium"),
        found("ioi", n_kv_heads=4),
        found("ioi").model_copy(update={"task": None}),
    ],
)
def test_another_task_model_or_graph_has_none(other: Circuit, tmp_path: Path) -> None:
    assert known_for(other) is None and against_known(tmp_path / "circuit.json", other) is None


def test_no_circuit_is_set_against_itself() -> None:
    path = find_circuit("induction-2l/induction")
    circuit = Circuit.load(path)
    assert known_for(circuit) == path and against_known(path, circuit) is None


def test_a_known_circuit_with_figures_is_not_set_against_itself(tmp_path: Path) -> None:
    """What acdc evaluate --out writes of it. An edge less, or a search that found the same, is another matter."""
    known = Circuit.load(find_circuit("gpt2/ioi"))
    judged = known.model_copy(update={"task": found("ioi").task, "evaluation": found("ioi").evaluation})
    judged.save(tmp_path / "circuit.json")
    assert against_known(tmp_path / "circuit.json", judged) is None
    fewer = judged.model_copy(update={"edges": judged.edges[:-1]})
    assert against_known(tmp_path / "circuit.json", fewer) is not None
    searched = judged.model_copy(update={"search": found("ioi").search})
    assert against_known(tmp_path / "circuit.json", searched) is not None
    asked = against_known(tmp_path / "circuit.json", judged, "gpt2/ioi")
    assert asked is not None and asked[0].missing == asked[0].extra == ()


def test_the_comparison_is_of_the_two(tmp_path: Path) -> None:
    circuit = found("ioi")
    circuit.save(tmp_path / "circuit.json")
    compared = against_known(tmp_path / "circuit.json", circuit)
    assert compared is not None
    assert compared[0].known == "gpt2/ioi" and compared[1] == Circuit.load(find_circuit("gpt2/ioi"))
    other = against_known(tmp_path / "circuit.json", circuit, "gpt2/greater_than")
    assert other is not None and other[0].known == "gpt2/greater_than"
