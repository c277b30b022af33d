"""Faithfulness against size: parts of a circuit and larger ones; and the areas below a method's whole curve."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

import torch
from scipy import integrate

from acdc_engine.errors import MethodError
from acdc_engine.evidence import Mask, Scores, Stages, silent
from acdc_engine.evidence.figures import prompt_values
from acdc_engine.evidence.random_circuits import random_circuits
from acdc_engine.evidence.resampling import ratio_interval
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.evidence_records import SizePoint
from acdc_engine.graph.result_records import Area
from acdc_engine.graph.style import by_strength, measure_of
from acdc_engine.patch.judge import Judge

_PARTS = 8
"""Sizes below the circuit's own, in a geometric series."""
_SMALLEST = 3
"""Edges of the smallest part, unless it takes more to join input and logits."""
_FACTORS = (2, 4, 8)
"""Larger circuits, in multiples of the circuit's size."""
_MOST_EDGES = 4_000
"""No circuit is made larger than this."""
_DRAWS = ((200, 5), (1_000, 2))
"""Random circuits per size, up to so many edges, and none above: the more edges, the more a random circuit costs and
the less its faithfulness varies."""

_Kind = Literal["part", "circuit", "more"]
MIB_SIZES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Fractions of the graph's edges at which MIB runs circuits."""


def sizes_of(
    judge: Judge,
    circuit: Circuit,
    scores: Scores | None = None,
    *,
    seed: int = 0,
    progress: Stages = silent,
) -> tuple[SizePoint, ...]:
    """Judges parts of a circuit, the circuit, and the circuit with more edges.

    Parts are made of the edges with the largest |effect| (|score| where effects are not known; without either there are
    none), in a geometric series from where something first is left after cleaning. Larger circuits are made of all of
    the circuit's edges and the others with the largest scores. All are cleaned, so each holds the ones before it; sizes
    at which cleaning leaves nothing new are left out.

    Cost in exact evaluations: one per size and 5 per size of at most 200 edges, 2 per size of at most 1,000; 72 at
    most.

    The judge is that of the held-out prompts. Scores are of all edges, larger for more of the behaviour: signed, or
    root mean square under KL; without them no larger circuits are made. `seed` is that of all that is drawn.

    Returns:
        The smallest first. Empty where no path of the circuit leads from input to logits.
    """
    graph = judge.graph
    masks = _plan(graph, circuit, scores)
    found = []
    with progress("Other sizes", sum(1 + _draws(edges) for edges in masks)) as stage:
        for edges, (kind, asked, mask) in sorted(masks.items()):
            values = prompt_values(judge, mask)
            stage.advance()
            random = []
            for drawn in random_circuits(graph, edges, _draws(edges), seed):
                random += judge.faithfulness(drawn[None])
                stage.advance()
            found.append(
                SizePoint(
                    kind=kind,
                    requested=asked,
                    edges=edges,
                    faithfulness=judge.faithfulness_of(values.metric),
                    faithfulness_interval=ratio_interval(values.metric, judge.clean, judge.ablated, seed),
                    kl_recovered=values.kl_recovered,
                    random=tuple(random),
                )
            )
    return tuple(found)


def _plan(graph: Graph, circuit: Circuit, scores: Scores | None) -> dict[int, tuple[_Kind, int, Mask]]:
    """What to judge by its number of edges: its kind, the edges before cleaning, and the edges."""
    plan: list[tuple[_Kind, int, Mask]] = [
        *(("more", asked, mask) for asked, mask in reversed(list(_larger(graph, circuit, scores)))),
        *(("part", asked, mask) for asked, mask in reversed(list(_parts(graph, circuit)))),
        ("circuit", len(circuit.edges), clean(graph, circuit.mask())),
    ]
    # Each holds the smaller ones, so two of one size are the same: the last counts, which asked for least.
    masks = {int(mask.sum()): (kind, asked, mask) for kind, asked, mask in plan}
    masks.pop(0, None)
    return masks


def _draws(edges: int) -> int:
    return next((draws for most, draws in _DRAWS if edges <= most), 0)


def _parts(graph: Graph, circuit: Circuit) -> Iterator[tuple[int, Mask]]:
    """Edges before cleaning, and what is left of them; nothing where no edge is known to be stronger than another."""
    if measure_of(circuit) is None:
        return
    places = [(graph.sender_index(e.sender), graph.receiver_index(e.into)) for e in by_strength(circuit)]

    def strongest(count: int) -> Mask:
        mask = torch.zeros_like(graph.exists)
        mask[tuple(torch.tensor(places[:count]).T)] = True
        return clean(graph, mask)

    low, high = min(_SMALLEST, len(places)), len(places)
    while low < high:  # more edges never leave less
        middle = (low + high) // 2
        low, high = (low, middle) if strongest(middle).any() else (middle + 1, high)
    for step in range(_PARTS):
        asked = round(low * (len(places) / low) ** (step / _PARTS))
        if asked < len(places):
            yield asked, strongest(asked)


def _larger(graph: Graph, circuit: Circuit, scores: Scores | None) -> Iterator[tuple[int, Mask]]:
    if scores is None:
        return
    mask, size = circuit.mask(), len(circuit.edges)
    others = (graph.exists & ~mask).nonzero()
    order = others[scores.cpu()[others[:, 0], others[:, 1]].argsort(descending=True, stable=True)]
    for asked in dict.fromkeys(min(factor * size, _MOST_EDGES, graph.n_edges) for factor in _FACTORS):
        if asked > size:
            more, added = mask.clone(), order[: asked - size]
            more[added[:, 0], added[:, 1]] = True
            yield asked, clean(graph, more)


def check_sizes(sizes: Sequence[float]) -> tuple[float, ...]:
    """Returns the sizes if areas can be taken over them.

    Raises:
        MethodError: Fewer than two, outside (0, 1], or not in growing order.
    """
    listed = ", ".join(f"{size:g}" for size in sizes)
    if len(sizes) < 2:
        raise MethodError(f"An area needs at least two sizes, not {len(sizes)} ({listed or 'none'}).")
    if any(not 0 < size <= 1 for size in sizes):  # also true of NaN
        raise MethodError(f"Sizes are fractions of the graph's edges, above 0 and at most 1, not {listed}.")
    if any(after <= before for before, after in pairwise(sizes)):
        raise MethodError(f"Sizes must grow from each to the next, not {listed}.")
    return tuple(float(size) for size in sizes)


def areas(fractions: Sequence[float], faithfulness: Sequence[Sequence[float]]) -> Area:
    """CPR and CMD of a curve, by MIB's own rule.

        CPR = integral of f(x) dx            circuit performance ratio; larger is better, above 1 where f overshoots
        CMD = integral of |1 - f(x)| dx      circuit-model distance; smaller is better, 0 is perfect

    Trapezoids from the first size to the last, as in MIB's `evaluate_area_under_curve` (Mueller et al. 2025, arXiv
    2504.13151); docs/method.md, "Areas", has the rule's details and when it misleads.

    x, a fraction of the graph's edges, lies in [0, 1] and never falls. At each x there is one circuit, or several whose
    f and whose |1 - f| are averaged.

    Raises:
        MethodError: Fewer than two sizes, lists of different lengths, a size without circuits, an x that falls or lies
            outside [0, 1], or a number that is not finite.
    """
    if len(fractions) != len(faithfulness) or len(fractions) < 2 or not all(faithfulness):
        raise MethodError(
            f"An area needs two or more sizes with at least one circuit each: there are {len(fractions)} sizes and "
            f"{sum(map(bool, faithfulness))} with circuits."
        )
    if any(not 0 <= x <= 1 for x in fractions) or any(after < before for before, after in pairwise(fractions)):
        raise MethodError(f"Fractions of the graph lie in [0, 1] and never fall, unlike {list(fractions)}.")
    for x, values in zip(fractions, faithfulness, strict=True):
        if not all(map(math.isfinite, values)):
            raise MethodError(f"The faithfulness at {x:.2%} of the edges is not finite: {list(values)}.")
    means = [math.fsum(values) / len(values) for values in faithfulness]
    distances = [math.fsum(abs(1 - f) for f in values) / len(values) for values in faithfulness]
    return Area(cpr=float(integrate.trapezoid(means, fractions)), cmd=float(integrate.trapezoid(distances, fractions)))
