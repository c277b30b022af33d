"""A task made ready to search, with what every search is measured by: the clock, the unit, the figures of a circuit."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from torch import Tensor

from acdc_engine.evidence.figures import figures_of
from acdc_engine.graph.blocks import Graph
from acdc_engine.model import TransformerView
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.judge import Judge, Target
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.run.meter import forward_seconds
from acdc_engine.run.progress import Reporter, Stage
from acdc_engine.score import Method, get_method, score_edges
from acdc_engine.score.methods import left_points
from acdc_engine.search import Found, minimal
from acdc_engine.search.strategies import Report

EAP, IG, IG_LEFT = "EAP", "EAP-IG", "EAP-IG, left points"
NEAR_UNITS = 3
"""Forward passes before a thing that its own is taken from, beside one after it."""

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        task: Shipped task.
        n: Discovery prompts.
        n_held_out: Held-out prompts.
        seed: Of the prompts and of what searches draw.
        batch_size: Prompts per run.
        points: Integration points of EAP-IG.
        target: Faithfulness to reach.
        kl_target: KL recovered to reach on held-out prompts.
        kl_aims: Targets on the discovery prompts that the search for KL tries in turn until one reaches that.
        kl_minimality: Follow the search for KL with the minimality pass.
        sizes: Edges of one-shot circuits.
        tested: Edges of the circuits that the minimality pass is measured on.
        sample: Of them, edges tried from the input on, at most.
        sweep_prompts: Discovery prompts of the ACDC sweeps.
        candidates: Edges they start with.
        thresholds: Theirs, in units of the task's metric.
        kl_thresholds: Theirs, in nats.
        resamples: Of stability.
        repeats: Rounds in which scoring is timed.
        threads: Of torch.
    """

    task: str = "ioi"
    n: int = 32
    n_held_out: int = 64
    seed: int = 0
    batch_size: int = 16
    points: int = 5
    target: float = 0.9
    kl_target: float = 0.9
    kl_aims: tuple[float, ...] = (0.96, 0.97)
    kl_minimality: bool = False
    sizes: tuple[int, ...] = (100, 500, 1000, 2000, 5000, 10000)
    tested: int = 1000
    sample: int = 64
    sweep_prompts: int = 16
    candidates: int = 400
    thresholds: tuple[float, ...] = (0.01, 0.03)
    kl_thresholds: tuple[float, ...] = (0.005,)
    resamples: int = 1000
    repeats: int = 2
    threads: int = 2


@dataclass(frozen=True)
class Took:
    """What a thing took.

    Attributes:
        seconds: By the wall clock.
        forwards: The same in plain forward passes over the discovery prompts, measured right before and after it.
        evaluations: Exact evaluations of circuits.
    """

    seconds: float
    forwards: float
    evaluations: int


@dataclass(frozen=True)
class Row:
    """One circuit: what found it, how good it is and what finding it took.

    Attributes:
        what: What found it.
        edges: Its size.
        searched: The objective of the search on the prompts it was searched on (faithfulness, or KL recovered).
        faithfulness: On held-out prompts, as are the next five.
        low: Lower end of the 95 % bootstrap interval; None where there is none.
        high: Upper end.
        kl_recovered: Share of the KL divergence that is gone.
        agreement: Share of the prompts judged as the model does.
        normalised_error: Mean |circuit - model| over |model - ablated model|.
        took: Scoring left out.
    """

    what: str
    edges: int
    searched: float
    faithfulness: float
    low: float | None
    high: float | None
    kl_recovered: float
    agreement: float
    normalised_error: float
    took: Took


@dataclass
class Trial:
    """A model and a task's prompts, ready to search and to judge.

    Attributes:
        view: The model.
        discovery: Prompts to search on.
        held_out: Prompts to judge on.
        settings: What is measured.
        judge: Of the task's metric on the discovery prompts.
        unseen: Of the task's metric on the held-out prompts.
        reporter: Progress.
        units: Seconds of every plain forward pass over the discovery prompts so far.
    """

    view: TransformerView
    discovery: PromptSet
    held_out: PromptSet
    settings: Settings
    judge: Judge
    unseen: Judge
    reporter: Reporter
    units: list[float] = field(default_factory=list)
    _scores: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    scoring: dict[str, Took] = field(default_factory=dict)
    """What every scoring took, by metric and method."""

    @staticmethod
    def of(
        view: TransformerView,
        metric: str,
        discovery: PromptSet,
        held_out: PromptSet,
        settings: Settings,
        reporter: Reporter,
    ) -> "Trial":
        """Runs the model on both splits."""
        with reporter.stage("Running the model"):
            judge, unseen = (
                Judge(CircuitEvaluator(view, prompts, "patch", settings.batch_size), get_metric(metric))
                for prompts in (discovery, held_out)
            )
            trial = Trial(view, discovery, held_out, settings, judge, unseen, reporter)
            trial.forward(NEAR_UNITS + 1)
            trial.units.pop(0)  # caches, allocator, lazy set-up
        return trial

    @property
    def graph(self) -> Graph:
        """The model's graph."""
        return self.view.graph

    @property
    def target(self) -> Target:
        """The band to reach."""
        return Target(self.settings.target)

    def forward(self, count: int) -> None:
        """Measures the unit so many times."""
        for _ in range(count):
            self.units.append(forward_seconds(self.view, self.discovery, self.settings.batch_size))

    def clock(self, work: Callable[[], T], judge: Judge | None = None) -> tuple[T, Took]:
        """Does a thing once between forward passes.

        Args:
            work: The thing.
            judge: Whose exact evaluations are counted.
        """
        self.forward(1)
        before = judge.evaluator.exact_evaluations if judge else 0
        start = time.perf_counter()
        done = work()
        seconds = time.perf_counter() - start
        evaluations = judge.evaluator.exact_evaluations - before if judge else 0
        self.forward(1)
        unit = statistics.median(self.units[-NEAR_UNITS - 1 :])
        return done, Took(seconds, seconds / unit, evaluations)

    def method(self, name: str) -> Method:
        """An attribution method by the name it has in the tables."""
        points = self.settings.points
        if name == EAP:
            return get_method("eap")
        return get_method("eap-ig", points) if name == IG else get_method("eap-ig", alphas=left_points(points))

    def scores(self, metric: str, method: str) -> Tensor:
        """Mean and root mean square of the scores of all edges `[2, senders, receivers]`, computed once."""
        known = self._scores.get((metric, method))
        if known is not None:
            return known
        with self.reporter.stage(f"Scoring: {method} of {metric}", len(self.discovery)) as stage:
            how, size = self.method(method), self.settings.batch_size
            found, took = self.clock(
                lambda: score_edges(
                    self.view,
                    self.discovery,
                    get_metric(metric),
                    how,
                    batch_size=size,
                    rms=True,
                    progress=stage.advance,
                )
            )
        self._scores[metric, method] = found.both
        self.scoring[f"{method} of {metric}"] = took
        return found.both

    @contextmanager
    def watched(self, title: str) -> Iterator[Report]:
        """A stage that says which circuit was run last."""
        with self.reporter.stage(title) as stage:
            yield saying(stage)

    def minimality_pass(self, found: Found, judge: Judge, target: Target) -> tuple[Found, Took]:
        """The 1-minimal circuit that the minimality pass leaves of one that meets the target."""
        with self.reporter.stage(f"Minimality pass, {found.size:,} edges", found.size) as stage:
            return self.clock(lambda: minimal(judge, found, target, saying(stage), stage.at).found, judge)

    def row(self, what: str, found: Found, took: Took) -> Row:
        """Judges a circuit on the held-out prompts."""
        figures = figures_of(self.unseen, found.mask, self.settings.seed)
        interval = figures.faithfulness_interval
        return Row(
            what,
            found.size,
            found.faithfulness,
            figures.faithfulness,
            None if interval is None else interval.low,
            None if interval is None else interval.high,
            figures.kl_recovered,
            figures.agreement,
            figures.normalised_error,
            took,
        )


def saying(stage: Stage) -> Report:
    """A report that replaces the remark beside a stage's title."""

    def say(what: str, found: Found, met: bool) -> None:
        stage.say(f"{what}: {found.size:,} edges, {found.faithfulness:.3f}")

    return say
