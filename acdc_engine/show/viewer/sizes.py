"""The slider over sizes of a circuit: measured parts of it, or some that are not measured."""

from __future__ import annotations

from typing import Literal

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Figures, SizePoint
from acdc_engine.graph.style import by_strength, measure_of
from acdc_engine.show.pictures.layered import on_paths
from acdc_engine.show.viewer.records import ViewSize

_STOPS = 24  # of the slider, where no sizes were measured


def slider(circuit: Circuit) -> tuple[tuple[ViewSize, ...], dict[str, int]]:
    """Lays out the slider: measured sizes where the file has them, otherwise some without faithfulness.

    A part is the strongest edges, less those on no path from input to logits. Of a larger part more edges lie on paths,
    so an edge that is there once stays. Returns the sizes, smallest first, the circuit last; and for every edge, by
    name, the index of the first that has it.
    """
    order, n = by_strength(circuit), len(circuit.edges)
    stops = [size for size in measured(circuit, "part") if size.requested < n]
    if not stops and measure_of(circuit) is not None:
        counts = {round(n ** (step / _STOPS)) for step in range(1, _STOPS)} - {n}
        stops = [ViewSize(kind="part", requested=count, edges=0) for count in sorted(counts)]
    sizes: list[ViewSize] = []
    appears: dict[str, int] = {}
    for stop in stops:
        there = on_paths(circuit, order[: stop.requested])
        if stop.faithfulness is None:
            if len(there) == len(appears):
                continue  # nothing new to see, and nothing measured
            stop = stop.model_copy(update={"edges": len(there)})
        for edge in there:
            appears.setdefault(edge.name, len(sizes))
        sizes.append(stop)
    for edge in order:
        appears.setdefault(edge.name, len(sizes))
    return (*sizes, _whole(circuit)), appears


def _whole(circuit: Circuit) -> ViewSize:
    n, evaluation = len(circuit.edges), circuit.evaluation
    known = next((point for point in circuit.sizes if point.kind == "circuit"), None)
    random = () if known is None else known.random
    if evaluation is not None and evaluation.random_circuits is not None:  # more of them
        random = evaluation.random_circuits.faithfulness
    return _size("circuit", n, n, known if evaluation is None else evaluation.held_out, random)


def measured(circuit: Circuit, kind: Literal["part", "more"]) -> list[ViewSize]:
    """The sizes of one kind that the file has figures of."""
    points = sorted((point for point in circuit.sizes if point.kind == kind), key=lambda point: point.requested)
    return [_size(kind, point.requested, point.edges, point, point.random) for point in points]


def _size(
    kind: Literal["part", "circuit", "more"],
    requested: int,
    edges: int,
    figures: Figures | SizePoint | None,
    random: tuple[float, ...],
) -> ViewSize:
    if figures is None:
        return ViewSize(kind=kind, requested=requested, edges=edges)
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
