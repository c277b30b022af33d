"""One of several models on a task: its behaviour, the scores of its edges, and its circuit, for `acdc diff`."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from acdc_engine.display import counted
from acdc_engine.errors import BehaviourError, SearchError
from acdc_engine.evidence.figures import behaviour_of
from acdc_engine.experiment import Experiment
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.diff_records import DiffModel
from acdc_engine.patch.judge import Judge
from acdc_engine.run.progress import Reporter
from acdc_engine.run.settings import Settings
from acdc_engine.score import EdgeScores
from acdc_engine.search.strategies import Selection


@dataclass
class OneModel:
    """A model by itself: its experiment, its scores, and its circuit or why there is none."""

    lab: Experiment
    scores: EdgeScores
    record: DiffModel
    circuit: Circuit | None


def judge_of(name: str, lab: Experiment) -> Judge:
    """On the held-out prompts; says of which model it is that they say nothing of."""
    try:
        return lab.held_out_judge
    except BehaviourError as error:
        raise BehaviourError(f"The {name} model: {error}") from error


def one_model(name: str, lab: Experiment, chosen: Settings, report: Reporter, *, per_example: bool = False) -> OneModel:
    """Measures a model's behaviour, scores its edges (of single prompts too, for `per_example`), finds its circuit.

    Raises:
        BehaviourError: Its metric is the same on the corrupt held-out prompts.
    """
    behaviour, problems = behaviour_of(judge_of(name, lab))
    with report.stage(f"Scoring all edges, {name} model", len(lab.prompts)) as stage:
        scores = lab.score(chosen.method, steps=chosen.steps, per_example=per_example, progress=stage.advance)
    about: dict[str, Any] = {"model": lab.view.model_record()}
    about |= {"metric_clean": behaviour.metric_clean, "metric_corrupt": behaviour.metric_ablated}
    about |= {"accuracy": behaviour.accuracy, "doubt": problems[0].text if problems else None}
    circuit, reason = None, None
    try:
        with report.stage(f"Circuit of the {name} model") as stage:
            circuit = lab.judged(searched(lab, scores, chosen.faithfulness, stage.say), n_random=0)
    except (BehaviourError, SearchError) as error:
        reason = str(error)
    size = None if circuit is None else len(circuit.edges)
    return OneModel(lab, scores, DiffModel(**about, edges=size, reason=reason), circuit)


def searched(lab: Experiment, scores: EdgeScores, target: float, say: Callable[[str], None]) -> Selection:
    """A minimal circuit; edges that move the metric the way the whole does come first."""
    sign = 1.0 if lab.judge.range > 0 else -1.0
    oriented = replace(scores, mean=scores.mean * sign)
    found = lab.search(oriented, target, report=lambda what, one, met: say(f"{counted(one.size, 'edge')}, {what}"))
    return replace(lab.with_effects(lab.minimal(found)), scores=scores)
