"""GraphML, for Gephi, Cytoscape, yEd, igraph and `networkx.read_graphml`."""

from __future__ import annotations

from pathlib import Path

from acdc_engine.formats.attributed import attributed
from acdc_engine.formats.format import Format, Source, writer
from acdc_engine.formats.from_graph import circuit_of, plain_graph
from acdc_engine.formats.xml_text import escaped, read_xml, with_texts
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_records import ModelRecord

_NAMESPACE = b"http://graphml.graphdrawing.org/xmlns"


def graphml_text(circuit: Circuit) -> str:
    """The graph of `attributed` as GraphML; an edge's id is its name, as in `a5.h5->a7.h3<k>`."""
    import networkx as nx

    graph = with_texts(attributed(circuit), escaped)
    # Keys of parallel edges (q, k, v) are unique between two nodes only; ids must be so in the whole file.
    lines = nx.generate_graphml(graph, edge_id_from_attribute="name")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + "\n".join(lines) + "\n"


def circuit_from_graphml(path: str | Path, model: ModelRecord | None = None) -> Circuit:
    """Reads a circuit from GraphML, of this engine or another tool.

    Args:
        path: The file.
        model: The model, where the file does not say it.

    Raises:
        CircuitFileError: The file cannot be read, or is no circuit of that model; the node or edge is named.
    """
    import networkx as nx

    path = Path(path)
    graph = read_xml(path, "GraphML", lambda file: nx.read_graphml(file, force_multigraph=True))
    return circuit_of(plain_graph(graph, path), path, "GraphML", model)


def is_graphml(source: Source) -> bool:
    """Whether a file is GraphML."""
    return _NAMESPACE in source.head


FORMAT = Format(
    name="graphml",
    suffix="graphml",
    title="GraphML: networkx, Gephi, Cytoscape, yEd, igraph",
    write=writer(graphml_text),
    read=circuit_from_graphml,
    recognises=is_graphml,
    lossy="",
)
