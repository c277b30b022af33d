"""A circuit from a graph with attributes: of this engine, or made by hand with networkx, Gephi or Cytoscape.

Nodes are named as in a circuit file: `input`, `a5.h3`, `m4`, `logits`. An edge into a head says by its attribute
`kind`, or by its key in a multigraph, whether it enters `q`, `k` or `v`; instead `receiver` may name it, as in
`a1.kv0<k>`. Heads that share keys or values share the receiver, and edges into it lead to the node `a1.kv0`; edges into
several of its heads, as other programs and earlier versions of this one write them, become one.

Programs that number the nodes keep the names as an attribute (`name`, `id`, `label`, ...): where that is so for all
nodes, these are their names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from acdc_engine.errors import CircuitFileError, GraphError
from acdc_engine.formats.attributed import CARRIED
from acdc_engine.formats.carried import finished, only_model, read_carried
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_file import explain_faults
from acdc_engine.graph.names import explain_sender
from acdc_engine.graph.nodes import all_nodes, node_read, targets_of
from acdc_engine.graph.records import CircuitEdge, CircuitNode, ModelRecord
from acdc_engine.graph.views import FIGURES

if TYPE_CHECKING:
    import networkx as nx

Facts = dict[str, Any]
_NAMES = ("name", "id", "label", "shared_name", "shared name")
"""Attributes that hold names: of igraph, networkx and yEd, Gephi, Cytoscape's JSON and its GraphML."""


@dataclass
class PlainGraph:
    """A directed graph as a file holds it.

    Attributes:
        about: Attributes of the graph.
        nodes: Attributes of the nodes by name.
        edges: Sender, target and attributes; a multigraph's key as the attribute `key`.
    """

    about: Facts = field(default_factory=dict)
    nodes: dict[str, Facts] = field(default_factory=dict)
    edges: list[tuple[str, str, Facts]] = field(default_factory=list)


def circuit_from_networkx(graph: nx.Graph[Any], model: ModelRecord | None = None) -> Circuit:
    """Makes a circuit of a networkx graph, see this module's page for what it must say.

    Args:
        graph: A directed graph.
        model: The model. Not needed for a graph that `acdc export` wrote.

    Raises:
        CircuitFileError: It is no circuit of that model; the node or edge is named.
    """
    return circuit_of(plain_graph(graph, Path("the graph")), Path("the graph"), "a networkx graph", model)


def plain_graph(graph: nx.Graph[Any], path: Path) -> PlainGraph:
    """A networkx graph as a `PlainGraph`.

    Raises:
        CircuitFileError: It is undirected.
    """
    import networkx as nx

    if not graph.is_directed():
        raise CircuitFileError(f"{path} is an undirected graph. Edges of a circuit lead from sender to receiver.")
    edges: list[tuple[str, str, Facts]]
    if isinstance(graph, nx.MultiDiGraph):
        edges = [(str(u), str(v), {"key": key, **facts}) for u, v, key, facts in graph.edges(keys=True, data=True)]
    else:
        edges = [(str(u), str(v), dict(facts)) for u, v, facts in graph.edges(data=True)]
    return PlainGraph(dict(graph.graph), {str(name): dict(facts) for name, facts in graph.nodes(data=True)}, edges)


def reader(what: str, graph_of: Callable[[Path], PlainGraph]) -> Callable[[Path, ModelRecord | None], Circuit]:
    """Makes the `read` of a format that is one graph.

    Args:
        what: What a file of it is, as in `GraphML`.
        graph_of: Reads the graph; raises CircuitFileError where it cannot.
    """
    return lambda path, model: circuit_of(graph_of(path), path, what, model)


def circuit_of(graph: PlainGraph, path: Path, what: str, model: ModelRecord | None) -> Circuit:
    """Makes a circuit of a graph.

    Args:
        graph: The graph.
        path: Its file, for messages.
        what: What the file is, as in `GraphML`.
        model: The model, if the user gave it; a file of this engine says its own.

    Raises:
        CircuitFileError: It does not say of which model it is, or is no circuit of that model; the node or edge is
            named.
    """
    carried = read_carried(path, graph.about.get(CARRIED))
    if carried is None:
        carried = only_model(path, what, model, f"{what} without the engine's attribute {CARRIED!r}")
    layout = carried.circuit.layout()
    graph = _with_names(graph, {name for name, _, _ in all_nodes(layout)} | _groups(layout))
    nodes = tuple(_nodes(graph, path, layout))
    edges, gained = _edges(graph, path, layout)
    return finished(carried, nodes, edges, path, gained)


def _with_names(graph: PlainGraph, known: Collection[str]) -> PlainGraph:
    """The graph with its nodes called as here, where a program numbered them and has their names as an attribute.

    Such programs (igraph) write NaN and empty texts for what is not known; here that is left out.
    """
    if any(name in known for name in graph.nodes):  # not numbered: any other name is a mistake
        return graph
    for key in _NAMES:
        names = {number: facts.get(key) for number, facts in graph.nodes.items()}
        told = [name for name in names.values() if isinstance(name, str) and name in known]
        if len(set(told)) == len(names):
            nodes = {str(names[number]): _told(facts) for number, facts in graph.nodes.items()}
            ends = {number: str(name) for number, name in names.items()}
            edges = [(ends.get(u, u), ends.get(v, v), _told(facts)) for u, v, facts in graph.edges]
            return PlainGraph(graph.about, nodes, edges)
    return graph


def _told(facts: Facts) -> Facts:
    """Attributes without NaN and empty texts."""
    return {
        key: value for key, value in facts.items() if not (isinstance(value, float) and isnan(value)) and str(value)
    }


def _whole(value: Any) -> Any:
    """A whole number that a program wrote as 3.0 as such; all else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _groups(layout: Graph) -> set[str]:
    """Names of the key/value groups of several heads: nodes of a graph, but not of the circuit file."""
    return {node_read(receiver) for receiver in layout.receivers if ".kv" in receiver}


def _nodes(graph: PlainGraph, path: Path, layout: Graph) -> list[CircuitNode]:
    """The nodes in the model's order."""
    known: dict[str, tuple[Any, int | None]] = {name: (kind, layer) for name, kind, layer in all_nodes(layout)}
    listed = known | dict.fromkeys(_groups(layout), ("kv", None))
    for name, facts in graph.nodes.items():
        if name not in listed:
            reason = explain_sender(name, layout.shape).replace("No sender", "no node", 1)
            raise CircuitFileError(f"{path}: node {_short(name)} cannot exist in this model's graph: {_short(reason)}")
        said = facts.get("kind", listed[name][0])
        if said != listed[name][0]:
            raise CircuitFileError(
                f"{path}: node {name} has kind {_short(repr(said))}; by its name it is of kind {listed[name][0]!r}. "
                "Correct one of the two, or leave kind out."
            )
    found = []
    for name, (kind, layer) in known.items():
        if name in graph.nodes:
            content = {"name": name, "kind": kind, "layer": layer, **_measured(graph.nodes[name], name, path)}
            found.append(checked(CircuitNode, content, f"{path}: node {name}"))
    return found


def _measured(facts: Facts, name: str, path: Path) -> Facts:
    """What a node's attributes say of it, as in a circuit file."""
    content: Facts = {} if "role" not in facts else {"role": facts["role"]}
    direct = {"clean": "direct_effect", "corrupt": "direct_effect_corrupt", "n_prompts": "direct_effect_prompts"}
    if "direct_effect" in facts:
        content["direct_effect"] = {key: facts[said] for key, said in direct.items() if said in facts}
        if "n_prompts" in content["direct_effect"]:
            content["direct_effect"]["n_prompts"] = _whole(content["direct_effect"]["n_prompts"])
    if "role_scores" in facts:
        try:
            content["role_scores"] = json.loads(facts["role_scores"])
        except (ValueError, TypeError, RecursionError) as error:
            raise CircuitFileError(
                f"{path}: node {name}: role_scores is no JSON text ({error}). Write it as acdc export does, or leave "
                "it out."
            ) from error
    return content


def _edges(graph: PlainGraph, path: Path, layout: Graph) -> tuple[tuple[CircuitEdge, ...], int]:
    """The edges, in the file's order or else the graph's, and how many reach more heads than the file says."""
    found: dict[tuple[int, int], CircuitEdge] = {}
    reached: dict[tuple[int, int], set[str]] = {}
    places: dict[tuple[int, int], int | None] = {}
    groups = _groups(layout)
    for sender, target, facts in graph.edges:
        if sender in groups and "shared" in (facts.get("kind"), facts.get("key")):
            continue  # from `with_shared`
        where = f"{path}: edge {_short(sender)} -> {_short(target)}"
        for end in (sender, target):
            if end not in graph.nodes:
                raise CircuitFileError(f"{where}: {_short(end)} is not among the nodes. List it there.")
        receiver = _receiver(target, facts, where, layout)
        try:
            spot = layout.parse_edge(f"{sender}->{receiver}")
        except GraphError as error:
            raise CircuitFileError(f"{where} cannot exist in this model's graph: {_short(str(error))}") from error
        content = {"sender": sender, "receiver": receiver, **{key: facts[key] for key in FIGURES if key in facts}}
        edge = checked(CircuitEdge, content, where)
        if target in reached.setdefault(spot, set()):
            raise CircuitFileError(f"{where}: {sender}->{receiver} is there twice. Keep one of the two.")
        if found.setdefault(spot, edge) != edge:
            raise CircuitFileError(
                f"{where}: with the edges into other heads that share this receiver it is one edge, {sender}->"
                f"{receiver}, but their figures differ ({_difference(found[spot], edge)}). Write the same at all."
            )
        reached[spot].add(target)
        place = _whole(facts.get("place"))
        places.setdefault(spot, place if type(place) is int else None)
    gained = sum(
        any(head in graph.nodes and head not in nodes for head in targets_of(layout, found[spot].receiver)[1])
        for spot, nodes in reached.items()
        if node_read(found[spot].receiver) not in nodes
    )
    known = {spot: place for spot, place in places.items() if place is not None}
    in_order = sorted(found, key=known.__getitem__) if len(known) == len(found) else sorted(found)
    return tuple(found[spot] for spot in in_order), gained


def _receiver(target: str, facts: Facts, where: str, layout: Graph) -> str:
    """The receiver that an edge enters: as its attributes say, or the only one that its target has."""
    if "receiver" in facts:
        return _named_receiver(target, facts, where, layout)
    kind, key = facts.get("kind"), facts.get("key")
    own = {"m": "mlp", "l": "logits", "i": "input"}.get(target[0])
    if own is not None:
        if kind not in (None, own):
            raise CircuitFileError(f"{where}: kind is {_short(repr(kind))}; edges into {target} are of kind {own!r}.")
        return target
    if kind is None and key in ("q", "k", "v"):
        kind = key
    if kind not in ("q", "k", "v"):
        said = "does not say" if kind is None else f"has kind {_short(repr(kind))}, which does not say"
        raise CircuitFileError(
            f"{where} {said} which input of the head it enters: give it an attribute kind with q, k or v (the key of a "
            "multigraph's edge counts as well)."
        )
    if kind != "q" and layout.shape.grouped and target not in _groups(layout):
        node, _, head = target.partition(".h")
        return f"{node}.kv{layout.group_of(int(head))}<{kind}>" if head.isdigit() else target
    return f"{target}<{kind}>"


def _named_receiver(target: str, facts: Facts, where: str, layout: Graph) -> str:
    receiver = facts["receiver"]
    if not isinstance(receiver, str):
        raise CircuitFileError(f"{where}: receiver is {_short(repr(receiver))}; it must be a text such as a7.h3<q>.")
    try:
        kind, targets = targets_of(layout, receiver)
    except GraphError as error:
        reason = _short(str(error))
        raise CircuitFileError(f"{where}: receiver cannot exist in this model's graph: {reason}") from error
    if target not in (*targets, node_read(receiver)):
        raise CircuitFileError(f"{where}: its receiver {receiver} is no part of {target}. Correct one of the two.")
    if facts.get("kind", kind) != kind:
        raise CircuitFileError(
            f"{where}: kind is {_short(repr(facts['kind']))}, but the receiver {receiver} is of kind {kind!r}. Correct "
            "one of the two."
        )
    return receiver


def _difference(one: CircuitEdge, other: CircuitEdge) -> str:
    pairs = ((name, getattr(one, name), getattr(other, name)) for name in FIGURES)
    return "; ".join(f"{name} {here} and {there}" for name, here, there in pairs if here != there)


def checked(kind: Any, content: object, where: str) -> Any:
    """A record of a file's values, none of which is changed to fit.

    Args:
        kind: The record's class.
        content: Its fields.
        where: Starts the message when they do not fit.

    Raises:
        CircuitFileError: They do not; the field is named.
    """
    try:
        # As JSON, because strict checking of Python values would refuse lists where tuples are declared.
        return kind.model_validate_json(json.dumps(content), strict=True)
    except (TypeError, ValueError) as error:
        if isinstance(error, ValidationError):
            raise CircuitFileError(f"{where}:\n{explain_faults(error, kind)}") from error
        raise CircuitFileError(f"{where} has an attribute that is neither text nor number: {error}.") from error


def _short(text: str) -> str:
    """Strangers' text in a message."""
    return text if len(text) <= 300 else f"{text[:297]}..."
