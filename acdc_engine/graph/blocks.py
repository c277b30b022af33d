"""The graph: blocks in order of computation, their senders and receivers, and which edges join them.

Senders write to the residual stream: `input`, heads `a{layer}.h{head}`, MLPs `m{layer}`. Receivers read it:
the q, k and v inputs of attention `a{layer}.h{head}<q>`, MLPs and `logits`. Heads that share keys and values
share the receiver, `a{layer}.kv{group}<k>`. Everything that walks a model walks its blocks; what a block computes
is its twin's affair (`acdc_engine.model.twins`). Without torch, but for `exists`: reading a circuit file needs none.
The error of a name that does not fit says which part of it is wrong (`wrong_names.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from acdc_engine.errors import GraphError
from acdc_engine.graph.spans import Spans

if TYPE_CHECKING:
    from jaxtyping import Bool
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True)
class GraphShape:
    """What fixes a transformer's graph.

    Attributes:
        n_layers: Number of transformer blocks.
        n_heads: Query heads per block.
        n_kv_heads: Key/value groups per block; `n_heads` when every head has its own (or `--ungroup-kv`).
        parallel: A block's MLP reads the same residual stream as its heads and does not see what they write.
        mlps: False for attention-only models.

    Raises:
        GraphError: A count below 1, or heads that do not divide into the groups.
    """

    n_layers: int
    n_heads: int
    n_kv_heads: int
    parallel: bool = False
    mlps: bool = True

    def __post_init__(self) -> None:
        for field in ("n_layers", "n_heads", "n_kv_heads"):
            if getattr(self, field) < 1:
                raise GraphError(f"{field} is {getattr(self, field)}; a graph needs at least 1.")
        if self.n_heads % self.n_kv_heads:
            raise GraphError(
                f"{self.n_heads} heads do not divide into {self.n_kv_heads} key/value groups of equal size."
            )

    @property
    def grouped(self) -> bool:
        """Whether several query heads share a key/value head."""
        return self.n_kv_heads != self.n_heads

    @property
    def group_size(self) -> int:
        """Query heads per key/value group."""
        return self.n_heads // self.n_kv_heads

    @property
    def senders(self) -> tuple[str, ...]:
        """Names of heads and MLPs, layer by layer."""
        mlp = ["m{}"] if self.mlps else []
        return self._every_layer([f"a{{}}.h{head}" for head in range(self.n_heads)] + mlp)

    @property
    def receivers(self) -> tuple[str, ...]:
        """Names of their inputs: q of all heads, k of all groups, v of all groups, the MLP."""
        owner, mlp = "kv" if self.grouped else "h", ["m{}"] if self.mlps else []
        queries = [f"a{{}}.h{head}<q>" for head in range(self.n_heads)]
        others = [f"a{{}}.{owner}{group}<{letter}>" for letter in "kv" for group in range(self.n_kv_heads)]
        return self._every_layer(queries + others + mlp)

    def _every_layer(self, names: list[str]) -> tuple[str, ...]:
        return tuple(name.format(layer) for layer in range(self.n_layers) for name in names)


@dataclass(frozen=True, eq=False)
class Block:
    """Receivers that read the residual stream at one moment, and the senders that are computed from them.

    Attributes:
        kind: "attention", "mlp", or any other kind that has a twin.
        layer: The layer it belongs to.
        before: How many senders it can read: those of all blocks that the residual stream holds at that moment.
        reads: Its receivers.
        writes: Its senders.
        feeds: Which receiver feeds which sender, bool `[reads, writes]`.
        spreads: Which receivers reach other positions than the one they read at, bool `[reads]`: keys and values.
    """

    kind: str
    layer: int
    before: int
    reads: slice
    writes: slice
    feeds: NDArray[np.bool_]
    spreads: NDArray[np.bool_]


class Graph:
    """Senders and receivers in order, the blocks they belong to, and which edges exist.

    Senders are in topological order: `input`, then block by block; receivers block by block, last the logits. An
    edge's flat id is `sender * n_receivers + receiver`.

    A graph with spans tells places in the prompt apart. An edge lives at one span, that of its receiver: there is each
    receiver once for every span, `a7.h3<v>@B.2`, side by side, and the logits at the span that they are read at alone.
    Edges from which no path leads there (of the last MLP's those at other spans) do not exist.
    Senders stay as they are, for an edge reads its sender where its receiver is. What is computed from receivers is a
    *node*: a sender at a span.

    Args:
        shape: The transformer's; it lays out the blocks where none are given, and explains names that do not fit.
        blocks: In order of computation, for a graph of other blocks, with the `names` of their senders and receivers.
        spans: Places in the prompt; None for a graph that does not tell them apart, which has one nameless span.
        origins: The senders that differ from what stands for them when removed, whatever they read, bool `[senders]`:
            paths begin there. None for `input` alone; of two models compared, the nodes whose weights differ.

    Attributes:
        blocks: In order of computation. With spans they have their receivers once for each.
        spans: The places, or None; `n_spans` how many there are, at least 1.
        end: The span that the logits are read at.
        senders: Names of the senders; `receivers` likewise.
        n_senders: How many senders; `n_receivers` likewise.
        n_nodes: `n_senders * n_spans`: node `sender * n_spans + span`; without spans nodes are senders.
        logits: Index of the receiver `logits`, the last.
        origins: Where paths begin, bool `[senders]`.
        joins: Whether an edge joins sender and receiver, bool `[senders, receivers]`: do not write to it.
        n_edges: How many edges exist.
    """

    INPUT = 0

    def __init__(
        self,
        shape: GraphShape,
        blocks: Sequence[Block] | None = None,
        names: tuple[Sequence[str], Sequence[str]] | None = None,
        spans: Spans | None = None,
        origins: NDArray[np.bool_] | None = None,
    ) -> None:
        self.shape = shape
        self._plain_blocks = tuple(_transformer(shape) if blocks is None else blocks)
        self._names = (shape.senders, shape.receivers) if names is None else names
        self.spans = spans
        self.n_spans, self.end = (1, 0) if spans is None else (len(spans), spans.end)
        self.blocks = tuple(self._plain_blocks if spans is None else _at_each(self._plain_blocks, self.n_spans))
        senders, receivers = self._names
        places = [""] if spans is None else [f"@{name}" for name in spans.names]
        self.senders = ("input", *senders)
        self.receivers = (*(name + place for name in receivers for place in places), f"logits{places[self.end]}")
        self.n_senders, self.n_receivers = len(self.senders), len(self.receivers)
        self.origins = np.arange(self.n_senders) == self.INPUT if origins is None else origins
        self.n_nodes = self.n_senders * self.n_spans
        self.logits = self.n_receivers - 1
        self._sender_at = {name: index for index, name in enumerate(self.senders)}
        self._receiver_at = {name: index for index, name in enumerate(self.receivers)}
        self._others: dict[Spans | None, Graph] = {}
        self._feeds: dict[tuple[int, int], NDArray[np.bool_]] = {}
        self._place = {(block.kind, block.layer): place for place, block in enumerate(self.blocks)}

    def at(self, spans: Spans | None) -> Graph:
        """The same model's graph with other spans, or with none."""
        if spans == self.spans:
            return self
        if spans not in self._others:
            self._others[spans] = Graph(self.shape, self._plain_blocks, self._names, spans, self.origins)
        return self._others[spans]

    def __repr__(self) -> str:
        """Names the shape and the counts."""
        counts = f"{self.n_senders} senders, {self.n_receivers} receivers, {self.n_edges} edges"
        return f"{type(self).__name__}({self.shape}: {counts})"

    @cached_property
    def joins(self) -> NDArray[np.bool_]:
        """See the class."""
        joins = np.zeros((self.n_senders, self.n_receivers), dtype=np.bool_)
        for block in self.blocks:
            joins[: block.before, block.reads] = True
        joins[:, self.logits] = True
        return joins if self.spans is None else joins & self._leads(joins)

    def _leads(self, joins: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which receivers lead to the logits at all: of a last layer's those at their span alone."""
        leads = np.zeros(self.n_receivers, np.bool_)
        leads[self.logits] = True
        for block in reversed(self.blocks):
            later = slice(block.reads.stop, self.logits)
            n_writes = block.writes.stop - block.writes.start
            there = (joins[block.writes, later] & leads[later]).reshape(n_writes, -1, self.n_spans)
            read: NDArray[np.bool_] = np.asarray(there.any(1))
            read[:, self.end] |= joins[block.writes, self.logits]
            leads[block.reads] = (self.feeds(block) & read.reshape(-1)).any(1)
        return leads

    @cached_property
    def exists(self) -> Bool[Tensor, "senders receivers"]:
        """`joins` as a tensor `[senders, receivers]` on the CPU, of the same memory: do not write to it."""
        import torch

        return torch.from_numpy(self.joins)

    @cached_property
    def n_edges(self) -> int:
        """How many edges exist."""
        return int(self.joins.sum())

    def place(self, kind: str, layer: int) -> int:
        """Where the block of that kind and layer stands among `blocks`. Raises GraphError where there is none."""
        if (kind, layer) not in self._place:
            layers = sorted(one for of_kind, one in self._place if of_kind == kind)
            have = f"the model has layers {layers[0]} to {layers[-1]}" if layers else "the model has none"
            raise GraphError(f"No {kind} in layer {layer}: {have}.")
        return self._place[kind, layer]

    def block(self, kind: str, layer: int) -> Block:
        """The block of that kind and layer. Raises GraphError where there is none."""
        return self.blocks[self.place(kind, layer)]

    def heads(self, layer: int) -> slice:
        """Senders that are the heads of a layer."""
        return self.block("attention", layer).writes

    def part(self, layer: int, letter: str) -> slice:
        """The receivers of a layer's attention that are its `q` (one per head), or `k` or `v` (one per group).

        With spans each of them is there once for every span.
        """
        heads, groups = self.shape.n_heads, self.shape.n_kv_heads
        start = self.block("attention", layer).reads.start
        start += {"q": 0, "k": heads, "v": heads + groups}[letter] * self.n_spans
        return slice(start, start + (heads if letter == "q" else groups) * self.n_spans)

    def group_of(self, head: int) -> int:
        """Key/value group of a query head."""
        return head // self.shape.group_size

    @cached_property
    def span_of(self) -> NDArray[np.int64]:
        """The span of every receiver `[receivers]`."""
        return np.append(np.tile(np.arange(self.n_spans), self.logits // self.n_spans), self.end)

    def node(self, sender: int, receiver: int) -> int:
        """The node that an edge comes from: its sender, where its receiver is."""
        return sender * self.n_spans + int(self.span_of[receiver])

    def node_name(self, node: int) -> str:
        """Name of a node, as in `a5.h3`, or with spans `a5.h3@B.2`."""
        sender, span = divmod(node, self.n_spans)
        return self.senders[sender] if self.spans is None else f"{self.senders[sender]}@{self.spans.names[span]}"

    def nodes(self, senders: slice) -> slice:
        """Some senders at all spans."""
        return slice(senders.start * self.n_spans, senders.stop * self.n_spans)

    def plain(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A mask `[senders, receivers]` as of the graph without spans: an edge is there if it is at any of them."""
        if self.spans is None:
            return mask
        anywhere = mask[:, : self.logits].reshape(len(mask), -1, self.n_spans).any(-1)
        return np.concatenate([anywhere, mask[:, self.logits :]], 1)

    def feeds(self, block: Block) -> NDArray[np.bool_]:
        """Which receiver of a block feeds which of its nodes, bool `[reads, writes * n_spans]`.

        What acts where it reads feeds its sender at its own span; keys and values at every span that looks back at it.
        """
        key = id(block.feeds), id(block.spreads)
        if key not in self._feeds:
            spans = np.ones((1, 1), np.bool_) if self.spans is None else np.array(self.spans.leads)
            own = np.eye(self.n_spans, dtype=np.bool_)
            reach = np.where(block.spreads[:: self.n_spans, None, None], spans, own)
            feeds = block.feeds[:: self.n_spans, None, :, None] & reach[:, :, None, :]
            self._feeds[key] = feeds.reshape(len(block.feeds), -1)
        return self._feeds[key]

    def fed(self, receiver: int) -> tuple[int, ...]:
        """Nodes that a receiver feeds: all heads of the group for a k or v that heads share; none for the logits."""
        return self._fed[receiver]

    @cached_property
    def _fed(self) -> list[tuple[int, ...]]:
        fed = [
            tuple(self.nodes(block.writes).start + np.flatnonzero(row))
            for block in self.blocks
            for row in self.feeds(block)
        ]
        return [*(tuple(map(int, nodes)) for nodes in fed), ()]

    def feeding(self, node: int) -> tuple[int, ...]:
        """Receivers that feed a node; none for `input`."""
        return self._feeding[node]

    @cached_property
    def _feeding(self) -> list[tuple[int, ...]]:
        feeding = [
            block.reads.start + np.flatnonzero(column) for block in self.blocks for column in self.feeds(block).T
        ]
        return [*((),) * self.n_spans, *(tuple(map(int, receivers)) for receivers in feeding)]

    def sources(self, receiver: int) -> list[int]:
        """Senders that a receiver has an edge from."""
        return [int(sender) for sender in np.flatnonzero(self.joins[:, receiver])]

    def receiver_kind(self, receiver: int) -> str:
        """What a receiver is: `q`, `k`, `v`, `logits`, or the kind of its block, as in `mlp`."""
        return self._kinds[receiver]

    @cached_property
    def _kinds(self) -> list[str]:
        kinds = [block.kind for block in self.blocks for _ in block.feeds]
        names = (name.partition("@")[0] for name in self.receivers)
        letters = [name.rstrip(">").rpartition("<")[2] if name.endswith(">") else "" for name in names]
        return [*(letter or kind for letter, kind in zip(letters, kinds, strict=False)), "logits"]

    def sender_index(self, name: str) -> int:
        """Index of a sender. Raises GraphError where there is none, which says which part of the name does not fit."""
        if name not in self._sender_at:
            from acdc_engine.graph.wrong_names import why_no_sender

            raise GraphError(f"No sender {name!r}: {why_no_sender(name, self.shape)}.")
        return self._sender_at[name]

    def receiver_index(self, name: str) -> int:
        """Index of a receiver. Raises GraphError likewise."""
        if name not in self._receiver_at:
            from acdc_engine.graph.wrong_names import why_no_receiver

            raise GraphError(f"No receiver {name!r}: {why_no_receiver(name, self.shape, self.spans)}.")
        return self._receiver_at[name]

    def edge_name(self, sender: int, receiver: int) -> str:
        """Name of an edge, as in `a5.h5->a7.h3<k>`.

        Raises:
            GraphError: An index out of range, or a sender that does not come before the receiver.
        """
        if not 0 <= sender < self.n_senders or not 0 <= receiver < self.n_receivers:
            raise GraphError(
                f"No edge ({sender}, {receiver}): senders are 0 to {self.n_senders - 1}, "
                f"receivers 0 to {self.n_receivers - 1}."
            )
        self._require_edge(sender, receiver)
        return f"{self.senders[sender]}->{self.receivers[receiver]}"

    def parse_edge(self, text: str) -> tuple[int, int]:
        """Sender and receiver index of an edge from its name, as in `a5.h5->a7.h3<k>` or `m0->logits`.

        Raises:
            GraphError: Not an edge name, an unknown end, or an edge that runs backwards.
        """
        ends = text.split("->")
        if len(ends) != 2:
            raise GraphError(f"{text!r} is not an edge: write sender->receiver, as in a5.h5->a7.h3<q>.")
        sender, receiver = self.sender_index(ends[0].strip()), self.receiver_index(ends[1].strip())
        self._require_edge(sender, receiver)
        return sender, receiver

    def _require_edge(self, sender: int, receiver: int) -> None:
        if not self.joins[sender, receiver]:
            from acdc_engine.graph.wrong_names import why_no_edge

            raise GraphError(f"No edge {why_no_edge(self, sender, receiver)}.")


def _transformer(shape: GraphShape) -> Iterator[Block]:
    """Attention and MLP of every layer."""
    heads, groups = np.eye(shape.n_heads, dtype=np.bool_), np.eye(shape.n_kv_heads, dtype=np.bool_)
    shared = groups.repeat(shape.group_size, axis=1)
    feeds = np.concatenate([heads, shared, shared])
    spreads = np.arange(len(feeds)) >= shape.n_heads
    reads, writes = 0, 1
    for layer in range(shape.n_layers):
        before = writes
        here, there = slice(reads, reads + len(feeds)), slice(writes, writes + shape.n_heads)
        yield Block("attention", layer, before, here, there, feeds, spreads)
        reads, writes = here.stop, there.stop
        if shape.mlps:
            seen = before if shape.parallel else writes
            here, there = slice(reads, reads + 1), slice(writes, writes + 1)
            yield Block("mlp", layer, seen, here, there, np.ones((1, 1), np.bool_), np.zeros(1, np.bool_))
            reads, writes = here.stop, there.stop


def _at_each(blocks: Sequence[Block], n_spans: int) -> Iterator[Block]:
    """Blocks with each of their receivers once for every span."""
    repeated: dict[int, NDArray[np.bool_]] = {}  # of all layers the same: they stay the same

    def times(rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return repeated.setdefault(id(rows), rows.repeat(n_spans, axis=0))

    for block in blocks:
        reads = slice(block.reads.start * n_spans, block.reads.stop * n_spans)
        yield replace(block, reads=reads, feeds=times(block.feeds), spreads=times(block.spreads))
