"""GraphML, for Gephi, Cytoscape, yEd and `networkx.read_graphml`."""

from __future__ import annotations

from acdc_engine.graph.circuit import Circuit


def graphml_text(circuit: Circuit) -> str:
    """The graph of `Circuit.to_networkx` as GraphML; an edge's id is its name, as in `a5.h5->a7.h3<k>`."""
    import networkx as nx

    # Keys of parallel edges (q, k, v) are unique between two nodes only; ids must be so in the whole file.
    graph = circuit.to_networkx()
    lines = nx.generate_graphml(graph, named_key_ids=True, edge_id_from_attribute="name")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + "\n".join(lines) + "\n"
