"""Verifications as sections; and all results in one line, no longer for thousands of numbers, safe for a terminal."""

import pytest
import torch

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.result_records import Claim, Comparison, Curve, Verification
from acdc_engine.score.edge_scores import EdgeScores
from acdc_engine.show.results import line_of, verification_sections
from tests.made_circuits import made_circuit
from tests.show.conftest import lines_of
from tests.show.pictures.test_comparison import compared
from tests.show.pictures.test_curve import found as found_curve

__all__ = ["compared", "found_curve"]
CLAIMS = (
    Claim(what="prompts", claimed="32", found="32", holds=True),
    Claim(what="faithfulness", claimed="0.906", found="0.806", holds=False, deviation=0.1),
    Claim(what="effect", edge="m0->logits", claimed="1.5", found="1.5", holds=True, deviation=0.0),
    Claim(what="effect", edge="a0.h1->m1", claimed="0.5", found="0.25", holds=False, deviation=0.25),
    Claim(what="needed", edge="m0->logits", claimed="yes", found="yes", holds=True),
)


def verified(*claims: Claim, path: str = "runs/ioi/circuit.json") -> Verification:
    return Verification(
        path=path, tolerance=1e-3, claims=claims, unclaimed=("sizes",), unchecked=("scores",), remarks=("a remark",)
    )


def printed(found: Verification) -> list[str]:
    return lines_of(verification_sections(found), 100)


def test_a_verification_that_fails() -> None:
    lines = printed(verified(*CLAIMS))
    for line in (
        "prompts 32 32 holds",
        "faithfulness 0.906 0.806 WRONG",
        "each edge: effect 2 edges 1 as claimed WRONG",
        "each edge: needed 1 edge 1 as claimed holds",
        "2 of 5 claims do not hold; largest deviation 0.25, of 0.001 allowed:",
        "effect, a0.h1->m1: the file says 0.5, found 0.25",
    ):
        assert line in lines


def test_a_verification_that_holds() -> None:
    lines = printed(verified(*(claim for claim in CLAIMS if claim.holds)))
    assert "Everything holds: 3 claims, 2 of them about single edges; largest deviation 0, of 0.001 allowed." in lines
    assert not any("the file says" in line for line in lines)


def test_records_in_one_line(found: Circuit, compared: Comparison, found_curve: Curve) -> None:
    assert repr(found) == "<Circuit ioi in tiny [v1]: 8 edges, 6 nodes, faithfulness 0.906>"
    assert repr(found.evaluation) == "<Evaluation on 64 held-out prompts: faithfulness 0.906, KL recovered 0.812>"
    bare = "<Comparison of runs/mine/circuit.json with tiny/known"
    assert repr(compared) == f"{bare}: 1 of 2 known edges among 4>"
    assert repr(compared.model_copy(update={"overlaps": ()})) == f"{bare}>"
    unfinished = found_curve.model_copy(update={"complete": False})
    assert repr(unfinished) == f"<Curve ioi in tiny [v1]: {len(found_curve.series)} series of 3 sizes, unfinished>"
    assert repr(found_curve.model_copy(update={"complete": True})).endswith(" of 3 sizes>")
    assert repr(verified(*CLAIMS)) == "<Verification of runs/ioi/circuit.json: 2 of 5 claims do not hold>"
    assert repr(verified(CLAIMS[0])) == "<Verification of runs/ioi/circuit.json: all 1 claims hold>"


def test_scores_in_one_line() -> None:
    names = tuple(f"a0.h{index}" for index in range(2000))
    scores = EdgeScores(torch.zeros(2000, 3), None, None, names, ("m0", "m1", "logits"), "eap")
    assert repr(scores) == str(scores) == "<EdgeScores by eap: 2000 senders, 3 receivers>"
    assert repr(EdgeScores(torch.zeros(4, 3), None, None)) == "<EdgeScores: 4 senders, 3 receivers>"


def test_other_objects_are_not_shown() -> None:
    with pytest.raises(TypeError, match="'int'> is no result that can be shown"):
        line_of(1)


@pytest.mark.parametrize("n_edges", [30, 300])
def test_texts_of_strangers_are_cut_and_cannot_steer_a_terminal(n_edges: int) -> None:
    circuit = made_circuit(n_edges, hostile=True)
    assert circuit.task is not None
    named = circuit.model_copy(update={"task": circuit.task.model_copy(update={"name": "\x1b[31m" + "long " * 2000})})
    line = repr(named)
    assert len(line) < 400 and line.isprintable() and "\\x1b[31mlong" in line
