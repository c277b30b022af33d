"""What keeps a task from being one that a model does: no better than guessing, or a corruption that does not hurt."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from scipy import stats
from torch import Tensor

from acdc_engine.graph.looks import texts_of
from acdc_engine.prompts.prompt_set import PromptSet

SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Shortcoming:
    """Why a circuit for this task and model would mean nothing.

    Attributes:
        kind: "too few": even all right could be luck. "chance": not better than guessing. "corruption": the corrupt
            prompts do not lower the metric. "split": there are no discovery and held-out
            prompts that share no text.
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

    Both tests are one-sided, at 5 %.

    Args:
        right: Clean prompts answered rightly; None without right answers, where accuracy is not tested.
        chance: Share that guessing would get right, on average.
        clean: The metric of every clean prompt.
        corrupt: The metric of every corrupt prompt, in the same order. A single pair is not tested.
        metric: Its name, for the text.

    Returns:
        All that is wrong; empty if the model does the task.
    """
    n, found = len(clean), list[Shortcoming]()
    if right is not None and _luck(n, n, chance):
        found.append(
            Shortcoming(
                "too few",
                f"{right} of {n} clean prompts are answered rightly, but so few prompts cannot be told from chance "
                f"({chance:.0%}), whatever the model does.",
            )
        )
    elif right is not None and _luck(right, n, chance):
        found.append(
            Shortcoming(
                "chance",
                f"The model does not do this task: {right} of {n} clean prompts answered rightly ({right / n:.0%}, "
                f"chance {chance:.0%}), not reliably better than guessing.",
            )
        )
    drop = (clean - corrupt).double().cpu().numpy()
    if n > 1 and (
        drop.mean() <= 0 or (drop.std() > 0 and stats.ttest_1samp(drop, 0, alternative="greater").pvalue > SIGNIFICANCE)
    ):
        means = texts_of(float(clean.mean()), float(corrupt.mean()))
        found.append(
            Shortcoming(
                "corruption",
                f"The corruption does not hurt: {metric} is {means[0]} on clean and {means[1]} on corrupt prompts.",
            )
        )
    return found


def _luck(right: int, n: int, chance: float) -> bool:
    return bool(stats.binomtest(right, n, chance, alternative="greater").pvalue > SIGNIFICANCE)
