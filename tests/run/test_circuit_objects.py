"""What takes a circuit in Python takes it as an object too, and says the same of it as of its file."""

from pathlib import Path
from typing import Any

import pytest

from acdc_engine import Circuit, Report, Viewer, compare, evaluate, verify
from acdc_engine.errors import CircuitFileError
from tests.run.circuit_files import NAME, circuit, saved
from tests.tiny_task import tiny_view

ACCEPTED: dict[str, Any] = {"model": tiny_view(NAME)}


def test_evaluate(tmp_path: Path) -> None:
    asked: dict[str, Any] = {**ACCEPTED, "n_random": 2, "tests": False}
    assert evaluate(circuit(), **asked) == evaluate(saved(tmp_path), **asked) == evaluate(tmp_path, **asked)


def test_verify(tmp_path: Path) -> None:
    ours, file = verify(circuit(), **ACCEPTED), verify(saved(tmp_path), **ACCEPTED)
    assert ours.holds and file.holds and ours.path == "the circuit"
    assert ours.claims == tuple(claim for claim in file.claims if claim.what != "checksum of the file")
    assert [text for text in ours.unclaimed if text not in file.unclaimed] == [
        "a checksum: the file was written or edited by hand"
    ]


def test_verify_and_evaluate_say_which_circuit_is_empty() -> None:
    empty = circuit().model_copy(update={"edges": (), "nodes": ()})
    for judge in (evaluate, verify):
        with pytest.raises(CircuitFileError, match=r"^the circuit has no edges"):
            judge(empty, **ACCEPTED)


def test_compare(tmp_path: Path) -> None:
    part = circuit().model_copy(update={"edges": circuit().edges[:-1]})
    path = saved(tmp_path)
    for found in (part, saved_part(tmp_path, part)):
        for known in (circuit(), path, tmp_path):
            compared = compare(found, known)
            assert (compared.overlaps[0].n_true, compared.overlaps[0].n_found) == (9, 8)
            assert len(compared.missing) == 1 and not compared.extra
    compared = compare(part, circuit())
    assert (compared.found, compared.known) == ("the found circuit", "the known circuit")
    assert not compare(circuit(), circuit()).missing


def saved_part(folder: Path, part: Circuit) -> Path:
    (folder / "part").mkdir(exist_ok=True)
    return saved(folder / "part", part)


@pytest.mark.parametrize("call", [evaluate, verify, Viewer, Report, Circuit.load, lambda given: compare(given, given)])
def test_anything_else_is_a_sentence(call: Any, unchecked: None) -> None:
    with pytest.raises(CircuitFileError, match="A circuit is given as a Circuit, a file, the folder of a run"):
        call({"edges": []})
