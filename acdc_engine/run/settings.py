"""All settings of a run, checked before anything is loaded."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from acdc_engine.errors import MethodError, nearest

if TYPE_CHECKING:
    from acdc_engine.search.strategies import Choice

_KINDS: dict[str, type] = {"an integer": Integral, "a number": Real, "a text": str}
_FIELDS = {
    "an integer": ("n", "n_held_out", "batch_size", "seed", "size", "steps", "candidates", "n_random"),
    "a number": ("faithfulness", "threshold", "minutes"),
    "a text": ("method", "strategy", "objective", "rank", "ablation", "metric", "device", "dtype"),
}
_MAY_BE_NONE = ("rank", "size", "steps", "threshold", "candidates", "metric", "minutes", "n", "n_held_out")
OBJECTIVES = ("faithfulness", "kl")
F = TypeVar("F", bound=Callable[..., Any])


class CurveSettings(TypedDict, total=False):
    """Keyword arguments of `curve`, for editors and type-checkers: fields of `Settings`, which says what they mean."""

    steps: int | None
    objective: str
    faithfulness: float
    candidates: int | None
    ablation: str
    metric: str | None
    n: int | None
    n_held_out: int | None
    drop_misfits: bool
    seed: int
    batch_size: int
    device: str
    dtype: str
    ungroup_kv: bool
    prepend_bos: bool | None
    edge_tests: bool
    minutes: float | None
    force: bool


class DiscoverSettings(CurveSettings, total=False):
    """Keyword arguments of `discover`: all fields of `Settings`."""

    method: str
    strategy: str
    size: int | None
    threshold: float | None
    rank: str | None
    n_random: int


@dataclass(frozen=True)
class Settings:
    """What a run is asked for, beside task and model.

    Attributes:
        method: How edges are scored: "eap-ig", "eap" or "clean-corrupted".
        steps: Integration points of "eap-ig" (default 5).
        strategy: How a circuit is found: "iterative", "top-k", "greedy", "threshold" or "acdc".
        objective: What the target and the search are about: "faithfulness" in the metric, or "kl", the share of the KL
            divergence from the model's output distribution that is recovered.
        faithfulness: Target t; a circuit meets it if its objective on the discovery prompts lies in [t, 2 - t].
        size: Edges of the circuit, for "top-k" and "greedy"; None to search for the smallest that meets the target.
        threshold: Smallest strength of a kept edge, for "threshold"; largest loss per removed edge, for "acdc".
        candidates: Best edges that "acdc" sweeps over; None for all.
        rank: Edges are ranked by "absolute" or "signed" score or by "rms", the root mean square over prompts; for
            "top-k", "greedy" and "threshold". None: absolute, or rms where the objective is "kl".
        ablation: What edges outside the circuit carry: "patch" (the corrupt prompt's value), "mean" or "zero".
        metric: Overrides the task's metric: "logit_diff", "prob_diff", "kl" or "nll".
        n: Discovery prompts; None for 32, or as many as the task can give.
        n_held_out: Held-out prompts, disjoint from the discovery prompts; None for 64, likewise.
        drop_misfits: Leave out pairs that do not fit the model, instead of refusing the task.
        n_random: Random circuits of the same size that the circuit is compared with; 0 for none.
        seed: Of the prompts and their split, and of everything else that is drawn.
        batch_size: Prompts per run of the model.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        dtype: Number format of the weights.
        ungroup_kv: One k and v receiver per query head where the model shares them (MIB's convention).
        prepend_bos: Start every prompt with the tokenizer's beginning-of-sequence token; None for what the task says,
            or else for what the tokenizer does by itself.
        edge_tests: Test every edge of the circuit singly: its exact effect, and where a target decides the size also
            whether it is needed. Without, circuits are larger, and have neither effects nor a certificate.
        minutes: End the search in time for the whole run to take about so long, with the best circuit so far; None to
            let it end by itself. Scores, one circuit and the evidence are computed however long they take.
        force: Go on although the model does not show the behaviour.
    """

    method: str = "eap-ig"
    steps: int | None = None
    strategy: str = "iterative"
    objective: str = "faithfulness"
    faithfulness: float = 0.9
    size: int | None = None
    threshold: float | None = None
    candidates: int | None = None
    rank: str | None = None
    ablation: str = "patch"
    metric: str | None = None
    n: int | None = None
    n_held_out: int | None = None
    drop_misfits: bool = False
    n_random: int = 20
    seed: int = 0
    batch_size: int = 16
    device: str = "auto"
    dtype: str = "float32"
    ungroup_kv: bool = False
    prepend_bos: bool | None = None
    edge_tests: bool = True
    minutes: float | None = None
    force: bool = False

    def __post_init__(self) -> None:
        """Checks every setting.

        Raises:
            AcdcError: Of the kind that fits the setting, with its name, its value and what is allowed.
        """
        from acdc_engine.model.devices import pick_device, pick_dtype
        from acdc_engine.patch.baseline import check_ablation
        from acdc_engine.patch.judge import Target
        from acdc_engine.prompts.metrics import get_metric
        from acdc_engine.score.methods import get_method

        self._check_kinds()
        for name in ("n", "n_held_out", "batch_size"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise MethodError(f"{name} must be at least 1, not {value}.")
        for name in ("n_random", "seed"):
            if getattr(self, name) < 0:
                raise MethodError(f"{name} must be at least 0, not {getattr(self, name)}.")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise MethodError(f"minutes must be a number above 0, not {self.minutes}.")
        if self.objective not in OBJECTIVES:
            raise MethodError(f"Unknown objective {self.objective!r}.{nearest(self.objective, OBJECTIVES)}")
        get_method(self.method, self.steps)
        _ = self.choice
        Target(self.faithfulness)
        check_ablation(self.ablation)
        if self.metric is not None:
            get_metric(self.metric)
        pick_device(self.device)
        pick_dtype(self.dtype)

    @property
    def choice(self) -> "Choice":
        """The search strategy with its settings.

        Raises:
            MethodError: Unknown names, or settings that do not fit the strategy.
        """
        from acdc_engine.search.strategies import Choice

        choice = Choice(self.strategy, self.rank or "absolute", self.size, self.threshold, self.candidates)
        by_square = self.rank is None and self.objective == "kl" and choice.takes_rank
        return replace(choice, rank="rms") if by_square else choice

    def _check_kinds(self) -> None:
        for wanted, names in _FIELDS.items():
            for name in names:
                value = getattr(self, name)
                if value is None and name in _MAY_BE_NONE:
                    continue
                if not isinstance(value, _KINDS[wanted]) or isinstance(value, bool):
                    raise MethodError(f"{name} must be {wanted}, not {value!r} of type {type(value).__name__}.")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Settings":
        """Settings from keyword arguments.

        Raises:
            MethodError: A keyword that does not exist.
        """
        known = [field.name for field in fields(cls)]
        for key in given:
            if key not in known:
                raise MethodError(f"There is no setting {key!r}.{nearest(key, known)}")
        return cls(**given)


def shows_settings(function: F) -> F:
    """Has notebooks complete the settings of a function that takes them as `**settings`, each with its default."""
    whole = inspect.signature(function)
    own = [one for one in whole.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    taken = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        for field in fields(Settings)
    ]
    function.__signature__ = whole.replace(parameters=[*own, *taken])  # type: ignore[attr-defined]
    return function
