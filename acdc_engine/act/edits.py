"""What is to be changed of what a node writes: records that say it, node by node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from pydantic import Field

from acdc_engine.errors import GraphError, did_you_mean
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.records import Record

Rows = tuple[Annotated[tuple[int, ...], Field(min_length=1)], ...]
"""Token ids of prompts, which may be of any lengths."""


class _OfNode(Record):
    node: str
    """A head (a5.h3) or an MLP (m5)."""


class KnockOut(_OfNode):
    """The node writes nothing."""

    kind: Literal["zero"] = "zero"


class Mean(_OfNode):
    """The node writes its mean over some prompts, position by position.

    Behind the last position of these prompts it is the mean over their positions, the first left out.
    """

    kind: Literal["mean"] = "mean"
    prompts: Annotated[Rows, Field(min_length=1)]
    """Token ids of the prompts."""


class Patch(_OfNode):
    """The node writes what it writes on another prompt, at that one's positions; behind them, what it writes itself."""

    kind: Literal["patch"] = "patch"
    prompts: Annotated[Rows, Field(min_length=1)]
    """Token ids of one prompt for all that are run together, or of one for each, as long as what it stands in for."""


class Scale(_OfNode):
    """What the node writes is multiplied."""

    kind: Literal["scale"] = "scale"
    factor: float
    """1 leaves it as it is, 0 knocks it out, -1 turns it round."""


class Add(_OfNode):
    """To what the node writes something is added, at every position."""

    kind: Literal["add"] = "add"
    direction: tuple[float, ...]
    """In the residual stream, `d_model` numbers."""
    factor: float = 1.0
    """How many times."""


Edit = KnockOut | Mean | Patch | Scale | Add
"""A change of what one node writes; several of one node are made in the order given, but `Add` of a head comes last."""


def edited_nodes(graph: Graph, edits: Iterable[Edit]) -> tuple[Edit, ...]:
    """The edits, of nodes that exist in a graph and can be edited.

    Raises:
        GraphError: There are none, or one is of a node that does not exist, or of the input or the logits.
    """
    found = tuple(edits)
    if not found:
        raise GraphError("There are no edits: give one or more, such as Scale(node='a5.h3', factor=0).")
    check_nodes(graph, [edit.node for edit in found])
    return found


def check_nodes(graph: Graph, nodes: Iterable[str]) -> None:
    """Refuses, with a GraphError, nodes that do not exist in a graph or cannot be edited."""
    for name in nodes:
        if name == "input":
            raise GraphError("What the input writes is the prompt: run another prompt instead of editing it.")
        try:
            graph.sender_index(name)
        except GraphError as error:
            raise GraphError(f"{error}{did_you_mean(name, graph.senders)}") from None


def knockout(circuit: Circuit, mean: Iterable[Sequence[int]] | None = None) -> tuple[Edit, ...]:
    """Edits that take a circuit's heads and MLPs away: to zero, or to their mean over prompts (rows of token ids)."""
    return _without(_own(circuit), mean)


def only(circuit: Circuit, mean: Iterable[Sequence[int]] | None = None) -> tuple[Edit, ...]:
    """Edits that take all other heads and MLPs away, likewise.

    Nodes stay with all that they read of each other: what is left is more than the circuit's edges.
    """
    own = set(_own(circuit))
    return _without([name for name in circuit.graph().senders[1:] if name not in own], mean)


def _own(circuit: Circuit) -> list[str]:
    """Its heads and MLPs, wherever in the prompt they are."""
    return list(dict.fromkeys(node.sender for node in circuit.nodes if node.layer is not None))


def _without(nodes: Iterable[str], mean: Iterable[Sequence[int]] | None) -> tuple[Edit, ...]:
    if mean is None:
        return tuple(KnockOut(node=name) for name in nodes)
    rows = tuple(tuple(row) for row in mean)
    return tuple(Mean(node=name, prompts=rows) for name in nodes)
