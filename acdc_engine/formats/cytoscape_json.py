"""Cytoscape JSON: `cytoscape({elements})` of cytoscape.js, and the .cyjs files of Cytoscape itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from acdc_engine.errors import CircuitFileError
from acdc_engine.formats.attributed import attributed
from acdc_engine.formats.format import Format, Source, writer
from acdc_engine.formats.from_graph import PlainGraph, reader
from acdc_engine.formats.json_graph import named, objects, parsed
from acdc_engine.formats.positions import positions
from acdc_engine.graph.circuit import Circuit


def cytoscape_text(circuit: Circuit) -> str:
    """The graph of `attributed`: `data` about the graph, `elements` with `nodes` (and positions) and `edges`.

    `networkx.cytoscape_graph` reads it too.
    """
    graph = attributed(circuit)
    places = positions(graph)
    nodes = [
        # networkx wants value, Cytoscape name. Its y grows downwards.
        {
            "data": {"id": name, "value": name, "name": name, **facts},
            "position": {"x": places[name][0], "y": -places[name][1]},
        }
        for name, facts in graph.nodes(data=True)
    ]
    edges = [
        {"data": {"id": facts["name"], "source": sender, "target": target, "key": key, **facts}}
        for sender, target, key, facts in graph.edges(keys=True, data=True)
    ]
    content = {
        "format_version": "1.0",
        "generated_by": "acdc-engine",
        "data": graph.graph,
        "directed": True,
        "multigraph": True,
        "elements": {"nodes": nodes, "edges": edges},
    }
    return json.dumps(content, indent=1) + "\n"


def graph_of_cytoscape(path: Path) -> PlainGraph:
    """Reads the graph of Cytoscape JSON; `elements` may also be one list, as cytoscape.js takes it.

    Raises:
        CircuitFileError: The file cannot be read.
    """
    content = parsed(path)
    if not isinstance(content, dict) or "elements" not in content:
        raise CircuitFileError(f"{path} is no Cytoscape JSON: it needs the key elements.")
    nodes, edges = _elements(path, content["elements"])
    graph = PlainGraph(_about(content.get("data")))
    for place, facts in nodes:
        graph.nodes[named(path, place, facts, "id")] = facts
    for place, facts in edges:
        graph.edges.append((named(path, place, facts, "source"), named(path, place, facts, "target"), facts))
    return graph


def is_cytoscape(source: Source) -> bool:
    """Whether a file is Cytoscape JSON."""
    return isinstance(source.json, dict) and isinstance(source.json.get("elements"), dict | list)


def _about(data: Any) -> dict[str, Any]:
    """Attributes of the graph; networkx writes them as a list of pairs."""
    if isinstance(data, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in data):
        return {str(key): value for key, value in data}
    return data if isinstance(data, dict) else {}


Items = list[tuple[str, dict[str, Any]]]


def _elements(path: Path, elements: Any) -> tuple[Items, Items]:
    """The data of the nodes and of the edges, with their places."""
    if isinstance(elements, list):
        elements = {"elements": elements}
    if not isinstance(elements, dict):
        raise CircuitFileError(f"{path}: elements is neither a list nor an object with nodes and edges.")
    nodes: Items = []
    edges: Items = []
    for key in elements:
        for place, item in objects(path, elements, key):
            data = item.get("data")
            if not isinstance(data, dict):
                raise CircuitFileError(f"{path}: elements.{place} has no data. Every element needs it.")
            (edges if "source" in data else nodes).append((f"elements.{place}.data", data))
    return nodes, edges


FORMAT = Format(
    name="cytoscape",
    suffix="cyjs",
    title="Cytoscape JSON: Cytoscape, cytoscape.js, networkx; with positions",
    write=writer(cytoscape_text),
    read=reader("Cytoscape JSON", graph_of_cytoscape),
    recognises=is_cytoscape,
    lossy="",
)
