"""GEXF, for Gephi: with positions, the colours of signs, and the strength as weight."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from acdc_engine.formats.attributed import CARRIED, attributed
from acdc_engine.formats.format import Format, Source, writer
from acdc_engine.formats.from_graph import PlainGraph, plain_graph, reader
from acdc_engine.formats.positions import positions
from acdc_engine.formats.xml_text import escaped, read_xml, with_texts
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.looks import colour_of, measure_of, relative_strengths, strength_of
from acdc_engine.graph.records import SIGN_CONVENTION

if TYPE_CHECKING:
    import networkx as nx

_NAMESPACE = "http://www.gexf.net/1.2draft"
_LEAST_WEIGHT = 0.001
"""Gephi refuses edges of weight 0."""
_KINDS = ("q", "k", "v", "mlp", "logits")


def gexf_text(circuit: Circuit) -> str:
    """The graph of `attributed` as GEXF 1.2; `weight` is |effect| or |score| as a share of the largest.

    GEXF has no attributes of the graph: what they hold is the JSON text in `<meta><description>`.
    """
    from networkx.readwrite.gexf import GEXFWriter

    graph = attributed(circuit)
    carried = graph.graph.pop(CARRIED)
    graph.graph.clear()
    for name, (x, y) in positions(graph).items():
        graph.nodes[name]["viz"] = {"position": {"x": x, "y": y, "z": 0.0}}
    edges = {(edge.sender, edge.receiver): edge for edge in circuit.edges}
    kinds: dict[str, str] = {}
    measure, relative = measure_of(circuit), relative_strengths(circuit)
    for sender, _, facts in graph.edges(data=True):
        edge = edges[sender, facts["receiver"]]
        facts["id"] = facts["label"] = facts["name"]
        kinds[facts["name"]] = facts["kind"]
        facts["weight"] = max(_LEAST_WEIGHT, relative[edge])
        facts["viz"] = {"color": _rgb(colour_of(strength_of(edge, measure)))}
    xml: Any = GEXFWriter(with_texts(graph, escaped), version="1.2draft")
    del xml.graph_element.attrib["name"]  # empty, and not in the schema
    for element in xml.graph_element.iter("edge"):
        # Gephi sums up edges between the same nodes, unless they differ in this.
        element.set("kind", kinds[element.get("id")])
    meta = xml.xml.find("meta")
    del meta.attrib["lastmodifieddate"]  # the same circuit makes the same file
    meta.find("creator").text = "acdc-engine"
    ElementTree.SubElement(meta, "keywords").text = f"circuit; {SIGN_CONVENTION}"
    ElementTree.SubElement(meta, "description").text = carried
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{xml}\n'


def graph_of_gexf(path: Path) -> PlainGraph:
    """Reads the graph of a GEXF file, of this engine or as Gephi writes it.

    Raises:
        CircuitFileError: The file cannot be read.
    """
    graph = plain_graph(read_xml(path, "GEXF", _networkx_graph), path)
    root = ElementTree.parse(path)
    description = root.find("{*}meta/{*}description")
    if description is not None and (description.text or "").startswith('{"circuit"'):
        graph.about[CARRIED] = description.text
    kinds = {edge.get("id"): edge.get("kind") for edge in root.iterfind("{*}graph/{*}edges/{*}edge")}
    for _, _, facts in graph.edges:
        kind = kinds.get(facts.get("id"))
        if kind in _KINDS:  # graphology writes it nowhere else; others call something else so
            facts.setdefault("kind", kind)
    return graph


def _networkx_graph(path: Path) -> nx.Graph[Any]:
    """The graph as networkx reads it; Gephi has called version 1.3 by names that networkx does not know."""
    import networkx as nx

    root = ElementTree.parse(path).getroot()
    for element in root.iter():
        space, _, name = element.tag.rpartition("}")
        element.tag = f"{{{_NAMESPACE}{'/viz' if space.endswith('viz') else ''}}}{name}"
    return nx.read_gexf(BytesIO(ElementTree.tostring(root)))


def is_gexf(source: Source) -> bool:
    """Whether a file is GEXF."""
    return b"<gexf" in source.head


def _rgb(colour: str) -> dict[str, int]:
    return {letter: int(colour[place : place + 2], 16) for letter, place in (("r", 1), ("g", 3), ("b", 5))}


FORMAT = Format(
    name="gexf",
    suffix="gexf",
    title="GEXF: Gephi, networkx; with positions and colours",
    write=writer(gexf_text),
    read=reader("GEXF", graph_of_gexf),
    recognises=is_gexf,
    lossy="",
)
