"""What a circuit file says of each edge, and the certificate, from the exact tests of single edges."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from acdc_engine.evidence import Mask, Scores
from acdc_engine.evidence.resampling import necessity, score_stability
from acdc_engine.graph.evidence_records import Certificate
from acdc_engine.graph.nodes import edges_of_mask
from acdc_engine.graph.records import CircuitEdge
from acdc_engine.patch.judge import Judge, Target
from acdc_engine.search import Minimal, check_rank, nobody, singles


@dataclass(frozen=True)
class EdgeEvidence:
    """Figures of every edge of a circuit, edges in the order of `mask.nonzero()`.

    Attributes:
        value: The objective of the whole circuit: faithfulness in the metric, or share of KL recovered.
        effects: `m(C) - m(C without e)`, in units of the metric; positive where the edge supports the behaviour.
        without: The objective of the circuit without each edge.
        necessity: See `acdc_engine.evidence.necessity`; None without a target.
        certificate: That no single edge can go; None without a target.
    """

    value: float
    effects: tuple[float, ...]
    without: tuple[float, ...]
    necessity: tuple[float, ...] | None
    certificate: Certificate | None


def in_metric(
    tested: Minimal, objective: Judge, judge: Judge, progress: Callable[[int, int], None] = nobody
) -> Minimal:
    """The tests of single edges, `tested` in the objective, by the metric.

    Where that is another one, every edge is run once more; `progress` is called with edges run and edges to run.
    """
    if judge.metric.name == objective.metric.name:
        return tested
    return singles(judge, tested.found, None, progress)


def edge_evidence(
    tested: Minimal, by_metric: Minimal | None, objective: Judge, target: Target | None, seed: int = 0
) -> EdgeEvidence:
    """Turns the exact tests of single edges, in the objective, into figures.

    `by_metric` are the same by the metric, see `in_metric`; None for no effects (NaN). Without a target the circuit
    claims no band. `seed` is that of the bootstrap.
    """
    value = objective.faithfulness_of(tested.whole)
    without = tuple(objective.faithfulness_of(row) for row in tested.without)
    needed, certificate = None, None
    if target is not None:
        values = tested.without, tested.whole, objective.clean, objective.ablated
        needed = tuple(necessity(*values, target, seed=seed).tolist())
        certificate = Certificate(
            objective="kl" if objective.metric.name == "kl" else "faithfulness",
            low=target.faithfulness,
            high=target.upper,
            value=value,
            minimal=target.met(value) and bool(tested.needed.all()),
        )
    effects = (math.nan,) * len(without)
    if by_metric is not None:
        effects = tuple((by_metric.whole.double().mean() - by_metric.without.double().mean(1)).tolist())
    return EdgeEvidence(value, effects, without, needed, certificate)


def edge_records(
    judge: Judge, mask: Mask, scores: Scores | None, evidence: EdgeEvidence | None, stability: Scores | None
) -> tuple[CircuitEdge, ...]:
    """The edges of a circuit file, in the graph's order, with all that is known of them."""
    known: dict[str, Sequence[float] | None] = {"stability": None if stability is None else stability[mask].tolist()}
    if evidence is not None:
        known |= {"effect": evidence.effects, "without": evidence.without, "necessity": evidence.necessity}
    edges = enumerate(edges_of_mask(judge.graph, mask, scores))
    return tuple(edge.model_copy(update={name: _number(known[name], row) for name in known}) for row, edge in edges)


def stability_of(
    per_example: Float[Tensor, "examples senders receivers"] | None, mask: Mask, rank: str, seed: int
) -> Scores | None:
    """How often each edge is among the first so many as the circuit has, see `score_stability`."""
    if per_example is None:
        return None
    return score_stability(per_example, mask, check_rank(rank), int(mask.sum()), seed=seed)


def _number(values: Sequence[float] | None, row: int) -> float | None:
    value = math.nan if values is None else values[row]
    return value if math.isfinite(value) else None
