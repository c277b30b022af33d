"""The circuit as a graph with attributes: GraphML, GEXF, Cytoscape JSON, DOT and networkx's node-link JSON.

All are written from one graph (`attributed`), whose nodes and edges docs/formats.md lists. Node-link JSON is read as
well, and so are networkx graphs made by hand: nodes are named as in a circuit file (`input`, `a5.h3`, `m4`, `logits`;
`a7.kv1` for keys and values that heads share), and an edge into a head says by its attribute `kind`, or by its key in a
multigraph, whether it enters `q`, `k` or `v`; instead `receiver` may name it, as in `a1.kv0<k>`. With places nodes are
called `a5.h3@B.2`, and the graph's attribute `spans` tells of the places; an edge is where its source is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree

from pydantic import AliasChoices, BaseModel, Field, ValidationError

from acdc_engine.display import counted
from acdc_engine.errors import CircuitFileError
from acdc_engine.formats.register import FORMATS, Format, Source, needs_model
from acdc_engine.formats.tables import Rows, circuit_of, has_places
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import explain_faults, read_json
from acdc_engine.graph.nodes import edge_name
from acdc_engine.graph.records import FIGURES, SIGN_CONVENTION, ModelRecord, SpansRecord
from acdc_engine.graph.style import colour_of, measure_of, relative_strengths, strength_of

if TYPE_CHECKING:
    import networkx as nx

_LOST = "all that is about the whole circuit: its prompts, search, evaluation and certificate"
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_ACROSS, _UP = 90.0, 70.0
_ROWS = {"kv": 0, "head": 1, "mlp": 2}
"""Of a layer, from below."""
_LEAST_WEIGHT = 0.001
"""Gephi refuses edges of weight 0."""
_LINE_STYLES = {"q": "dashed", "k": "dotted", "v": "solid", "mlp": "solid", "logits": "solid"}
_NOT_IN_DOT = ("layer", "head", "position", "name")
"""These mean something else to Graphviz."""
_SHAPES = {"input": "ellipse", "head": "box", "kv": "box", "mlp": "box", "logits": "ellipse"}
_RANKS = {"input": "min", "logits": "max"}


def attributed(circuit: Circuit) -> nx.MultiDiGraph[str]:
    """The graph of `Circuit.to_networkx` with the other figures of nodes and edges.

    Returns:
        The graph. More attributes of edges: `place` (in the circuit file, from 0) and, where known, `without`,
        `stability`, `necessity`. Of nodes, where known: `direct_effect`, `direct_effect_corrupt`,
        `direct_effect_prompts`, and `role_scores`, a JSON text.
    """
    graph = circuit.to_networkx()
    for node in circuit.nodes:
        facts, direct = graph.nodes[node.name], node.direct_effect
        if direct is not None:
            facts.update(direct_effect=direct.clean, direct_effect_corrupt=direct.corrupt)
            facts["direct_effect_prompts"] = direct.n_prompts
        if node.role_scores:
            facts["role_scores"] = json.dumps([score.model_dump(mode="json") for score in node.role_scores])
    places = {edge_name(edge): place for place, edge in enumerate(circuit.edges)}
    for *_, facts in graph.edges(data=True):
        place = places[facts["name"]]
        known = {name: getattr(circuit.edges[place], name) for name in FIGURES}
        facts.update({name: value for name, value in known.items() if value is not None}, place=place)
    return graph


def _positions(graph: nx.MultiDiGraph[str]) -> dict[str, tuple[float, float]]:
    """Places in pixels by node of a circuit's networkx graph; rows are centred at x = 0 and empty ones left out.

    y grows upwards: the input is at the bottom, then per layer rows for groups, heads and MLP.
    """
    rows: dict[tuple[float, int], list[str]] = {}
    for name, facts in graph.nodes(data=True):
        layer = facts.get("layer", -1 if facts["kind"] == "input" else inf)
        rows.setdefault((layer, _ROWS.get(facts["kind"], 0)), []).append(name)
    return {
        name: ((place - (len(names) - 1) / 2) * _ACROSS, row * _UP)
        for row, (_, names) in enumerate(sorted(rows.items()))
        for place, name in enumerate(names)
    }


@FORMATS.add("networkx-json", "node-link JSON: networkx, D3")
class _NodeLink(Format):
    """`networkx.node_link_graph(json.load(file), edges="edges")` reads it."""

    suffix, lost, places = "networkx.json", f"{_LOST}; reading needs --model or --like", True

    def text(self, circuit: Circuit) -> str:
        import networkx as nx

        return json.dumps(nx.node_link_data(attributed(circuit), edges="edges"), indent=1) + "\n"

    def read(self, path: Path, model: ModelRecord | None) -> Circuit:
        return _circuit_of(path, "node-link JSON of networkx", read_json(path), model)

    def recognises(self, source: Source) -> bool:
        return _is_node_link(source.json) and "directed" in source.json


def circuit_from_networkx(graph: nx.Graph[Any], model: ModelRecord) -> Circuit:
    """Makes a circuit of a networkx graph, see this module's page for what it must say.

    Args:
        graph: A directed graph.
        model: The model.

    Raises:
        CircuitFileError: It is no circuit of that model; the node or edge is named.
    """
    import networkx as nx

    return _circuit_of(Path("the graph"), "a networkx graph", nx.node_link_data(graph, edges="edges"), model)


def _is_node_link(content: Any) -> bool:
    keys = content.keys() if isinstance(content, dict) else ()
    return "nodes" in keys and ("edges" in keys or "links" in keys)  # links: as older networkx calls them


class _Node(BaseModel, extra="ignore", strict=True):
    id: str
    role: str | None = None


class _Facts(BaseModel, extra="ignore", strict=True):
    spans: str | None = None


class _Graph(BaseModel, extra="ignore", strict=True):
    directed: Literal[True]
    graph: _Facts = Field(default_factory=_Facts)
    nodes: list[_Node]
    edges: list[dict[str, Any]] = Field(validation_alias=AliasChoices("edges", "links"))


def _circuit_of(path: Path, what: str, content: Any, model: ModelRecord | None) -> Circuit:
    """A circuit from node-link data."""
    try:
        graph = _Graph.model_validate(content)
    except ValidationError as error:
        raise CircuitFileError(
            f"{path}: no directed graph in networkx's node-link form:\n{explain_faults(error)}"
        ) from error
    if model is None:
        raise needs_model(path, what)
    spans, rows = _spans_of(path, graph.graph.spans), Rows()
    edges = list(enumerate(graph.edges))
    if all(isinstance(edge.get("place"), int) for _, edge in edges):
        edges.sort(key=lambda item: int(item[1]["place"]))
    for place, edge in edges:
        if (edge.get("kind"), edge.get("key")) == ("shared", "shared"):
            continue  # from `to_networkx(shared=True)`
        where = f"edges.{place} ({edge.get('source')!s:.60} -> {edge.get('target')!s:.60})"
        if spans is not None:
            edge = edge | _without_places(path, where, edge)
        elif edge.get("span") is not None:
            raise has_places(path)
        ends = {"sender": edge.get("source"), "receiver": _receiver_of(path, where, edge)}
        rows.append((where, ends | {key: edge[key] for key in ("span", *FIGURES) if key in edge}))
    roles = {node.id: node.role for node in graph.nodes if node.role is not None}
    return circuit_of(path, what, model, rows, roles, spans)


def _spans_of(path: Path, text: str | None) -> SpansRecord | None:
    """The places that a graph tells of."""
    try:
        return None if text is None else SpansRecord.model_validate_json(text)
    except ValidationError as error:
        raise CircuitFileError(f"{path}: graph.spans does not tell of places:\n{explain_faults(error)}") from error


def _without_places(path: Path, where: str, edge: Mapping[str, Any]) -> dict[str, str]:
    """The ends of an edge by their names without places, and the place: that of its source.

    A key or value leads to what looks back at it, so that its target may be elsewhere, or be a node of its own, such as
    `a7.h3.kv@B.2`; all else is read where it is written.
    """
    (source, _, span), (target, _, there) = (str(edge.get(end)).partition("@") for end in ("source", "target"))
    ends = {"source": source, "target": target.removesuffix(".kv"), "span": span}
    receiver = str(_receiver_of(path, where, {**edge, **ends}))
    for other in (edge.get("span", span), span if receiver.endswith(("<k>", "<v>")) else there):
        if other != span:
            raise CircuitFileError(
                f"{path}: {where}: it begins at the place {span[:60]!r} and belongs to {str(other)[:60]!r}: an edge "
                "lives at one place. Correct one of the two."
            )
    return ends


def _receiver_of(path: Path, place: str, edge: Mapping[str, Any]) -> Any:
    """The receiver that an edge enters: as its attributes say, or the only one that its target has."""
    target, receiver = edge.get("target"), edge.get("receiver")
    if receiver is None:
        kind = next((kind for kind in (edge.get("kind"), edge.get("key")) if kind in ("q", "k", "v")), None)
        return target if kind is None else f"{target}<{kind}>"
    if isinstance(receiver, str) and receiver.partition("<")[0] != target:
        raise CircuitFileError(
            f"{path}: {place}: its receiver {receiver:.60} is no part of {target!s:.60}. Correct one of the two."
        )
    return receiver


@FORMATS.add("graphml", "GraphML: networkx, Gephi, Cytoscape, yEd, igraph")
class _GraphMl(Format):
    suffix, lost, places = "graphml", _LOST, True

    def text(self, circuit: Circuit) -> str:
        """Nodes have their names as `name` as well, for igraph and yEd, which number them, and as `label`, for Gephi.

        Ids of edges are as in `a5.h5-a7.h3-k`.
        """
        from networkx.readwrite.graphml import GraphMLWriter

        graph = _for_xml(attributed(circuit))
        for name, facts in graph.nodes(data=True):
            facts["name"] = facts["label"] = name
        # Keys of parallel edges (q, k, v) are unique between two nodes only; ids must be so in the whole file.
        writer: Any = GraphMLWriter(edge_id_from_attribute="name")
        writer.add_graph_element(graph)
        _set_ids(writer.xml)
        return f"{_XML}{writer}\n"

    def recognises(self, source: Source) -> bool:
        return b"http://graphml.graphdrawing.org/xmlns" in source.head


def _set_ids(root: ElementTree.Element) -> None:
    """Calls keys after their attributes instead of d0, d1, ...: Gephi takes what is called d3 or d7 for labels.

    And makes the ids of edges, which are their names, what the schema allows (NMTOKEN: neither `<` nor `>`).
    """
    for edge in root.iter("edge"):
        edge.set("id", (edge.get("id") or "").replace("->", "-").replace("<", "-").replace(">", ""))
    ids = {key.get("id"): f"{key.get('for')}_{key.get('attr.name')}" for key in root.iter("key")}
    for key in root.iter("key"):
        key.set("id", ids[key.get("id")])
    for data in root.iter("data"):
        data.set("key", ids[data.get("key")])


@FORMATS.add("gexf", "GEXF: Gephi, networkx; with positions and colours")
class _Gexf(Format):
    suffix, lost, places = "gexf", _LOST, True

    def text(self, circuit: Circuit) -> str:
        """GEXF 1.2; `weight` is |effect| or |score| as a share of the largest."""
        from networkx.readwrite.gexf import GEXFWriter

        graph = attributed(circuit)
        graph.graph.clear()
        for name, (x, y) in _positions(graph).items():
            graph.nodes[name]["viz"] = {"position": {"x": x, "y": y, "z": 0.0}}
        kinds: dict[str, str] = {}
        measure, relative = measure_of(circuit), relative_strengths(circuit)
        for *_, facts in graph.edges(data=True):
            edge = circuit.edges[facts["place"]]
            facts["id"] = facts["label"] = facts["name"]
            kinds[facts["name"]] = facts["kind"]
            facts["weight"] = max(_LEAST_WEIGHT, relative[edge])
            facts["viz"] = {"color": _rgb(colour_of(strength_of(edge, measure)))}
        xml: Any = GEXFWriter(_for_xml(graph), version="1.2draft")
        del xml.graph_element.attrib["name"]  # empty, and not in the schema
        for element in xml.graph_element.iter("edge"):
            # Gephi sums up edges between the same nodes, unless they differ in this.
            element.set("kind", kinds[element.get("id")])
        meta = xml.xml.find("meta")
        del meta.attrib["lastmodifieddate"]  # the same circuit makes the same file
        meta.find("creator").text = "acdc-engine"
        ElementTree.SubElement(meta, "keywords").text = f"circuit; {SIGN_CONVENTION}"
        return f"{_XML}{xml}\n"

    def recognises(self, source: Source) -> bool:
        return b"<gexf" in source.head


@FORMATS.add("cytoscape", "Cytoscape JSON: Cytoscape, cytoscape.js, networkx; with positions")
class _Cytoscape(Format):
    suffix, lost, places = "cyjs", _LOST, True

    def text(self, circuit: Circuit) -> str:
        """`data` about the graph, `elements` with `nodes` (and positions) and `edges`."""
        import networkx as nx

        graph = attributed(circuit)
        places, content = _positions(graph), nx.cytoscape_data(graph)
        content |= {"format_version": "1.0", "generated_by": "acdc-engine", "data": graph.graph}
        for node in content["elements"]["nodes"]:
            x, y = places[node["data"]["id"]]
            node["position"] = {"x": x, "y": -y}  # Cytoscape's y grows downwards
        for edge in content["elements"]["edges"]:
            edge["data"]["id"] = edge["data"]["name"]
        return json.dumps(content, indent=1) + "\n"

    def recognises(self, source: Source) -> bool:
        return isinstance(source.json, dict) and isinstance(source.json.get("elements"), dict | list)


@FORMATS.add("dot", "Graphviz DOT: dot -Tsvg circuit.dot > circuit.svg")
class _Dot(Format):
    """Input at the bottom, one rank per layer and kind.

    Blue edges support the behaviour, orange ones work against it; width grows with the strength; dashed edges enter a
    head's q, dotted ones its k, solid ones its v. Other attributes are those of `attributed`.
    """

    suffix, lost, places = "dot", _LOST, True

    def text(self, circuit: Circuit) -> str:
        graph = attributed(circuit)
        task = "" if circuit.behaviour_name is None else f", {circuit.behaviour_name}"
        n_edges = counted(len(circuit.edges), "edge")
        lines = [
            "digraph circuit {",
            f"  // {SIGN_CONVENTION}",
            "  rankdir=BT;",
            f"  label={_quoted(f'{circuit.model.name}{task}: {n_edges}')};",
            '  node [fontname="Helvetica", fontsize=11, style="filled,rounded", fillcolor=white];',
            '  edge [arrowsize=0.6, fontname="Helvetica", fontsize=8];',
            *_dot_ranks(graph),
            *_dot_edges(circuit, graph),
            "}",
        ]
        return "\n".join(lines) + "\n"

    def recognises(self, source: Source) -> bool:
        return re.match(rb"\s*(strict\s+)?digraph\b", source.head) is not None


def _dot_edges(circuit: Circuit, graph: Any) -> Iterator[str]:
    measure, relative = measure_of(circuit), relative_strengths(circuit)
    for sender, target, facts in sorted(graph.edges(data=True), key=lambda edge: edge[2]["place"]):
        edge = circuit.edges[facts["place"]]
        strength = strength_of(edge, measure)
        settings = {
            "color": colour_of(strength),
            "penwidth": f"{0.5 + 3.5 * relative[edge] ** 0.5:.2f}",
            "style": _LINE_STYLES[facts["kind"]],
            "tooltip": facts["name"] + ("" if strength is None else f" {strength:+.4g}"),
        }
        yield f"  {_quoted(sender)} -> {_quoted(target)} [{_dot_listed({**settings, **facts})}];"


def _dot_ranks(graph: Any) -> Iterator[str]:
    ranks: dict[tuple[int | None, str], list[str]] = {}
    for name, facts in graph.nodes(data=True):
        below = facts.get("role", facts.get("heads"))
        looks = {"label": name if below is None else f"{name}\n{below}", "shape": _SHAPES[facts["kind"]]}
        looks |= {"fillcolor": "#EEEEEE"} if facts["kind"] in ("mlp", "kv") else {}
        kind = "head" if facts["kind"] == "kv" else facts["kind"]
        ranks.setdefault((facts.get("layer"), kind), []).append(f"{_quoted(name)} [{_dot_listed({**looks, **facts})}];")
    for (_, kind), nodes in ranks.items():
        yield f"  {{ rank={_RANKS.get(kind, 'same')}; {' '.join(nodes)} }}"


def _dot_listed(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={_quoted(str(value))}" for key, value in facts.items() if key not in _NOT_IN_DOT)


def _quoted(text: str) -> str:
    """A DOT string: quotes, backslashes and line breaks escaped; control characters as for XML."""
    return '"' + _plain(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _plain(text: str) -> str:
    r"""A text that XML can hold: characters that it forbids or changes become `\u` and four hexadecimal digits."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _for_xml(graph: Any) -> Any:
    """The graph with every text among its attributes as XML can hold it."""
    parts = [graph.graph, *(facts for _, facts in graph.nodes(data=True))]
    for facts in (*parts, *(facts for _, _, facts in graph.edges(data=True))):
        facts.update({key: _plain(text) for key, text in facts.items() if isinstance(text, str)})
    return graph


def _rgb(colour: str) -> dict[str, int]:
    return {letter: int(colour[place : place + 2], 16) for letter, place in (("r", 1), ("g", 3), ("b", 5))}
