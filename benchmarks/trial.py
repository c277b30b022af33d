"""A task made ready to search, what every search is measured by, and what a part of the benchmark hands back."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

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
from acdc_engine.search import Found, minimal
from acdc_engine.search.strategies import Report
from benchmarks.report import Figure, Table

EAP, IG, IG_LEFT = "EAP", "EAP-IG", "EAP-IG, left points"
NEAR_UNITS = 3
"""Forward passes before a thing that its own is taken from, beside one after it."""

MEAN_ONLY = (0.5, 0.8)
"""A circuit in the band with less KL recovered or less agreement than this fits the mean and not the prompts."""
COLUMNS = (
    *("circuit", "edges", "f held out", "95 % interval", "KL recovered", "agreement", "error", "fits", "searched"),
    *("seconds", "forwards", "evaluations"),
)
NOTE = (
    "In all tables below: f, its bootstrap interval, KL recovered, agreement (share of the prompts judged as the model "
    "does) and normalised error are of held-out prompts; 'searched' is the objective on the prompts searched on. Fits: "
    f"'prompts' where f is in the band; 'mean only' where it is, but KL recovered is below {MEAN_ONLY[0]} or agreement "
    f"below {MEAN_ONLY[1]:.0%}; 'no' outside the band. Seconds are of the search without scoring; a forward is a plain "
    "pass of the discovery prompts, no gradients, logits at all positions."
)

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    task: str = "ioi"  # shipped task
    n: int = 32  # discovery prompts
    n_held_out: int = 64  # held-out prompts
    seed: int = 0  # of the prompts and of what searches draw
    batch_size: int = 16  # prompts per run
    points: int = 5  # integration points of EAP-IG
    target: float = 0.9  # faithfulness to reach
    kl_target: float = 0.9  # KL recovered to reach on held-out prompts
    # Targets on the discovery prompts that the search for KL tries in turn until one reaches that.
    kl_aims: tuple[float, ...] = (0.96, 0.97)
    kl_minimality: bool = False  # follow the search for KL with the minimality pass
    sizes: tuple[int, ...] = (100, 500, 1000, 2000, 5000, 10000)  # edges of one-shot circuits
    tested: int = 1000  # edges of the circuits that the minimality pass is measured on
    sample: int = 64  # of them, edges tried from the input on, at most
    sweep_prompts: int = 16  # discovery prompts of the ACDC sweeps
    candidates: int = 400  # edges they start with
    thresholds: tuple[float, ...] = (0.01, 0.03)  # theirs, in units of the task's metric
    kl_thresholds: tuple[float, ...] = (0.005,)  # theirs, in nats
    resamples: int = 1000  # of stability
    repeats: int = 2  # rounds in which scoring is timed
    threads: int = 2  # of torch


@dataclass(frozen=True)
class Took:
    """What a thing took."""

    seconds: float  # by the wall clock
    forwards: float  # the same in plain forward passes over the discovery prompts, measured right before and after it
    evaluations: int  # exact evaluations of circuits


@dataclass(frozen=True)
class Row:
    """One circuit: what found it, how good it is and what finding it took."""

    what: str
    edges: int
    searched: float  # the objective of the search on the prompts it was searched on (faithfulness, or KL recovered)
    faithfulness: float  # on held-out prompts, as are the next five
    low: float | None  # lower end of the 95 % bootstrap interval; None where there is none
    high: float | None  # upper end
    kl_recovered: float  # share of the KL divergence that is gone
    agreement: float  # share of the prompts judged as the model does
    normalised_error: float  # mean |circuit - model| over |model - ablated model|
    took: Took  # scoring left out


@dataclass
class Trial:
    """A model and a task's prompts, ready to search and to judge."""

    view: TransformerView
    discovery: PromptSet  # prompts to search on
    held_out: PromptSet  # prompts to judge on
    settings: Settings
    judge: Judge  # of the task's metric on the discovery prompts
    unseen: Judge  # of the task's metric on the held-out prompts
    reporter: Reporter
    # Seconds of every plain forward pass over the discovery prompts so far.
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
        """Does a thing once between forward passes, and counts a judge's exact evaluations."""
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
        return (
            get_method("eap-ig", points)
            if name == IG
            else get_method("eap-ig", alphas=[k / points for k in range(points)])
        )

    def scores(self, metric: str, method: str) -> Tensor:
        """Mean and root mean square of the scores of all edges `[2, senders, receivers]`, computed once."""
        known = self._scores.get((metric, method))
        if known is not None:
            return known
        with self.reporter.stage(f"Scoring: {method} of {metric}", len(self.discovery)) as stage:
            work = partial(score_edges, self.view, self.discovery, get_metric(metric), self.method(method), rms=True)
            size = self.settings.batch_size
            found, took = self.clock(lambda: work(batch_size=size, progress=stage.advance))
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
        low, high = (None, None) if interval is None else (interval.low, interval.high)
        quality = (figures.kl_recovered, figures.agreement, figures.normalised_error)
        return Row(what, found.size, found.faithfulness, figures.faithfulness, low, high, *quality, took)


def saying(stage: Stage) -> Report:
    """A report that replaces the remark beside a stage's title."""

    def say(what: str, found: Found, met: bool) -> None:
        stage.say(f"{what}: {found.size:,} edges, {found.faithfulness:.3f}")

    return say


@dataclass(frozen=True)
class Section:
    """What one part found."""

    tables: tuple[Table, ...]  # for people
    record: dict[str, Any]  # JSON-ready
    rows: tuple[Row, ...] = ()  # circuits that later parts compare with
    figures: tuple[Figure, ...] = ()  # those that have a target


def rows_table(title: str, rows: Sequence[Row], target: Target, note: str = "") -> Table:
    """Circuits with the figures of each beside its size; how to read the columns stands below the figures to reach."""
    return Table(title, COLUMNS, tuple(_cells(row, target) for row in rows), note)


def fits(row: Row, target: Target) -> str:
    """Whether a circuit fits the held-out prompts, only their mean, or neither."""
    if not target.met(row.faithfulness):
        return "no"
    return "mean only" if row.kl_recovered < MEAN_ONLY[0] or row.agreement < MEAN_ONLY[1] else "prompts"


def interval_of(row: Row) -> str:
    """The interval of a row's faithfulness; empty where there is none."""
    return "" if row.low is None or row.high is None else f"{row.low:.2f} to {row.high:.2f}"


def cost_cells(took: Took) -> tuple[str, str]:
    """Seconds and forward passes."""
    return f"{took.seconds:.2f}", f"{took.forwards:.1f}"


def _cells(row: Row, target: Target) -> tuple[str, ...]:
    return (
        row.what,
        f"{row.edges:,}",
        f"{row.faithfulness:.3f}",
        interval_of(row),
        f"{row.kl_recovered:.3f}",
        f"{row.agreement:.0%}",
        f"{row.normalised_error:.3f}",
        fits(row, target),
        f"{row.searched:.3f}",
        *cost_cells(row.took),
        f"{row.took.evaluations:,}",
    )
