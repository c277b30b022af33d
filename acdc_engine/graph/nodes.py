"""Edges by name or from a mask, the nodes that they join, their roles, and whether all of these fit each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from acdc_engine.errors import CircuitFileError, GraphError, did_you_mean
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.records import AttentionPath, CircuitEdge, CircuitNode

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

    from acdc_engine.graph.circuit import Circuit
    from acdc_engine.graph.evidence_records import Example

EdgeLike = CircuitEdge | str | tuple[str, str]
"""An edge, its name (`a5.h3->a7.h1<v>`) or its two ends."""


class Node(NamedTuple):
    """A node of a graph: its name, what it is, and where."""

    name: str
    kind: Any
    layer: int | None
    span: str | None


def all_nodes(layout: Graph) -> Iterator[Node]:
    """Yields every node of a graph, in order; `logits` last. With spans each is there at all of them, `logits` once."""
    spans = (None,) if layout.spans is None else layout.spans.names

    def at_each(sender: int, kind: Any, layer: int | None) -> Iterator[Node]:
        for place, span in enumerate(spans):
            yield Node(layout.node_name(sender * layout.n_spans + place), kind, layer, span)

    yield from at_each(layout.INPUT, "input", None)
    for block in layout.blocks:
        kind = "head" if block.kind == "attention" else block.kind
        for sender in range(block.writes.start, block.writes.stop):
            yield from at_each(sender, kind, block.layer)
    yield Node(layout.receivers[layout.logits], "logits", None, spans[layout.end])


def layer_of(name: str) -> int:
    """Layer of a node or receiver by its name, with a place or not; -1 for the input and the logits."""
    return -1 if name.startswith(("input", "logits")) else int(name.partition("@")[0][1:].partition(".")[0])


def targets_of(layout: Graph, receiver: str) -> tuple[str, tuple[str, ...]]:
    """Kind of a receiver (`q`, `k`, `v`, `mlp` or `logits`) and the nodes it feeds: several for a key/value group."""
    index = layout.receiver_index(receiver)
    kind = layout.receiver_kind(index)
    nodes = tuple(layout.node_name(node) for node in layout.fed(index))
    return kind, nodes or (layout.receivers[layout.logits],)


def edges_named(layout: Graph, edges: Iterable[EdgeLike]) -> tuple[CircuitEdge, ...]:
    """Edges of a graph, without figures.

    Raises:
        GraphError: One that cannot exist there: the rule, and the nearest name.
    """
    found = []
    for given in edges:
        name = edge_name(given)
        try:
            sender, receiver = layout.parse_edge(name)
        except GraphError as error:
            hint = ""
            if "write" not in str(error):  # some say themselves what to write
                known = zip(name.split("->"), (layout.senders, layout.receivers), strict=True)
                ends = ((end.strip(), names) for end, names in known)
                hint = "".join(did_you_mean(end, names) for end, names in ends if end not in names)
            raise GraphError(f"{error}{hint}") from error
        found.append(_edge(layout, sender, receiver))
    return tuple(found)


def _edge(layout: Graph, sender: int, receiver: int, **figures: Any) -> CircuitEdge:
    name, _, span = layout.receivers[receiver].partition("@")
    return CircuitEdge(sender=layout.senders[sender], receiver=name, span=span or None, **figures)


def edge_name(edge: EdgeLike) -> str:
    """The name of an edge, which may not exist; a GraphError where it is none of `EdgeLike`."""
    if isinstance(edge, str):
        return edge
    if isinstance(edge, CircuitEdge):
        return edge.name
    if isinstance(edge, tuple) and len(edge) == 2 and all(isinstance(end, str) for end in edge):
        return "->".join(edge)
    raise GraphError(
        f"An edge is given by its name, such as a5.h3->a7.h1<v>, or as a pair of its ends, not as {edge!r}."
    )


def edges_of_mask(
    graph: Graph,
    mask: Bool[Tensor, "senders receivers"],
    scores: Float[Tensor, "senders receivers"] | None = None,
) -> tuple[CircuitEdge, ...]:
    """Lists the kept edges of a mask, in the graph's order, with scores.

    Raises:
        GraphError: The mask keeps an edge that does not exist.
    """
    kept = mask.cpu()
    score = [None] * int(kept.sum()) if scores is None else scores.cpu()[kept].tolist()
    edges = []
    for (sender, receiver), value in zip(kept.nonzero().tolist(), score, strict=True):
        graph.edge_name(sender, receiver)  # raises where there is no such edge
        edges.append(_edge(graph, sender, receiver, score=value))
    return tuple(edges)


def nodes_of_edges(
    layout: Graph, edges: Iterable[CircuitEdge], roles: Mapping[str, str] | None = None
) -> tuple[CircuitNode, ...]:
    """Lists the nodes that edges join, in the graph's order; `input` and `logits` only where an edge touches them.

    A key/value group stands for those of its heads that have another edge; when none has, for all of them. `roles` says
    what some nodes do in the circuit, by name.

    Raises:
        GraphError: An edge that does not exist.
    """
    edges = tuple(edges)
    for edge in edges:
        layout.parse_edge(edge.name)
    fed = [targets_of(layout, edge.into)[1] for edge in edges]
    found = {edge.out_of for edge in edges} | {nodes[0] for nodes in fed if len(nodes) == 1}
    for heads in fed:
        if found.isdisjoint(heads):
            found.update(heads)
    roles = roles or {}
    return tuple(
        CircuitNode(**node._asdict(), role=roles.get(node.name)) for node in all_nodes(layout) if node.name in found
    )


def with_roles(layout: Graph, nodes: Iterable[CircuitNode], edges: Iterable[CircuitEdge]) -> tuple[CircuitEdge, ...]:
    """Writes the nodes' roles to the edges, so that tables and pictures can use them."""
    roles = {node.name: node.role for node in nodes}

    def written(edge: CircuitEdge) -> CircuitEdge:
        receiver_role = role_fed(layout, edge.into, roles)
        return edge.model_copy(update={"sender_role": roles.get(edge.out_of), "receiver_role": receiver_role})

    return tuple(map(written, edges))


def role_fed(layout: Graph, receiver: str, roles: Mapping[str, str | None]) -> str | None:
    """Role of what a receiver is part of: of all heads of a key/value group that have one, joined by " / "."""
    known = [role for role in map(roles.get, targets_of(layout, receiver)[1]) if role is not None]
    return " / ".join(dict.fromkeys(known)) if known else None


def edge_counts(circuit: Circuit) -> tuple[Counter[str], Counter[str]]:
    """Counts the edges into every node of a circuit, and the edges out of it, by its name.

    One into a key or value that heads share goes into each of them that is in the circuit.
    """
    layout, listed = circuit.graph(), {node.name for node in circuit.nodes}
    into: Counter[str] = Counter()
    for receiver, n_edges in Counter(edge.into for edge in circuit.edges).items():
        into.update(dict.fromkeys(listed.intersection(targets_of(layout, receiver)[1]), n_edges))
    return into, Counter(edge.out_of for edge in circuit.edges)


def check_circuit(layout: Graph, nodes: Iterable[CircuitNode], edges: Iterable[CircuitEdge]) -> None:
    """Refuses edges that cannot exist, duplicates, and nodes that are not the edges' ends.

    `input` and `logits` may be listed without an edge: an empty circuit still has them.

    Raises:
        CircuitFileError: With the first thing that is wrong.
    """
    roles = _check_nodes(layout, nodes)
    seen: set[str] = set()
    touched = {node.name for node in all_nodes(layout) if node.kind in ("input", "logits")}
    for place, edge in enumerate(edges):
        name = edge_name(edge)
        where = f"edges.{place}: {name}"
        try:
            layout.parse_edge(name)
        except GraphError as error:
            raise CircuitFileError(f"edges.{place} cannot exist in this model's graph: {error}") from error
        if name in seen:
            raise CircuitFileError(f"{where} is listed twice.")
        seen.add(name)
        if edge.out_of not in roles:
            raise CircuitFileError(f"{where} starts at {edge.out_of}, which is not among the nodes.")
        _, fed = targets_of(layout, edge.into)
        if roles.keys().isdisjoint(fed):
            which = f"{fed[0]}, which is not" if len(fed) == 1 else f"none of {', '.join(fed)}, which are"
            raise CircuitFileError(f"{where} leads to {which} among the nodes.")
        # Roles are written twice, for readers of single edges; both must say the same.
        both = {"sender_role": roles[edge.out_of], "receiver_role": role_fed(layout, edge.into, roles)}
        for key, role in both.items():
            if getattr(edge, key) not in (None, role):
                raise CircuitFileError(
                    f"{where} has {key} {getattr(edge, key)!r:.60}, its node has role {role!r:.60}. Write the same at "
                    f"both, or leave {key} out."
                )
        touched.update((edge.out_of, *fed))
    if lonely := sorted(roles.keys() - touched):
        raise CircuitFileError(f"No edge starts or ends at {', '.join(lonely)}: remove it from the nodes.")


def check_paths(layout: Graph, nodes: Iterable[CircuitNode], paths: Iterable[AttentionPath]) -> None:
    """Refuses attention that the circuit cannot have: of a head that it does not have there, or to a place ahead.

    Raises:
        CircuitFileError: With the first thing that is wrong.
    """
    heads = {node.name for node in nodes if node.kind == "head"}
    spans, seen = layout.spans, set[tuple[str, str]]()
    for place, path in enumerate(paths):
        where = f"attention.{place}: {path.node} looks at {path.source}"
        if spans is None or path.node not in heads:
            raise CircuitFileError(f"{where}, and {path.node} is not among the nodes.")
        if path.source not in spans.names:
            raise CircuitFileError(f"{where}, which is none of the places: {', '.join(spans.names)}.")
        if not spans.leads[spans.names.index(path.source)][spans.names.index(path.target)]:
            raise CircuitFileError(f"{where}, which is nowhere before {path.target}.")
        if (path.node, path.source) in seen:
            raise CircuitFileError(f"{where}: this is listed twice.")
        seen.add((path.node, path.source))


def check_examples(layout: Graph, examples: Iterable[Example]) -> None:
    """Refuses examples whose tokens are not each at one of the places.

    Raises:
        CircuitFileError: With the first that are not.
    """
    for place, example in enumerate(examples):
        found, tokens = example.spans, len(example.clean)
        strange = [at for at in found if not 0 <= at < layout.n_spans]
        if len(found) != (0 if layout.spans is None else tokens):
            rule = "the circuit tells none apart" if layout.spans is None else "every token has one"
            raise CircuitFileError(f"examples.{place}.spans: {rule}, and {len(found)} are given for {tokens} tokens.")
        if strange:
            raise CircuitFileError(
                f"examples.{place}.spans: there is no place {strange[0]}; the {layout.n_spans} of the circuit are "
                "counted from 0."
            )


def check_inner(edges: Iterable[CircuitEdge], inner: Iterable[str]) -> None:
    """Refuses, with a CircuitFileError, an inner circuit with edges that the circuit itself does not have."""
    if lost := sorted({*inner} - {edge.name for edge in edges}):
        raise CircuitFileError(
            f"inner.edges: {lost[0]} is no edge of the circuit, which has all edges of the one inside it."
        )


def _check_nodes(layout: Graph, nodes: Iterable[CircuitNode]) -> dict[str, str | None]:
    """The roles of the nodes."""
    known = {node.name: node for node in all_nodes(layout)}
    roles: dict[str, str | None] = {}
    for place, node in enumerate(nodes):
        if node.name not in known:
            try:
                layout.sender_index(node.name)
                raise GraphError(f"No sender {node.name!r}: it is at no place of the prompt, as in {node.name}@end.")
            except GraphError as error:
                reason = str(error).replace("No sender", "no node", 1)
                message = f"nodes.{place} cannot exist in this model's graph: {reason}"
                raise CircuitFileError(message) from error
        if node.name in roles:
            raise CircuitFileError(f"nodes.{place}: {node.name} is listed twice.")
        same = known[node.name]
        if (node.kind, node.layer) != (same.kind, same.layer):
            raise CircuitFileError(
                f"nodes.{place}: {node.name} has kind {same.kind!r} and layer {same.layer}, "
                f"not kind {node.kind!r} and layer {node.layer}."
            )
        if node.span != same.span:
            raise CircuitFileError(f"nodes.{place}: {node.name} has span {same.span!r}, not {node.span!r}.")
        roles[node.name] = node.role
    return roles
