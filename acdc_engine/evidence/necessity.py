"""Which edges of a circuit the whole model cannot do without, one by one."""

import numpy as np

from acdc_engine.evidence import Stages, silent
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import Candidate
from acdc_engine.graph.evidence_records import Indispensable
from acdc_engine.graph.records import CircuitEdge
from acdc_engine.patch.evaluator import Variants
from acdc_engine.patch.judge import Judge, Target

_BATCH = 8
"""Edges tried at once; when none of a batch is indispensable, the rest is left alone."""
_MOST = 64
"""Edges tried at most: each costs what it reaches in a model of which everything runs."""


def indispensable(judge: Judge, circuit: Circuit, progress: Stages = silent) -> Indispensable:
    """Takes edges of a circuit out of the whole model, one at a time, and measures what is left.

        e is indispensable if f(M without e) < t        t: lower end of the target's band; without a target 0.9

    A circuit without an edge and a model without it are two questions: what the circuit lacks then, other edges of the
    model may make up for (backups). Edges are tried in the order of |score|, which is the first-order estimate of this
    very effect (|effect| where there are none), until 8 in a row are not indispensable; 64 at most.

    Cost: one exact evaluation per edge tried, near the whole model: it computes what the edge leads to, of everything.

    Args:
        judge: Judges by the search's objective on the discovery prompts; of several groups the lowest counts.
        circuit: Its edges, with their scores, and the target of its search.
        progress: Opens the stage.
    """
    graph, search = judge.graph, circuit.search
    target = None if search is None else search.target_faithfulness
    low = Target().faithfulness if target is None else target
    order = sorted(circuit.edges, key=_strength, reverse=True)[:_MOST]
    found: dict[str, float] = {}
    with progress("Indispensable edges", len(order)) as stage:
        for start in range(0, len(order), _BATCH):
            names = [edge.name for edge in order[start : start + _BATCH]]
            places = [np.ravel_multi_index(graph.parse_edge(name), graph.exists.shape) for name in names]
            without = tuple(Candidate(np.array([place], np.int64)) for place in places)
            values = [min(groups) for groups in judge.by_group(Variants(graph.exists, without))]
            found |= dict(zip(names, values, strict=True))
            stage.advance(len(names))
            if min(values) >= low:
                break
    return Indispensable(objective="kl" if judge.metric.name == "kl" else "faithfulness", low=low, without=found)


def _strength(edge: CircuitEdge) -> float:
    """What is likely to be missed most."""
    known = edge.effect if edge.score is None else edge.score
    return 0.0 if known is None else abs(known)
