"""The number that ranks a circuit's edges, and its colours: the same in text, pictures and DOT."""

from __future__ import annotations

from typing import Literal

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_records import CircuitEdge

# Blue and vermilion of Okabe and Ito's palette: told apart with every kind of colour blindness.
POSITIVE = "#0072B2"
NEGATIVE = "#D55E00"
UNKNOWN = "#777777"

Measure = Literal["effect", "score"]


def measure_of(circuit: Circuit) -> Measure | None:
    """Chooses what edges are ranked by, one measure for all, because the two are not on one scale.

    Returns:
        `effect` where every edge has one, else `score` where any has one, else None.
    """
    if circuit.edges and all(edge.effect is not None for edge in circuit.edges):
        return "effect"
    return "score" if any(edge.score is not None for edge in circuit.edges) else None


def strength_of(edge: CircuitEdge, measure: Measure | None) -> float | None:
    """The edge's effect or score; None where it is unknown."""
    return None if measure is None else (edge.effect if measure == "effect" else edge.score)


def by_strength(circuit: Circuit) -> list[CircuitEdge]:
    """The edges with the largest absolute strength first, unknown ones last, ties in the file's order."""
    measure = measure_of(circuit)
    return sorted(circuit.edges, key=lambda edge: -abs(strength_of(edge, measure) or 0.0))


def relative_strengths(circuit: Circuit) -> dict[CircuitEdge, float]:
    """Absolute strength of each edge as a share of the strongest; 0.5 for all when none is known."""
    measure = measure_of(circuit)
    known = {edge: abs(strength_of(edge, measure) or 0.0) for edge in circuit.edges}
    largest = max(known.values(), default=0.0)
    return {edge: value / largest if largest else 0.5 for edge, value in known.items()}


def colour_of(strength: float | None) -> str:
    """Blue where the edge supports the behaviour, orange where it works against it, grey where unknown."""
    if strength is None:
        return UNKNOWN
    return POSITIVE if strength >= 0 else NEGATIVE
