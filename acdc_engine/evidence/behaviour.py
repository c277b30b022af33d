"""Does the model show the behaviour, and does the corruption remove it? Asked before anything expensive runs."""

from dataclasses import dataclass

from acdc_engine.errors import BehaviourError
from acdc_engine.evidence.answers import answer_figures
from acdc_engine.evidence.shortcoming import Shortcoming, chance_of, shortcomings
from acdc_engine.graph.evidence_records import AnswerFigures
from acdc_engine.graph.looks import texts_of
from acdc_engine.patch.judge import Judge
from acdc_engine.prompts.metrics import accuracy


@dataclass(frozen=True)
class Behaviour:
    """The unpatched model on a set of prompts.

    Attributes:
        accuracy: Share of clean prompts on which a right answer comes before all wrong ones, or, without wrong ones,
            before all other tokens; None without right answers.
        answers: What becomes of the answers on the clean prompts; None without right answers.
        chance: Share that guessing would get right, on average; 0 without right answers.
        metric_clean: Mean metric on the clean prompts.
        metric_ablated: Mean metric of the fully ablated model (corrupt prompts, under patch ablation).
    """

    accuracy: float | None
    answers: AnswerFigures | None
    chance: float
    metric_clean: float
    metric_ablated: float

    def in_words(self, metric: str) -> str:
        """The figures in a line; `metric` is what the metric is called, and on how many prompts."""
        clean, ablated = texts_of(self.metric_clean, self.metric_ablated)
        text = f"{metric}: clean {clean}, corrupt {ablated}"
        if self.answers is None:
            return text
        above = self.answers.right_above_wrong
        before = "" if above is None else f" above the wrong ones on {above:.0%},"
        return (
            f"{text}; right answer{before} most likely of all tokens on {self.answers.most_likely:.0%}, median rank "
            f"{self.answers.median_rank:,.6g}"
        )


def check_behaviour(judge: Judge, force: bool = False) -> Behaviour:
    """Measures the behaviour and stops where a circuit for it would mean nothing.

    A task without right answers, measured by KL, is asked for the corruption alone.

    Args:
        judge: The discovery prompts' judge.
        force: Measure only, never stop.

    Raises:
        BehaviourError: The model's accuracy is not above chance (one-sided binomial test at 5 %), or the corruption
            does not lower the metric (one-sided paired t-test at 5 %). The numbers are in the message.
    """
    found = _measure(judge)
    if force:
        return found
    n = len(judge.prompts)
    right = None if found.accuracy is None else round(found.accuracy * n)
    problems = shortcomings(right, found.chance, judge.clean, judge.ablated, judge.metric.name)
    if problems:
        raise BehaviourError(f"{problems[0].text} {_remedy(problems[0], found, judge.metric.name)}")
    return found


def _remedy(problem: Shortcoming, found: Behaviour, metric: str) -> str:
    if problem.kind == "too few":
        return "Ask for more with --n, or --force to go on."
    clean, ablated = texts_of(found.metric_clean, found.metric_ablated)
    numbers = f"{metric} {clean} clean and {ablated} corrupt. "
    try_another = "Try another model or task, or --force to go on all the same."
    return (numbers if problem.kind == "chance" else "") + try_another


def _measure(judge: Judge) -> Behaviour:
    evaluator, prompts = judge.evaluator, judge.prompts
    right = accuracy(evaluator.clean_logits(), prompts) if prompts.answers.shape[1] else None
    return Behaviour(
        accuracy=None if right is None else float(right.float().mean()),
        answers=answer_figures(evaluator.clean_logits(), prompts),
        chance=chance_of(prompts, evaluator.clean_logits().shape[1]),
        metric_clean=float(judge.clean.mean()),
        metric_ablated=float(judge.ablated.mean()),
    )
