"""What stability costs: resampling the scores of single prompts, and keeping those scores in the first place."""

from dataclasses import asdict
from functools import partial

from acdc_engine.evidence.resampling import score_stability
from acdc_engine.score import score_edges
from acdc_engine.search import RANKS
from acdc_engine.search.order import best_first, of_size
from benchmarks.report import Table
from benchmarks.section import Figure, Section
from benchmarks.timing import PLAIN, Timing, interleaved
from benchmarks.trial import IG, Trial

ASKED = 10.0
"""Seconds that stability may take after scoring."""
KINDS = {
    "mean only": {},
    "mean and root mean square": {"rms": True},
    "and every prompt's scores": {"rms": True, "per_example": True},
}


def stability_part(trial: Trial, done: dict[str, Section]) -> Section:
    """Seconds of stability by every rank, and of scoring with and without every prompt's scores.

    Args:
        trial: The task.
        done: Earlier parts; none is needed.
    """
    settings, metric = trial.settings, trial.judge.metric
    score = partial(score_edges, trial.view, trial.discovery, metric, trial.method(IG), batch_size=settings.batch_size)
    with trial.reporter.stage("Scoring, plain and by prompt"):
        unit = {PLAIN: partial(trial.forward, 1)}
        scoring = interleaved(unit, {name: partial(score, **how) for name, how in KINDS.items()}, settings.repeats)
    with trial.reporter.stage("Scores of every prompt"):
        scores = score(rms=True, per_example=True)
    assert scores.per_example is not None, "asked for"
    found: dict[str, Timing] = {}
    for rank in RANKS:
        mask = of_size(trial.graph, best_first(trial.graph, scores.both, rank), settings.tested)
        resample = partial(
            score_stability, scores.per_example, mask, rank, int(mask.sum()), settings.resamples, settings.seed
        )
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
        f"<= {ASKED:g} s after scoring",
        f"{slowest:.2f} s",
        slowest <= ASKED,
    )
    return Section((table,), {name: asdict(timing) for name, timing in names.items()}, figures=(figure,))
