"""acdc verify: a true file holds, and every lie in it is named."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from acdc_engine.display import counted
from acdc_engine.errors import CircuitFileError
from acdc_engine.evidence.figures import figures_of
from acdc_engine.graph.evidence_records import Evaluation
from acdc_engine.graph.result_records import Verification
from acdc_engine.provenance import records_of
from acdc_engine.run.verify import verify
from tests.run.circuit_files import DISCOVERY, HELD_OUT, NAME, TARGET, by_hand, circuit, judge_of, saved, with_edge
from tests.tiny_task import tiny_view


def check(path: Path, **options: Any) -> Verification:
    return verify(path, model=tiny_view(NAME), **options)


def failing(found: Verification) -> list[tuple[str, str | None]]:
    return [(claim.what, claim.edge) for claim in found.failing]


@pytest.mark.parametrize("aim", ["faithfulness", "kl"])
def test_a_true_file_holds(tmp_path: Path, aim: str) -> None:
    known = circuit(aim)
    found = check(saved(tmp_path, known), batch_size=5)
    assert found.holds and not found.failing and found.largest_deviation < 1e-4
    whats = {claim.what for claim in found.claims}
    assert {"checksum of the file", "weights of the model", "prompts", "certificate: no edge can go"} <= whats
    assert {f"{split}: faithfulness" for split in ("discovery", "held-out")} <= whats
    for kind in ("effect", "objective without it", "needed for target"):
        assert sum(claim.what == kind for claim in found.claims) == len(known.edges) > 3
    assert found.unclaimed == () and found.remarks == ()
    assert found.unchecked == ("scores", "ranks of right answers")


def name(place: int) -> str:
    edge = circuit().edges[place]
    return f"{edge.sender}->{edge.receiver}"


def test_one_changed_effect(tmp_path: Path) -> None:
    true = circuit().edges[1].effect
    assert true is not None
    found = check(by_hand(tmp_path, edges=with_edge(1, effect=true + 1.0)))
    assert failing(found) == [("effect", name(1))]
    assert failing(check(by_hand(tmp_path, edges=with_edge(2, without=0.25)))) == [("objective without it", name(2))]
    (claim,) = found.failing
    assert float(claim.claimed) == pytest.approx(true + 1.0, rel=1e-4)
    assert float(claim.found) == pytest.approx(true, rel=1e-3, abs=1e-4)
    assert found.unclaimed == ("a checksum: the file was written or edited by hand",)


def test_an_effect_with_its_checksum_left_in_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    path.write_text(path.read_text().replace('"score": 0.5', '"score": 0.75', 1))
    with pytest.raises(CircuitFileError, match="edited since it was written: its content does not match its checksum"):
        check(path)


@pytest.mark.parametrize("key", ["metric_clean", "metric_corrupt", "metric_circuit", "faithfulness", "kl_recovered"])
def test_one_changed_figure(tmp_path: Path, key: str) -> None:
    evaluation = circuit().evaluation
    assert evaluation is not None
    lie = evaluation.held_out.model_copy(update={key: getattr(evaluation.held_out, key) + 0.5})
    found = check(saved(tmp_path, evaluation=Evaluation(discovery=evaluation.discovery, held_out=lie)))
    (claim,) = found.failing
    assert claim.what.startswith("held-out: ") and claim.deviation == found.largest_deviation > 1e-3


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"value": 0.9999}, "certificate: faithfulness"),
        ({"low": 0.2}, "certificate: band"),
        ({"high": 1.1}, "certificate: band"),
        ({"objective": "kl"}, "certificate: objective"),
        ({"each_template": True}, "certificate: of each template"),
    ],
)
def test_a_changed_certificate(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    certificate = circuit().certificate
    assert certificate is not None
    found = check(saved(tmp_path, certificate=certificate.model_copy(update=change)))
    assert expected in [claim.what for claim in found.failing]


def test_an_edge_too_many_makes_the_certificate_false(tmp_path: Path) -> None:
    """The whole graph is in the band, and most of its edges can go."""
    graph = tiny_view(NAME).graph
    whole = [{"sender": graph.senders[s], "receiver": graph.receivers[r]} for s, r in graph.exists.nonzero().tolist()]
    content = circuit().model_dump(mode="json")
    nodes = [
        {
            "name": n,
            "kind": "head" if "." in n else "mlp" if n[0] == "m" else n,
            "layer": int(n[1]) if n[1].isdigit() else None,
        }
        for n in (*graph.senders, "logits")
    ]
    path = tmp_path / "circuit.json"
    path.write_text(json.dumps({**content, "edges": whole, "nodes": nodes, "evaluation": None}))
    found = check(path)
    last = next(claim for claim in found.claims if claim.what == "certificate: no edge can go")
    could_go = [claim for claim in found.failing if claim.what == "needed for target"]
    assert not last.holds and last.claimed == "yes" and last.found == f"no: {counted(len(could_go), 'edge')} could go"
    assert (
        could_go[0].claimed == f"outside [{TARGET:g}, {2 - TARGET:g}]"
        and TARGET < float(could_go[0].found) < 2 - TARGET
    )


def test_a_certificate_that_denies_minimality_is_checked_too(tmp_path: Path) -> None:
    certificate = circuit().certificate
    assert certificate is not None
    found = check(saved(tmp_path, certificate=certificate.model_copy(update={"minimal": False})))
    assert failing(found) == [("certificate: no edge can go", None)]
    assert found.failing[0].claimed == "no" and found.failing[0].found == "yes"


def test_prompts_that_are_not_those_of_the_hash(tmp_path: Path) -> None:
    prompts = list(circuit().prompts)
    prompts[0], prompts[1] = prompts[1], prompts[0]  # the means stay
    found = check(by_hand(tmp_path, prompts=tuple(prompts)))
    assert failing(found) == [("prompts", None)]


def test_a_file_without_certificate_says_so_and_the_rest_is_checked(tmp_path: Path) -> None:
    edges = tuple(edge.model_copy(update={"effect": None, "without": None}) for edge in circuit().edges)
    found = check(saved(tmp_path, certificate=None, edges=edges))
    assert found.holds and all(claim.edge is None for claim in found.claims)
    assert found.unclaimed == ("effects of its edges", "a certificate that no edge can go")


def test_all_claims_as_json(tmp_path: Path) -> None:
    target = tmp_path / "claims.json"
    found = check(saved(tmp_path), out=target)
    assert Verification.model_validate_json(target.read_text()) == found
    with pytest.raises(
        CircuitFileError, match=r"claims\.json exists already\. Choose another name, or add --overwrite"
    ):
        check(saved(tmp_path), out=target)
    check(saved(tmp_path), out=target, overwrite=True)


def test_figures_of_templates_and_of_answers_are_claims(tmp_path: Path) -> None:
    named = [replace(p, templates=tuple("ab"[i % 2] for i in range(len(p)))) for p in (DISCOVERY, HELD_OUT)]
    seen, unseen = (figures_of(judge_of(prompts), circuit().mask()) for prompts in named)
    true = circuit().model_copy(
        update={"prompts": records_of(*named), "evaluation": Evaluation(discovery=seen, held_out=unseen)}
    )
    (tmp_path / "lie").mkdir()
    found = check(saved(tmp_path, true))
    assert found.holds and "ranks of right answers" in found.unchecked
    whats = {claim.what for claim in found.claims}
    assert {"held-out, b: faithfulness", "discovery, a: prompts", "held-out: logit of wrong answers, ablated"} <= whats
    assert unseen.answers_circuit is not None
    first = unseen.templates[0].model_copy(update={"faithfulness": 1.0})
    elsewhere = unseen.templates[1].model_copy(update={"name": "c"})
    answers = unseen.answers_circuit.model_copy(update={"most_likely": 0.75})
    lie = unseen.model_copy(update={"templates": (first, elsewhere), "answers_circuit": answers})
    changed = true.model_copy(update={"evaluation": Evaluation(discovery=seen, held_out=lie)})
    assert [what for what, _ in failing(check(saved(tmp_path / "lie", changed)))] == [
        "held-out: right answer most likely, circuit",
        "held-out, a: faithfulness",
        "held-out, c: prompts",
    ]
