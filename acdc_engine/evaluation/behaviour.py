"""Does the model show the behaviour, and does the corruption remove it? Asked before anything expensive runs."""

from dataclasses import dataclass

from scipy import stats

from acdc_engine.errors import BehaviourError
from acdc_engine.patching.judge import Judge
from acdc_engine.prompts.metrics import accuracy
from acdc_engine.prompts.prompt_set import PromptSet

SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Behaviour:
    """The unpatched model on a set of prompts.

    Attributes:
        accuracy: Share of clean prompts answered rightly; None without right answers.
        chance: Share that guessing would get right, on average.
        metric_clean: Mean metric on the clean prompts.
        metric_ablated: Mean metric of the fully ablated model (corrupt prompts, under patch ablation).
    """

    accuracy: float | None
    chance: float
    metric_clean: float
    metric_ablated: float


def check_behaviour(judge: Judge, force: bool = False) -> Behaviour:
    """Measures the behaviour and stops where a circuit for it would mean nothing.

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
    prompts, name = judge.evaluator.prompts, judge.metric.name
    numbers = (
        f"{name} {found.metric_clean:.3f} clean and {found.metric_ablated:.3f} corrupt on {len(prompts)} prompts. "
        "Try another model or task, or --force to go on all the same."
    )
    if found.accuracy is not None:
        right = round(found.accuracy * len(prompts))
        if stats.binomtest(len(prompts), len(prompts), found.chance, alternative="greater").pvalue > SIGNIFICANCE:
            raise BehaviourError(
                f"{right} of {len(prompts)} clean prompts are answered rightly, but so few prompts cannot be told from "
                f"chance ({found.chance:.0%}), whatever the model does. Ask for more with --n, or --force to go on."
            )
        if stats.binomtest(right, len(prompts), found.chance, alternative="greater").pvalue > SIGNIFICANCE:
            raise BehaviourError(
                f"The model does not do this task: {right} of {len(prompts)} clean prompts answered rightly "
                f"({found.accuracy:.0%}, chance {found.chance:.0%}); {numbers}"
            )
    if len(prompts) > 1:
        drop = (judge.clean - judge.ablated).double().cpu().numpy()
        if drop.mean() <= 0 or (
            drop.std() > 0 and stats.ttest_1samp(drop, 0, alternative="greater").pvalue > SIGNIFICANCE
        ):
            raise BehaviourError(f"The corruption does not hurt: {numbers}")
    return found


def _measure(judge: Judge) -> Behaviour:
    evaluator, prompts = judge.evaluator, judge.evaluator.prompts.to(judge.evaluator.view.device)
    right = accuracy(evaluator.clean_logits(), prompts) if prompts.answers.shape[1] else None
    return Behaviour(
        accuracy=None if right is None else float(right.float().mean()),
        chance=_chance(prompts, evaluator.view.d_vocab),
        metric_clean=float(judge.clean.mean()),
        metric_ablated=float(judge.ablated.mean()),
    )


def _chance(prompts: PromptSet, d_vocab: int) -> float:
    """Share right for a model that prefers one of the answers at random (or any token, without wrong answers)."""
    right = (prompts.answers >= 0).sum(1).float()
    if not prompts.wrong_answers.shape[1]:
        return float((right / d_vocab).mean())
    return float((right / (right + (prompts.wrong_answers >= 0).sum(1))).mean())
