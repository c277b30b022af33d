"""The JSON of EAP-IG (github.com/hannamw/EAP-IG) and of the MIB circuit track, which uses its code.

An object of three parts:

- `cfg`: `n_layers`, `n_heads`, `parallel_attn_mlp`, `d_model`;
- `nodes`: for `input`, every head, every MLP and `logits` an object with `in_graph`;
- `edges`: for every edge of the graph, named as in `a5.h5->a7.h3<k>`, an object with `score` and `in_graph`.

There, every query head has a k and a v of its own. An edge into a key/value group is written as one for each
head of the group that is in the circuit, with the same score: all heads of a group read the same value, so
the circuit's output does not change.
"""

from __future__ import annotations

import json
from typing import Any

from acdc_engine.formats.ungrouped import edges_there, their_shape
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.nodes import all_nodes


def eap_text(circuit: Circuit) -> str:
    """The circuit as EAP-IG's `Graph.from_json` reads it.

    Edges outside the circuit get score 0, as do edges without a score: a circuit file does not hold them.
    """
    shape = circuit.shape()
    ungrouped = Graph(their_shape(circuit.model, mlps=shape.mlps))
    kept = {node.name for node in circuit.nodes}
    nodes = {name: {"in_graph": name in kept or name == "logits"} for name, _, _ in all_nodes(ungrouped)}
    scores = {name: edge.score or 0.0 for name, edge in edges_there(circuit).items()}
    edges: dict[str, Any] = {}
    for receiver in range(ungrouped.n_receivers):
        for sender in ungrouped.sources(receiver):
            name = ungrouped.edge_name(sender, receiver)
            edges[name] = {"score": scores.get(name, 0.0), "in_graph": name in scores}
    cfg = {
        "n_layers": shape.n_layers,
        "n_heads": shape.n_heads,
        "parallel_attn_mlp": shape.parallel,
        "d_model": circuit.model.d_model,
    }
    return json.dumps({"cfg": cfg, "nodes": nodes, "edges": edges}) + "\n"
