"""GEXF, for Gephi: with positions, the colours of signs, and the strength as weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from acdc_engine.formats.attributed import CARRIED, attributed
from acdc_engine.formats.format import Format, Source, writer
from acdc_engine.formats.from_graph import circuit_of, plain_graph
from acdc_engine.formats.positions import positions
from acdc_engine.formats.xml_text import escaped, read_xml, with_texts
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_records import SIGN_CONVENTION, ModelRecord
from acdc_engine.graph.strength import colour_of, measure_of, relative_strengths, strength_of

_LEAST_WEIGHT = 0.001
"""Gephi refuses edges of weight 0."""


def gexf_text(circuit: Circuit) -> str:
    """The graph of `attributed` as GEXF 1.2; `weight` is |effect| or |score| as a share of the largest.

    GEXF has no attributes of the graph: what they hold is the JSON text in `<meta><description>`.
    """
    from networkx.readwrite.gexf import GEXFWriter

    graph = attributed(circuit)
    carried = graph.graph.pop(CARRIED)
    graph.graph.clear()
    for name, (x, y) in positions(circuit).items():
        graph.nodes[name]["viz"] = {"position": {"x": x, "y": y, "z": 0.0}}
    edges = {(edge.sender, edge.receiver): edge for edge in circuit.edges}
    measure, relative = measure_of(circuit), relative_strengths(circuit)
    for sender, _, facts in graph.edges(data=True):
        edge = edges[sender, facts["receiver"]]
        facts["id"] = facts["label"] = facts["name"]
        facts["weight"] = max(_LEAST_WEIGHT, relative[edge])
        facts["viz"] = {"color": _rgb(colour_of(strength_of(edge, measure)))}
    xml: Any = GEXFWriter(with_texts(graph, escaped), version="1.2draft")
    meta = xml.xml.find("meta")
    del meta.attrib["lastmodifieddate"]  # the same circuit makes the same file
    meta.find("creator").text = "acdc-engine"
    ElementTree.SubElement(meta, "keywords").text = f"circuit; {SIGN_CONVENTION}"
    ElementTree.SubElement(meta, "description").text = carried
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{xml}\n'


def circuit_from_gexf(path: str | Path, model: ModelRecord | None = None) -> Circuit:
    """Reads a circuit from GEXF, of this engine or as Gephi writes it.

    Args:
        path: The file.
        model: The model, where the file does not say it.

    Raises:
        CircuitFileError: The file cannot be read, or is no circuit of that model; the node or edge is named.
    """
    import networkx as nx

    path = Path(path)
    graph = plain_graph(read_xml(path, "GEXF", nx.read_gexf), path)
    description = ElementTree.parse(path).find("{*}meta/{*}description")
    if description is not None and (description.text or "").startswith('{"circuit"'):
        graph.about[CARRIED] = description.text
    return circuit_of(graph, path, "GEXF", model)


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
    read=circuit_from_gexf,
    recognises=is_gexf,
    lossy="",
)
