"""Which kept edges carry anything from the input (or from other origins of a graph) to the logits.

One sweep forward over the blocks marks the senders that the input reaches, one backward marks the receivers that lead
on to the logits. A head is entered through any one of q, k and v: with corrupt values its pattern still moves, so
asking for a kept v edge would change what a circuit computes. With spans both sweeps go node by node, a node being a
sender at a span.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Tensor

from acdc_engine.graph.blocks import Block, Graph


def clean(graph: Graph, mask: Bool[Tensor, "*batch senders receivers"]) -> Bool[Tensor, "*batch senders receivers"]:
    """Keeps only the edges on a path from `input` to `logits` through kept edges; from any of `graph.origins`.

    What goes cannot change the output: its sender is as in the corrupt run, or nobody reads its receiver. Edges that do
    not exist are dropped. Any number of masks, any device.

    Returns:
        A new mask, empty where no path is left. Idempotent.
    """
    mask = mask & graph.exists.to(mask.device)
    return mask & sends(graph, reachable(graph, mask)) & leading(graph, mask)[..., None, :]


def is_clean(graph: Graph, mask: Bool[Tensor, "senders receivers"]) -> bool:
    """Whether every kept edge exists and lies on a path from `input` to `logits`."""
    return bool(torch.equal(clean(graph, mask), mask))


def reachable(graph: Graph, mask: Bool[Tensor, "*batch senders receivers"]) -> Bool[Tensor, "*batch nodes"]:
    """Marks the nodes that the origins reach through kept edges, at all spans; usually that is `input` alone."""
    n_spans, begins = graph.n_spans, torch.from_numpy(graph.origins).to(mask.device)
    reached = begins[:, None].expand(*mask.shape[:-1], n_spans).clone()
    for block in graph.blocks:
        kept = mask[..., : block.before, block.reads].unflatten(-1, (-1, n_spans))
        entered = (kept & reached[..., : block.before, None, :]).any(-3).flatten(-2)
        found = (entered[..., :, None] & _feeds(graph, block, mask)).any(-2)
        reached[..., block.writes, :] |= found.unflatten(-1, (-1, n_spans))
    return reached.flatten(-2)


def leading(graph: Graph, mask: Bool[Tensor, "*batch senders receivers"]) -> Bool[Tensor, "*batch receivers"]:
    """Marks the receivers that lead on to `logits` through kept edges, `logits` itself included."""
    leads = mask.new_zeros(*mask.shape[:-2], graph.n_receivers)
    leads[..., graph.logits] = True
    for block in reversed(graph.blocks):
        later = slice(block.reads.stop, graph.logits)
        kept = (mask[..., block.writes, later] & leads[..., None, later]).unflatten(-1, (-1, graph.n_spans))
        read = kept.any(-2)
        read[..., graph.end] |= mask[..., block.writes, graph.logits]
        leads[..., block.reads] = (read.flatten(-2)[..., None, :] & _feeds(graph, block, mask)).any(-1)
    return leads


def sends(graph: Graph, nodes: Bool[Tensor, "*batch nodes"]) -> Bool[Tensor, "*batch senders some"]:
    """Of every edge whether its node is marked: `[..., senders, receivers]`, or one column where all are the same."""
    senders: Tensor = nodes.unflatten(-1, (graph.n_senders, graph.n_spans))
    if graph.spans is None:
        return senders
    return senders.index_select(-1, torch.from_numpy(graph.span_of).to(nodes.device))


def _feeds(graph: Graph, block: Block, like: Tensor) -> Bool[Tensor, "reads nodes"]:
    return torch.from_numpy(graph.feeds(block)).to(like.device)


@dataclass(frozen=True, eq=False)
class Candidate:
    """A mask as what it lacks of a base mask, and what it has beyond it.

    Attributes:
        remove: Flat ids (`sender * n_receivers + receiver`) of edges of the base that it lacks, each once.
        add: Flat ids of edges that the base lacks.
    """

    remove: NDArray[np.int64]
    add: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))


class CleanBase:
    """A clean mask, prepared for candidates that lack a few of its edges.

    What goes with an edge is followed node by node, so that a candidate costs what it takes away and not the graph.
    """

    def __init__(self, graph: Graph, mask: Bool[Tensor, "senders receivers"]) -> None:
        self.graph, self.mask = graph, mask
        senders, receivers = np.nonzero(mask.numpy(force=True))
        nodes = senders * graph.n_spans + graph.span_of[receivers]
        by_node, by_receiver = np.argsort(nodes, kind="stable"), np.argsort(receivers, kind="stable")
        self._out, self._out_from = receivers[by_node], np.searchsorted(nodes[by_node], np.arange(graph.n_nodes + 1))
        self._into = senders[by_receiver]
        self._into_from = np.searchsorted(receivers[by_receiver], np.arange(graph.n_receivers + 1))
        self._n_out, self._n_into = np.diff(self._out_from), np.diff(self._into_from)
        # Through how many kept receivers each node is entered, and to how many kept nodes each receiver leads.
        self._n_entries, self._n_exits = np.zeros(graph.n_nodes, np.int64), np.zeros(graph.n_receivers, np.int64)
        for block in graph.blocks:
            feeds, writes = graph.feeds(block), graph.nodes(block.writes)
            self._n_entries[writes] = (self._n_into[block.reads] > 0).astype(np.int64) @ feeds
            self._n_exits[block.reads] = feeds @ (self._n_out[writes] > 0).astype(np.int64)
        self._n_entries += graph.origins.repeat(graph.n_spans)  # one that is never lost

    def without(self, edges: Iterable[int]) -> Candidate:
        """The clean candidate that lacks some edges of the base, flat ids: they go, and what then lies on no path."""
        width, gone, lost = self.graph.n_receivers, set[int](), Counter[tuple[str, int]]()
        waiting = [int(edge) for edge in edges]

        def lose(what: str, node: int, of: np.int64) -> bool:
            """Whether the last of so many is lost now."""
            lost[what, node] += 1
            return lost[what, node] == int(of)

        while waiting:
            edge = waiting.pop()
            if edge in gone:
                continue
            gone.add(edge)
            sender, receiver = divmod(edge, width)
            if lose("into", receiver, self._n_into[receiver]):
                for fed in self.graph.fed(receiver):
                    if lose("entries", fed, self._n_entries[fed]):
                        out = self._out[slice(*self._out_from[fed : fed + 2])]
                        waiting += (out + fed // self.graph.n_spans * width).tolist()
            node = self.graph.node(sender, receiver)
            if lose("out", node, self._n_out[node]):
                for read in self.graph.feeding(node):
                    if lose("exits", read, self._n_exits[read]):
                        waiting += (self._into[slice(*self._into_from[read : read + 2])] * width + read).tolist()
        return Candidate(np.sort(np.fromiter(gone, np.int64, len(gone))))
