"""Reads the JSON of EAP-IG and of the MIB circuit track; `acdc_engine.formats.eap` describes and writes it.

Older versions write a plain true or false per node and no `d_model`; both are read. Which edges the circuit has is
said by the edges alone, as in EAP-IG itself, whose nodes follow from them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from acdc_engine.errors import CircuitFileError, GraphError
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_check import all_nodes, nodes_of_edges
from acdc_engine.graph.circuit_faults import explain_faults
from acdc_engine.graph.circuit_file import read_content
from acdc_engine.graph.circuit_records import CircuitEdge, ModelRecord
from acdc_engine.graph.layout import GraphShape, Layout

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

LARGEST_FILE = 512 * 2**20
"""Bytes. A model of 32 layers and 32 heads makes about 120 MB."""


class _Foreign(BaseModel):
    """Keys that are not needed are passed over: a file of another program may hold more."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)


class _Config(_Foreign):
    n_layers: int = Field(ge=1)
    n_heads: int = Field(ge=1)
    parallel_attn_mlp: bool
    d_model: int | None = None


class _Node(_Foreign):
    in_graph: bool
    neurons: Any = None

    @model_validator(mode="before")
    @classmethod
    def _older(cls, value: Any) -> Any:
        return {"in_graph": value} if isinstance(value, bool) else value


class _Edge(_Foreign):
    score: float | None
    in_graph: bool


class _File(_Foreign):
    cfg: _Config
    nodes: dict[str, _Node]
    edges: dict[str, _Edge]


def parsed(path: Path) -> Any:
    """The content of a JSON file of at most `LARGEST_FILE` bytes.

    Raises:
        CircuitFileError: It is missing, too large, or not JSON.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise CircuitFileError(
                f"{path} has {size / 2**20:,.0f} MB; circuits of more than {LARGEST_FILE // 2**20} MB are not read."
            )
        return json.loads(path.read_bytes().decode())
    except (OSError, ValueError, RecursionError):
        return read_content(path)  # which says what is wrong with it


def is_eap(content: Any) -> bool:
    """Whether parsed JSON has the three parts of an EAP-IG file."""
    return isinstance(content, dict) and {"cfg", "nodes", "edges"} <= content.keys() and "format" not in content


def circuit_from_eap(path: str | Path, model: ModelRecord) -> Circuit:
    """Reads a circuit from the JSON of EAP-IG or MIB.

    There every query head has a k and a v of its own. Where the model shares them (and `model.ungrouped_kv` is false),
    the group has one receiver, and an edge into it

    - is kept if the file keeps it for any head of the group: heads of one group read the same value in the model. It
      then reaches heads of the circuit for which the file does not keep it; the circuit's `source` says how many edges
      do so;
    - scores the *sum* of the scores the file gives it for all heads of the group, kept or not: the gradient of a shared
      projection is the sum over the heads that read it (docs/method.md, Edge scores). Where the file repeats one
      number for several heads and has 0 for the others, as this engine's export does, it is that number.

    Args:
        path: The file.
        model: The model that the circuit is part of: the file lacks its name and its key/value groups.

    Returns:
        The circuit, without task, metric or figures; scores are taken as positive where the edge supports the
        behaviour, which is EAP-IG's sign.

    Raises:
        CircuitFileError: The file cannot be read, lacks parts or has values of a wrong kind (the key is named); belongs
            to another model; keeps no edge, single neurons, edges that cannot exist, or edges on no path from the input
            to the logits.
    """
    path = Path(path)
    file = _read(path, model)
    edges, gained = _edges(path, file, model)
    source = f"{path.name}, JSON of EAP-IG or MIB"
    if gained:
        source += (
            f"; {gained} edges into shared keys or values, kept there for some heads only, now reach all of a group"
        )
    layout = Layout(_shape(model))
    circuit = Circuit(model=model, source=source, nodes=nodes_of_edges(layout, edges), edges=edges)
    _check_connected(path, circuit)
    return circuit


def scores_from_eap(path: str | Path, model: ModelRecord) -> Float[Tensor, "senders receivers"] | None:
    """Reads the scores of all edges, in the circuit or not, from the JSON of EAP-IG or MIB.

    Args:
        path: The file.
        model: As for `circuit_from_eap`, whose rule for shared keys and values holds here too.

    Returns:
        The scores, 0 where there is no edge; None where the file lacks the score of an edge of the model.

    Raises:
        CircuitFileError: As for `circuit_from_eap`.
    """
    import torch

    file, ours = _read(Path(path), model), Layout(_shape(model))
    known = {name: edge.score for name, edge in file.edges.items()}
    scores = torch.zeros(ours.n_senders, ours.n_receivers)
    for receiver, before in enumerate(ours.senders_before):
        for sender in range(before):
            score = _joint_score(known.get(name) for name in _siblings(sender, receiver, ours))
            if score is None:
                return None
            scores[sender, receiver] = score
    return scores


def _read(path: Path, model: ModelRecord) -> _File:
    """The file, of the format, of this model, with names of its graph only."""
    content = parsed(path)
    if not is_eap(content):
        raise CircuitFileError(f"{path} is no circuit of EAP-IG or MIB: it needs the keys cfg, nodes and edges.")
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        raise CircuitFileError(f"{path} does not follow EAP-IG's format:\n{explain_faults(error, _File)}") from error
    _check_model(path, file.cfg, model)
    _check_names(path, file, Layout(GraphShape(model.n_layers, model.n_heads, model.n_heads, model.parallel)))
    return file


def _shape(model: ModelRecord) -> GraphShape:
    n_kv_heads = model.n_heads if model.ungrouped_kv else model.n_kv_heads
    return GraphShape(model.n_layers, model.n_heads, n_kv_heads, model.parallel, model.mlps)


def _check_model(path: Path, cfg: _Config, model: ModelRecord) -> None:
    pairs = {
        "n_layers": (cfg.n_layers, model.n_layers),
        "n_heads": (cfg.n_heads, model.n_heads),
        "parallel_attn_mlp": (cfg.parallel_attn_mlp, model.parallel),
        "d_model": (model.d_model if cfg.d_model is None else cfg.d_model, model.d_model),
    }
    wrong = [
        f"{key} is {file} in the file and {here} in the model" for key, (file, here) in pairs.items() if file != here
    ]
    if wrong:
        raise CircuitFileError(
            f"{path} is a circuit of another model than {model.name}: {'; '.join(wrong)}. "
            "Give its own model with --model, or compare it with a circuit of its own model."
        )


def _check_names(path: Path, file: _File, theirs: Layout) -> None:
    """Refuses names that the graph of `cfg` does not have, in the graph or not: they would be a fault of the file."""
    known = {name for name, _, _ in all_nodes(theirs)}
    for name, node in file.nodes.items():
        if name not in known:
            raise CircuitFileError(
                f"{path}: nodes.{name} cannot exist in this model's graph: nodes are input, heads such as a0.h1, MLPs "
                "such as m0, and logits, within the numbers of cfg."
            )
        if node.neurons is not None:
            raise CircuitFileError(
                f"{path}: nodes.{name}.neurons is given: the circuit is one of single neurons, and only circuits of "
                "edges can be read. Write it again from a graph without neuron scores."
            )
    for name in file.edges:
        try:
            theirs.parse_edge(name)
        except GraphError as error:
            raise CircuitFileError(f"{path}: edges.{name} cannot exist in this model's graph: {error}") from error


def _edges(path: Path, file: _File, model: ModelRecord) -> tuple[tuple[CircuitEdge, ...], int]:
    """The kept edges in the graph's order, and how many of them some head of the circuit gains by sharing."""
    ours, scores = Layout(_shape(model)), {name: edge.score for name, edge in file.edges.items()}
    kept: dict[tuple[int, int], set[str]] = {}
    for name, edge in file.edges.items():
        if edge.in_graph:
            try:
                kept.setdefault(_place(name, ours), set()).add(name)
            except GraphError as error:
                raise CircuitFileError(f"{path}: edges.{name} cannot exist in {model.name}: {error}") from error
    if not kept:
        raise CircuitFileError(
            f"{path} keeps no edge: in_graph is true for none of {len(file.edges):,}. It holds scores only; choose a "
            "circuit from them first, with EAP-IG's Graph.apply_topn or apply_greedy, and write it again."
        )
    inside = {sender for sender, _ in kept}
    edges, gained = [], 0
    for (sender, receiver), names in sorted(kept.items()):
        siblings = _siblings(sender, receiver, ours)
        heads = ours.receiver_sender(receiver)
        active = [name for name, head in zip(siblings, range(heads.start, heads.stop), strict=False) if head in inside]
        gained += not names.issuperset(active)
        score = _joint_score(scores.get(name) for name in siblings)
        edges.append(CircuitEdge(sender=ours.senders[sender], receiver=ours.receivers[receiver], score=score))
    return tuple(edges), gained


def _place(name: str, ours: Layout) -> tuple[int, int]:
    """Where an edge of the file, one per query head, lies in the model's own graph."""
    head, mark, letter = name.partition("<")
    if ours.shape.grouped and letter in ("k>", "v>"):
        node, _, index = head.rpartition(".h")
        name = f"{node}.kv{ours.group_of(int(index))}{mark}{letter}"
    return ours.parse_edge(name)


def _siblings(sender: int, receiver: int, ours: Layout) -> list[str]:
    """What the file calls an edge of the model's own graph: one name, or one per head of a key/value group."""
    kind, fed = ours.receiver_kind(receiver), ours.receiver_sender(receiver)
    source = ours.senders[sender]
    if kind not in ("k", "v"):
        return [f"{source}->{ours.receivers[receiver]}"]
    return [f"{source}->{head}<{kind}>" for head in ours.senders[fed]]


def _joint_score(scores: Iterable[float | None]) -> float | None:
    known = [score for score in scores if score is not None]
    different = set(known) - {0.0}
    return None if not known else different.pop() if len(different) == 1 else sum(known)


def _check_connected(path: Path, circuit: Circuit) -> None:
    from acdc_engine.graph.connectivity import clean

    mask = circuit.mask()
    loose = mask & ~clean(circuit.graph(), mask)
    if loose.any():
        layout, places = circuit.layout(), loose.nonzero().tolist()
        names = ", ".join(layout.edge_name(sender, receiver) for sender, receiver in places[:3])
        raise CircuitFileError(
            f"{path}: {len(places):,} of {len(circuit.edges):,} edges are on no path from input to logits ({names}"
            f"{', ...' if len(places) > 3 else ''}). They cannot matter, and EAP-IG drops them unless it is told "
            "prune=False: call Graph.prune() there and write the file again."
        )
