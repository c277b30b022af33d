"""Scoring methods by name. A method is a function that gives every edge a score; packages may add their own.

All but two share one formula (see `attribution_patching`) and differ in the points at which gradients are taken.
A point `alpha` is a run whose input embedding is `corrupt + alpha * (clean - corrupt)`: 0 is the corrupt run, 1 the
clean run. `path_attribution` goes with the senders; `gim.py` has other gradients.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic_core import to_jsonable_python
from torch import Tensor

from acdc_engine import ranks
from acdc_engine.errors import MethodError, MetricError, PromptError
from acdc_engine.model.view import TransformerView
from acdc_engine.prompts.metrics import Metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.registers import Register, parameter
from acdc_engine.score.contract import ReceiverGradients, contract
from acdc_engine.score.edge_scores import (
    EdgeScores,
    Runs,
    attribution_patching,
    check_ends,
    difference,
    in_batches,
    no_scores,
)

_STEPS = 5
METHODS: Register[Callable[..., EdgeScores]] = Register("scoring method", "acdc_engine.methods", MethodError)
"""Functions of view, prompts, metric, an instance of the dataclass that the method was entered with, and of the options
of `attribution_patching` by their names: `batch_size`, `rms`, `per_example` and `progress`."""


@dataclass(frozen=True)
class Clean:
    """Gradients are taken at the clean run."""

    points = (1.0,)


@dataclass(frozen=True)
class _Ends:
    points = (0.0, 1.0)


@dataclass(frozen=True)
class Steps:
    """Gradients are taken at the midpoints of so many steps: neither end is favoured."""

    steps: int | None = parameter(None, f"Number of integration points, {_STEPS} by default.")

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise MethodError(f"The number of integration steps must be at least 1, not {self.steps}.")

    @property
    def points(self) -> tuple[float, ...]:
        """The midpoints."""
        steps = self.steps or _STEPS
        return tuple((k + 0.5) / steps for k in range(steps))


@dataclass(frozen=True)
class _Points(Steps):
    """The same, or at given points."""

    alphas: Sequence[float] | None = parameter(None, "The points, from 0 (corrupt) to 1 (clean), instead of steps.")

    def __post_init__(self) -> None:
        if self.steps is not None and self.alphas is not None:
            raise MethodError("Give either steps or alphas, not both.")
        super().__post_init__()
        if self.alphas is not None and (not self.alphas or any(not 0.0 <= a <= 1.0 for a in self.alphas)):
            raise MethodError(
                f"Alphas must be one or more numbers from 0 (corrupt) to 1 (clean), not {list(self.alphas)}."
            )

    @property
    def points(self) -> tuple[float, ...]:
        return super().points if self.alphas is None else tuple(map(float, self.alphas))


def _at_points(name: str, help: str, parameters: type) -> None:
    """Enters attribution patching at the points that its parameters give."""

    @METHODS.add(name, help, parameters=parameters)
    def score(view: TransformerView, prompts: PromptSet, metric: Metric, parameters: Any, **options: Any) -> EdgeScores:
        return attribution_patching(view, prompts, metric, parameters.points, name, **options)


for _name, _help, _parameters in (
    ("eap", "edge attribution patching: the gradient of the clean run (Syed et al. 2023, arXiv 2310.10348)", Clean),
    ("eap-ig", "EAP with integrated gradients over the inputs (Hanna et al. 2024, arXiv 2403.17806)", _Points),
    ("clean-corrupted", "mean of the gradients of the clean and the corrupt run (Hanna et al. 2024)", _Ends),
):
    _at_points(_name, _help, _parameters)


@METHODS.add(
    "eap-ig-path",
    "EAP-IG along the path of the senders: scores into the logits add up to the change of the metric",
    parameters=Steps,
)
def path_attribution(
    view: TransformerView, prompts: PromptSet, metric: Metric, parameters: Steps, **options: Any
) -> EdgeScores:
    """Scores every edge u -> v by gradients along the path on which u's write goes from corrupt to clean.

        score(u -> v) = mean over examples of  sum over k < m of (u((k + 1) / m) - u(k / m)) . g_v((k + 1/2) / m)

    `u(alpha)` is what u writes, and `g_v(alpha)` the gradient at v's own input, in the run whose input embedding is
    `corrupt + alpha (clean - corrupt)`. EAP-IG (Hanna et al. 2024, arXiv 2403.17806, eq. 3) takes the same gradients,
    and the whole difference `u(1) - u(0)` with each of them, as if u went straight; only `input` does. The sum here is
    the midpoint rule for the path integral (Sundararajan et al. 2017, arXiv 1703.01365) along the curve that the
    senders really take, so scores into the logits add up to m(clean) - m(corrupt) as m grows. For `input` both agree.

    Cost: m + 1 forward passes, m forward and backward, and the matrix products of `attribution_patching` m times.

    Options are those of `in_batches`, which says what is raised.
    """
    points = parameters.points

    def sums(batch: PromptSet, apart: bool) -> Tensor:
        runs, out = Runs(view, batch, metric), no_scores(view, batch, apart)
        clean, before = runs.plain(1.0), runs.plain(0.0)
        check_ends(view, clean, before)
        receivers = ReceiverGradients(view, *runs.shape, 1)
        for step, point in enumerate(points, 1):
            after = clean if step == len(points) else runs.plain(step / len(points))
            runs.differentiated(point, receivers)
            contract(view, difference(after, before), receivers, out, runs.places)
            receivers.clear()
            before = after
        return out

    return in_batches(view, prompts, sums, "eap-ig-path", {"alphas": list(points)}, **options)


@dataclass(frozen=True)
class Method:
    """A scoring method with its parameters.

    Attributes:
        name: Of its entry in `METHODS`.
        parameters: An instance of the entry's dataclass.
        given: Those that are not the defaults' but were given, as JSON has them.
    """

    name: str
    parameters: Any
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def alphas(self) -> tuple[float, ...]:
        """The points at which gradients are taken; empty for a method of others."""
        return self.parameters.points if isinstance(self.parameters, Clean | _Ends | Steps) else ()


def get_method(name: str, steps: int | None = None, alphas: Sequence[float] | None = None, **parameters: Any) -> Method:
    """Looks up a method and checks its parameters.

    Args:
        name: Of an entry in `METHODS`, and what stands behind it: `eap-ig:steps=7`.
        steps: Number of points of "eap-ig" and "eap-ig-path" (default 5), as midpoints.
        alphas: Explicit points of "eap-ig", instead of `steps`.
        parameters: What other methods take.

    Raises:
        MethodError: Unknown name, or parameters that do not fit the method.
    """
    points = {key: value for key, value in (("steps", steps), ("alphas", alphas)) if value is not None}
    if points and name in ("eap", "clean-corrupted", "gim"):
        raise MethodError(f"Method {name!r} takes no steps or alphas; use 'eap-ig' for integrated gradients.")
    more = points | parameters
    return Method(METHODS[name].name, METHODS.parameters_of(name, more), to_jsonable_python(METHODS.given(name, more)))


def learns(method: Method, metric: Metric) -> bool:
    """Whether a method looks at points where the metric's gradient does not vanish."""
    return not (metric.zero_gradient_at_clean and set(method.alphas) == {1.0})


def check_metric(metric: Metric, method: Method) -> None:
    """Refuses a metric that a method cannot learn anything from.

    Raises:
        MetricError: The metric's gradient vanishes at the only point the method looks at.
    """
    if not learns(method, metric):
        raise MetricError(
            f"Metric {metric.name!r} has zero gradient at the clean run, the only point where {method.name!r} looks: "
            "all scores would be zero. Use --method eap-ig or clean-corrupted, or another metric."
        )


def score_edges(
    view: TransformerView, prompts: PromptSet, metric: Metric, method: Method, **options: Any
) -> EdgeScores:
    """Scores every edge u -> v by one method.

    Args:
        view: The model.
        prompts: Aligned clean and corrupt prompts.
        metric: Oriented so that higher means more of the behaviour.
        method: From `get_method`.
        options: `batch_size`, `rms`, `per_example` and `progress`, as in `attribution_patching`.

    Raises:
        MetricError: The metric's gradient vanishes at the only point the method looks at.
        PromptError: There are no prompts, or prompts of unequal length for a model whose attention is not causal.
        ScoreError: A run or a score is not finite; the layer is named. Or `torch.inference_mode()` is on.
    """
    if not len(prompts):
        raise PromptError("There are no prompts to score edges on.")
    view.check_lengths(prompts.lengths, prompts.spans)
    check_metric(metric, method)
    return METHODS[method.name].value(view, prompts, metric, method.parameters, **options)


def shared_scores(
    score: Callable[[PromptSet, Callable[[int], None] | None], EdgeScores],
    prompts: PromptSet,
    progress: Callable[[int], None] | None = None,
) -> EdgeScores:
    """What a method gives for all prompts; where several processes share them each scores its own, and all get all.

    Args:
        score: Scores some prompts; is told whom to call with the number of prompts done.
        prompts: All of them.
        progress: Called likewise, as if all ranks were as far as this one.
    """
    n, size = len(prompts), ranks.size()
    if size == 1:
        return score(prompts, progress)
    rows, done = ranks.shared_rows(n), 0

    def told(count: int) -> None:
        nonlocal done
        before, done = done, min(n, done + count * size)
        if progress is not None:
            progress(done - before)

    found = ranks.together(lambda: score(prompts.select(rows), told))
    rms = None if found.rms is None else (ranks.summed(found.rms.square() * len(rows)) / n).sqrt()
    each = None if found.per_example is None else ranks.put_together(found.per_example, n)
    return replace(found, mean=ranks.summed(found.mean * len(rows)) / n, rms=rms, per_example=each)
