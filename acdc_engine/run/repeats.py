"""The search, repeated on halves of the discovery prompts: how far what it finds depends on them.

found = lab.minimal(lab.search(lab.score("eap-ig"), target=0.9))
circuit = with_repeats(lab, lab.circuit(found), list(repeated(lab, found, 8)), 8)
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from acdc_engine.errors import BehaviourError, MethodError, SearchError
from acdc_engine.evidence.figures import figures_of
from acdc_engine.evidence.repeats import (
    check_halves,
    check_kept,
    core_of,
    core_record,
    halves,
    repeats_of,
    scores_of,
    with_inclusion,
)
from acdc_engine.experiment import Experiment
from acdc_engine.graph.circuit import Circuit
from acdc_engine.search import Choice, Report, nobody
from acdc_engine.search.strategies import Selection


def repeated(lab: Experiment, found: Selection, count: int, report: Report = nobody) -> Iterator[Selection | None]:
    """Searches again on halves of the discovery prompts, as `found` was searched.

    Each half is searched with the scores of its own prompts, and judged on them alone; the minimality pass follows
    where the strategy ends in one and the edges of `found` were tested. Half of the prompts, because a mean over them
    strays from that over all as far as the latter does from that of as many other prompts (docs/method.md). Each second
    half holds the prompts that the one before it does not. The first halves do not depend on `count`.

    Cost: so many searches on half of the prompts, without their scores, which are there.

    Yields:
        The circuit of each half, as soon as it is found; None where none meets the target.

    Raises:
        MethodError: `found` is of no search with a target, scores of single prompts were not kept, or there are too few
            prompts; before the first search.
    """
    first = found.first_target
    if found.search is None or first is None:
        raise MethodError("Only a search with a target can be repeated: elsewhere the size is given, not found.")
    prompts = lab.prompts
    check_halves(len(prompts), prompts.templates)
    assert found.scores is not None, "a search has them"
    check_kept(found.scores)
    given: dict[str, Any] = dict(found.search.settings)
    choice = Choice.of(found.search.strategy, objective=lab.aim, **given)
    drops = choice.parameters.minimal and found.tested is not None
    for rows in islice(halves(prompts, lab.seed), count):
        half, again = lab.on(prompts.select(rows)), None
        try:
            scores, aim = scores_of(found.scores, rows), first.faithfulness
            again = half.search(scores, aim, choice, report=report)
            again = half.minimal(again, report=report) if drops else again
        except (SearchError, BehaviourError):  # nothing smaller in the target, or nothing that a circuit could do
            again = None
        finally:
            lab.elsewhere += half.exact_evaluations - lab.exact_evaluations
        yield again


def with_repeats(
    lab: Experiment, circuit: Circuit, again: Sequence[Selection | None], asked: int, *, judged: bool = True
) -> Circuit:
    """The circuit with what the repeats of its search say of it: how often each edge is found, and the core.

    Args:
        lab: The experiment that it was found in.
        circuit: The circuit of all discovery prompts.
        again: What `repeated` gave, so far.
        asked: Repeats that were to be made.
        judged: Whether to run the core on the held-out prompts, where there are any; one exact evaluation.
    """
    graph, found, core = lab.graph, [one.mask for one in again if one is not None], None
    if len(found) > 1:
        mask = core_of(graph, found)
        runs = judged and lab.held_out is not None and bool(mask.any())
        core = core_record(graph, mask, figures_of(lab.held_out_judge, mask, lab.seed) if runs else None)
    n_half = len(lab.prompts) // 2
    record = repeats_of(graph, circuit.mask(), found, asked, len(again) - len(found), n_half, core)
    return with_inclusion(circuit, found).model_copy(update={"repeats": record})
