"""What is asked of a model before a circuit is searched, the figures of a circuit, and everything together."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from acdc_engine.errors import BehaviourError, MethodError, MetricError
from acdc_engine.evidence.figures import chance_of, check_behaviour, evaluate, figures_of, joint_necessity, shortcomings
from acdc_engine.evidence.hypotheses import run_tests
from acdc_engine.evidence.random_circuits import random_circuits
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.evaluator import Circuits
from acdc_engine.patch.judge import Judge
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from tests.evidence.judges import answered_by_the_model, judge_of
from tests.evidence.judges import tiny_judge as judge
from tests.micro_models import mask_of, shared_values
from tests.tiny_models import random_prompts, view

LOGIT_DIFF = get_metric("logit_diff")


def test_without_answers_the_corruption_alone_is_judged() -> None:
    drawn = random_prompts()
    prompts = PromptSet.from_tokens(drawn.clean, drawn.corrupt, read_at=3)
    j = judge_of(prompts, "kl")
    found = check_behaviour(j)
    assert found.accuracy is None and found.chance == 0
    assert found.metric_clean == pytest.approx(0, abs=1e-6) and found.metric_ablated < -1e-4
    assert figures_of(j, j.graph.exists).accuracy_clean is None
    with pytest.raises(MetricError, match=r"'nll' needs right answers; .* add answers to the task, or use 'kl'\."):
        judge_of(prompts, "nll")


def test_the_whole_model_and_nothing() -> None:
    j = judge_of(answered_by_the_model(True))
    found = check_behaviour(j)
    assert found.accuracy == 1 and found.chance == 0.5 and found.metric_clean > found.metric_ablated
    whole, nothing = figures_of(j, j.graph.exists), figures_of(j, torch.zeros_like(j.graph.exists))
    assert (whole.faithfulness, whole.kl_recovered, whole.normalised_error) == pytest.approx((1, 1, 0), abs=1e-4)
    assert (nothing.faithfulness, nothing.kl_recovered) == pytest.approx((0, 0), abs=1e-4) and whole.agreement == 1


CLEAN = torch.tensor([1.0, 2.0, 3.0, 2.0, 1.0, 2.0])


def kinds(right: int | None, clean: torch.Tensor, corrupt: torch.Tensor) -> list[str]:
    return [found.kind for found in shortcomings(right, 0.5, clean, corrupt, "logit_diff")]


@pytest.mark.parametrize(
    ("right", "corrupt", "found"),
    [
        (6, CLEAN - 1, []),  # 0.5^6 = 0.016
        (None, CLEAN - 1, []),
        (5, CLEAN - 1, ["chance"]),  # 7 * 0.5^6 = 0.11
        (6, CLEAN, ["corruption"]),
        (6, CLEAN + 1, ["corruption"]),
        (6, CLEAN - torch.tensor([3.0, -2.9, 0, 0, 0, 0]), ["corruption"]),  # lower by luck
        (3, CLEAN + 1, ["chance", "corruption"]),
    ],
)
def test_both_are_tested_at_five_per_cent(right: int | None, corrupt: torch.Tensor, found: list[str]) -> None:
    assert kinds(right, CLEAN, corrupt) == found


def test_four_prompts_cannot_tell_from_a_half() -> None:
    assert kinds(4, CLEAN[:4], CLEAN[:4] - 1) == ["too few"]  # 0.5^4 = 0.0625
    assert kinds(5, CLEAN[:5], CLEAN[:5] - 1) == []  # 0.5^5 = 0.031
    assert kinds(None, CLEAN[:1], CLEAN[:1]) == []  # a single pair says nothing of the corruption


def test_the_texts_have_the_numbers() -> None:
    chance, corruption = shortcomings(3, 0.5, CLEAN, CLEAN + 1, "nll")
    assert chance.text == (
        "The model does not do this task: 3 of 6 clean prompts answered rightly (50%, chance 50%), not reliably better "
        "than guessing."
    )
    assert corruption.text == "The corruption does not hurt: nll is 1.833 on clean and 2.833 on corrupt prompts."


def test_chance() -> None:
    tokens = [[0, 1], [0, 1]]
    with_wrong = PromptSet.from_tokens(tokens, tokens, [[2], [2, 3, 4]], [[5], [6]])
    assert chance_of(with_wrong, 100) == pytest.approx((1 / 2 + 3 / 4) / 2)
    without = PromptSet.from_tokens(tokens, tokens, [[2], [2, 3, 4]])
    assert chance_of(without, 100) == pytest.approx(0.02)


def test_a_model_that_does_not_do_the_task_is_stopped_with_the_numbers() -> None:
    j = judge_of(answered_by_the_model(False))
    with pytest.raises(BehaviourError, match=r"task: 0 of 8 .* rightly \(0%, chance 50%\).*logit_diff -\d.*--force"):
        check_behaviour(j)
    assert check_behaviour(j, force=True).accuracy == 0


def test_too_few_prompts_to_tell_are_stopped_with_what_to_do() -> None:
    prompts = answered_by_the_model(True)
    j = judge_of(prompts.select(range(4)))
    with pytest.raises(BehaviourError, match=r"4 of 4 .* so few .*--n; where the task has no more, add words or pairs"):
        check_behaviour(j)


def test_corrupt_equal_to_clean_is_refused_even_by_force() -> None:
    drawn = random_prompts()
    same = PromptSet.from_tokens(drawn.clean, drawn.clean, drawn.answers, drawn.wrong_answers)
    with pytest.raises(BehaviourError, match="The corrupt metric equals the clean one"):
        judge_of(same)


def test_too_few_prompts_to_tell_from_chance() -> None:
    with pytest.raises(BehaviourError, match=r"4 of 4 clean prompts are answered rightly, but so few.*more with --n"):
        check_behaviour(judge_of(answered_by_the_model(True, 4)))


# Figures of circuits


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


# Everything together


def circuit(size: int = 30) -> torch.Tensor:
    return random_circuits(view("llama_grouped").graph, size, 1, 0)[0]


def test_nothing_but_figures_and_joint_necessity() -> None:
    discovery, held_out = judge(), judge(seed=1)
    found = evaluate(discovery, held_out, circuit(), n_random=0, tests=False)
    assert discovery.evaluator.exact_evaluations == 2 and held_out.evaluator.exact_evaluations == 2
    assert found.random_circuits is None and found.tests == () and found.completeness is not None
    assert found.discovery == figures_of(discovery, circuit()) and found.held_out == figures_of(held_out, circuit())


def test_everything_and_its_stages() -> None:
    stages: dict[str, tuple[int | None, list[int]]] = {}

    class Counting:
        def __init__(self, done: list[int]) -> None:
            self.advance = done.append

    @contextmanager
    def stage(title: str, total: int | None) -> Iterator[Any]:
        stages[title] = (total, [])
        yield Counting(stages[title][1])

    held_out = judge(seed=1)
    found = evaluate(judge(), held_out, circuit(), n_random=11, seed=3, progress=stage)
    assert found.random_circuits is not None and len(found.random_circuits.faithfulness) == 11
    assert found.tests == run_tests(held_out, circuit(), seed=3)
    assert found.completeness == joint_necessity(judge(), held_out, circuit())
    assert list(stages) == ["Figures", "Joint necessity", "Random circuits", "Hypothesis tests"]
    for title in ("Random circuits", "Hypothesis tests"):
        total, done = stages[title]
        assert sum(done) == total
    assert evaluate(judge(), judge(seed=1), circuit(), n_random=11, seed=3) == found


def test_joint_necessity_of_all_and_nothing() -> None:
    j, exists = judge(), view("llama_grouped").graph.exists
    nothing_left, all_left = joint_necessity(j, j, exists), joint_necessity(j, j, exists & False)
    assert (nothing_left.faithfulness, nothing_left.kl_recovered) == pytest.approx((0, 0), abs=1e-4)
    assert (all_left.faithfulness, all_left.kl_recovered) == pytest.approx((1, 1), abs=1e-4)


def test_joint_necessity_by_hand() -> None:
    """Clean 30, corrupt 18 (tests/micro_models.py). Without a0.h0->m0 the MLP reads (1, 8), writes (2, 16).

    The logits read heads (2, 6) and MLP (2, 16): 26, so 8/12 remain.
    """
    model, prompts = shared_values()
    j = Judge(CircuitEvaluator(model, prompts), get_metric("logit_diff"))
    found = joint_necessity(j, j, mask_of(model, "a0.h0->m0"))
    assert (found.faithfulness, found.discovery) == pytest.approx((10 / 12, 10 / 12))


def test_circuits_that_connect_nothing() -> None:
    mask = mask_of(view("llama_grouped"), "input->m0 m1->logits")
    with pytest.raises(MethodError, match=r"None of the circuit's 2 edges lies on a path .* equals the ablated model"):
        evaluate(judge(), judge(), mask)
