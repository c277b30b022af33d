"""What everybody does: score once and keep the strongest edges, as many as reach the target or a given number."""

from dataclasses import asdict
from functools import partial

from acdc_engine.errors import MethodError
from acdc_engine.patch.judge import Judge, Target
from acdc_engine.search import RANKS, Found, Rank, Search
from acdc_engine.search.order import best_first, of_size, smallest_of_order
from benchmarks.report import Table
from benchmarks.section import Section, cost_cells, rows_table
from benchmarks.trial import EAP, IG, IG_LEFT, Row, Trial

METHODS = (EAP, IG, IG_LEFT)


def one_shot_part(trial: Trial, done: dict[str, Section]) -> Section:
    """Smallest circuits of every method and rank that meet the target, and circuits of given sizes.

    Args:
        trial: The task.
        done: Earlier parts; none is needed.
    """
    metric, smallest, sized = trial.judge.metric.name, list[Row](), list[Row]()
    for method in METHODS:
        for rank in RANKS:
            smallest.append(smallest_row(trial, metric, method, rank, trial.judge, trial.target))
            sized += _rows_of_sizes(trial, metric, method, rank)
    note = "The smallest circuit seen among prefixes of doubling length and a bisection to 3 % of it."
    return Section(
        tables=(
            rows_table(f"One-shot top-k: smallest that meets {trial.target}", smallest, trial.target, note),
            rows_table("One-shot top-k: given sizes", sized, trial.target, "One exact evaluation each."),
            scoring_table(trial),
        ),
        record={"smallest": [asdict(row) for row in smallest], "sizes": [asdict(row) for row in sized]},
        rows=tuple(smallest),
    )


def smallest_row(trial: Trial, metric: str, method: str, rank: Rank, judge: Judge, target: Target) -> Row:
    """The smallest circuit of one order of edges that meets a target.

    Args:
        trial: The task.
        metric: Whose scores.
        method: Which scores.
        rank: How they rank edges.
        judge: Decides whether the target is met.
        target: The band.
    """
    graph, name = trial.graph, f"{method} of {metric}, {rank}"
    scores = trial.scores(metric, method)
    order = best_first(graph, scores, rank)
    with trial.watched(f"Smallest by {name}") as report:
        found, took = trial.clock(lambda: smallest_of_order(Search(judge, scores, target, report), order), judge)
        return trial.row(name, found, took)


def _rows_of_sizes(trial: Trial, metric: str, method: str, rank: Rank) -> list[Row]:
    graph, judge, rows = trial.graph, trial.judge, list[Row]()
    order = best_first(graph, trial.scores(metric, method), rank)
    sizes = [size for size in trial.settings.sizes if size < graph.n_edges]
    with trial.reporter.stage(f"Sizes by {method}, {rank}", len(sizes)) as stage:
        for size in sizes:
            stage.advance()
            try:
                mask = of_size(graph, order, size)
            except MethodError:  # no prefix is connected and that small
                continue
            (value,), took = trial.clock(partial(judge.faithfulness, mask[None]), judge)
            rows.append(trial.row(f"{method} of {metric}, {rank}, up to {size:,}", Found(mask, value), took))
    return rows


def scoring_table(trial: Trial) -> Table:
    """What the scorings so far took."""
    rows = tuple((name, *cost_cells(took)) for name, took in trial.scoring.items())
    return Table(
        "Scoring all edges", ("scores", "seconds", "forwards"), rows, "Mean and root mean square over prompts."
    )
