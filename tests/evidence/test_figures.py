"""The figures of a circuit, and whether the model shows the behaviour at all."""

import pytest
import torch

from acdc_engine.errors import BehaviourError
from acdc_engine.evidence.behaviour import check_behaviour
from acdc_engine.evidence.figures import figures_of
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.evaluator import Circuits
from acdc_engine.patch.judge import Judge
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from tests.evidence.judges import answered_by_the_model, judge_of
from tests.tiny_models import view

LOGIT_DIFF = get_metric("logit_diff")


def test_whole_model_and_nothing() -> None:
    j = judge_of(answered_by_the_model(True))
    whole, nothing = figures_of(j, j.graph.exists), figures_of(j, torch.zeros_like(j.graph.exists))
    assert whole.faithfulness == pytest.approx(1, abs=1e-4) and whole.kl_recovered == pytest.approx(1, abs=1e-4)
    assert whole.agreement == 1 and whole.normalised_error == pytest.approx(0, abs=1e-4)
    assert nothing.faithfulness == pytest.approx(0, abs=1e-4) and nothing.kl_recovered == pytest.approx(0, abs=1e-4)


class Made(CircuitEvaluator):
    """Answers with given logits: clean, ablated, circuit."""

    def __init__(self, prompts: PromptSet, clean: torch.Tensor, ablated: torch.Tensor, circuit: torch.Tensor) -> None:
        self.graph, self.prompts = view("llama").graph, prompts
        self.about, self.exact_evaluations = "made up", 0
        self.rows = clean, ablated, circuit

    def clean_logits(self) -> torch.Tensor:
        return self.rows[0]

    def ablated_logits(self) -> torch.Tensor:
        return self.rows[1]

    def logits(self, circuits: Circuits) -> torch.Tensor:
        return self.rows[2][None]


NOTHING = torch.zeros(1, 1, dtype=torch.bool)


def differences(values: list[float], scale: float = 1.0) -> torch.Tensor:
    return scale * torch.tensor([[value, 0.0] for value in values])


def test_figures_by_hand() -> None:
    """Clean 2, 4 (mean 3), ablated 0, -2 (-1), circuit 3, -1 (1): f = 2/4, error (1 + 5)/2/4, agreement 1/2."""
    prompts = PromptSet.from_tokens([[1], [2]], [[3], [4]], answers=[[0], [0]], wrong_answers=[[1], [1]])

    clean, ablated, circuit = differences([2, 4]), differences([0, -2]), differences([3, -1])
    found = figures_of(Judge(Made(prompts, clean, ablated, circuit), LOGIT_DIFF), NOTHING)
    assert found.faithfulness == pytest.approx(0.5) and found.normalised_error == pytest.approx(0.75)
    assert found.agreement == 0.5 and found.accuracy_clean == 1.0
    p = torch.softmax(clean, -1)
    kl = [float((p * (p.log() - torch.log_softmax(x, -1))).sum(-1).mean()) for x in (circuit, ablated)]
    assert found.kl_recovered == pytest.approx(1 - kl[0] / kl[1], abs=1e-5)


def of_templates(n: int, scale: float = 1.0) -> Made:
    """Clean 1 and ablated 0 everywhere; the circuit has 1.25 on so_she, .75 on so_he, where nothing is lost."""
    prompts = PromptSet.from_tokens(
        [[1]] * 2 * n,
        [[3]] * 2 * n,
        answers=[[0]] * 2 * n,
        wrong_answers=[[1]] * 2 * n,
        templates=["so_she", "so_he"] * n,
    )
    circuit = differences([1.25, 0.75] * n, scale)
    return Made(prompts, differences([1.0, 1.0] * n, scale), differences([0.0, 0.0] * n, scale), circuit)


@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_templates_that_cancel_are_apart(scale: float) -> None:
    found = figures_of(Judge(of_templates(12, scale), LOGIT_DIFF), NOTHING)
    assert found.faithfulness == pytest.approx(1)
    assert [(one.name, one.n_prompts) for one in found.templates] == [("so_she", 12), ("so_he", 12)]
    assert [one.faithfulness for one in found.templates] == pytest.approx([1.25, 0.75])
    assert [one.agreement for one in found.templates] == [1, 1]
    for one in found.templates:
        assert one.faithfulness is not None and one.faithfulness_interval is not None
        low, high = one.faithfulness_interval.low, one.faithfulness_interval.high
        assert low == pytest.approx(one.faithfulness) == high, "the prompts of one template are all alike"
    # For small differences d of two logits the divergence is d^2 / 8: a quarter off leaves a sixteenth of it.
    expected = [15 / 16, 15 / 16] if scale < 1 else [0.947, 0.943]
    assert [one.kl_recovered for one in found.templates] == pytest.approx(expected, abs=0.001)


def test_few_prompts_have_no_interval_and_one_template_is_the_whole() -> None:
    found = figures_of(Judge(of_templates(2), LOGIT_DIFF), NOTHING)
    assert [one.faithfulness_interval for one in found.templates] == [None, None]
    made = of_templates(2)
    made.prompts = made.prompts.select([0, 2])
    made.rows = tuple(rows[[0, 2]] for rows in made.rows)  # type: ignore[assignment]
    assert figures_of(Judge(made, LOGIT_DIFF), NOTHING).templates == ()


def test_a_template_that_is_not_corrupted_has_no_faithfulness() -> None:
    made = of_templates(2)
    made.rows = (made.rows[0], differences([1.0, 0.0] * 2), made.rows[2])
    first, second = figures_of(Judge(made, LOGIT_DIFF), NOTHING).templates
    assert first.faithfulness is None and first.faithfulness_interval is None
    assert second.faithfulness == pytest.approx(0.75)


def test_answers_by_hand() -> None:
    """Vocabulary of five; the right answers are 0, and 0 and 1, the wrong one is 2."""
    prompts = PromptSet.from_tokens([[1], [2]], [[3], [4]], answers=[[0], [0, 1]], wrong_answers=[[2], [2]])
    clean = torch.tensor([[5.0, 1, 2, 3, 0], [4.0, 6, 2, 3, 0]])  # first on both
    ablated = torch.tensor([[2.0, 1, 5, 3, 4], [0.0, 1, 2, 1, 0]])  # fourth; third, as a tie counts against it
    circuit = torch.tensor([[2.0, 1, 1, 3, 4], [0.0, 3, 2, 5, 0]])  # third and second, above the wrong one
    found = figures_of(Judge(Made(prompts, clean, ablated, circuit), LOGIT_DIFF), NOTHING)
    runs = (found.answers_clean, found.answers_corrupt, found.answers_circuit)
    shown = [
        (one.right_above_wrong, one.most_likely, one.median_rank, one.right_logit, one.wrong_logit)
        for one in runs
        if one is not None
    ]
    assert shown == [(1.0, 1.0, 1.0, 5.0, 2.0), (0.0, 0.0, 3.5, 1.25, 3.5), (1.0, 0.0, 2.5, 1.75, 1.5)]


def test_without_wrong_answers_nothing_is_said_of_them() -> None:
    prompts = PromptSet.from_tokens([[1]], [[3]], answers=[[0]])
    found = figures_of(Judge(Made(prompts, *(differences([d]) for d in (2, -1, 1))), get_metric("nll")), NOTHING)
    assert found.answers_clean is not None and found.answers_corrupt is not None
    assert found.answers_clean.right_above_wrong is None and found.answers_clean.wrong_logit is None
    assert (found.answers_clean.most_likely, found.answers_corrupt.most_likely) == (1, 0)


@pytest.mark.parametrize(
    ("metric", "scale"),
    [("logit_diff", 1.0), ("logit_diff", 1e-6), ("logit_diff", 1e4), ("prob_diff", 1.0), ("nll", 1.0)],
)
def test_small_logits_have_a_faithfulness_and_rounding_has_none(metric: str, scale: float) -> None:
    """Relative to the logits: a difference of a hundredth of them is one, of a ten-millionth it is rounding."""
    prompts = PromptSet.from_tokens([[1]], [[3]], answers=[[0]], wrong_answers=[[1]])
    offset = torch.full((1, 2), 3.0 * scale)

    def logits(difference: float) -> torch.Tensor:
        return offset + differences([difference], scale)

    judge = Judge(Made(prompts, logits(0.5), logits(0.45), logits(0.475)), get_metric(metric))
    assert judge.faithfulness_of(judge.metric(logits(0.475), prompts, logits(0.5))) == pytest.approx(0.5, abs=0.02)
    with pytest.raises(BehaviourError, match="which is rounding"):
        Judge(Made(prompts, logits(0.5), logits(0.5 + 3e-7), logits(0.5)), get_metric(metric))


def test_rare_answers_are_told_apart() -> None:
    """Probabilities of 1e-9: `prob_diff` is of that size, and so is what it has to be compared with."""
    prompts = PromptSet.from_tokens([[1]], [[3]], answers=[[0]], wrong_answers=[[1]])
    rare = torch.tensor([[1.0, 0.5, 22.0]])
    judge = Judge(Made(prompts, rare, torch.tensor([[0.5, 1.0, 22.0]]), rare), get_metric("prob_diff"))
    assert 0 < judge.range < 1e-8
    found = check_behaviour(judge, force=True)
    assert found.in_words("prob_diff").startswith("prob_diff: clean 3.0e-10, corrupt -3.0e-10; right answer above")
