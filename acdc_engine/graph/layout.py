"""Names and index arithmetic of senders and receivers, without torch: reading a circuit file needs none.

Senders write to the residual stream: `input`, heads `a{layer}.h{head}`, MLPs `m{layer}`. Receivers read it:
the q, k and v inputs of attention `a{layer}.h{head}<q>`, MLPs and `logits`. Heads that share keys and values
share the receiver, `a{layer}.kv{group}<k>`. An edge joins a sender to every later receiver.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from acdc_engine.errors import GraphError
from acdc_engine.graph.explain import explain_edge, explain_receiver, explain_sender


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
        """Refuses shapes no transformer has."""
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


class Layout:
    """Senders and receivers in order, and where each one is.

    Senders are in topological order: `input`, then per layer heads 0, 1, ... and the MLP. Receivers are, per
    layer, q of all heads, k of all groups, v of all groups, the MLP; last the logits. Edge (u, v) exists when
    u is below the number of senders before v, see `senders_before`.

    Attributes:
        shape: What the graph was built from.
        senders: Names of the senders.
        receivers: Names of the receivers.
        n_senders: How many senders.
        n_receivers: How many receivers.
        n_edges: How many edges exist.
        logits: Index of the receiver `logits`, the last.
        senders_before: Per receiver, the number of senders it can read.
    """

    INPUT = 0

    def __init__(self, shape: GraphShape) -> None:
        """Lays out the graph of a transformer of this shape."""
        self.shape = shape
        mlp = 1 if shape.mlps else 0
        self._senders_per_layer = shape.n_heads + mlp
        self._reads_per_layer = shape.n_heads + 2 * shape.n_kv_heads
        self._receivers_per_layer = self._reads_per_layer + mlp
        self.senders: tuple[str, ...] = tuple(self._name_senders())
        self.receivers: tuple[str, ...] = tuple(self._name_receivers())
        self.n_senders = len(self.senders)
        self.n_receivers = len(self.receivers)
        self.logits = self.n_receivers - 1
        self.senders_before: tuple[int, ...] = tuple(self._count_senders_before())
        self.n_edges = sum(self.senders_before)
        self._sender_at = {name: index for index, name in enumerate(self.senders)}
        self._receiver_at = {name: index for index, name in enumerate(self.receivers)}

    def __repr__(self) -> str:
        """Names the shape and the counts."""
        counts = f"{self.n_senders} senders, {self.n_receivers} receivers, {self.n_edges} edges"
        return f"{type(self).__name__}({self.shape}: {counts})"

    def heads(self, layer: int) -> slice:
        """Senders that are the heads of a layer."""
        first = self._first_head(layer)
        return slice(first, first + self.shape.n_heads)

    def mlp_sender(self, layer: int) -> int:
        """Sender index of a layer's MLP. Raises GraphError in an attention-only graph."""
        self._require_mlps(layer)
        return self._first_head(layer) + self.shape.n_heads

    def group_of(self, head: int) -> int:
        """Key/value group of a query head."""
        return head // self.shape.group_size

    def attention(self, layer: int) -> slice:
        """Receivers of a layer's attention: q of all heads, then k, then v of all groups."""
        first = self._first_read(layer)
        return slice(first, first + self._reads_per_layer)

    def q(self, layer: int) -> slice:
        """Query receivers of a layer, one per head."""
        first = self._first_read(layer)
        return slice(first, first + self.shape.n_heads)

    def k(self, layer: int) -> slice:
        """Key receivers of a layer, one per group."""
        first = self._first_read(layer) + self.shape.n_heads
        return slice(first, first + self.shape.n_kv_heads)

    def v(self, layer: int) -> slice:
        """Value receivers of a layer, one per group."""
        first = self._first_read(layer) + self.shape.n_heads + self.shape.n_kv_heads
        return slice(first, first + self.shape.n_kv_heads)

    def mlp_receiver(self, layer: int) -> int:
        """Receiver index of a layer's MLP. Raises GraphError in an attention-only graph."""
        self._require_mlps(layer)
        return self._first_read(layer) + self._reads_per_layer

    def receiver_sender(self, receiver: int) -> slice:
        """Senders that a receiver feeds.

        Returns:
            The head for its q, all heads of the group for a k or v, the MLP for an MLP; empty for the logits.
        """
        if receiver == self.logits:
            return slice(self.n_senders, self.n_senders)
        layer, place = divmod(receiver, self._receivers_per_layer)
        first = self._first_head(layer)
        if place < self.shape.n_heads:
            return slice(first + place, first + place + 1)
        if place < self._reads_per_layer:
            group = (place - self.shape.n_heads) % self.shape.n_kv_heads
            return slice(first + group * self.shape.group_size, first + (group + 1) * self.shape.group_size)
        return slice(self.mlp_sender(layer), self.mlp_sender(layer) + 1)

    def receiver_kind(self, receiver: int) -> str:
        """What a receiver is: `q`, `k`, `v`, `mlp` or `logits`."""
        if receiver == self.logits:
            return "logits"
        place = receiver % self._receivers_per_layer
        n_heads, n_kv = self.shape.n_heads, self.shape.n_kv_heads
        for kind, end in (("q", n_heads), ("k", n_heads + n_kv), ("v", n_heads + 2 * n_kv)):
            if place < end:
                return kind
        return "mlp"

    def senders_before_attention(self, layer: int) -> int:
        """Number of senders that a layer's q, k and v read: edge (u, v) exists when u is below it."""
        return self._first_head(layer)

    def senders_before_mlp(self, layer: int) -> int:
        """Number of senders that a layer's MLP reads; in parallel blocks its own heads are not among them."""
        self._require_mlps(layer)
        return self._first_head(layer) + (0 if self.shape.parallel else self.shape.n_heads)

    def sender_index(self, name: str) -> int:
        """Index of a sender.

        Raises:
            GraphError: No such sender; the text says which part of the name does not fit.
        """
        if name not in self._sender_at:
            raise GraphError(explain_sender(name, self.shape))
        return self._sender_at[name]

    def receiver_index(self, name: str) -> int:
        """Index of a receiver.

        Raises:
            GraphError: No such receiver; the text says which part of the name does not fit.
        """
        if name not in self._receiver_at:
            raise GraphError(explain_receiver(name, self.shape))
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
        """Indices of an edge from its name.

        Args:
            text: As in `a5.h5->a7.h3<k>` or `m0->logits`.

        Returns:
            Sender and receiver index.

        Raises:
            GraphError: Not an edge name, an unknown end, or an edge that runs backwards.
        """
        ends = text.split("->")
        if len(ends) != 2:
            raise GraphError(f"{text!r} is not an edge: write sender->receiver, as in a5.h5->a7.h3<q>.")
        sender, receiver = self.sender_index(ends[0].strip()), self.receiver_index(ends[1].strip())
        self._require_edge(sender, receiver)
        return sender, receiver

    def _first_head(self, layer: int) -> int:
        return 1 + self._layer(layer) * self._senders_per_layer

    def _first_read(self, layer: int) -> int:
        return self._layer(layer) * self._receivers_per_layer

    def _layer(self, layer: int) -> int:
        # Without this a negative layer would silently address another layer's slots.
        if not 0 <= layer < self.shape.n_layers:
            raise GraphError(f"No layer {layer}: the model has layers 0 to {self.shape.n_layers - 1}.")
        return layer

    def _require_mlps(self, layer: int) -> None:
        if not self.shape.mlps:
            raise GraphError(f"No MLP in layer {layer}: the model is attention-only.")

    def _require_edge(self, sender: int, receiver: int) -> None:
        if sender >= self.senders_before[receiver]:
            raise GraphError(explain_edge(sender, receiver, self))

    def _name_senders(self) -> Iterator[str]:
        yield "input"
        for layer in range(self.shape.n_layers):
            for head in range(self.shape.n_heads):
                yield f"a{layer}.h{head}"
            if self.shape.mlps:
                yield f"m{layer}"

    def _name_receivers(self) -> Iterator[str]:
        owner = "kv" if self.shape.grouped else "h"
        for layer in range(self.shape.n_layers):
            for head in range(self.shape.n_heads):
                yield f"a{layer}.h{head}<q>"
            for letter in "kv":
                for group in range(self.shape.n_kv_heads):
                    yield f"a{layer}.{owner}{group}<{letter}>"
            if self.shape.mlps:
                yield f"m{layer}"
        yield "logits"

    def _count_senders_before(self) -> Iterator[int]:
        for layer in range(self.shape.n_layers):
            yield from [self.senders_before_attention(layer)] * self._reads_per_layer
            if self.shape.mlps:
                yield self.senders_before_mlp(layer)
        yield self.n_senders
