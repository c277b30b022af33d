"""The stops of the viewer's slider over sizes, which edges are there at each, and the larger sizes beside them."""

from __future__ import annotations

from typing import Literal

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Figures, SizePoint
from acdc_engine.graph.looks import by_strength, measure_of
from acdc_engine.graph.records import CircuitEdge
from acdc_engine.show.strongest import on_paths
from acdc_engine.show.viewer.records import ViewSize

_STOPS = 24


def larger_of(circuit: Circuit) -> tuple[ViewSize, ...]:
    """Sizes beyond the circuit's own that were measured, smallest first. Their edges are not in the file."""
    points = sorted((point for point in circuit.sizes if point.kind == "more"), key=lambda point: point.requested)
    return tuple(_stop("more", point.requested, point.edges, point, point.random) for point in points)


def slider_stops(circuit: Circuit) -> tuple[tuple[ViewSize, ...], dict[CircuitEdge, int]]:
    """Lays out the slider: measured sizes where the file has them, otherwise some without faithfulness.

    A part is the strongest edges, less those on no path from input to logits. Of a larger part more edges lie on paths,
    so an edge that is there once stays.

    Returns:
        The sizes, smallest first, the circuit last; and for every edge the index of the first that has it.
    """
    order = by_strength(circuit)
    stops = [*_parts(circuit), _whole(circuit)]
    sizes: list[ViewSize] = []
    appears: dict[CircuitEdge, int] = {}
    for stop in stops:
        there = order if stop.kind == "circuit" else on_paths(circuit, order[: stop.requested])
        if stop.kind == "part" and stop.faithfulness is None:
            if len(there) == len(appears):
                continue  # nothing new to see, and nothing measured
            stop = stop.model_copy(update={"edges": len(there)})
        for edge in there:
            appears.setdefault(edge, len(sizes))
        sizes.append(stop)
    return tuple(sizes), appears


def _parts(circuit: Circuit) -> list[ViewSize]:
    n = len(circuit.edges)
    measured = [point for point in circuit.sizes if point.kind == "part" and point.requested < n]
    if measured:
        return [
            _stop("part", point.requested, point.edges, point, point.random)
            for point in sorted(measured, key=lambda point: point.requested)
        ]
    if measure_of(circuit) is None:
        return []
    counts = {round(n ** (step / _STOPS)) for step in range(1, _STOPS)}
    return [ViewSize(kind="part", requested=count, edges=0) for count in sorted(counts - {n})]


def _whole(circuit: Circuit) -> ViewSize:
    n = len(circuit.edges)
    known = next((point for point in circuit.sizes if point.kind == "circuit"), None)
    random = () if known is None else known.random
    if circuit.evaluation is not None:
        if circuit.evaluation.random_circuits is not None:  # more of them
            random = circuit.evaluation.random_circuits.faithfulness
        return _stop("circuit", n, n, circuit.evaluation.held_out, random)
    return ViewSize(kind="circuit", requested=n, edges=n) if known is None else _stop("circuit", n, n, known, random)


def _stop(
    kind: Literal["part", "circuit", "more"],
    requested: int,
    edges: int,
    figures: Figures | SizePoint,
    random: tuple[float, ...],
) -> ViewSize:
    interval = figures.faithfulness_interval
    return ViewSize(
        kind=kind,
        requested=requested,
        edges=edges,
        faithfulness=figures.faithfulness,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        kl_recovered=figures.kl_recovered,
        random_low=min(random, default=None),
        random_high=max(random, default=None),
    )
