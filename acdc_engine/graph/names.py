"""What the nodes of a transformer's graph are called, and why a name does not fit.

There are too many names to list, so an error names the part that is wrong.
"""

import re
from dataclasses import dataclass

from acdc_engine.errors import GraphError

# Nine digits: Python refuses to make a number of more than 4,300.
_NODE = re.compile(r"(?P<kind>[am])(?P<layer>\d{1,9})(?:\.(?P<part>h|kv)(?P<index>\d{1,9}))?(?:<(?P<letter>\w+)>)?")


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

    @property
    def n_reads(self) -> int:
        """Receivers of one layer's attention."""
        return self.n_heads + 2 * self.n_kv_heads

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


def explain_sender(name: str, shape: GraphShape) -> str:
    """Says why `name` is not a sender of a graph of this shape."""
    match = _NODE.fullmatch(name)
    if name == "logits":
        reason = "the logits only receive"
    elif match is None:
        reason = f"senders are input, {_first_to_last(shape, '')}{_mlps(shape)}"
    elif match["letter"]:
        reason = "q, k and v are inputs of a head; as a sender the head is written without them"
    elif match["part"] == "kv":
        reason = "a key/value group only receives; its heads are the senders"
    else:
        reason = _out_of_range(match, shape)
    return f"No sender {name!r}: {reason}."


def explain_receiver(name: str, shape: GraphShape) -> str:
    """Says why `name` is not a receiver of a graph of this shape."""
    match = _NODE.fullmatch(name)
    if name == "input":
        reason = "the input only sends"
    elif match is None:
        reason = f"receivers are {_reads(shape)}{_mlps(shape)} and logits"
    else:
        reason = _out_of_range(match, shape) or _wrong_read(match, shape)
    return f"No receiver {name!r}: {reason}."


def explain_edge(source: str, target: str, kind: str, own: bool) -> str:
    """Says why no edge joins two nodes that exist: sender, receiver, its kind, and whether it feeds that sender."""
    node = target.split("<")[0]
    # Both ends in one layer: the sender is the receiver's node, or a head beside it.
    same_layer = re.match(r"[am](\d+)", source), re.match(r"[am](\d+)", target)
    beside = source[0] == "a" and all(same_layer) and len({match[1] for match in same_layer if match}) == 1
    if own:
        reason = f"{node} does not read what it writes itself"
    elif beside and kind == "mlp":
        reason = f"{source} and {node} run in parallel, neither reads the other"
    elif beside:
        reason = f"{source} and {node} are in the same layer, heads of a layer do not read each other"
    else:
        reason = f"{source} comes after {node}, an edge runs from earlier to later"
    return f"No edge {source}->{target}: {reason}."


def _wrong_read(match: re.Match[str], shape: GraphShape) -> str:
    """Says what is wrong with an attention receiver whose numbers are in range."""
    layer, part, index, letter = match["layer"], match["part"], int(match["index"]), match["letter"]
    if part == "kv" and not shape.grouped:
        return f"every head has its own k and v here, as in a{layer}.h{index}<k>"
    if part == "kv" and letter == "q":
        return "a key/value group has k and v only; q belongs to a head"
    if letter not in ("q", "k", "v"):
        letters = "kv" if part == "kv" else "q" if shape.grouped else "qkv"
        return "say which input, " + " or ".join(f"a{layer}.{part}{index}<{one}>" for one in letters)
    group = index // shape.group_size
    return f"head {index} shares its {letter}, write a{layer}.kv{group}<{letter}>"


def _out_of_range(match: re.Match[str], shape: GraphShape) -> str:
    """Says which number is too large or which part is missing; empty when that is not what is wrong."""
    heads, groups = shape.n_heads, shape.n_kv_heads
    if match["kind"] == "m" and not shape.mlps:
        return "the model is attention-only"
    if int(match["layer"]) >= shape.n_layers:
        return f"the model has layers 0 to {shape.n_layers - 1}"
    if match["kind"] == "m":
        return f"an MLP is written m{match['layer']}"
    if match["part"] is None:
        return f"a head is written a{match['layer']}.h0"
    if match["part"] == "h" and int(match["index"]) >= heads:
        return f"a layer has heads 0 to {heads - 1}"
    if match["part"] == "kv" and shape.grouped and int(match["index"]) >= groups:
        return f"a layer has key/value groups 0 to {groups - 1}"
    return ""


def _first_to_last(shape: GraphShape, letter: str) -> str:
    return f"a0.h0{letter} to a{shape.n_layers - 1}.h{shape.n_heads - 1}{letter}"


def _reads(shape: GraphShape) -> str:
    if shape.grouped:
        return f"{_first_to_last(shape, '<q>')}, a0.kv0<k>, a0.kv0<v> and so on"
    return f"{_first_to_last(shape, '<q>')}, likewise <k> and <v>"


def _mlps(shape: GraphShape) -> str:
    return f", m0 to m{shape.n_layers - 1}" if shape.mlps else ""
