"""networkx node-link JSON: `networkx.node_link_graph(json.load(file), edges="edges")` reads it back."""

from __future__ import annotations

import json

from acdc_engine.graph.circuit import Circuit


def networkx_json_text(circuit: Circuit) -> str:
    """The graph of `Circuit.to_networkx` as node-link JSON, edges under the key `edges`."""
    import networkx as nx

    return json.dumps(nx.node_link_data(circuit.to_networkx(), edges="edges"), indent=1) + "\n"
