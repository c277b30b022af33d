"""Cytoscape JSON: `cytoscape({elements})` of cytoscape.js, and the .cyjs files of Cytoscape itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from acdc_engine.errors import CircuitFileError
from acdc_engine.formats.attributed import attributed
from acdc_engine.formats.format import Format, Source, writer
from acdc_engine.formats.from_graph import PlainGraph, circuit_of
from acdc_engine.formats.json_graph import named, objects, parsed
from acdc_engine.formats.positions import positions
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_records import ModelRecord


def cytoscape_text(circuit: Circuit) -> str:
    """The graph of `attributed`: `data` about the graph, `elements` with `nodes` (and positions) and `edges`.

    `networkx.cytoscape_graph` reads it too.
    """
    graph, places = attributed(circuit), positions(circuit)
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


def circuit_from_cytoscape(path: str | Path, model: ModelRecord | None = None) -> Circuit:
    """Reads a circuit from Cytoscape JSON; `elements` may also be one list, as cytoscape.js takes it.

    A node is called as its `name` says, or its `id`: Cytoscape itself numbers them.

    Args:
        path: The file.
        model: The model, where the file does not say it.

    Raises:
        CircuitFileError: The file cannot be read, or is no circuit of that model; the node or edge is named.
    """
    path = Path(path)
    content = parsed(path)
    if not isinstance(content, dict) or "elements" not in content:
        raise CircuitFileError(f"{path} is no Cytoscape JSON: it needs the key elements.")
    nodes, edges = _elements(path, content["elements"])
    about = content.get("data", {})
    graph = PlainGraph(about if isinstance(about, dict) else {})
    names: dict[str, str] = {}
    for place, facts in nodes:
        name = facts["name"] if isinstance(facts.get("name"), str) else named(path, place, facts, "id")
        names[str(facts.get("id", name))] = name
        graph.nodes[name] = facts
    for place, facts in edges:
        sender, target = (named(path, place, facts, end) for end in ("source", "target"))
        graph.edges.append((names.get(sender, sender), names.get(target, target), facts))
    return circuit_of(graph, path, "Cytoscape JSON", model)


def is_cytoscape(source: Source) -> bool:
    """Whether a file is Cytoscape JSON."""
    return isinstance(source.json, dict) and isinstance(source.json.get("elements"), dict | list)


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
    read=circuit_from_cytoscape,
    recognises=is_cytoscape,
    lossy="",
)
