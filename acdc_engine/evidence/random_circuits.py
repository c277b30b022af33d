"""Random clean circuits of a given number of edges: what any circuit of that size would do."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Tensor

from acdc_engine.errors import MethodError
from acdc_engine.evidence import Mask
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.connectivity import clean, leading, reachable, sends
from acdc_engine.graph.evidence_records import RandomCircuits
from acdc_engine.patch.judge import Judge

_TRIES = 64
"""Paths drawn at once near the end; when none of them is short enough, single edges fill the circuit up."""
_ROUNDING = 1e-6
"""Faithfulness closer than this is the same."""


class RandomPaths:
    """Draws random paths from `input` to `logits` with `rng`.

    A path stands at a node, takes one of the existing edges out of it, each with the same probability, and goes on
    from the node it has entered: for a shared k or v one of the group's heads, each with the same probability. It ends
    at `logits`.
    """

    def __init__(self, graph: Graph, rng: np.random.Generator) -> None:
        self._logits, self._n_receivers, self._n_spans = graph.logits, graph.n_receivers, graph.n_spans
        senders, receivers = np.nonzero(graph.joins)
        nodes = senders * graph.n_spans + graph.span_of[receivers]
        by_node = np.argsort(nodes, kind="stable")
        self._receivers, self._first = receivers[by_node], np.searchsorted(nodes[by_node], np.arange(graph.n_nodes + 1))
        leads = np.diff(self._first) > 0  # at some spans nodes lead nowhere
        fed = [[node for node in graph.fed(receiver) if leads[node]] for receiver in range(graph.n_receivers)]
        self._starts = np.flatnonzero(leads[: graph.n_spans])
        self._fed, self._fed_first = np.concatenate(fed).astype(np.int64), np.cumsum([0, *map(len, fed)])
        self._rng = rng

    def draw(self, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draws that many paths.

        Returns:
            Number of the path and edge, for every edge of every path; edge = sender * receivers + receiver. Sorted by
            path.
        """
        several = len(self._starts) > 1  # `input` at any span
        at = self._starts[self._rng.integers(0, len(self._starts), count) if several else np.zeros(count, np.int64)]
        path = np.arange(count)
        paths, edges = [], []
        while path.size:
            first = self._first[at]
            receiver = self._receivers[first + self._rng.integers(0, self._first[at + 1] - first)]
            paths.append(path)
            edges.append(at // self._n_spans * self._n_receivers + receiver)
            on = receiver != self._logits
            path, receiver = path[on], receiver[on]
            at = self._fed[self._rng.integers(self._fed_first[receiver], self._fed_first[receiver + 1])]
        order = np.argsort(np.concatenate(paths), kind="stable")
        return np.concatenate(paths)[order], np.concatenate(edges)[order]


def random_circuits(graph: Graph, size: int, count: int, seed: int) -> Bool[Tensor, "count senders receivers"]:
    """Draws clean circuits of exactly `size` edges each.

    Up to half of the edges: random paths (`RandomPaths`) are joined as long as they fit, and single edges fill the
    circuit up. Above half: random edges are taken out of the whole graph, the rest is cleaned and filled up. This is no
    even draw from all circuits of that size, but they hang together as found ones do. O(edges drawn) per circuit.

    Raises:
        MethodError: No circuit has that size.
    """
    if not 1 <= size <= graph.n_edges:
        raise MethodError(
            f"There are no random circuits of {size} edges: this graph's have 1 to {graph.n_edges}. 0 edges: no "
            "path of the circuit leads from input to logits."
        )
    rng = np.random.default_rng(seed)
    paths = RandomPaths(graph, rng)
    circuits = torch.zeros(count, graph.n_senders, graph.n_receivers, dtype=torch.bool)
    for circuit in circuits:
        if 2 * size <= graph.n_edges:
            _join_paths(circuit.numpy().reshape(-1), paths, size)
        else:
            edges = graph.exists.nonzero()
            kept = edges[torch.from_numpy(rng.choice(len(edges), size, replace=False))]
            circuit[kept[:, 0], kept[:, 1]] = True
            circuit.copy_(clean(graph, circuit))
        _fill(graph, circuit, size, rng)
    return circuits


def random_baseline(
    judge: Judge, mask: Mask, count: int, seed: int, progress: Callable[[int], None] = lambda _: None
) -> RandomCircuits:
    """Judges random circuits of the same size: could any circuit of that many edges do it?

        p = (1 + number of random circuits with |f - 1| <= |f(C) - 1|) / (1 + number of random circuits)

    The permutation p-value of the hypothesis that the circuit is drawn like them; it cannot be below 1 / (1 + count).
    Cost: count + 1 exact evaluations.

    Random circuits mostly do nothing, so a small p does not say that the circuit is good. Edges on no path do not
    count. `progress` is called with the number of circuits done.
    """
    graph = judge.graph
    size = int(clean(graph, mask.cpu()).sum())
    masks = random_circuits(graph, size, count, seed)
    (found,) = judge.faithfulness(mask[None])
    drawn: list[float] = []
    # One by one: a batch computes every node that any of its circuits needs for all of them, and random ones share few.
    for one in masks.split(1):
        drawn += judge.faithfulness(one)
        progress(1)
    as_near = sum(abs(f - 1) <= abs(found - 1) + _ROUNDING for f in drawn)
    return RandomCircuits(faithfulness=tuple(drawn), p_value=(1 + as_near) / (1 + count), seed=seed)


def _join_paths(kept: NDArray[np.bool_], paths: RandomPaths, size: int) -> None:
    """Adds random paths to flat `kept` until `size` edges are reached or paths no longer fit."""
    while left := size - int(kept.sum()):
        owners, edges = paths.draw(max(_TRIES, left // 4))
        brought = np.bincount(owners[~kept[edges]], minlength=owners[-1] + 1)
        fits = ((brought > 0) & (brought <= left))[owners] & ~kept[edges]
        if not fits.any():
            return
        owners, edges = owners[fits], edges[fits]
        _, first = np.unique(edges, return_index=True)  # an edge counts for the first path that brings it
        total = np.cumsum(np.bincount(owners[first], minlength=owners[-1] + 1))
        kept[edges[total[owners] <= left]] = True


def _fill(graph: Graph, mask: Mask, size: int, rng: np.random.Generator) -> None:
    """Brings a clean mask up to `size` edges, in place, and keeps it clean."""
    while left := size - int(mask.sum()):
        leads = leading(graph, mask)
        edges = (graph.exists & ~mask & sends(graph, reachable(graph, mask)) & leads[None, :]).nonzero()
        if len(edges):
            edges = edges[torch.from_numpy(rng.choice(len(edges), min(left, len(edges)), replace=False))]
            mask[edges[:, 0], edges[:, 1]] = True
            continue
        # All edges among the nodes inside are kept, input->logits too: the circuit stays clean without that one.
        if left == 1:
            mask[graph.INPUT, graph.logits] = False
        receiver, node, reader = _way_in(graph, leads, rng)
        mask[graph.INPUT, receiver] = True
        mask[node // graph.n_spans, reader] = True


def _way_in(graph: Graph, leads: Bool[Tensor, "receivers"], rng: np.random.Generator) -> tuple[int, int, int]:
    """A receiver outside of a circuit, a node that it feeds, and a receiver inside that reads this node.

    Nodes at the span that the logits are read at come first: the logits read them.
    """
    outside = (~leads).nonzero().flatten().tolist()
    ways = {at: [node for node in graph.fed(at) if node % graph.n_spans == graph.end] for at in outside}
    if near := [at for at in outside if ways[at]]:
        receiver = near[int(rng.integers(len(near)))]
        return receiver, ways[receiver][int(rng.integers(len(ways[receiver])))], graph.logits
    span_of = torch.from_numpy(graph.span_of)
    every = [
        (at, node, int(reader))
        for at in outside
        for node in graph.fed(at)
        for reader in (graph.exists[node // graph.n_spans] & leads & (span_of == node % graph.n_spans)).nonzero()
    ]
    return every[int(rng.integers(len(every)))]
