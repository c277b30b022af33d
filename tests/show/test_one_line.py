"""Results in one line: what they are, no longer for thousands of numbers, and safe for a terminal."""

import pytest
import torch

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.result_records import Comparison, Curve
from acdc_engine.score.edge_scores import EdgeScores
from tests.made_circuits import made_circuit
from tests.show.pictures.test_comparison import compared
from tests.show.pictures.test_curve import found as found_curve
from tests.show.test_notebook_evidence import CLAIMS, verified

__all__ = ["compared", "found_curve"]


def test_records(found: Circuit, compared: Comparison, found_curve: Curve) -> None:
    assert found.evaluation is not None
    assert repr(found.evaluation) == "<Evaluation on 64 held-out prompts: faithfulness 0.906, KL recovered 0.812>"
    bare = "<Comparison of runs/mine/circuit.json with tiny/known"
    assert repr(compared) == f"{bare}: 1 of 2 known edges among 4>"
    assert repr(compared.model_copy(update={"overlaps": ()})) == f"{bare}>"
    unfinished = found_curve.model_copy(update={"complete": False})
    assert repr(unfinished) == f"<Curve ioi in tiny [v1]: {len(found_curve.series)} series of 3 sizes, unfinished>"
    assert repr(found_curve.model_copy(update={"complete": True})).endswith(" of 3 sizes>")


def test_verifications() -> None:
    assert repr(verified(*CLAIMS)) == "<Verification of runs/ioi/circuit.json: 2 of 5 claims do not hold>"
    assert repr(verified(CLAIMS[0])) == "<Verification of runs/ioi/circuit.json: all 1 claims hold>"


def test_scores() -> None:
    names = tuple(f"a0.h{index}" for index in range(2000))
    scores = EdgeScores(torch.zeros(2000, 3), None, None, names, ("m0", "m1", "logits"), "eap")
    assert repr(scores) == "<EdgeScores by eap: 2000 senders, 3 receivers>"
    assert repr(EdgeScores(torch.zeros(4, 3), None, None)) == "<EdgeScores: 4 senders, 3 receivers>"


@pytest.mark.parametrize("n_edges", [30, 300])
def test_texts_of_strangers_are_cut_and_cannot_steer_a_terminal(n_edges: int) -> None:
    circuit = made_circuit(n_edges, hostile=True)
    assert circuit.task is not None
    named = circuit.model_copy(update={"task": circuit.task.model_copy(update={"name": "\x1b[31m" + "long " * 2000})})
    line = repr(named)
    assert len(line) < 400 and line.isprintable() and "\\x1b[31mlong" in line
