"""What is said against a circuit's headline, and what must not be said."""

from typing import Any

import pytest

from acdc_engine.evidence.figures import figures_of
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import AnswerFigures, Evaluation, Interval, RandomCircuits, TemplateFigures
from acdc_engine.graph.nodes import edges_of_mask, nodes_of_edges
from acdc_engine.graph.records import MetricRecord, ModelRecord, SearchRecord, Validated
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.judge import Judge
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.show.notebook import html_of
from acdc_engine.show.remarks import remarks, warning
from acdc_engine.show.report import report_html
from tests.micro_models import lowering_head, mask_of
from tests.show.conftest import evaluated, judged_as
from tests.show.test_terminal import printed

AGAINST = (
    "Not a faithful circuit, with a faithfulness of 1.000 in logit_diff on the held-out prompts: KL recovered is "
    "-1.647, so its output is farther from the model's than that of the ablated model; a right answer is its most "
    "likely token on 0% of them, less often than in the ablated model (100%; the model: 100%). Mean logits of right "
    "and wrong answers: model 7.00 and 1.50, circuit 0.50 and -5.00, ablated 1.00 and 0.50. The circuit lowers the "
    "wrong answers and does not raise the right ones."
)


def template(name: str, faithfulness: float | None, n: int = 8, kl: float = 0.75) -> TemplateFigures:
    return TemplateFigures(name=name, n_prompts=n, faithfulness=faithfulness, kl_recovered=kl, agreement=0.875)


def answers(most_likely: float) -> AnswerFigures:
    return AnswerFigures(
        right_above_wrong=1.0, most_likely=most_likely, median_rank=2.0, right_logit=3.5, wrong_logit=0.25
    )


@pytest.fixture
def lowering() -> Circuit:
    """The circuit of a made model that meets its metric by lowering the wrong answer."""
    view, prompts = lowering_head()
    mask = mask_of(view, "input->a0.h1<v> a0.h1->logits")
    figures = figures_of(Judge(CircuitEvaluator(view, prompts), get_metric("logit_diff")), mask)
    edges = edges_of_mask(view.graph, mask)
    return Circuit(
        model=ModelRecord(name="made", n_layers=1, n_heads=2, n_kv_heads=2, d_model=4, d_vocab=3, mlps=False),
        metric=MetricRecord(name="logit_diff", sign=1),
        ablation="patch",
        evaluation=Evaluation(discovery=figures, held_out=figures),
        nodes=nodes_of_edges(view.graph, edges),
        edges=edges,
    )


def test_a_circuit_that_lowers_the_wrong_answer_is_not_called_faithful(lowering: Circuit) -> None:
    assert warning(lowering) == AGAINST
    assert AGAINST in " ".join(printed(lowering))
    for page in (report_html(lowering), html_of(lowering), html_of(lowering.evaluation)):
        assert "Not a faithful circuit" in page and "lowers the wrong answers" in page
        assert "No reservations" not in page
    random = RandomCircuits(faithfulness=(1.0, 0.0), p_value=2 / 3, seed=0)
    said = remarks(evaluated(lowering, random_circuits=random))
    assert any("are at least as near to 1" in text for text in said) and not any("as faithful" in t for t in said)


def test_each_reason_alone_is_enough_and_neither_is_none(found: Circuit) -> None:
    assert warning(found) == ""
    known: dict[str, Any] = {"answers_clean": answers(0.78), "answers_corrupt": answers(0.22)}
    assert warning(judged_as(found, **known, answers_circuit=answers(0.22))) == ""
    rarely = warning(judged_as(found, **known, answers_circuit=answers(0.16)))
    assert "on 16% of them, less often than in the ablated model (22%; the model: 78%)" in rarely
    assert "KL recovered" not in rarely and "The circuit lowers" not in rarely
    nor_does_the_model: dict[str, Any] = {**known, "answers_clean": answers(0.1), "answers_circuit": answers(0.16)}
    assert warning(judged_as(found, **nor_does_the_model)) == ""
    assert "KL recovered is -0.730" in warning(judged_as(found, kl_recovered=-0.73))
    assert warning(judged_as(found, kl_recovered=-1e-9)) == ""
    assert warning(found.model_copy(update={"evaluation": None})) == ""


def test_templates_outside_the_band_are_named(found: Circuit) -> None:
    four = (template("so_she", 1.15), template("so_he", 0.83), template("well_she", 1.0), template("well_he", 0.72))
    (said,) = [text for text in remarks(judged_as(found, templates=four)) if "templates" in text]
    assert said == (
        "3 of 4 templates lie outside [0.9, 1.1], which the mean over all prompts does not show: faithfulness "
        "0.720 on well_he (8 prompts), 0.830 on so_he (8 prompts), 1.150 on so_she (8 prompts). A search with "
        "8 discovery prompts or more of each (--n) holds to each."
    )
    each = SearchRecord(strategy="iterative", target_faithfulness=0.9, each_template=True)
    judged = judged_as(found.model_copy(update={"search": each}), templates=(four[0], four[2]))
    (said,) = [text for text in remarks(judged) if "templates" in text]
    assert said.startswith(
        "1 of 2 templates lies outside [0.9, 1.1], although each was to lie in it: faithfulness 1.150"
    )
    assert said.endswith("More discovery prompts (--n) and validation prompts (--n-validation) help.")
    close = (template("a", 0.8999), template("b", None), template("c", 0.9000001))
    (said,) = [text for text in remarks(judged_as(found, templates=close)) if "templates" in text]
    assert "faithfulness undefined on b (8 prompts), 0.89990 on a (8 prompts). " in said
    assert not any("template" in text for text in remarks(judged_as(found, templates=four[2:3])))
    kl = SearchRecord(strategy="iterative", objective="kl", target_faithfulness=0.8)
    by_kl = judged_as(
        found.model_copy(update={"search": kl}), templates=(template("a", 0.1, kl=0.9), template("b", 1.0))
    )
    (said,) = [text for text in remarks(by_kl) if "template" in text]
    assert said.startswith("1 of 2 templates lies outside [0.8, 1.2]") and "KL recovered 0.750 on b" in said


def test_templates_and_answers_in_the_closing_table(found: Circuit) -> None:
    interval = Interval(level=0.95, low=0.5, high=0.64, method="BCa", resamples=9999)
    many = tuple(template(f"wording number {i}", 1 + i / 20) for i in range(9))
    worst = template("ABBA", 0.57, 32).model_copy(update={"faithfulness_interval": interval})
    lines = printed(judged_as(found, templates=(*many, worst), faithfulness_interval=interval))
    start = lines.index("Template by template, held-out prompts, the worst first")
    assert lines[start + 1 : start + 5] == [
        "faith- KL re- as the",
        "prompts fulness 95% interval covered model",
        "ABBA 32 0.570 0.500 to 0.640 0.750 87.5%",
        "wording number 8 8 1.400 0.750 87.5%",
    ]
    assert lines[start + 9] == "... and 4 more, nearer to the model"
    with_answers = judged_as(
        found, answers_clean=answers(0.78), answers_corrupt=answers(0.22), answers_circuit=answers(0.16)
    )
    lines = printed(with_answers)
    start = lines.index("What it answers, held-out prompts")
    assert lines[start + 1 : start + 7] == [
        "model circuit corrupt",
        "right answer above the wrong ones 100.0% 100.0% 100.0%",
        "right answer is the most likely token 78.0% 16.0% 22.0%",
        "rank of the right answer, median 2 2 2",
        "mean logit of right answers 3.500 3.500 3.500",
        "mean logit of wrong answers 0.250 0.250 0.250",
    ]
    assert not any("accuracy" in line for line in lines), "which would say again what is above"
    assert any("accuracy, model 100.0% 100.0%" in line for line in printed(found)), "of an older file"


@pytest.mark.parametrize(
    ("seen", "cost", "said"),
    [
        (0.95, True, "0.800, lies outside the target [0.9, 1.1] that the search met on the discovery prompts (0.950)."),
        (0.7, True, "0.800, lies outside the target [0.9, 1.1]; the search missed it on the discovery prompts too (0."),
        (0.95, False, "of the search that the circuit comes from. That search was on other prompts."),
    ],
)
def test_the_search_is_said_to_have_met_its_target_only_where_it_did(
    found: Circuit, seen: float, cost: bool, said: str
) -> None:
    missed = judged_as(found, seen={"faithfulness": seen}, faithfulness=0.8)
    (text,) = _outside(missed if cost else missed.model_copy(update={"cost": None}))
    assert said in text
    assert ("that the search met" in text) == (cost and seen == 0.95)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            0.96,
            "on held-out prompts the faithfulness, 0.800, lies outside the target [0.9, 1.1] that the search met on "
            "the validation prompts (0.960).",
        ),
        (0.85, "on the validation prompts the faithfulness, 0.850, lies outside the target [0.9, 1.1]."),
    ],
)
def test_validation_prompts_are_what_a_corrected_search_went_by(found: Circuit, value: float, said: str) -> None:
    """What its discovery prompts have is another matter: they were corrected."""
    tried = Validated(n_discovery=32, edges=9, value=value, standard_error=0.02)
    search = SearchRecord(strategy="iterative", target_faithfulness=0.9, corrections=(0.3,), validated=(tried,))
    (text,) = _outside(
        judged_as(found.model_copy(update={"search": search}), seen={"faithfulness": 0.6}, faithfulness=0.8)
    )
    assert text.startswith(said)


def _outside(circuit: Circuit) -> list[str]:
    return [text for text in remarks(circuit) if "lies outside the target" in text]


def test_a_miss_by_little_shows(found: Circuit) -> None:
    (text,) = _outside(judged_as(found, faithfulness=1.1003))
    assert "1.10030, lies outside the target [0.9, 1.1]" in text


def test_small_metrics_have_digits(found: Circuit) -> None:
    tiny = {"metric_clean": 1.157e-6, "metric_corrupt": 1.120e-6, "metric_circuit": 1.15e-6}
    lines = printed(judged_as(found, seen=tiny, **tiny))
    assert "logit_diff, model on clean prompts 1.157e-06 1.157e-06" in lines
    assert "logit_diff, model on corrupt prompts 1.120e-06 1.120e-06" in lines
