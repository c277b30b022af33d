"""Does the model show the behaviour, and does the corruption remove it? Asked before anything expensive runs."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from acdc_engine.errors import BehaviourError
from acdc_engine.evidence.figures import answer_figures
from acdc_engine.graph.evidence_records import AnswerFigures
from acdc_engine.graph.style import texts_of
from acdc_engine.patch.judge import Judge
from acdc_engine.prompts.metrics import accuracy
from acdc_engine.prompts.prompt_set import PromptSet

_SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Shortcoming:
    """Why a circuit for this task and model would mean nothing.

    Attributes:
        kind: "too few": even all right could be luck. "chance": not better than guessing. "corruption": the corrupt
            prompts do not lower the metric. "split": there are no discovery and held-out prompts that share no text.
        text: The same in a sentence, with the numbers.
    """

    kind: Literal["too few", "chance", "corruption", "split"]
    text: str


def chance_of(prompts: PromptSet, d_vocab: int) -> float:
    """Share right for a model that prefers one of the answers at random (or any token, without wrong answers)."""
    right = (prompts.answers >= 0).sum(1).float()
    if not prompts.wrong_answers.shape[1]:
        return float((right / d_vocab).mean())
    return float((right / (right + (prompts.wrong_answers >= 0).sum(1))).mean())


def shortcomings(
    right: int | None, chance: float, clean: Float[Tensor, "n"], corrupt: Float[Tensor, "n"], metric: str
) -> list[Shortcoming]:
    """Tests the behaviour: accuracy above chance (binomial), and a metric that falls (paired t-test).

    Both tests are one-sided, at 5 %. Accuracy is not tested without right answers (`right` None: clean prompts answered
    rightly), nor the fall of the metric (`clean` to `corrupt`, in the same order) on a single pair.

    Returns:
        All that is wrong; empty if the model does the task.
    """
    n, found = len(clean), list[Shortcoming]()
    if right is not None and _luck(n, n, chance):
        text = (
            f"{right} of {n} clean prompts are answered rightly, but so few prompts cannot be told from chance "
            f"({chance:.0%}), whatever the model does."
        )
        found.append(Shortcoming("too few", text))
    elif right is not None and _luck(right, n, chance):
        text = (
            f"The model does not do this task: {right} of {n} clean prompts answered rightly ({right / n:.0%}, "
            f"chance {chance:.0%}), not reliably better than guessing."
        )
        found.append(Shortcoming("chance", text))
    if n > 1 and not _falls((clean - corrupt).double().cpu().numpy()):
        means = texts_of(float(clean.mean()), float(corrupt.mean()))
        text = f"The corruption does not hurt: {metric} is {means[0]} on clean and {means[1]} on corrupt prompts."
        found.append(Shortcoming("corruption", text))
    return found


def _falls(drop: NDArray[np.float64]) -> bool:
    if drop.mean() <= 0 or not drop.std():
        return bool(drop.mean() > 0)
    return bool(stats.ttest_1samp(drop, 0, alternative="greater").pvalue <= _SIGNIFICANCE)


def _luck(right: int, n: int, chance: float) -> bool:
    return bool(stats.binomtest(right, n, chance, alternative="greater").pvalue > _SIGNIFICANCE)


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

    A task without right answers, measured by KL, is asked for the corruption alone. With `force` it never stops.

    Raises:
        BehaviourError: The model's accuracy is not above chance (one-sided binomial test at 5 %), or the corruption
            does not lower the metric (one-sided paired t-test at 5 %). The numbers are in the message.
    """
    logits, prompts, metric = judge.evaluator.clean_logits(), judge.prompts, judge.metric.name
    right = accuracy(logits, prompts) if prompts.answers.shape[1] else None
    found = Behaviour(
        accuracy=None if right is None else float(right.float().mean()),
        answers=answer_figures(logits, prompts),
        chance=chance_of(prompts, logits.shape[1]),
        metric_clean=float(judge.clean.mean()),
        metric_ablated=float(judge.ablated.mean()),
    )
    n_right = None if right is None else int(right.sum())
    problems = [] if force else shortcomings(n_right, found.chance, judge.clean, judge.ablated, metric)
    if not problems:
        return found
    remedy = "Try another model or task, or --force to go on all the same."
    if problems[0].kind == "too few":
        remedy = "Ask for more with --n, or --force to go on."
    elif problems[0].kind == "chance":
        clean, ablated = texts_of(found.metric_clean, found.metric_ablated)
        remedy = f"{metric} {clean} clean and {ablated} corrupt. {remedy}"
    raise BehaviourError(f"{problems[0].text} {remedy}")
