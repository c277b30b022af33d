"""Graphviz DOT: `dot -Tsvg circuit.dot > circuit.svg`. Read back by `acdc_engine.formats.from_dot`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from acdc_engine.formats.attributed import CARRIED, attributed
from acdc_engine.formats.xml_text import escaped
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_records import SIGN_CONVENTION, CircuitNode
from acdc_engine.graph.networkx_view import targets_of
from acdc_engine.graph.strength import colour_of, measure_of, relative_strengths, strength_of

COMMENT = f"// {CARRIED}: "
"""Starts each line of what is about neither nodes nor edges: graphviz cannot read very long strings."""
LINE_STYLES = {"q": "dashed", "k": "dotted", "v": "solid", "mlp": "solid", "logits": "solid"}
_LINE = 8_000
_NOT_OURS = ("layer", "head", "position", "name")
_SHAPES = {"input": "ellipse", "head": "box", "mlp": "box", "logits": "ellipse"}


def dot_text(circuit: Circuit) -> str:
    """The circuit as DOT, input at the bottom, one rank per layer and kind.

    Blue edges support the behaviour, orange ones work against it; width grows with the strength; dashed edges
    enter a head's q, dotted ones its k, solid ones its v. Other attributes are those of `attributed`.
    """
    return "\n".join(_lines(circuit)) + "\n"


def _lines(circuit: Circuit) -> Iterator[str]:
    graph = attributed(circuit)
    carried = graph.graph[CARRIED]
    yield "digraph circuit {"
    yield f"  // {SIGN_CONVENTION}"
    for start in range(0, len(carried), _LINE):
        yield COMMENT + carried[start : start + _LINE]
    yield "  rankdir=BT;"
    yield f"  label={quote(_title(circuit))};"
    yield '  node [fontname="Helvetica", fontsize=11, style="filled,rounded", fillcolor=white];'
    yield '  edge [arrowsize=0.6, fontname="Helvetica", fontsize=8];'
    yield from _ranks(circuit, graph)
    yield from _edges(circuit, graph)
    yield "}"


def _edges(circuit: Circuit, graph: Any) -> Iterator[str]:
    layout, measure, relative = circuit.layout(), measure_of(circuit), relative_strengths(circuit)
    for edge in circuit.edges:
        kind, targets = targets_of(layout, edge.receiver)
        strength = strength_of(edge, measure)
        settings = {
            "color": colour_of(strength),
            "penwidth": f"{0.5 + 3.5 * relative[edge] ** 0.5:.2f}",
            "style": LINE_STYLES[kind],
            "tooltip": f"{edge.sender}->{edge.receiver}" + ("" if strength is None else f" {strength:+.4g}"),
        }
        for target in targets:
            if target in graph:
                facts = {**settings, **graph.edges[edge.sender, target, kind]}
                yield f"  {quote(edge.sender)} -> {quote(target)} [{_listed(facts)}];"


def _ranks(circuit: Circuit, graph: Any) -> Iterator[str]:
    ranks: dict[tuple[int | None, str], list[CircuitNode]] = {}
    for node in circuit.nodes:
        ranks.setdefault((node.layer, node.kind), []).append(node)
    for (_, kind), nodes in ranks.items():
        place = {"input": "min", "logits": "max"}.get(kind, "same")
        looks = {"shape": _SHAPES[kind]} | ({"fillcolor": "#EEEEEE"} if kind == "mlp" else {})
        names = [
            f"{quote(node.name)} [{_listed({'label': _label(node), **looks, **graph.nodes[node.name]})}];"
            for node in nodes
        ]
        yield f"  {{ rank={place}; {' '.join(names)} }}"


def _listed(facts: dict[str, Any]) -> str:
    """Attributes of a node or edge. Those named otherwise mean something else to graphviz."""
    return ", ".join(f"{key}={quote(str(value))}" for key, value in facts.items() if key not in _NOT_OURS)


def _label(node: CircuitNode) -> str:
    return node.name if node.role is None else f"{node.name}\n{node.role}"


def _title(circuit: Circuit) -> str:
    task = "" if circuit.behaviour_name is None else f", {circuit.behaviour_name}"
    return f"{circuit.model.name}{task}: {len(circuit.edges)} edges"


def quote(text: str) -> str:
    """A DOT string: quotes, backslashes and line breaks escaped; control characters as for XML."""
    text = escaped(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'
