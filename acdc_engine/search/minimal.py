"""The minimality pass: exact tests until no single edge can go, and the table that proves it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.connectivity import clean
from acdc_engine.patch.judge import Judge, Target
from acdc_engine.search.order import strengths
from acdc_engine.search.smallest import Found, Report

BATCH = 32
"""Circuits run at once when every edge is tried on its own."""
REBASE = 16
"""Edges by which a circuit may differ from the one that evaluations start from."""


@dataclass(frozen=True)
class Minimal:
    """A circuit, and what exact tests say about its edges.

    Attributes:
        found: The circuit.
        edges: Its edges as (sender, receiver), in the graph's order.
        without: Metric of every prompt without that one edge `[edges, prompts]`.
        whole: Metric of every prompt under the circuit itself `[prompts]`.
        needed: Whether the target is missed without the edge.
    """

    found: Found
    edges: Int[Tensor, "edges 2"]
    without: Float[Tensor, "edges prompts"]
    whole: Float[Tensor, "prompts"]
    needed: Bool[Tensor, "edges"]


def minimal(
    graph: Graph,
    found: Found,
    judge: Judge,
    target: Target,
    report: Report,
    progress: Callable[[int, int], None] | None = None,
) -> Minimal:
    """Drops edges until none can go on its own.

    1. Sweep: the edges are gone through, weakest first by the gradient at the circuit. The next block of them is
       removed together with the first half, quarter, ... single edge of it, all in one batch; the largest removal that
       stays in the target is kept, and a block that fails down to its first edge keeps that edge.
    2. Every remaining edge is tried on its own. Those that can go are swept as in 1, least effect first, and all that
       remain are tried again.
    3. It ends when a full pass drops nothing: the circuit is 1-minimal, and the last pass is the certificate.

    Every removal that is kept was run exactly, with what it disconnects. Other circuits of fewer edges may exist: no
    *single* edge can go from this one.

    Cost: one exact evaluation per edge and pass, restarted at the edge's layer, and O(log block) per block of a sweep;
    where most edges can go, far fewer than one evaluation per edge.

    Args:
        graph: The model's graph.
        found: A clean circuit that meets the target.
        judge: Runs circuits on the discovery prompts.
        target: The band to stay in.
        report: Called for every circuit that was kept.
        progress: Called with edges tried and edges to try in the present pass.

    Returns:
        The 1-minimal circuit with its certificate.
    """
    edges = found.mask.nonzero()
    inside = strengths(judge.contributions(found.mask), judge.unsigned_rank)
    weakest = inside[edges[:, 0], edges[:, 1]].argsort(stable=True)
    found = _sweep(graph, found, edges[weakest], judge, target, report)
    while True:
        tested = singles(graph, found, judge, target, progress)
        free = ~tested.needed
        if not free.any():
            return tested
        least = (tested.without - tested.whole).mean(1).abs()[free].argsort(stable=True)
        smaller = _sweep(graph, found, tested.edges[free][least], judge, target, report)
        if smaller.size == found.size:
            # Rounding may let an edge go in one batch and not in another; what one test says is enough to end.
            return tested
        found = smaller


def singles(
    graph: Graph,
    found: Found,
    judge: Judge,
    target: Target | None,
    progress: Callable[[int, int], None] | None = None,
) -> Minimal:
    """Runs a circuit without each single edge, one after the other.

    Args:
        graph: The model's graph.
        found: The circuit.
        judge: Runs circuits on the discovery prompts.
        target: The band; None where the circuit does not claim any: then every edge counts as needed.
        progress: Called with edges tried and edges to try.
    """
    edges = found.mask.nonzero()
    by_receiver = edges[:, 1].argsort(stable=True)
    rows = torch.empty(len(edges), len(judge.clean), dtype=torch.float32)
    whole = judge.values(found.mask[None], found.mask)[0]
    for done, some in enumerate(by_receiver.split(BATCH)):
        masks = found.mask.repeat(len(some), 1, 1)
        masks[torch.arange(len(some)), edges[some, 0], edges[some, 1]] = False
        rows[some] = judge.values(clean(graph, masks), found.mask)
        if progress is not None:
            progress(min((done + 1) * BATCH, len(edges)), len(edges))
    met = [target is not None and target.met(judge.faithfulness_of(row)) for row in rows]
    return Minimal(found, edges, rows, whole, ~torch.tensor(met, dtype=torch.bool))


def _sweep(
    graph: Graph, found: Found, order: Int[Tensor, "edges 2"], judge: Judge, target: Target, report: Report
) -> Found:
    """Removes what can go of some edges, in their order, in blocks that grow and shrink with success."""
    place, block = 0, max(1, len(order) // 8)
    base = found.mask
    while place < len(order):
        sizes = _halvings(min(block, len(order) - place))
        masks = torch.stack([_without(graph, found.mask, order[place : place + size]) for size in sizes])
        # An empty circuit is the ablated model, whatever the target.
        values = [f if mask.any() else 0.0 for f, mask in zip(judge.faithfulness(masks, base), masks, strict=True)]
        fitting = [i for i, f in enumerate(values) if masks[i].any() and target.met(f)]
        if not fitting:
            place, block = place + 1, max(1, block // 4)
            continue
        largest = fitting[0]
        found = Found(masks[largest], values[largest])
        report("removed exactly", found, True)
        place += sizes[largest]
        block = block * 2 if largest == 0 else max(1, sizes[largest])
        if int((base != found.mask).sum()) > REBASE:
            base = found.mask
    return found


def _halvings(size: int) -> list[int]:
    """The size, its half, its quarter, ..., one."""
    out = [size]
    while out[-1] > 1:
        out.append(out[-1] // 2)
    return out


def _without(graph: Graph, mask: Tensor, edges: Tensor) -> Bool[Tensor, "senders receivers"]:
    rest = mask.clone()
    rest[edges[:, 0], edges[:, 1]] = False
    return clean(graph, rest)
