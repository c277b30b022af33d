"""Results in one line of text: what Python shows of them at a prompt, and notebooks where HTML is not shown.

The records hold thousands of numbers, which pydantic would print all of. Strangers' texts are cut, and their control
characters shown as escapes.
"""

from __future__ import annotations

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Evaluation
from acdc_engine.graph.records import ModelRecord
from acdc_engine.graph.result_records import Comparison, Curve
from acdc_engine.show.notebook_evidence import Verified
from acdc_engine.show.notebook_scores import Scores
from acdc_engine.show.visible import plain

_LONGEST = 80


def circuit_line(circuit: Circuit) -> str:
    """Task, model, size and held-out faithfulness."""
    found = "" if circuit.evaluation is None else f", faithfulness {circuit.evaluation.held_out.faithfulness:.3f}"
    where = _where(circuit.behaviour_name, circuit.model)
    return f"<Circuit {where}: {len(circuit.edges)} edges, {len(circuit.nodes)} nodes{found}>"


def curve_line(curve: Curve) -> str:
    """Task, model, and what was followed over how many sizes."""
    sizes = max((len(series.points) for series in curve.series), default=0)
    left = "" if curve.complete else ", unfinished"
    return f"<Curve {_where(curve.task.name, curve.model)}: {len(curve.series)} series of {sizes} sizes{left}>"


def comparison_line(comparison: Comparison) -> str:
    """Whose circuits, and how many edges they share."""
    shared = [
        f": {edges.n_both} of {edges.n_true} known edges among {edges.n_found}"
        for edges in comparison.overlaps
        if edges.scope == "edges" and edges.mlps
    ]
    return f"<Comparison of {_text(comparison.found)} with {_text(comparison.known)}{''.join(shared)}>"


def evaluation_line(evaluation: Evaluation) -> str:
    """The two figures to read first."""
    held_out = evaluation.held_out
    return (
        f"<Evaluation on {held_out.n_prompts} held-out prompts: faithfulness {held_out.faithfulness:.3f}, "
        f"KL recovered {held_out.kl_recovered:.3f}>"
    )


def scores_line(scores: Scores) -> str:
    """How the edges were scored, and of how large a graph."""
    n_senders, n_receivers = scores.mean.shape
    by = f" by {_text(scores.method)}" if scores.method else ""
    return f"<EdgeScores{by}: {n_senders} senders, {n_receivers} receivers>"


def verification_line(found: Verified) -> str:
    """The verdict."""
    failing, claims = len(found.failing), len(found.claims)
    verdict = f"{failing} of {claims} claims do not hold" if failing else f"all {claims} claims hold"
    return f"<Verification of {_text(found.path)}: {verdict}>"


def _where(task: str | None, model: ModelRecord) -> str:
    return _text(model.name) if task is None else f"{_text(task)} in {_text(model.name)}"


def _text(text: str) -> str:
    return plain(text, _LONGEST)
