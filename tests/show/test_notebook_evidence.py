"""Evaluations and verifications in notebooks: every number is in the record, failures stand out, texts are escaped."""

from acdc_engine.graph.circuit import Circuit
from acdc_engine.run.verify import Claim, Verification
from acdc_engine.show.notebook_evidence import evaluation_html, verification_html
from tests.made_circuits import HOSTILE, made_circuit
from tests.show.test_notebook import SAFE, Seen

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


def test_an_evaluation() -> None:
    evaluation = made_circuit(40).evaluation
    assert evaluation is not None and evaluation.random_circuits is not None and evaluation.completeness is not None
    rows = Seen(evaluation_html(evaluation)).rows
    assert ["prompts", f"{evaluation.discovery.n_prompts}", f"{evaluation.held_out.n_prompts}"] in rows
    (random,) = [row[1] for row in rows if row[0] == "Random circuits"]
    assert random.startswith(f"{len(evaluation.random_circuits.faithfulness)} of the same size: faithfulness ")
    rest = evaluation.completeness
    told = f"faithfulness {rest.faithfulness:.3f} and KL recovered {rest.kl_recovered:.3f}"
    (completeness,) = [row[1] for row in rows if row[0] == "Completeness"]
    assert completeness.startswith(f"all that is outside the circuit has {told}; 0 would say")
    for test in evaluation.tests:
        (verdict,) = [row[1] for row in rows if row[0].lower() == test.name.lower()]
        assert verdict.startswith("REJECTED" if test.rejected else "not rejected")


def test_an_evaluation_of_figures_alone(found: Circuit) -> None:
    assert found.evaluation is not None
    rows = Seen(evaluation_html(found.evaluation)).rows
    assert ["faithfulness", "0.938", "0.906"] in rows and not any(row[0] == "Random circuits" for row in rows)


def test_a_verification_that_fails() -> None:
    html = verification_html(verified(*CLAIMS))
    rows = Seen(html).rows
    for row in (
        ["File", "runs/ioi/circuit.json"],
        ["Verdict", "2 of 5 claims do NOT hold; largest deviation 0.25, of 0.001 allowed"],
        ["prompts", "32", "32", "holds"],
        ["faithfulness", "0.906", "0.806", "WRONG"],
        ["effect, edge by edge", "2 edges", "off by 0.25 at most", "1 WRONG"],
        ["needed, edge by edge", "1 edges", "", "all hold"],
        ["effect", "a0.h1->m1", "0.5", "0.25"],
    ):
        assert row in rows
    for note in ("a remark", "the file does not claim sizes.", "not recomputed: scores."):
        assert f"<p>Note: {note}</p>" in html


def test_a_verification_that_holds() -> None:
    rows = Seen(verification_html(verified(*(claim for claim in CLAIMS if claim.holds)))).rows
    assert ["Verdict", "All 3 claims hold; largest deviation 0, of 0.001 allowed"] in rows
    assert ["claim", "edge", "file", "recomputed"] not in rows


def test_hostile_claims_are_text() -> None:
    claims = [Claim(what=text, edge=text, claimed=text, found=text, holds=False) for text in HOSTILE]
    html = verification_html(verified(*claims, path=HOSTILE[0]))
    seen = Seen(html)
    assert seen.elements <= SAFE and seen.attributes <= {"style"} and "\u202e" not in html
