"""Tables of the report: nodes, edges, sizes. Cells are texts, with the number that they are sorted by."""

from __future__ import annotations

from dataclasses import dataclass

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.looks import by_strength, column_style, measure_of, strength_of
from acdc_engine.graph.nodes import targets_of
from acdc_engine.graph.records import CircuitEdge, CircuitNode
from acdc_engine.graph.views import edge_counts
from acdc_engine.show.text import edge_columns
from acdc_engine.show.visible import plain

MOST_NODES = 120
MOST_EDGES = 40
_KINDS = {"head": "head", "mlp": "MLP", "input": "", "logits": ""}
ROLE = 60
"""Characters shown of a role."""


@dataclass(frozen=True)
class Cell:
    """A cell; `sign` is a class of the style sheet: positive, negative, or nothing."""

    text: str
    value: float | None = None
    sign: str = ""


@dataclass(frozen=True)
class NodeRow:
    """A node."""

    name: str
    role: str
    classed: bool
    measured: list[str]
    direct: Cell
    edges_in: int
    edges_out: int
    written: Cell
    read: Cell


@dataclass(frozen=True)
class NodeRows:
    """The nodes, class by class; `measure` is what their edges' strengths are, or None.

    `measured` and `direct` say whether any node has measured roles or a direct effect.
    """

    rows: list[NodeRow]
    left: int
    measure: str | None
    measured: bool
    direct: bool


@dataclass(frozen=True)
class EdgeRow:
    """An edge with its figures."""

    name: str
    cells: list[Cell]
    roles: str


@dataclass(frozen=True)
class EdgeRows:
    """The strongest edges."""

    columns: list[str]
    rows: list[EdgeRow]
    left: int
    roles: bool
    measure: str | None


@dataclass(frozen=True)
class SizeRow:
    """A circuit of another size."""

    kind: str
    edges: int
    faithfulness: str
    between: str
    kl_recovered: str
    random: str
    own: bool


def node_rows(circuit: Circuit) -> NodeRows:
    """Nodes by class, classes and nodes with the largest summed |effect| of their edges first."""
    layout, measure = circuit.layout(), measure_of(circuit)
    listed = {node.name for node in circuit.nodes}
    into, out_of = edge_counts(circuit)
    read: dict[str, float] = dict.fromkeys(listed, 0.0)
    written: dict[str, float] = dict.fromkeys(listed, 0.0)
    weight: dict[str, float] = dict.fromkeys(listed, 0.0)
    for edge in circuit.edges:
        strength = strength_of(edge, measure) or 0.0
        written[edge.sender] += strength
        weight[edge.sender] += abs(strength)
        for name in listed.intersection(targets_of(layout, edge.receiver)[1]):
            weight[name] += abs(strength)
            read[name] += strength
    classes: dict[str, float] = {}
    for node in circuit.nodes:
        classes[_class_of(node)] = classes.get(_class_of(node), 0.0) + weight[node.name]
    order = sorted(circuit.nodes, key=lambda n: (not n.role, -classes[_class_of(n)], _class_of(n), -weight[n.name]))

    of_sums = column_style([*written.values(), *read.values()])
    of_direct = column_style((node.direct_effect.clean for node in circuit.nodes if node.direct_effect), 3)

    def row(node: CircuitNode) -> NodeRow:
        direct = node.direct_effect
        return NodeRow(
            name=node.name,
            role=plain(node.role, ROLE) if node.role else _KINDS[node.kind],
            classed=bool(node.role),
            measured=_measured(node),
            direct=Cell("") if direct is None else signed(direct.clean, of_direct),
            edges_in=into[node.name],
            edges_out=out_of[node.name],
            written=Cell("") if measure is None or not out_of[node.name] else signed(written[node.name], of_sums),
            read=Cell("") if measure is None or not into[node.name] else signed(read[node.name], of_sums),
        )

    return NodeRows(
        rows=[row(node) for node in order[:MOST_NODES]],
        left=max(0, len(order) - MOST_NODES),
        measure=measure,
        measured=any(_measured(node) for node in order),
        direct=any(node.direct_effect is not None for node in order),
    )


def _class_of(node: CircuitNode) -> str:
    return node.role or node.kind


def _measured(node: CircuitNode) -> list[str]:
    """Roles whose threshold the head exceeds, with the scores on each kind of prompts."""
    held: dict[str, list[str]] = {}
    for score in node.role_scores:
        if score.holds:
            on = "task" if score.prompts == "task" else "random tokens"
            held.setdefault(score.role, []).append(f"{score.value:.2f} ({on})")
    return [f"{role} {', '.join(scores)}" for role, scores in held.items()]


def edge_rows(circuit: Circuit) -> EdgeRows:
    """The edges with the largest |effect| (|score| where effects are not known)."""
    columns, edges = edge_columns(circuit), by_strength(circuit)
    styles = {column: column_style(getattr(edge, column) for edge in edges) for column in columns}
    rows = [
        EdgeRow(
            f"{edge.sender} -> {edge.receiver}",
            [_figure(edge, column, styles[column]) for column in columns],
            _roles(edge),
        )
        for edge in edges[:MOST_EDGES]
    ]
    roles = any(row.roles for row in rows)
    return EdgeRows(columns, rows, max(0, len(edges) - MOST_EDGES), roles, measure_of(circuit))


def _figure(edge: CircuitEdge, column: str, style: str) -> Cell:
    value = getattr(edge, column)
    if value is None:
        return Cell("")
    if column in ("effect", "score"):
        return signed(value, style)
    return Cell(f"{value:.4f}" if column == "without" else f"{value:.0%}", value)


def _roles(edge: CircuitEdge) -> str:
    if edge.sender_role is None and edge.receiver_role is None:
        return ""
    ends = (edge.sender_role or edge.sender, edge.receiver_role or edge.receiver)
    return " -> ".join(plain(end, ROLE) for end in ends)


def signed(value: float, style: str) -> Cell:
    """A number whose sign says something: positive supports the behaviour. What rounds to zero has none."""
    if not float(format(value, style)):
        return Cell(format(0.0, style), value)
    return Cell(f"{value:+{style}}", value, "positive" if value > 0 else "negative")


def size_rows(circuit: Circuit) -> list[SizeRow]:
    """The circuit at other sizes, smallest first."""
    kinds = {"part": "its strongest edges", "circuit": "the circuit", "more": "with the best other edges"}
    rows = []
    for point in circuit.sizes:
        interval, random = point.faithfulness_interval, [round(value, 3) + 0.0 for value in point.random]
        rows.append(
            SizeRow(
                kind=kinds[point.kind],
                edges=point.edges,
                faithfulness=f"{point.faithfulness:.3f}",
                between="" if interval is None else f"{interval.low:.3f} to {interval.high:.3f}",
                kl_recovered=f"{point.kl_recovered:.3f}",
                random=f"{min(random):.3f} to {max(random):.3f} ({len(random)})" if random else "",
                own=point.kind == "circuit",
            )
        )
    return rows
