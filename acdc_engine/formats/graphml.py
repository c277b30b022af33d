"""GraphML, for Gephi, Cytoscape, yEd, igraph and `networkx.read_graphml`."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from acdc_engine.formats.attributed import attributed
from acdc_engine.formats.format import Format, Source, writer
from acdc_engine.formats.from_graph import PlainGraph, plain_graph, reader
from acdc_engine.formats.xml_text import escaped, read_xml, with_texts
from acdc_engine.graph.circuit import Circuit

_NAMESPACE = b"http://graphml.graphdrawing.org/xmlns"


def graphml_text(circuit: Circuit) -> str:
    """The graph of `attributed` as GraphML; ids of edges are as in `a5.h5-a7.h3-k`.

    Nodes have their names as `name` as well, for igraph and yEd, which number them, and as `label`, for Gephi.
    """
    from networkx.readwrite.graphml import GraphMLWriter

    graph = with_texts(attributed(circuit), escaped)
    for name, facts in graph.nodes(data=True):
        facts["name"] = facts["label"] = name
    # Keys of parallel edges (q, k, v) are unique between two nodes only; ids must be so in the whole file.
    writer: Any = GraphMLWriter(edge_id_from_attribute="name")
    writer.add_graph_element(graph)
    _set_ids(writer.xml)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{writer}\n'


def _set_ids(root: Element) -> None:
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


def graph_of_graphml(path: Path) -> PlainGraph:
    """Reads the graph of a GraphML file.

    Raises:
        CircuitFileError: The file cannot be read.
    """
    import networkx as nx

    return plain_graph(read_xml(path, "GraphML", lambda file: nx.read_graphml(file, force_multigraph=True)), path)


def is_graphml(source: Source) -> bool:
    """Whether a file is GraphML."""
    return _NAMESPACE in source.head


FORMAT = Format(
    name="graphml",
    suffix="graphml",
    title="GraphML: networkx, Gephi, Cytoscape, yEd, igraph",
    write=writer(graphml_text),
    read=reader("GraphML", graph_of_graphml),
    recognises=is_graphml,
    lossy="",
)
