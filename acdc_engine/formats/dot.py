"""Graphviz DOT: `dot -Tsvg circuit.dot > circuit.svg`. Read back by `acdc_engine.formats.from_dot`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from acdc_engine.formats.attributed import CARRIED, attributed
from acdc_engine.formats.xml_text import escaped
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.looks import colour_of, measure_of, relative_strengths, strength_of
from acdc_engine.graph.nodes import node_read, targets_of
from acdc_engine.graph.records import SIGN_CONVENTION

COMMENT = f"// {CARRIED}: "
"""Starts each line of what is about neither nodes nor edges: graphviz cannot read very long strings."""
LINE_STYLES = {"q": "dashed", "k": "dotted", "v": "solid", "mlp": "solid", "logits": "solid"}
_LINE = 8_000
_NOT_OURS = ("layer", "head", "position", "name")
_SHAPES = {"input": "ellipse", "head": "box", "kv": "box", "mlp": "box", "logits": "ellipse"}
_RANKS = {"input": "min", "logits": "max"}


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
    yield from _ranks(graph)
    yield from _edges(circuit, graph)
    yield "}"


def _edges(circuit: Circuit, graph: Any) -> Iterator[str]:
    layout, measure, relative = circuit.layout(), measure_of(circuit), relative_strengths(circuit)
    for edge in circuit.edges:
        kind, target = targets_of(layout, edge.receiver)[0], node_read(edge.receiver)
        strength = strength_of(edge, measure)
        settings = {
            "color": colour_of(strength),
            "penwidth": f"{0.5 + 3.5 * relative[edge] ** 0.5:.2f}",
            "style": LINE_STYLES[kind],
            "tooltip": f"{edge.sender}->{edge.receiver}" + ("" if strength is None else f" {strength:+.4g}"),
        }
        facts = {**settings, **graph.edges[edge.sender, target, kind]}
        yield f"  {quote(edge.sender)} -> {quote(target)} [{_listed(facts)}];"


def _ranks(graph: Any) -> Iterator[str]:
    ranks: dict[tuple[int | None, str], list[str]] = {}
    for name, facts in graph.nodes(data=True):
        looks = {"label": _label(name, facts), "shape": _SHAPES[facts["kind"]]}
        looks |= {"fillcolor": "#EEEEEE"} if facts["kind"] in ("mlp", "kv") else {}
        kind = "head" if facts["kind"] == "kv" else facts["kind"]
        ranks.setdefault((facts.get("layer"), kind), []).append(f"{quote(name)} [{_listed({**looks, **facts})}];")
    for (_, kind), nodes in ranks.items():
        yield f"  {{ rank={_RANKS.get(kind, 'same')}; {' '.join(nodes)} }}"


def _listed(facts: dict[str, Any]) -> str:
    """Attributes of a node or edge. Those named otherwise mean something else to graphviz."""
    return ", ".join(f"{key}={quote(str(value))}" for key, value in facts.items() if key not in _NOT_OURS)


def _label(name: str, facts: dict[str, Any]) -> str:
    """The name, and below it the role, or the heads that share keys and values."""
    below = facts.get("role", facts.get("heads"))
    return name if below is None else f"{name}\n{below}"


def _title(circuit: Circuit) -> str:
    task = "" if circuit.behaviour_name is None else f", {circuit.behaviour_name}"
    return f"{circuit.model.name}{task}: {len(circuit.edges)} edges"


def quote(text: str) -> str:
    """A DOT string: quotes, backslashes and line breaks escaped; control characters as for XML."""
    text = escaped(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'
