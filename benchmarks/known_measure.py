"""Scores and searches against one known circuit: areas, whether the search finds exactly it, and what that takes."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from acdc_engine.errors import AcdcError
from acdc_engine.evidence.comparison import overlaps, rankings, without_rounding
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.nodes import edges_of_mask, nodes_of_edges
from acdc_engine.graph.result_records import Ranking
from acdc_engine.model import TransformerView
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.judge import Judge, Target
from acdc_engine.prompts.metrics import Metric, get_metric
from acdc_engine.prompts.prompt_set import PromptSet
from acdc_engine.run.meter import forward_seconds, peak_memory
from acdc_engine.score import Method, get_method, score_edges
from acdc_engine.score.methods import METHODS, learns
from acdc_engine.search import SEARCHES, Choice, Found, Search, find_circuit, minimal, singles

EXACT_SCORES = "exact"
"""The scoring that removes every edge by itself, exactly: no attribution method, but what they all estimate."""
KL = ", KL"
"""What names end with where the KL divergence is measured and not the task's metric."""
MANY = 1000
"""Points for compiled models, whose MLPs are staircases: fewer may all lie between the steps."""
EXACT_SEARCH = f"acdc{KL}"
"""The search that tests every edge exactly and drops what changes the output of no prompt."""
RESET = Path("/proc/self/clear_refs")
"""Writing 5 here makes most Linux kernels forget the peak of this process's memory (some sandboxes take the 5 and keep
the peak)."""

T = TypeVar("T")
STRATEGIES = tuple(entry.name for entry in SEARCHES.own())


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    n: int = 128  # prompts; all that the task gives where these are fewer
    seed: int = 0  # of the prompts
    batch_size: int = 32  # prompts per run
    target: float = 0.9  # faithfulness that searches aim at
    kl_target: float = 0.99  # KL recovered that the search for KL aims at
    share: float = 0.01  # threshold of "threshold" and "acdc", as a share of the metric's range (clean minus corrupt)
    # The same for KL, of the ablated model's divergence: less than one in hundreds of prompts ends with another answer.
    kl_share: float = 0.001
    exact_up_to: int = 5000  # edges up to which each is removed by itself, and searched for without scores
    candidates: int = 2000  # edges that "acdc" starts with in larger graphs
    threads: int = 2  # of torch


@dataclass(frozen=True)
class Cost:
    """What a thing took."""

    seconds: float  # by the wall clock
    forwards: float  # the same in plain forward passes over the prompts
    evaluations: int  # exact evaluations of circuits
    peak_bytes: int  # the most memory the process held meanwhile, or, where the system does not tell, so far


@dataclass(frozen=True)
class Areas:
    """Areas under the ROC curve; None where the known circuit has all or none of what is counted."""

    edges: float | None  # over all edges
    edges_without_mlps: float | None  # over edges that neither start nor end at an MLP; None too without MLPs
    nodes: float | None  # over heads and MLPs


@dataclass(frozen=True)
class Scored:
    """One scoring."""

    method: str  # by which method
    areas: dict[str, Areas]  # by rank
    cost: Cost  # what scoring took


@dataclass(frozen=True)
class Searched:
    """One search."""

    search: str  # strategy and settings, in words
    failed: str | None = None  # what it said where it found nothing
    edges: int = 0  # edges found
    both: int = 0  # of them, in the known circuit
    jaccard: float = 0.0  # of the two sets of edges
    exact: bool = False  # whether they are the same
    nodes_jaccard: float = 0.0  # of the two sets of heads and MLPs
    area: float | None = None  # area under the ROC curve of "is in the found circuit"
    reached: float = 0.0  # the objective on the prompts searched on
    cost: Cost | None = None  # what the search took, scoring left out


@dataclass
class Bench:
    """A model and prompts beside the known circuit, and the clock."""

    view: TransformerView
    prompts: PromptSet  # what edges are scored and circuits searched on
    known: Circuit  # the truth
    metric: str  # the task's
    settings: Settings
    evaluator: CircuitEvaluator = field(init=False)  # runs circuits
    units: list[float] = field(default_factory=list)  # seconds of every plain forward pass so far

    def __post_init__(self) -> None:
        """Runs the model once."""
        self.evaluator = CircuitEvaluator(self.view, self.prompts, "patch", self.settings.batch_size)
        self._forward()
        self.units.clear()  # caches, allocator, lazy set-up

    @property
    def small(self) -> bool:
        """Whether every edge can be tried."""
        return self.view.graph.n_edges <= self.settings.exact_up_to

    def clock(self, work: Callable[[], T]) -> tuple[T, Cost]:
        """Does a thing once, with a plain forward pass before and after it."""
        self._forward()
        forget_peak()
        before, start = self.evaluator.exact_evaluations, time.perf_counter()
        done = work()
        seconds, peak = time.perf_counter() - start, peak_memory(self.view.device)
        evaluations = self.evaluator.exact_evaluations - before
        self._forward()
        return done, Cost(seconds, seconds / statistics.median(self.units[-4:]), evaluations, peak)

    def _forward(self) -> None:
        self.units.append(forward_seconds(self.view, self.prompts, self.settings.batch_size))


def forget_peak() -> None:
    """Makes the system forget the largest memory this process has held, where it can."""
    if RESET.exists():
        RESET.write_text("5")


def scorings(bench: Bench) -> Iterator[tuple[Scored, Tensor]]:
    """Every attribution method, and in small graphs the exact effect of every edge: areas and both scores.

    Each of the task's metric and of KL, where that is defined: a compiled model is flat nearly everywhere as far as two
    given answers go, and then points of the path see nothing that all answers together show.
    """
    for metric in (get_metric(bench.metric), get_metric("kl")):
        ending = KL if metric.name == "kl" else ""
        works: dict[str, Callable[[], Tensor]] = {
            f"{name}{ending}": partial(_scores, bench, metric, get_method(name))
            for name in METHODS.names
            if learns(get_method(name), metric)
        }
        if bench.small:
            works[f"eap-ig, {MANY} points{ending}"] = partial(_scores, bench, metric, get_method("eap-ig", MANY))
            works[f"{EXACT_SCORES}{ending}"] = partial(_effects, bench, metric)
        for name, work in works.items():
            both, cost = bench.clock(work)
            both = torch.stack([without_rounding(scores) for scores in both])
            found = rankings(bench.known, {"absolute": both[0].abs(), "signed": both[0], "rms": both[1]})
            areas = {rank: areas_of(found, rank) for rank in ("absolute", "signed", "rms")}
            yield Scored(name, areas, cost), both


def _scores(bench: Bench, metric: Metric, method: Method) -> Tensor:
    return score_edges(bench.view, bench.prompts, metric, method, batch_size=bench.settings.batch_size, rms=True).both


def _effects(bench: Bench, metric: Metric) -> Tensor:
    """What every edge is worth to the whole model, exactly: mean and root mean square over prompts."""
    graph = bench.view.graph
    tested = singles(Judge(bench.evaluator, metric), Found(graph.exists, 1.0), None)
    effects = tested.whole[None] - tested.without
    both = torch.zeros(2, *graph.exists.shape)
    both[:, graph.exists] = torch.stack([effects.mean(1), effects.square().mean(1).sqrt()])
    return both


def areas_of(found: tuple[Ranking, ...], rank: str) -> Areas:
    """The areas of one way of ranking."""
    by_part = {ranking.name: ranking.auc for ranking in found if ranking.rank == rank}
    return Areas(by_part.get("edges"), by_part.get("edges, no MLPs"), by_part.get("nodes"))


def searches(bench: Bench, scores: Tensor, kl_scores: Tensor) -> Iterator[Searched]:
    """Every search strategy: as it is used, and where it takes a size, with that of the known circuit too."""
    settings, size = bench.settings, len(bench.known.edges)
    judge, kl = (Judge(bench.evaluator, get_metric(name)) for name in (bench.metric, "kl"))
    target, kl_target = Target(settings.target), Target(settings.kl_target)
    least = settings.share * abs(judge.range)
    start = None if bench.small else settings.candidates
    works: dict[str, tuple[Choice, Judge, Target]] = {}
    for strategy in STRATEGIES:
        if strategy == "threshold":
            works[f"{strategy} {settings.share:g} of the range"] = (Choice.of(strategy, threshold=least), judge, target)
        elif strategy == "acdc":
            plain = Choice.of(strategy, threshold=least, candidates=start)
            works[f"{strategy}, {settings.share:g} of the range"] = (plain, judge, target)
            exact = Choice.of(strategy, threshold=settings.kl_share * abs(kl.range), candidates=start)
            works[EXACT_SEARCH] = (exact, kl, kl_target)
        else:
            works[f"{strategy}, f {target.faithfulness:g}"] = (Choice.of(strategy), judge, target)
            works[f"{strategy}, KL recovered {kl_target.faithfulness:g}"] = (_by_rms(strategy), kl, kl_target)
            if strategy != "iterative":
                works[f"{strategy}, size {size}"] = (Choice.of(strategy, size=size), judge, target)
    for name, (choice, objective, aim) in works.items():
        yield _search(bench, name, choice, objective, aim, kl_scores if objective is kl else scores)


def _by_rms(strategy: str) -> Choice:
    """KL has no signed effects to rank by."""
    return Choice.of(strategy) if strategy == "iterative" else Choice.of(strategy, rank="rms")


def _search(bench: Bench, name: str, choice: Choice, judge: Judge, target: Target, scores: Tensor) -> Searched:
    def search() -> Found:
        found = find_circuit(Search(judge, scores, target), choice)
        if choice.parameters.minimal:
            return minimal(judge, found, target).found
        return found

    try:
        found, cost = bench.clock(search)
    except AcdcError as error:  # a search that finds nothing is a result
        return Searched(name, failed=str(error))
    (reached,) = judge.faithfulness(found.mask[None])
    return against(bench.known, found.mask, name, reached, cost)


def against(known: Circuit, mask: Tensor, name: str, reached: float, cost: Cost) -> Searched:
    """A found set of edges against the known circuit."""
    graph = known.graph()
    edges = edges_of_mask(graph, mask)
    found = Circuit(model=known.model, nodes=nodes_of_edges(graph, edges), edges=edges)
    by_part = {overlap.name: overlap for overlap in overlaps(found, known)}
    edge, node = by_part["edges"], by_part["nodes"]
    areas = areas_of(rankings(known, {"absolute": mask.float().cpu()}), "absolute")
    same = edge.n_found == edge.n_true == edge.n_both
    counts = (edge.n_found, edge.n_both, edge.jaccard or 0.0, same)
    return Searched(name, None, *counts, node.jaccard or 0.0, areas.edges, reached, cost)
