"""The four metrics: one number per prompt, oriented so that higher means more of the behaviour."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acdc_engine.errors import MetricError, nearest
from acdc_engine.prompts.prompt_set import NO_ANSWER, PromptSet


class Metric(ABC):
    """A number per prompt from the logits at its reading position; differentiable, float32 or wider inside.

    Attributes:
        name: What cards and the command line call it.
        description: One line for listings, with the sign convention and the unit.
        needs_answers: Whether prompts must have right answers.
        needs_wrong_answers: Whether prompts must have wrong answers too.
        needs_clean_logits: Whether the clean run's logits must be given.
        answers_only: Whether it reads the logits of the prompts' answers alone, and no clean logits, so that the others
            need not be computed.
        zero_gradient_at_clean: Whether the gradient vanishes at the clean run, so that methods which take it
            there (EAP) learn nothing.
    """

    name: str
    description: str
    needs_answers: bool = True
    needs_wrong_answers: bool = False
    needs_clean_logits: bool = False
    answers_only: bool = False
    zero_gradient_at_clean: bool = False

    def __call__(
        self,
        logits: Float[Tensor, "b vocab"],
        prompts: PromptSet,
        clean_logits: Float[Tensor, "b vocab"] | None = None,
    ) -> Float[Tensor, "b"]:
        """Returns the metric of each prompt.

        Args:
            logits: Logits at the prompts' `read_at` positions.
            prompts: The prompts, on the same device, in the same order.
            clean_logits: The clean run's logits at the same positions; only KL needs them.

        Returns:
            One number per prompt, higher for more of the behaviour.

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
    def _values(
        self, logits: Float[Tensor, "b vocab"], prompts: PromptSet, clean: Float[Tensor, "b vocab"] | None
    ) -> Float[Tensor, "b"]:
        """The metric proper; input already checked and in float32."""


class LogitDifference(Metric):
    """Mean right logit minus mean wrong logit (Wang et al. 2022, arXiv 2211.00593)."""

    name = "logit_diff"
    description = "mean logit of the right answers - mean logit of the wrong answers (logits)"
    needs_wrong_answers = True
    answers_only = True

    def _values(
        self, logits: Float[Tensor, "b vocab"], prompts: PromptSet, clean: Float[Tensor, "b vocab"] | None
    ) -> Float[Tensor, "b"]:
        return _mean_over(logits, prompts.answers) - _mean_over(logits, prompts.wrong_answers)


class ProbabilityDifference(Metric):
    """Summed right minus summed wrong probability (Hanna et al. 2023, arXiv 2305.00586)."""

    name = "prob_diff"
    description = "probability of the right answers - probability of the wrong answers (-1 to 1)"
    needs_wrong_answers = True

    def _values(
        self, logits: Float[Tensor, "b vocab"], prompts: PromptSet, clean: Float[Tensor, "b vocab"] | None
    ) -> Float[Tensor, "b"]:
        probabilities = logits.softmax(dim=-1)
        right = _gather(probabilities, prompts.answers, fill=0.0).sum(dim=1)
        return right - _gather(probabilities, prompts.wrong_answers, fill=0.0).sum(dim=1)


class KLToClean(Metric):
    """Minus KL(clean || run) over the whole vocabulary, so that 0 is best and lower is worse.

    Its gradient is zero at the clean run, where it has its maximum.
    """

    name = "kl"
    description = "minus KL(clean || run), natural logarithm: 0 is the clean output itself (nats, <= 0)"
    needs_answers = False
    needs_clean_logits = True
    zero_gradient_at_clean = True

    def _values(
        self, logits: Float[Tensor, "b vocab"], prompts: PromptSet, clean: Float[Tensor, "b vocab"] | None
    ) -> Float[Tensor, "b"]:
        assert clean is not None  # __call__ checked
        # The clean run is a fixed target: its own graph, if the caller kept one, must not be differentiated.
        log_clean, log_run = clean.detach().log_softmax(dim=-1), logits.log_softmax(dim=-1)
        return -(log_clean.exp() * (log_clean - log_run)).sum(dim=-1)


class LogLikelihood(Metric):
    """Minus the negative log-likelihood: log of the right answers' summed probability."""

    name = "nll"
    description = "minus the negative log-likelihood of the right answers (nats, <= 0)"

    def _values(
        self, logits: Float[Tensor, "b vocab"], prompts: PromptSet, clean: Float[Tensor, "b vocab"] | None
    ) -> Float[Tensor, "b"]:
        return _gather(logits.log_softmax(dim=-1), prompts.answers, fill=-torch.inf).logsumexp(dim=1)


class _Own(Metric):
    """A metric that a user has written: a function of logits and prompts."""

    description = "a function of one's own"
    needs_answers = False

    def __init__(self, function: Callable[[Tensor, PromptSet], Tensor]) -> None:
        self.function, self.name = function, getattr(function, "__name__", "own").replace("<lambda>", "own")

    def _values(
        self, logits: Float[Tensor, "b vocab"], prompts: PromptSet, clean: Float[Tensor, "b vocab"] | None
    ) -> Float[Tensor, "b"]:
        values = self.function(logits, prompts)
        if not isinstance(values, Tensor) or values.shape != (len(prompts),):
            got = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise MetricError(
                f"The metric {self.name!r} must give one number for each of {len(prompts)} prompts: {got}."
            )
        return values


def as_metric(function: Callable[[Tensor, PromptSet], Tensor]) -> Metric:
    """Makes a metric of a function of logits and prompts."""
    return _Own(function)


_METRICS: dict[str, Callable[[], Metric]] = {
    m.name: m for m in (LogitDifference, ProbabilityDifference, KLToClean, LogLikelihood)
}


def metric_names() -> list[str]:
    """Names of all metrics, sorted."""
    return sorted(_METRICS)


def get_metric(name: str) -> Metric:
    """Returns the metric called `name`.

    Raises:
        MetricError: There is none of that name.
    """
    if name not in _METRICS:
        raise MetricError(f"There is no metric {name!r}.{nearest(name, _METRICS)}")
    return _METRICS[name]()


def columns_read(metric: Metric, prompts: PromptSet) -> tuple[PromptSet, Int[Tensor, "columns"] | None]:
    """Which logits of a batch a metric reads.

    Args:
        metric: The metric.
        prompts: The batch.

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


def accuracy(logits: Float[Tensor, "b vocab"], prompts: PromptSet) -> Bool[Tensor, "b"]:
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


def _mean_over(logits: Float[Tensor, "b vocab"], ids: Int[Tensor, "b k"]) -> Float[Tensor, "b"]:
    return _gather(logits, ids, fill=0.0).sum(dim=1) / (ids != NO_ANSWER).sum(dim=1)
