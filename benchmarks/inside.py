"""What searching inside the circuit buys against one-shot top-k, for the task's metric and for KL.

One-shot is what everybody does: score once and keep the strongest edges, as many as reach the target or a given number.
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

from acdc_engine.errors import MethodError, SearchError
from acdc_engine.patch.judge import Judge, Target
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.search import RANKS, Choice, Found, Rank, Search, find_circuit
from acdc_engine.search.order import best_first, of_size, smallest_of_order
from benchmarks.report import Figure, Table
from benchmarks.trial import EAP, IG, IG_LEFT, Row, Section, Trial, cost_cells, interval_of, rows_table

METHODS = (EAP, IG, IG_LEFT)
PASS = "then the minimality pass"
DEFAULT = f"iterative, {PASS}"
EDGES_ASKED, HELD_OUT_ASKED = 100, (0.88, 1.12)
KL_SHARE_ASKED = 0.1
SIZES = "sizes"
"""The part whose circuits these are compared with."""


def one_shot_part(trial: Trial, done: dict[str, Section]) -> Section:
    """Smallest circuits of every method and rank that meet the target, and circuits of given sizes."""
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
    """The smallest circuit of one order of edges with which a judge sees a target met."""
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


def search_part(trial: Trial, done: dict[str, Section]) -> Section:
    """The default search, before and after the minimality pass, beside the best one-shot circuit."""
    rows, failed = list[Row](), list[str]()
    try:
        rows += _search(trial, trial.judge.metric.name, trial.judge, trial.target, "iterative", with_pass=True)
    except SearchError as error:
        failed.append(f"iterative: {error}")
    tables = [rows_table(f"Searching inside the circuit, target {trial.target}", rows, trial.target, " ".join(failed))]
    rivals = [row for row in done[SIZES].rows if row.edges < trial.graph.n_edges] if SIZES in done else []
    if rivals and rows:
        tables.append(_compared("What searching inside the circuit buys", rows, rivals))
    return Section(
        tables=tuple(tables),
        record={"rows": [asdict(row) for row in rows], "failed": failed},
        rows=tuple(rows),
        figures=tuple(f for row in rows if row.what == DEFAULT for f in _default_figures(row, trial.target)),
    )


def kl_part(trial: Trial, done: dict[str, Section]) -> Section:
    """Edges needed for the KL recovered that is asked for on held-out prompts: one-shot EAP-IG, and the search for KL.

    One-shot circuits are chosen on the held-out prompts themselves, in their favour. The search sees discovery prompts
    only; it is run for one target after the other until its circuit has the KL recovered asked for on held-out ones.
    """
    kl, metric, wanted = get_metric("kl"), trial.judge.metric.name, Target(trial.settings.kl_target)
    seen, unseen = Judge(trial.judge.evaluator, kl), Judge(trial.unseen.evaluator, kl)
    rivals: list[tuple[str, str, Rank]] = [(metric, IG_LEFT, "absolute"), (metric, IG, "absolute"), (metric, IG, "rms")]
    rivals += [("kl", IG_LEFT, "absolute"), ("kl", IG, "absolute"), ("kl", IG, "rms")]
    one_shot = [smallest_row(trial, *rival, unseen, wanted) for rival in rivals]
    ours, failed = list[Row](), list[str]()
    for aim in trial.settings.kl_aims:
        name = f"iterative for KL, {aim:g} on discovery prompts"
        try:
            ours += _search(trial, "kl", seen, Target(aim), name, trial.settings.kl_minimality)
        except SearchError as error:
            failed.append(f"{name}: {error}")
            continue
        if ours[-1].kl_recovered >= wanted.faithfulness:
            break
    note = (
        f"Asked for: KL recovered {wanted.faithfulness:g} on held-out prompts. One-shot circuits were chosen on those "
        "prompts ('searched' is of them), the search saw discovery prompts only."
    )
    good = [row for row in ours if row.kl_recovered >= wanted.faithfulness]
    return Section(
        tables=(
            rows_table("KL recovered", one_shot + ours, trial.target, " ".join((note, *failed))),
            _compared("What searching for KL inside the circuit buys", ours, one_shot),
        ),
        record={"one_shot": [asdict(row) for row in one_shot], "ours": [asdict(row) for row in ours], "failed": failed},
        rows=(*one_shot, *ours),
        figures=_kl_figures(min(good or ours, key=_edges), one_shot, wanted) if ours else (),
    )


def _search(trial: Trial, scores_of: str, judge: Judge, target: Target, name: str, with_pass: bool) -> list[Row]:
    scores = trial.scores(scores_of, IG)
    with trial.watched(f"Search: {name}") as report:
        search = Search(judge, scores, target, report)
        found, took = trial.clock(lambda: find_circuit(search, Choice.of("iterative")), judge)
        rows = [trial.row(name, found, took)]
    if with_pass:
        smaller, took = trial.minimality_pass(found, judge, target)
        rows.append(trial.row(f"{name}, {PASS}", smaller, took))
    return rows


def _edges(row: Row) -> int:
    return row.edges


def _compared(title: str, ours: Sequence[Row], rivals: Sequence[Row]) -> Table:
    """How many times more edges each one-shot circuit has than each of ours."""
    columns = ("one-shot", "edges", "f held out", *(f"times {row.what} ({row.edges:,})" for row in ours))
    rows = tuple(
        (one.what, f"{one.edges:,}", f"{one.faithfulness:.3f}", *(f"{one.edges / row.edges:.1f}" for row in ours))
        for one in sorted(rivals, key=_edges)
    )
    return Table(title, columns, rows, "Edges of the one-shot circuit over edges of ours; smallest one-shot first.")


def _default_figures(row: Row, target: Target) -> tuple[Figure, Figure]:
    low, high = HELD_OUT_ASKED
    shown = f"f {row.faithfulness:.3f} ({interval_of(row) or 'no interval'})"
    return (
        Figure(
            "edges of the default run, held-out f in the band",
            f"<= {EDGES_ASKED}, f in {target}",
            f"{row.edges:,} edges, {shown}, KL recovered {row.kl_recovered:.2f}, agreement {row.agreement:.0%}",
            row.edges <= EDGES_ASKED and target.met(row.faithfulness),
        ),
        Figure("held-out f of the default run", f"in [{low}, {high}]", shown, low <= row.faithfulness <= high),
    )


def _kl_figures(ours: Row, one_shot: Sequence[Row], wanted: Target) -> tuple[Figure, Figure]:
    """Against what others do (the first of the one-shot circuits), and against the smallest of all of them."""

    def figure(rival: Row, why: str) -> Figure:
        share = ours.edges / rival.edges
        return Figure(
            f"edges for KL recovered {wanted.faithfulness:g} held out, against {rival.what} ({why})",
            f"<= {KL_SHARE_ASKED:g} of its edges",
            f"{ours.edges:,} of {rival.edges:,}: {share:.3f}; KL recovered {ours.kl_recovered:.3f}, "
            f"agreement {ours.agreement:.0%}",
            share <= KL_SHARE_ASKED and ours.kl_recovered >= wanted.faithfulness,
        )

    return figure(one_shot[0], "what others do"), figure(min(one_shot, key=_edges), "the smallest one-shot")
