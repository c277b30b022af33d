"""Metrics: one number per prompt, oriented so that higher means more of the behaviour.

Four come with the engine. One of your own is a function `(logits, prompts) -> one number each`, or a subclass of
`Metric` where it needs answers or the clean run's logits; `METRICS.add` gives it a name that cards and commands know.
What a search works with, its *objective*, is the behaviour's metric or one made for it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acdc_engine.errors import MethodError, MetricError, one_of
from acdc_engine.graph.records import Objective
from acdc_engine.prompts.prompt_set import NO_ANSWER, PromptSet
from acdc_engine.registers import Register

Logits = Float[Tensor, "b vocab"]
"""Logits at the prompts' reading positions."""

Values = Float[Tensor, "b"]
"""A number for each prompt."""


class Metric(ABC):
    """A number per prompt from the logits at its reading position; differentiable, float32 or wider inside.

    Attributes:
        name: What cards and the command line call it; the name of its class until it is taken from `METRICS`.
        needs_answers: Whether prompts must have right answers.
        needs_wrong_answers: Whether prompts must have wrong answers too.
        needs_clean_logits: Whether the clean run's logits must be given.
        answers_only: Whether it reads the logits of the prompts' answers alone, and no clean logits, so that the others
            need not be computed.
        zero_gradient_at_clean: Whether the gradient vanishes at the clean run, so that methods which take it
            there (EAP) learn nothing.
    """

    name: str
    needs_answers: bool = True
    needs_wrong_answers: bool = False
    needs_clean_logits: bool = False
    answers_only: bool = False
    zero_gradient_at_clean: bool = False

    def __init_subclass__(cls) -> None:
        cls.name = cls.__name__

    def __call__(self, logits: Logits, prompts: PromptSet, clean_logits: Logits | None = None) -> Values:
        """Returns one number per prompt, higher for more of the behaviour.

        Logits are those at the prompts' `read_at` positions, on their device and in their order; only KL needs those of
        the clean run.

        Raises:
            MetricError: Missing answers, wrong answers or clean logits; or numbers of rows that differ.
        """
        if logits.shape[0] != len(prompts):
            raise MetricError(f"{logits.shape[0]} rows of logits were given for {len(prompts)} prompts.")
        if self.needs_answers and not prompts.answers.shape[1]:
            raise MetricError(
                f"The metric {self.name!r} needs right answers; these prompts have none: add answers to the task, or "
                "use 'kl'."
            )
        if self.needs_wrong_answers and not prompts.wrong_answers.shape[1]:
            raise MetricError(
                f"The metric {self.name!r} compares right with wrong answers and these prompts have no wrong "
                "ones: add wrong_answers to the card, or use 'nll' or 'kl'."
            )
        if self.needs_clean_logits and clean_logits is None:
            raise MetricError(f"The metric {self.name!r} compares with the clean run: give clean_logits.")
        clean = _wide(clean_logits) if self.needs_clean_logits and clean_logits is not None else None
        return self._values(_wide(logits), prompts, clean)

    @abstractmethod
    def _values(self, logits: Logits, prompts: PromptSet, clean: Logits | None) -> Values:
        """The metric proper; input already checked and in float32."""


MetricFunction = Callable[[Logits, PromptSet], Values]
"""Logits, in float32, and prompts; one number each, higher for more of the behaviour."""

METRICS: Register[type[Metric] | Callable[..., Values]] = Register("metric", "acdc_engine.metrics", MetricError)
"""Metrics by name; one that was entered with parameters is given them as `parameters`."""


@METRICS.add("logit_diff", "mean logit of the right answers - mean logit of the wrong answers (logits)")
class LogitDifference(Metric):
    """Mean right logit minus mean wrong logit (Wang et al. 2022, arXiv 2211.00593)."""

    needs_wrong_answers = True
    answers_only = True

    def _values(self, logits: Logits, prompts: PromptSet, clean: Logits | None) -> Values:
        return mean_over(logits, prompts.answers) - mean_over(logits, prompts.wrong_answers)


@METRICS.add("prob_diff", "probability of the right answers - probability of the wrong answers (-1 to 1)")
class _ProbabilityDifference(Metric):
    """Summed right minus summed wrong probability (Hanna et al. 2023, arXiv 2305.00586)."""

    needs_wrong_answers = True

    def _values(self, logits: Logits, prompts: PromptSet, clean: Logits | None) -> Values:
        probabilities = logits.softmax(dim=-1)
        right = _gather(probabilities, prompts.answers, fill=0.0).sum(dim=1)
        return right - _gather(probabilities, prompts.wrong_answers, fill=0.0).sum(dim=1)


@METRICS.add("kl", "minus KL(clean || run), natural logarithm: 0 is the clean output itself (nats, <= 0)")
class _KLToClean(Metric):
    """Minus KL(clean || run) over the whole vocabulary, so that 0 is best and lower is worse.

    Its gradient is zero at the clean run, where it has its maximum.
    """

    needs_answers = False
    needs_clean_logits = True
    zero_gradient_at_clean = True

    def _values(self, logits: Logits, prompts: PromptSet, clean: Logits | None) -> Values:
        assert clean is not None  # __call__ checked
        # The clean run is a fixed target: its own graph, if the caller kept one, must not be differentiated.
        log_clean, log_run = clean.detach().log_softmax(dim=-1), logits.log_softmax(dim=-1)
        return -(log_clean.exp() * (log_clean - log_run)).sum(dim=-1)


@METRICS.add("nll", "minus the negative log-likelihood of the right answers (nats, <= 0)")
class _LogLikelihood(Metric):
    """Minus the negative log-likelihood: log of the right answers' summed probability."""

    def _values(self, logits: Logits, prompts: PromptSet, clean: Logits | None) -> Values:
        return _gather(logits.log_softmax(dim=-1), prompts.answers, fill=-torch.inf).logsumexp(dim=1)


class _Own(Metric):
    """A function as a metric."""

    needs_answers = False

    def __init__(self, function: MetricFunction) -> None:
        said = getattr(function, "__name__", type(function).__name__)
        self.name = "own" if said in ("<lambda>", "partial") else said
        self._function = function

    def _values(self, logits: Logits, prompts: PromptSet, clean: Logits | None) -> Values:
        found: Any = self._function(logits, prompts)
        if not isinstance(found, Tensor) or found.shape != logits.shape[:1]:
            what = f"shape {list(found.shape)}" if isinstance(found, Tensor) else f"type {type(found).__name__}"
            raise MetricError(
                f"The metric {self.name!r} is to give one number for each of the {len(prompts)} prompts, a tensor of "
                f"shape [{len(prompts)}], and gives something of {what}."
            )
        if logits.requires_grad and not found.requires_grad:
            raise MetricError(
                f"The metric {self.name!r} gives numbers without a gradient (argmax, a comparison, .detach()), and "
                "edges are scored by its gradient."
            )
        return _wide(found)


def get_metric(name: str) -> Metric:
    """Returns the metric called `name`, with the parameters behind it, or raises a MetricError."""
    value: Any = METRICS.bound(name)
    metric = as_metric(value() if isinstance(METRICS[name].value, type) else value)
    metric.name = name
    return metric


def as_metric(metric: str | Metric | type[Metric] | MetricFunction) -> Metric:
    """Returns a metric made of its name, its class, or a function `(logits, prompts) -> one number each`.

    A function keeps its name; one without a name, such as a lambda, is called `own`. Anything else is a MetricError.
    """
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        return get_metric(metric)
    if isinstance(metric, type):
        return as_metric(metric())
    if not callable(metric):
        raise MetricError(f"A metric is a name or a function (logits, prompts) -> one number each, not {metric!r}.")
    return _Own(metric)


def columns_read(metric: Metric, prompts: PromptSet) -> tuple[PromptSet, Int[Tensor, "columns"] | None]:
    """Which logits of a batch a metric reads.

    Returns:
        The prompts and the columns, such that the metric of them is that of all logits: answers are counted in columns
        where `answers_only` allows to leave the others out; otherwise the prompts as they are, and None for all.
    """
    n_right = prompts.answers.shape[1]
    if not metric.answers_only or not n_right:
        return prompts, None
    columns, places = torch.cat([prompts.answers, prompts.wrong_answers], 1).unique(return_inverse=True)
    filled = int(columns[0] == NO_ANSWER)  # the smallest id of all, so that places of fillers become NO_ANSWER again
    places = places - filled
    return prompts.counted_in(places[:, :n_right], places[:, n_right:]), columns[filled:]


def accuracy(logits: Logits, prompts: PromptSet) -> Bool[Tensor, "b"]:
    """Whether each prompt is answered rightly.

    With wrong answers: the best right logit lies above the best wrong one (chance is about a half for one of
    each). Without: the most likely token of the whole vocabulary is a right answer.

    Raises:
        MetricError: The prompts have no right answers.
    """
    if not prompts.answers.shape[1]:
        raise MetricError("Accuracy needs right answers and these prompts have none.")
    best_right = _gather(logits, prompts.answers, fill=-torch.inf).amax(dim=1)
    if prompts.wrong_answers.shape[1]:
        return best_right > _gather(logits, prompts.wrong_answers, fill=-torch.inf).amax(dim=1)
    return (logits.argmax(dim=-1, keepdim=True) == prompts.answers).any(dim=1)


def _wide(logits: Tensor) -> Tensor:
    """At least float32."""
    return logits if logits.dtype == torch.float64 else logits.float()


def _gather(values: Float[Tensor, "b vocab"], ids: Int[Tensor, "b k"], fill: float) -> Float[Tensor, "b k"]:
    present = ids != NO_ANSWER
    return values.gather(1, ids.clamp(min=0)).masked_fill(~present, fill)


def mean_over(logits: Float[Tensor, "b vocab"], ids: Int[Tensor, "b k"]) -> Float[Tensor, "b"]:
    """Returns the mean logit of each prompt's answers."""
    return _gather(logits, ids, fill=0.0).sum(dim=1) / (ids != NO_ANSWER).sum(dim=1)


OBJECTIVES: tuple[Objective, ...] = get_args(Objective)


def check_objective(name: str) -> Objective:
    """The name, where it is that of an objective.

    Raises:
        MethodError: It is not.
    """
    return one_of(name, OBJECTIVES, "objective", MethodError)


def aimed_at(metric: Metric, objective: Objective) -> Metric:
    """What an objective is the share of, given the metric of the behaviour."""
    if objective == "prompts":
        return PromptByPrompt(metric)
    return get_metric("kl") if objective == "kl" and metric.name != "kl" else metric


class PromptByPrompt(Metric):
    """Minus the squared distance of another metric from its value on the clean run, prompt by prompt: 0 is best.

    The mean of the other metric over prompts can be met by errors that cancel; that of this one cannot.
    """

    needs_answers = False
    needs_clean_logits = True
    zero_gradient_at_clean = True

    def __init__(self, of: Metric) -> None:
        self.name, self._of = "prompts", of

    def _values(self, logits: Logits, prompts: PromptSet, clean: Logits | None) -> Values:
        assert clean is not None  # __call__ checked
        clean = clean.detach()
        return -(self._of(logits, prompts, clean) - self._of(clean, prompts, clean)).square()
