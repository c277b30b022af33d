"""What takes a circuit in Python takes it as an object too, and says the same of it as of its file."""

from pathlib import Path
from typing import Any

import pytest

from acdc_engine import Circuit, Report, Viewer, compare, curve, discover, evaluate, verify
from acdc_engine.errors import CircuitFileError
from tests.run.circuit_files import NAME, circuit, saved
from tests.tiny_task import tiny_view, write_card

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


def test_compare_says_which_models_differ() -> None:
    with pytest.raises(CircuitFileError, match=r"the found circuit is a circuit of llama_grouped, .*one of gpt2"):
        compare(circuit(), "gpt2/ioi")
    with pytest.raises(CircuitFileError, match="the known circuit has no edges"):
        compare(circuit(), circuit().model_copy(update={"edges": (), "nodes": ()}))


def test_curve(tmp_path: Path) -> None:
    card = write_card(tmp_path)
    asked: dict[str, Any] = {"n": 5, "n_held_out": 6, "force": True, "method": "eap", "strategy": "top-k", "size": 40}
    found = discover(card, tiny_view(), out=tmp_path / "run", **asked)
    settings: dict[str, Any] = {"n": 5, "n_held_out": 6, "force": True, "methods": ("eap",), "sizes": (0.1, 1.0)}
    made = curve(card, tiny_view(), circuits=(found, tmp_path / "run"), n_random=0, **settings)
    assert [known.name for known in made.circuits] == ["circuit 1", "run"]
    assert made.circuits[0].faithfulness == made.circuits[1].faithfulness


def test_pages(tmp_path: Path) -> None:
    path = saved(tmp_path)
    assert Viewer(circuit()).html == Viewer(path).html == Viewer(tmp_path).html
    assert "Against the known circuit" in Report(circuit(), known=tmp_path).html


@pytest.mark.parametrize("call", [evaluate, verify, Viewer, Report, Circuit.load, lambda given: compare(given, given)])
def test_anything_else_is_a_sentence(call: Any, unchecked: None) -> None:
    with pytest.raises(CircuitFileError, match="A circuit is given as a Circuit, a file, the folder of a run"):
        call({"edges": []})
