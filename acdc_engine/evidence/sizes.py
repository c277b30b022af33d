"""Faithfulness at sizes around a circuit's own: what its parts do, and what more edges would bring."""

from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from acdc_engine.evidence import Stages, silent
from acdc_engine.evidence.bootstrap import ratio_interval
from acdc_engine.evidence.figures import prompt_values
from acdc_engine.evidence.random_circuits import random_circuits
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import clean
from acdc_engine.graph.evidence_records import SizePoint
from acdc_engine.graph.looks import by_strength, measure_of
from acdc_engine.patch.judge import Judge

PARTS = 8
"""Sizes below the circuit's own, in a geometric series."""
SMALLEST = 3
"""Edges of the smallest part, unless it takes more to join input and logits."""
FACTORS = (2, 4, 8)
"""Larger circuits, in multiples of the circuit's size."""
MOST_EDGES = 4_000
"""No circuit is made larger than this."""
DRAWS = ((200, 5), (1_000, 2))
"""Random circuits per size, up to so many edges, and none above: the more edges, the more a random circuit costs and
the less its faithfulness varies."""

Mask = Bool[Tensor, "senders receivers"]
Kind = Literal["part", "circuit", "more"]


def sizes_of(
    judge: Judge,
    circuit: Circuit,
    scores: Float[Tensor, "senders receivers"] | None = None,
    *,
    seed: int = 0,
    progress: Stages = silent,
) -> tuple[SizePoint, ...]:
    """Judges parts of a circuit, the circuit, and the circuit with more edges.

    Parts are made of the edges with the largest |effect| (|score| where effects are not known; without either there are
    none), `PARTS` sizes in a geometric series from `SMALLEST` edges, or from where something first is left after
    cleaning. Larger circuits are made of all of the circuit's edges and the others with the largest scores, to 2, 4 and
    8 times its size and at most `MOST_EDGES`. All are cleaned, so each holds the ones before it; sizes at which
    cleaning leaves nothing new are left out. Where effects do not add up, a part of a circuit need not be less faithful
    than the next larger one.

    Cost in exact evaluations: one per size and 5 per size of at most 200 edges, 2 per size of at most 1,000; 72 at
    most.

    Args:
        judge: Held-out prompts.
        circuit: The circuit; edges on no path do not count.
        scores: Of all edges, larger for more of the behaviour: signed, or root mean square under KL. None: no larger
            circuits are made.
        seed: Of bootstrap and random circuits.
        progress: Opens the stage of this work.

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
            for drawn in random_circuits(graph, edges, _draws(edges), seed) if _draws(edges) else ():
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


def _plan(graph: Graph, circuit: Circuit, scores: Tensor | None) -> dict[int, tuple[Kind, int, Mask]]:
    """What to judge by its number of edges: its kind, the edges before cleaning, and the edges."""
    plan: list[tuple[Kind, int, Mask]] = [
        *(("more", asked, mask) for asked, mask in reversed(list(_larger(graph, circuit, scores)))),
        *(("part", asked, mask) for asked, mask in reversed(list(_parts(graph, circuit)))),
        ("circuit", len(circuit.edges), clean(graph, circuit.mask())),
    ]
    # Each holds the smaller ones, so two of one size are the same: the last counts, which asked for least.
    masks = {int(mask.sum()): (kind, asked, mask) for kind, asked, mask in plan}
    masks.pop(0, None)
    return masks


def _draws(edges: int) -> int:
    return next((draws for most, draws in DRAWS if edges <= most), 0)


def _parts(graph: Graph, circuit: Circuit) -> Iterator[tuple[int, Mask]]:
    """Edges before cleaning, and what is left of them; nothing where no edge is known to be stronger than another."""
    if measure_of(circuit) is None:
        return
    places = [(graph.sender_index(e.sender), graph.receiver_index(e.receiver)) for e in by_strength(circuit)]

    def strongest(count: int) -> Mask:
        mask = torch.zeros_like(graph.exists)
        mask[tuple(torch.tensor(places[:count]).T)] = True
        return clean(graph, mask)

    low, high = min(SMALLEST, len(places)), len(places)
    while low < high:  # more edges never leave less
        middle = (low + high) // 2
        low, high = (low, middle) if strongest(middle).any() else (middle + 1, high)
    for step in range(PARTS):
        asked = round(low * (len(places) / low) ** (step / PARTS))
        if asked < len(places):
            yield asked, strongest(asked)


def _larger(graph: Graph, circuit: Circuit, scores: Tensor | None) -> Iterator[tuple[int, Mask]]:
    if scores is None:
        return
    mask, size = circuit.mask(), len(circuit.edges)
    others = (graph.exists & ~mask).nonzero()
    order = others[scores.cpu()[others[:, 0], others[:, 1]].argsort(descending=True, stable=True)]
    for asked in dict.fromkeys(min(factor * size, MOST_EDGES, graph.n_edges) for factor in FACTORS):
        if asked > size:
            more, added = mask.clone(), order[: asked - size]
            more[added[:, 0], added[:, 1]] = True
            yield asked, clean(graph, more)
