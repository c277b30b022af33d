"""What a search works with, by name: the behaviour's metric itself, or another one made for it."""

from typing import get_args

from acdc_engine.errors import MethodError, nearest
from acdc_engine.graph.records import Objective
from acdc_engine.prompts.metrics import Logits, Metric, Values, get_metric
from acdc_engine.prompts.prompt_set import PromptSet

OBJECTIVES: tuple[Objective, ...] = get_args(Objective)


def check_objective(name: str) -> Objective:
    """The name, where it is that of an objective.

    Raises:
        MethodError: It is not.
    """
    for known in OBJECTIVES:
        if name == known:
            return known
    raise MethodError(f"Unknown objective {name!r}.{nearest(name, OBJECTIVES)}")


def aimed_at(metric: Metric, objective: Objective) -> Metric:
    """What an objective is the share of, given the metric of the behaviour."""
    if objective == "prompts":
        return PromptByPrompt(metric)
    return get_metric("kl") if objective == "kl" and metric.name != "kl" else metric


class PromptByPrompt(Metric):
    """Minus the squared distance of another metric from its value on the clean run, prompt by prompt: 0 is best.

    The mean of the other metric over prompts can be met by errors that cancel; that of this one cannot.

    Args:
        of: The other metric.
    """

    needs_answers = False
    needs_clean_logits = True
    zero_gradient_at_clean = True

    def __init__(self, of: Metric) -> None:
        """See the class."""
        self.name, self._of = "prompts", of

    def _values(self, logits: Logits, prompts: PromptSet, clean: Logits | None) -> Values:
        assert clean is not None  # __call__ checked
        clean = clean.detach()
        return -(self._of(logits, prompts, clean) - self._of(clean, prompts, clean)).square()
