"""A known circuit from its rule: groups of nodes, and which group writes to which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_check import nodes_of_edges, with_roles
from acdc_engine.graph.circuit_records import CircuitEdge, ModelRecord


class Wiring:
    """The edges of a rule, group by group.

    Args:
        layout: The graph that the edges are part of.

    Attributes:
        edges: What has been joined so far, as sender and receiver index.
    """

    def __init__(self, layout: Graph) -> None:
        """See the class."""
        self.layout = layout
        self.edges: set[tuple[int, int]] = set()

    def join(self, senders: Iterable[str], receivers: Iterable[str], letters: str = "qkv") -> None:
        """Adds every edge that exists from one of some nodes to one of others: nothing reads what is computed later.

        Args:
            senders: Nodes that write, such as `input`, `a5.h5` or `m0`.
            receivers: Nodes that read, such as `a7.h3`, `m7` or `logits`.
            letters: Through which of q, k and v heads are entered.

        Raises:
            GraphError: A node that does not exist.
        """
        columns = [column for node in receivers for column in self._columns(node, letters)]
        for sender in senders:
            row = self.layout.sender_index(sender)
            self.edges.update((row, column) for column in columns if self.layout.joins[row, column])

    def _columns(self, node: str, letters: str) -> list[int]:
        """Receivers of a node; the k and v of a head that shares them are its group's."""
        if ".h" not in node:
            return [self.layout.receiver_index(node)]
        head, shape = self.layout.sender_index(node), self.layout.shape
        layer, place = divmod(head - 1, shape.n_heads + shape.mlps)
        group = self.layout.group_of(place)
        slots = {"q": self.layout.part(layer, "q").start + place}
        slots |= {"k": self.layout.part(layer, "k").start + group, "v": self.layout.part(layer, "v").start + group}
        return [slots[letter] for letter in letters]


def circuit_by_rule(
    model: ModelRecord,
    wiring: Wiring,
    roles: Mapping[str, Iterable[str]],
    *,
    behaviour: str,
    source: str,
    rule: str,
    made_by: str,
) -> Circuit:
    """The circuit of a wiring, its edges in the graph's order.

    Args:
        model: The model that the circuit is part of.
        wiring: Its edges.
        roles: What groups of nodes do: role by role, the names of its nodes.
        behaviour: What the circuit does: the name of a task.
        source: Paper and code.
        rule: The rule in words.
        made_by: The script.
    """
    layout = wiring.layout
    edges = [
        CircuitEdge(sender=layout.senders[sender], receiver=layout.receivers[receiver])
        for sender, receiver in sorted(wiring.edges)
    ]
    nodes = nodes_of_edges(layout, edges, {name: role for role, names in roles.items() for name in names})
    edges_with_roles = with_roles(layout, nodes, edges)
    return Circuit(
        model=model,
        behaviour=behaviour,
        source=source,
        rule=rule,
        made_by=made_by,
        nodes=nodes,
        edges=edges_with_roles,
    )
