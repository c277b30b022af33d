"""Graphviz DOT: `dot -Tsvg circuit.dot > circuit.svg`."""

from __future__ import annotations

from collections.abc import Iterator

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_records import SIGN_CONVENTION, CircuitNode
from acdc_engine.graph.networkx_view import targets_of
from acdc_engine.graph.strength import colour_of, measure_of, relative_strengths, strength_of

LINE_STYLES = {"q": "dashed", "k": "dotted", "v": "solid", "mlp": "solid", "logits": "solid"}
_SHAPES = {"input": "ellipse", "head": "box", "mlp": "box", "logits": "ellipse"}


def dot_text(circuit: Circuit) -> str:
    """The circuit as DOT, input at the bottom, one rank per layer and kind.

    Blue edges support the behaviour, orange ones work against it; width grows with the strength; dashed edges
    enter a head's q, dotted ones its k, solid ones its v.
    """
    return "\n".join(_lines(circuit)) + "\n"


def _lines(circuit: Circuit) -> Iterator[str]:
    layout, measure = circuit.layout(), measure_of(circuit)
    yield "digraph circuit {"
    yield f"  // {SIGN_CONVENTION}"
    yield "  rankdir=BT;"
    yield f"  label={quote(_title(circuit))};"
    yield '  node [fontname="Helvetica", fontsize=11, style="filled,rounded", fillcolor=white];'
    yield '  edge [arrowsize=0.6, fontname="Helvetica", fontsize=8];'
    yield from _ranks(circuit)
    relative = relative_strengths(circuit)
    listed = {node.name for node in circuit.nodes}
    for edge in circuit.edges:
        kind, targets = targets_of(layout, edge.receiver)
        strength = strength_of(edge, measure)
        settings = {
            "color": colour_of(strength),
            "penwidth": f"{0.5 + 3.5 * relative[edge] ** 0.5:.2f}",
            "style": LINE_STYLES[kind],
            "tooltip": f"{edge.sender}->{edge.receiver}" + ("" if strength is None else f" {strength:+.4g}"),
        }
        roles = {"sender_role": edge.sender_role, "receiver_role": edge.receiver_role}  # for gvpr and pydot
        settings |= {key: role for key, role in roles.items() if role is not None}
        text = ", ".join(f"{key}={quote(value)}" for key, value in settings.items())
        for target in targets:
            if target in listed:
                yield f"  {quote(edge.sender)} -> {quote(target)} [{text}];"
    yield "}"


def _ranks(circuit: Circuit) -> Iterator[str]:
    ranks: dict[tuple[int | None, str], list[CircuitNode]] = {}
    for node in circuit.nodes:
        ranks.setdefault((node.layer, node.kind), []).append(node)
    for (_, kind), nodes in ranks.items():
        place = {"input": "min", "logits": "max"}.get(kind, "same")
        fill = ', fillcolor="#EEEEEE"' if kind == "mlp" else ""
        looks = f"shape={_SHAPES[kind]}{fill}"
        names = (f"{quote(node.name)} [label={quote(_label(node))}, {looks}];" for node in nodes)
        yield f"  {{ rank={place}; {' '.join(names)} }}"


def _label(node: CircuitNode) -> str:
    return node.name if node.role is None else f"{node.name}\n{node.role}"


def _title(circuit: Circuit) -> str:
    task = "" if circuit.task is None else f", {circuit.task.name}"
    return f"{circuit.model.name}{task}: {len(circuit.edges)} edges"


def quote(text: str) -> str:
    """A DOT string: quotes and backslashes escaped, line breaks too."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
