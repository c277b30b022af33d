"""What a run does so that its target holds on prompts it has not searched on; `acdc_engine.search.margin` says why."""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from acdc_engine.display import counted
from acdc_engine.errors import SearchError
from acdc_engine.experiment import Experiment
from acdc_engine.graph.records import Validated, nearest
from acdc_engine.patch.judge import Target, farthest
from acdc_engine.run.steps import Steps
from acdc_engine.score import EdgeScores
from acdc_engine.score.edge_scores import joined
from acdc_engine.search import Found
from acdc_engine.search.margin import ROUNDS, corrections, more_rows, narrow, settled, worth_it
from acdc_engine.search.strategies import Selection

if TYPE_CHECKING:
    from acdc_engine.run.discover import Run


def validated(run: "Run", found: Selection, steps: Steps) -> Selection:
    """Searches on while the circuit does not lie well inside the target on the validation prompts: see `margin`.

    Returns:
        Of the circuits that it came to the one that lies nearest to 1 there.
    """
    tried, labs = list[Validated](), list[tuple[Selection, Experiment]]()
    target, peak = Target(run.settings.faithfulness), run.lab.objective_metric.zero_gradient_at_clean
    while (values := _elsewhere(run, found, steps)) is not None:
        judge = run.lab.validation_judge
        by_group, errors = judge.by_group_of(values), judge.standard_errors(values)
        value = farthest(by_group)
        error = errors[by_group.index(value)]
        tried.append(Validated(n_discovery=len(run.lab.prompts), edges=found.size, value=value, standard_error=error))
        labs.append((found, run.lab))
        if settled(target, value, error, peak) or len(tried) == ROUNDS:
            break
        rows = more_rows(run.pool, len(run.rows)) or run.rows
        run.report.note(
            f"On {len(values)} validation prompts the {steps.called} of the circuit, {counted(found.size, 'edge')}, is "
            f"{value:.3f} +- {error:.3f}{' in one template' * run.lab.each_template}, not well inside {target}: the "
            f"search goes on with {len(rows)} discovery prompts and that correction."
        )
        further = _further(run, found, steps, rows, by_group)
        if further is None or torch.equal(further.mask, found.mask):
            break
        found = further
    if not tried:  # the time was over before
        return found
    found, lab = labs[tried.index(nearest(tried))]
    lab.elsewhere += run.lab.exact_evaluations - lab.exact_evaluations
    run.lab = lab
    run.report.over(lab.prompts, lab.batch_size)
    assert found.search is not None, "a search has found it"
    return replace(found, search=found.search.model_copy(update={"validated": tuple(tried)}))


def _elsewhere(run: "Run", found: Selection, steps: Steps) -> Float[Tensor, "prompts"] | None:
    """The objective of every validation prompt; None where the time is over."""
    values = None
    if not steps.unfinished:
        with run.report.stage("Validation") as stage, steps.watched(stage):
            values = run.lab.validation_judge.values(found.mask[None])[0]
    return values


def _further(
    run: "Run", start: Selection, steps: Steps, rows: list[int], elsewhere: tuple[float, ...]
) -> Selection | None:
    """What the search comes to from a circuit, corrected by its f on the validation prompts.

    New ones among the discovery prompts are scored; where the corrected search leads nowhere, they are searched on
    as they are.

    Returns:
        None where that is nothing, or the time is over before.
    """
    assert start.scores is not None, "a search has found it"
    scores, new, target = start.scores, sorted(set(rows) - set(run.rows)), Target(run.settings.faithfulness)
    aim = narrow(target, run.lab.objective_metric.zero_gradient_at_clean)
    run.lab = run.lab.corrected(())
    if new:
        scores = joined(scores, run.rows, run.scored(run.lab.on(run.pool.select(new))), new)
        run.rows, run.lab = rows, run.lab.on(run.pool.select(rows))
        run.report.over(run.lab.prompts, run.lab.batch_size)
    start = replace(start, faithfulness=farthest(elsewhere))
    with run.report.stage("Pruning") as stage, steps.watched(stage):
        steps.go_on_from(start, aim)
        run.lab = run.lab.corrected(corrections(run.lab.objective, start, elsewhere))
    found = _gone_on(run, start, scores, steps, aim)
    if found is None and target.inner_half.met(steps.best.faithfulness):  # as near as it came
        found = _gone_on(run, steps.best, scores, steps, target.inner_half)
    if found is None and new:  # too far off to be corrected: the new prompts may tell
        run.lab = run.lab.corrected(())
        found = _gone_on(run, start, scores, steps, target.inner_half)
    return None if steps.unfinished else found


def _gone_on(run: "Run", start: Found, scores: EdgeScores, steps: Steps, aim: Target) -> Selection | None:
    """What the search comes to from a circuit; None where that is nothing in the band, itself if that will do."""
    if steps.unfinished:
        return None
    run.aim = aim
    steps.go_on_from(start, aim)
    try:
        found = run.pruned(scores, steps, start)
        if not steps.unfinished and not worth_it(Target(run.settings.faithfulness), start, found):
            return run.selection(start, scores)
        return run.tested(found, steps)
    except SearchError:
        return None
