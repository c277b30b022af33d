"""acdc evaluate: every figure from the file's own prompts, and what is left out where it cannot be computed."""

from pathlib import Path
from typing import Any

import pytest
import torch

from acdc_engine.errors import CircuitFileError, MethodError
from acdc_engine.evidence.figures import evaluate as judge_circuit
from acdc_engine.evidence.single_edges import necessity, score_stability
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.nodes import with_roles
from acdc_engine.graph.records import RoleScore
from acdc_engine.patch.judge import Target
from acdc_engine.run.evaluate import evaluate
from acdc_engine.run.verify import verify
from acdc_engine.score import get_method, score_edges
from tests.run.circuit_files import DISCOVERY, HELD_OUT, NAME, TARGET, by_hand, circuit, judge_of, mask_of, saved
from tests.tiny_task import tiny_view, write_card

FEW: dict[str, Any] = {"n_random": 3, "tests": False}


def judged(path: Path, **options: Any) -> Circuit:
    return evaluate(path, **{"model": tiny_view(NAME), **FEW, **options})


def bare() -> dict[str, Any]:
    """What a file may lack: everything but edges, prompts, model and metric."""
    edges = tuple(edge.model_copy(update={"effect": None, "without": None, "score": None}) for edge in circuit().edges)
    return {"edges": edges, "search": None, "attribution": None, "certificate": None, "evaluation": None}


def test_the_figures_are_those_of_the_evaluation(tmp_path: Path) -> None:
    found = judged(saved(tmp_path), tests=True)
    expected = judge_circuit(judge_of(DISCOVERY), judge_of(HELD_OUT), circuit().mask(), n_random=3, tests=True)
    assert found.evaluation is not None and found.evaluation.random_circuits is not None
    assert found.evaluation.held_out.faithfulness == pytest.approx(expected.held_out.faithfulness, abs=1e-5)
    assert found.evaluation.random_circuits.faithfulness == pytest.approx(
        expected.random_circuits.faithfulness if expected.random_circuits else None, abs=1e-5
    )
    assert [test.name for test in found.evaluation.tests] == ["equivalence", "independence", "minimality"]
    assert found.evaluation.completeness is not None


@pytest.mark.parametrize("aim", ["faithfulness", "kl"])
def test_every_edge_and_the_certificate(tmp_path: Path, aim: str) -> None:
    """From a file that has lost them; the numbers to find were computed one by one."""
    known = circuit(aim)
    stripped = tuple(edge.model_copy(update={"effect": None, "without": None}) for edge in known.edges)
    found = judged(saved(tmp_path, known, edges=stripped, certificate=None))
    for edge, true in zip(found.edges, known.edges, strict=True):
        assert edge.effect == pytest.approx(true.effect, abs=1e-4)
        assert edge.without == pytest.approx(true.without, abs=1e-4) and edge.score == 0.5
    assert found.certificate is not None and known.certificate is not None
    assert found.certificate.value == pytest.approx(known.certificate.value, abs=1e-5)
    assert found.certificate.model_copy(update={"value": known.certificate.value}) == known.certificate


def test_stability_and_necessity(tmp_path: Path) -> None:
    found, mask, judge = judged(saved(tmp_path)), circuit().mask(), judge_of(DISCOVERY)
    method = get_method("eap-ig", alphas=[0.25, 0.75])
    scores = score_edges(tiny_view(NAME), DISCOVERY, judge.metric, method, per_example=True).per_example
    assert scores is not None
    stable = score_stability(scores, mask, "signed", len(found.edges))
    without = []
    for edge in found.edges:
        rest = mask & ~mask_of(f"{edge.sender}->{edge.receiver}")
        without.append(judge.values(rest[None])[0])
    needed = necessity(
        torch.stack(without), judge.values(mask[None])[0], judge.clean, judge.ablated, Target(TARGET)
    ).tolist()
    for edge, share in zip(found.edges, needed, strict=True):
        place = mask_of(f"{edge.sender}->{edge.receiver}")
        assert edge.stability == pytest.approx(float(stable[place]))
        assert edge.necessity == pytest.approx(share)


def test_what_it_writes_can_be_verified(tmp_path: Path) -> None:
    out = tmp_path / "judged.json"
    found = judged(by_hand(tmp_path, **bare()), out=out)
    assert Circuit.load(out) == found
    again = verify(out, model=tiny_view(NAME))
    assert again.holds and sum(claim.what == "effect" for claim in again.claims) == len(found.edges)


def test_a_written_file_has_other_sizes_roles_and_examples(tmp_path: Path) -> None:
    found = judged(saved(tmp_path), out=tmp_path / "judged.json")
    assert [point.kind for point in found.sizes].count("circuit") == 1 and found.sizes[-1].kind == "more"
    assert found.examples and any(node.direct_effect for node in found.nodes)
    assert not judged(saved(tmp_path)).sizes  # which costs, and would not be kept
    unscored = judged(by_hand(tmp_path, **bare()), out=tmp_path / "unscored.json")
    assert {point.kind for point in unscored.sizes} <= {"part", "circuit"}


def test_a_circuit_without_search_and_scores(tmp_path: Path) -> None:
    found = judged(by_hand(tmp_path, **bare()))
    assert found.certificate is None and found.evaluation is not None
    assert all(edge.effect is not None and edge.without is not None for edge in found.edges)
    assert all(edge.stability is None and edge.necessity is None for edge in found.edges)


def test_a_scoring_method_that_is_not_here_is_a_remark(tmp_path: Path) -> None:
    attribution = circuit().attribution
    assert attribution is not None
    path = saved(tmp_path, attribution=attribution.model_copy(update={"method": "theirs"}))
    with pytest.warns(UserWarning, match="no stability: the scores of the file cannot be computed again .*'theirs'"):
        found = judged(path)
    assert found.edges[0].stability is None and found.edges[0].necessity is not None


@pytest.mark.parametrize("alphas", ["0.5", 5, [0.5, "x"], [2.0], {"0.5": 1}, []])
def test_points_that_are_no_numbers_are_a_remark(tmp_path: Path, alphas: Any, unchecked: None) -> None:
    attribution = circuit().attribution
    assert attribution is not None
    path = by_hand(tmp_path, attribution=attribution.model_copy(update={"settings": {"alphas": alphas}}))
    with pytest.warns(UserWarning, match=r"no stability: the scores of the file cannot .*(alphas|Alphas)"):
        found = judged(path)
    assert found.edges[0].stability is None and found.edges[0].necessity is not None


def test_another_task(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="judged on new prompts of the task tiny, as asked"):
        found = judged(saved(tmp_path), task=write_card(tmp_path), n=6, n_held_out=10)
    assert found.task is not None and found.task.name == "tiny" and len(found.prompts) == 16
    assert found.evaluation is not None and found.evaluation.held_out.n_prompts == 10
    assert found.certificate is not None and circuit().certificate is not None
    assert found.certificate.value != pytest.approx(circuit().certificate.value)  # type: ignore[union-attr]
    assert not found.certificate.minimal or found.certificate.value == pytest.approx(1, abs=1 - TARGET)


def test_a_known_circuit_without_held_out_prompts_gets_the_usual_number() -> None:
    """Its file says that none were held out."""
    known = Circuit.load("induction-2l/induction")
    assert known.task is not None and known.task.n_held_out == 0
    found = evaluate(known, task="induction_2l", n=8, n_random=0, tests=False)
    assert found.evaluation is not None and found.evaluation.held_out.n_prompts == 64


@pytest.mark.filterwarnings("ignore:judged on new prompts")
def test_another_task_keeps_nothing_that_was_measured_on_the_first(tmp_path: Path) -> None:
    """But the role of a node without scores, which is the literature's."""
    first = judged(saved(tmp_path), out=tmp_path / "first.json").model_copy(update={"command": "acdc discover"})
    score = RoleScore(role="induction", value=0.9, threshold=0.4, prompts="task")
    heads = [place for place, node in enumerate(first.nodes) if node.kind == "head"]
    nodes = list(first.nodes)
    nodes[heads[0]] = nodes[heads[0]].model_copy(update={"role": "induction", "role_scores": (score,)})
    nodes[heads[1]] = nodes[heads[1]].model_copy(update={"role": "known", "role_scores": ()})
    edges = with_roles(first.graph(), nodes, first.edges)
    assert first.search is not None
    search = first.search.model_copy(update={"aim": 0.9, "corrections": (0.05,)})
    first.model_copy(update={"nodes": tuple(nodes), "edges": edges, "search": search}).save(tmp_path / "described.json")
    found = judged(tmp_path / "described.json", task=write_card(tmp_path), n=6, n_held_out=10)
    assert (found.sizes, found.examples, found.command, found.cost) == ((), (), None, None)
    assert found.search is not None and (found.search.aim, found.search.corrections) == (None, ())
    assert found.certificate is not None and found.certificate.low == TARGET
    assert all(not node.role_scores and node.direct_effect is None for node in found.nodes)
    assert [found.nodes[place].role for place in heads[:2]] == [None, "known"]
    assert judged(tmp_path / "described.json").nodes == tuple(nodes)


@pytest.mark.filterwarnings("ignore:judged on new prompts")
def test_large_circuits_go_without_figures_per_edge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acdc_engine.run.evaluate.EDGES_UP_TO", 2)
    path = saved(tmp_path)
    with pytest.warns(
        UserWarning, match="more than 2 edges: effects, stability and necessity of single edges are left"
    ):
        kept = judged(path)
    assert kept.edges == circuit().edges and kept.certificate == circuit().certificate
    with pytest.warns(UserWarning, match="more than 2 edges"):
        other = judged(path, task=write_card(tmp_path), n=6, n_held_out=10)
    assert all(edge.effect is None and edge.score == 0.5 for edge in other.edges) and other.certificate is None


def test_refused_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acdc_engine.run.reopen.load_model", lambda *a, **k: pytest.fail("the model was loaded"))
    with pytest.raises(MethodError, match="-1 random circuits were asked for; 0 leaves them out"):
        judged(saved(tmp_path), n_random=-1)
    with pytest.raises(CircuitFileError, match=r"circuit\.json exists already\. Choose another name, or add --over"):
        judged(saved(tmp_path), out=tmp_path / "circuit.json")
