"""What evidence costs: the minimality pass (every edge once, from the input on, the whole pass), and stability."""

from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor

from acdc_engine.evidence.single_edges import score_stability
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.connectivity import clean
from acdc_engine.patch.judge import Target
from acdc_engine.score import score_edges
from acdc_engine.search import RANKS as SEARCH_RANKS
from acdc_engine.search import Found, Rank, singles
from acdc_engine.search.minimal import BATCH
from acdc_engine.search.order import best_first, first_edges, of_size
from benchmarks.report import Figure, Table
from benchmarks.timing import PLAIN, Timing, interleaved
from benchmarks.trial import IG, Row, Section, Took, Trial, cost_cells, rows_table

ASKED = 150
"""Forward passes' worth that the pass over 1,000 edges may cost."""
RANKS: tuple[Rank, ...] = ("signed", "rms")
"""Every edge is tried once in the circuit of the first; the whole pass is measured on all."""
GROWTH, LARGEST = 1.1, 2.0
"""Longer circuits tried for one in the band: each so many times longer, up to so many times the size asked for."""
STABILITY_ASKED = 10.0
"""Seconds that stability may take after scoring."""
KINDS = {
    "mean only": {},
    "mean and root mean square": {"rms": True},
    "and every prompt's scores": {"rms": True, "per_example": True},
}


@dataclass(frozen=True)
class Cost:
    """One way to test edges of one circuit."""

    circuit: str  # which circuit
    edges: int
    what: str  # what was done
    left: int | None  # edges left in the end, where edges were dropped
    took: Took  # what it took; scaled to all edges where `sampled` is smaller than `edges`
    sampled: int  # edges that were tried


def minimality_part(trial: Trial, done: dict[str, Section]) -> Section:
    """Costs of the pass on circuits of about 1,000 edges by several ranks."""
    costs, rows, checks = list[Cost](), list[Row](), list[str]()
    for rank in RANKS:
        order = best_first(trial.graph, trial.scores(trial.judge.metric.name, IG), rank)
        mask = of_size(trial.graph, order, min(trial.settings.tested, trial.graph.n_edges))
        if rank == RANKS[0]:
            once, check = _every_edge_once(trial, f"{IG}, {rank}", mask)
            costs += once
            checks.append(check)
        name, found, target = _start_of_pass(trial, rank, order)
        if target is None:
            checks.append(f"{name}: f {found.faithfulness:.2f} lies in no band, so there is no pass.")
            continue
        smaller, took = trial.minimality_pass(found, trial.judge, target)
        costs.append(Cost(name, found.size, "whole pass, until 1-minimal", smaller.size, took, found.size))
        rows.append(trial.row(f"{name}, after the pass", smaller, took))
    return Section(
        tables=(_table(costs, checks), rows_table("Circuits after the pass", rows, trial.target)),
        record={"costs": [asdict(cost) for cost in costs], "checks": checks, "rows": [asdict(row) for row in rows]},
        rows=tuple(rows),
        figures=tuple(_figure(cost) for cost in costs if cost.what != FROM_INPUT),
    )


ONCE, FROM_INPUT = "every edge once", "every edge once, from the input on"


def _every_edge_once(trial: Trial, name: str, mask: Tensor) -> tuple[list[Cost], str]:
    """Every edge by itself, restarted at its layer and from the input on; what the two values differ by."""
    graph, judge = trial.graph, trial.judge
    found = Found(mask, judge.faithfulness(mask[None])[0])
    with trial.reporter.stage(f"Every edge: {name}", found.size) as stage:
        tested, took = trial.clock(lambda: singles(judge, found, None, stage.at), judge)
    costs = [Cost(name, found.size, ONCE, None, took, found.size)]
    edges = mask.nonzero()
    blocks = _sampled(edges, trial.settings.sample)
    tried = sum(len(block) for block in blocks)
    with trial.reporter.stage(f"From the input: {name}", tried) as stage:

        def from_input() -> Tensor:
            parts = []
            for block in blocks:
                parts.append(judge.values(_without_each(graph, mask, edges[block])))
                stage.advance(len(block))
            return torch.cat(parts)

        rows, took = trial.clock(from_input, judge)
    scale = found.size / tried
    scaled = Took(took.seconds * scale, took.forwards * scale, round(took.evaluations * scale))
    costs.append(Cost(name, found.size, FROM_INPUT, None, scaled, tried))
    apart = float((rows - tested.without[torch.cat(blocks)]).abs().max()) / abs(judge.range)
    return costs, f"{name}: the two ways differ by {apart:.1e} of f at most, on a prompt."


def _sampled(edges: Tensor, most: int) -> list[Tensor]:
    """Batches as `singles` makes them, evenly spaced, of at most so many edges (one batch at least)."""
    blocks = list(edges[:, 1].argsort(stable=True).split(BATCH))
    kept = max(1, min(len(blocks), most // BATCH))
    return [blocks[place * len(blocks) // kept] for place in range(kept)]


def _without_each(graph: Graph, mask: Tensor, edges: Tensor) -> Tensor:
    masks = mask.repeat(len(edges), 1, 1)
    masks[torch.arange(len(edges)), edges[:, 0], edges[:, 1]] = False
    return clean(graph, masks)


def _start_of_pass(trial: Trial, rank: Rank, order: Tensor) -> tuple[str, Found, Target | None]:
    """The shortest prefix tried that has the size asked for and meets the target; else the first, with its own band."""
    first: Found | None = None
    asked = min(trial.settings.tested, trial.graph.n_edges)
    length = _prefix_of_size(trial.graph, order, asked)
    while True:
        mask = first_edges(trial.graph, order, length)
        found = Found(mask, trial.judge.faithfulness(mask[None])[0])
        first = first or found
        if trial.target.met(found.faithfulness):
            return f"{IG}, {rank}, f {found.faithfulness:.2f}", found, trial.target
        if length == len(order) or found.size >= LARGEST * asked:
            break
        length = min(len(order), int(length * GROWTH) + 1)
    nearest = min(first.faithfulness, 2 - first.faithfulness)
    own = Target(nearest) if nearest > 0 else None
    return f"{IG}, {rank}, f {first.faithfulness:.2f}, own band {own or ''}".strip(), first, own


def _prefix_of_size(graph: Graph, order: Tensor, size: int) -> int:
    """Length of the shortest prefix whose clean circuit has at least so many edges."""
    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        if int(first_edges(graph, order, middle).sum()) >= size:
            high = middle
        else:
            low = middle + 1
    return low


def _figure(cost: Cost) -> Figure:
    return Figure(
        f"minimality pass over {cost.edges:,} edges ({cost.circuit}): {cost.what}",
        f"<= {ASKED} forwards",
        f"{cost.took.forwards:.1f} forwards, {cost.took.seconds:.1f} s",
        cost.took.forwards <= ASKED,
    )


def _table(costs: list[Cost], checks: list[str]) -> Table:
    rows = tuple(
        (
            cost.circuit,
            f"{cost.edges:,}",
            cost.what,
            f"{cost.sampled:,}",
            *cost_cells(cost.took),
            f"{cost.took.evaluations:,}",
            "" if cost.left is None else f"{cost.left:,}",
        )
        for cost in costs
    )
    return Table(
        "Minimality pass",
        ("circuit", "edges", "what", "edges tried", "seconds", "forwards", "evaluations", "edges left"),
        rows,
        "Where fewer edges were tried than there are, in evenly spaced batches, seconds, forwards and evaluations are "
        "scaled up to all of them. The whole pass starts from the first prefix of at least the size asked for that is "
        "in the band; where none of up to twice the size is, from the one of the size asked for, with the band that "
        f"its own faithfulness is the end of. {' '.join(checks)}",
    )


def stability_part(trial: Trial, done: dict[str, Section]) -> Section:
    """Seconds of stability by every rank, and of scoring with and without every prompt's scores."""
    settings, metric = trial.settings, trial.judge.metric
    score = partial(score_edges, trial.view, trial.discovery, metric, trial.method(IG), batch_size=settings.batch_size)
    with trial.reporter.stage("Scoring, plain and by prompt"):
        unit = {PLAIN: partial(trial.forward, 1)}
        scoring = interleaved(unit, {name: partial(score, **how) for name, how in KINDS.items()}, settings.repeats)
    with trial.reporter.stage("Scores of every prompt"):
        scores = score(rms=True, per_example=True)
    assert scores.per_example is not None, "asked for"
    found: dict[str, Timing] = {}
    for rank in SEARCH_RANKS:
        mask = of_size(trial.graph, best_first(trial.graph, scores.both, rank), settings.tested)
        draws = (settings.resamples, settings.seed)
        resample = partial(score_stability, scores.per_example, mask, rank, int(mask.sum()), *draws)
        with trial.reporter.stage(f"Stability, {rank}"):
            found |= interleaved(unit, {rank: resample}, settings.repeats)
    names = {f"scoring: {name}": timing for name, timing in scoring.items()}
    names |= {f"stability of {settings.tested:,} edges, {rank}": timing for rank, timing in found.items()}
    plain = scoring["mean only"].median
    rows = tuple(
        (name, f"{timing.median:.2f}", f"{timing.worth(PLAIN):.2f}", f"{timing.median / plain:.2f}")
        for name, timing in names.items()
    )
    table = Table(
        f"Stability: {settings.resamples:,} resamples of {len(trial.discovery)} prompts",
        ("what", "seconds", "forwards", "times plain scoring"),
        rows,
        f"{IG} with {settings.points} points. Medians of {settings.repeats} runs in turns with the unit. Stability "
        "runs no model; it needs the last kind of scores, which the default run computes.",
    )
    slowest = max(timing.median for timing in found.values())
    figure = Figure(
        f"stability from {settings.resamples:,} resamples, slowest rank",
        f"<= {STABILITY_ASKED:g} s after scoring",
        f"{slowest:.2f} s",
        slowest <= STABILITY_ASKED,
    )
    return Section((table,), {name: asdict(timing) for name, timing in names.items()}, figures=(figure,))
