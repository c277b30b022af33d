"""networkx node-link JSON: `networkx.node_link_graph(json.load(file), edges="edges")` reads it back."""

from __future__ import annotations

import json
from pathlib import Path

from acdc_engine.errors import CircuitFileError
from acdc_engine.formats.attributed import attributed
from acdc_engine.formats.format import Format, Source, writer
from acdc_engine.formats.from_graph import PlainGraph, reader
from acdc_engine.formats.json_graph import named, objects, parsed
from acdc_engine.graph.circuit import Circuit


def networkx_json_text(circuit: Circuit) -> str:
    """The graph of `attributed` as node-link JSON, edges under the key `edges`."""
    import networkx as nx

    return json.dumps(nx.node_link_data(attributed(circuit), edges="edges"), indent=1) + "\n"


def graph_of_networkx_json(path: Path) -> PlainGraph:
    """Reads the graph of node-link JSON; edges may be called `links`, as older networkx does.

    Raises:
        CircuitFileError: The file cannot be read.
    """
    content = parsed(path)
    if not _has_parts(content):
        raise CircuitFileError(
            f"{path} is no node-link JSON of networkx: it needs the keys nodes and edges (or links)."
        )
    if content.get("directed") is not True:
        raise CircuitFileError(f'{path} is an undirected graph: a circuit\'s edges have a direction, "directed": true.')
    about = content.get("graph", {})
    graph = PlainGraph(about if isinstance(about, dict) else {})
    for place, item in objects(path, content, "nodes"):
        graph.nodes[named(path, place, item, "id")] = item
    for place, item in objects(path, content, "edges" if "edges" in content else "links"):
        ends = named(path, place, item, "source"), named(path, place, item, "target")
        graph.edges.append((*ends, item))
    return graph


def is_networkx_json(source: Source) -> bool:
    """Whether a file is node-link JSON."""
    content = source.json
    return _has_parts(content) and isinstance(content["nodes"], list) and "directed" in content


def _has_parts(content: object) -> bool:
    return isinstance(content, dict) and "nodes" in content and ("edges" in content or "links" in content)


FORMAT = Format(
    name="networkx-json",
    suffix="networkx.json",
    title="node-link JSON: networkx, D3",
    write=writer(networkx_json_text),
    read=reader("node-link JSON of networkx", graph_of_networkx_json),
    recognises=is_networkx_json,
    lossy="",
)
