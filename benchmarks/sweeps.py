"""ACDC's sweep, speculative against one by one: the same circuit, and what it takes."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from acdc_engine.graph.connectivity import clean
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.judge import Judge
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.search import Found, Search
from acdc_engine.search.acdc import Tally, acdc
from acdc_engine.search.order import best_first, first_edges
from benchmarks.report import Figure, Table
from benchmarks.trial import IG, Row, Section, Took, Trial, rows_table, saying

ASKED = 5.0
"""Times fewer seconds that the speculative sweep should take."""


@dataclass(frozen=True)
class Sweep:
    """Both sweeps at one threshold."""

    metric: str  # which loss is compared with the threshold
    threshold: float  # in its units
    start: int  # edges they started with
    edges: int  # edges left by the speculative one
    different: int  # edges that only one of the two circuits has
    speculative: Took  # what it took
    one_by_one: Took  # what the other took
    tally: Tally  # what the speculative one counted

    @property
    def ratio(self) -> float:
        """How many times fewer seconds the speculative sweep takes."""
        return self.one_by_one.seconds / self.speculative.seconds


def acdc_part(trial: Trial, done: dict[str, Section]) -> Section:
    """Both sweeps over the same candidates, at some thresholds of the task's metric and of KL."""
    settings, metric = trial.settings, trial.judge.metric.name
    prompts = trial.discovery.select(range(min(settings.sweep_prompts, len(trial.discovery))))
    evaluator = CircuitEvaluator(trial.view, prompts, "patch", settings.batch_size)
    order = best_first(trial.graph, trial.scores(metric, IG), "absolute")
    start = first_edges(trial.graph, order, settings.candidates)
    sweeps, rows = list[Sweep](), list[Row]()
    asked = [(metric, threshold) for threshold in settings.thresholds]
    for name, threshold in asked + [("kl", threshold) for threshold in settings.kl_thresholds]:
        sweep, row = _both(trial, Judge(evaluator, get_metric(name)), start, threshold)
        sweeps.append(sweep)
        rows.append(row)
    note = f"Searched on {len(prompts)} prompts; forwards are of all {len(trial.discovery)} discovery prompts."
    return Section(
        tables=(_table(sweeps, len(prompts)), rows_table("Circuits of the sweeps", rows, trial.target, note)),
        record={
            "sweeps": [{**asdict(sweep), "ratio": sweep.ratio} for sweep in sweeps],
            "rows": [asdict(row) for row in rows],
        },
        rows=tuple(rows),
        figures=tuple(_figure(sweep) for sweep in sweeps),
    )


def _both(trial: Trial, judge: Judge, start: Tensor, threshold: float) -> tuple[Sweep, Row]:
    metric = judge.metric.name
    name = f"ACDC, {metric}, {threshold:g}"
    with trial.reporter.stage(name, int(start.sum())) as stage:
        search = Search(judge, torch.empty(0), trial.target, saying(stage), progress=stage.at)
        (found, tally), took = trial.clock(lambda: acdc(search, start, threshold), judge)
    with trial.reporter.stage(f"{name}, one by one", int(start.sum())) as stage:
        slow, slow_took = trial.clock(lambda: one_by_one(judge, start, threshold, stage.advance), judge)
    different = int((found.mask != slow).sum())
    sweep = Sweep(metric, threshold, int(start.sum()), found.size, different, took, slow_took, tally)
    value = judge.faithfulness(found.mask[None])[0]
    return sweep, trial.row(name, Found(found.mask, value), took)


def one_by_one(judge: Judge, start: Tensor, threshold: float, advance: Callable[[], None]) -> Tensor:
    """Algorithm 1 of Conmy et al. 2023 (arXiv 2304.14997) as it stands: one edge at a time, each run from the input.

    Edges into nodes that nobody reads any more go without a test, as in the paper. The edges that stay are cleaned.
    """
    graph, mask = judge.graph, start.clone()
    current = float(judge.values(mask[None])[0].mean())
    for receiver in reversed(range(graph.n_receivers)):
        unread = receiver != graph.logits and not mask[list(graph.fed(receiver))].any()
        for sender in reversed(mask[:, receiver].nonzero().flatten().tolist()):
            advance()
            without = mask.clone()
            without[sender, receiver] = False
            if unread:
                mask = without
                continue
            value = float(judge.values(without[None])[0].mean())
            if current - value < threshold:
                mask, current = without, value
    return clean(graph, mask)


def _figure(sweep: Sweep) -> Figure:
    same = "the same circuit" if not sweep.different else f"{sweep.different} edges differ"
    return Figure(
        f"speculative ACDC against one by one, {sweep.metric}, threshold {sweep.threshold:g}",
        f">= {ASKED:g}x fewer seconds, same circuit",
        f"{sweep.ratio:.1f}x: {sweep.speculative.seconds:.1f} s against {sweep.one_by_one.seconds:.1f} s, {same}",
        sweep.ratio >= ASKED and not sweep.different,
    )


def _table(sweeps: list[Sweep], prompts: int) -> Table:
    rows = tuple(
        (
            f"{sweep.metric}, {sweep.threshold:g}",
            f"{sweep.start:,}",
            f"{sweep.edges:,}",
            "no" if sweep.different else "yes",
            f"{sweep.speculative.seconds:.2f}",
            f"{sweep.one_by_one.seconds:.2f}",
            f"{sweep.ratio:.1f}",
            f"{sweep.tally.tested:,}",
            f"{sweep.tally.evaluations:,}",
            f"{sweep.tally.batches:,}",
            f"{sweep.tally.untested:,}",
        )
        for sweep in sweeps
    )
    return Table(
        "ACDC: speculative against one by one",
        (
            *("metric, threshold", "candidates", "edges", "same circuit", "seconds", "one by one", "ratio", "tested"),
            *("evaluations", "batches", "saved"),
        ),
        rows,
        f"On {prompts} prompts, over the best edges by |{IG} score|. One by one: the paper's loop, one mask per call, "
        "from the input on, with this engine's evaluator, which skips nodes outside the circuit. Tested: edges tried "
        "exactly. Evaluations: made speculatively, those thrown away included. Saved: edges dropped untested.",
    )
