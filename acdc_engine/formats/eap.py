"""Circuits of EAP-IG (github.com/hannamw/EAP-IG) and of the MIB circuit track, which uses its code: JSON and .pt.

Every query head has a k and a v of its own there (`acdc_engine.formats.foreign`), and every layer has an MLP. Which
edges the circuit has is said by the edges alone, as in EAP-IG itself, whose nodes follow from them.

The JSON (`Graph.to_json`, `Graph.from_json`) is an object of

- `cfg`: `n_layers`, `n_heads`, `parallel_attn_mlp`, `d_model`;
- `nodes`: for `input`, every head, every MLP and `logits` an object with `in_graph`;
- `edges`: for every edge of the graph, named as in `a5.h5->a7.h3<k>`, an object with `score` and `in_graph`.

Older versions write a plain true or false per node and no `d_model`; both are read. The .pt (`Graph.to_pt`,
`Graph.from_pt`) is a dict of

- `cfg`, likewise;
- `src_nodes`, `dst_nodes`: names of the rows and columns below. Rows: `input`, then per layer the heads and the MLP.
  Columns: per layer q of all heads, k of all heads, v of all heads and the MLP; last `logits`;
- `edges_scores`, `edges_in_graph` `[src, dst]` and `nodes_in_graph` `[src]`. What they hold where there is no edge
  (from a later node to an earlier one) means nothing, as in EAP-IG itself.

Edges outside the circuit are written with score 0, as are edges without a score. Scores read are positive where the
edge supports the behaviour, which is EAP-IG's sign.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from acdc_engine.errors import CircuitFileError, GraphError
from acdc_engine.formats.foreign import (
    check_tensor,
    circuit_here,
    edges_there,
    index_of,
    joint_score,
    own_layout,
    siblings_of,
    their_layout,
    torch_content,
)
from acdc_engine.formats.register import FORMATS, Format, Source, needs_model
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import explain_faults, read_json
from acdc_engine.graph.nodes import all_nodes
from acdc_engine.graph.records import ModelRecord

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

_WHAT = "a circuit of EAP-IG or MIB"
_TENSORS = ("edges_scores", "edges_in_graph", "nodes_in_graph")
_NEURONS = (
    "is given: the circuit is one of single neurons, and only circuits of edges can be read. Write it again from a "
    "graph without neuron scores."
)


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
    """The JSON."""

    cfg: _Config
    nodes: dict[str, _Node]
    edges: dict[str, _Edge]


class _Names(_Foreign):
    """The part of a .pt that is not tensors."""

    cfg: _Config
    src_nodes: list[str]
    dst_nodes: list[str]


@FORMATS.add("eap", "JSON of EAP-IG and of the MIB benchmark")
class _Json(Format):
    suffix = "eap.json"
    lost = "everything but nodes, edges and scores; unknown scores become 0; reading needs --model or --like"

    def text(self, circuit: Circuit) -> str:
        theirs = their_layout(circuit.model, mlps=circuit.model.mlps)
        kept = {node.name for node in circuit.nodes}
        nodes = {name: {"in_graph": name in kept or name == "logits"} for name, _, _ in all_nodes(theirs)}
        scores = {name: edge.score or 0.0 for name, edge in edges_there(circuit).items()}
        names = (
            theirs.edge_name(sender, receiver)
            for receiver in range(theirs.n_receivers)
            for sender in theirs.sources(receiver)
        )
        edges = {name: {"score": scores.get(name, 0.0), "in_graph": name in scores} for name in names}
        return json.dumps({"cfg": _cfg(circuit.model), "nodes": nodes, "edges": edges}) + "\n"

    def read(self, path: Path, model: ModelRecord | None) -> Circuit:
        if model is None:
            raise needs_model(path, _WHAT)
        file = _read_json(path, model)
        kept = [name for name, edge in file.edges.items() if edge.in_graph]
        scores = {name: edge.score for name, edge in file.edges.items()}
        return _circuit_of(path, "JSON of EAP-IG or MIB", kept, len(file.edges), scores.get, model)

    def recognises(self, source: Source) -> bool:
        return is_eap(source.json)


@FORMATS.add("eap-pt", "EAP-IG and MIB .pt: Graph.from_pt reads it")
class _Pt(Format):
    suffix = "eap.pt"
    lost = "all but the edges, the nodes and the scores; edges without a score get score 0"

    def write(self, circuit: Circuit, path: Path) -> None:
        """Scores have double precision, so that all are read back as they were; EAP-IG rounds them to single."""
        import torch

        theirs = their_layout(circuit.model, mlps=True)
        scores = torch.zeros(theirs.n_senders, theirs.n_receivers, dtype=torch.float64)
        in_graph = torch.zeros(theirs.n_senders, theirs.n_receivers, dtype=torch.bool)
        for name, edge in edges_there(circuit).items():
            place = theirs.parse_edge(name)
            scores[place], in_graph[place] = edge.score or 0.0, True
        kept = {node.name for node in circuit.nodes}
        content = {
            "cfg": _cfg(circuit.model),
            "src_nodes": list(theirs.senders),
            "dst_nodes": list(theirs.receivers),
            "edges_scores": scores,
            "edges_in_graph": in_graph,
            "nodes_in_graph": torch.tensor([name in kept for name in theirs.senders]),
        }
        torch.save(content, path)

    def read(self, path: Path, model: ModelRecord | None) -> Circuit:
        if model is None:
            raise needs_model(path, _WHAT)
        theirs, content = their_layout(model, mlps=True), torch_content(path, _WHAT)
        _check_pt(path, content, theirs, model)
        scores, in_graph = content["edges_scores"], content["edges_in_graph"]
        kept = [
            theirs.edge_name(sender, receiver)
            for sender, receiver in in_graph.nonzero().tolist()
            if theirs.joins[sender, receiver]
        ]

        def score_of(name: str) -> float:
            score = float(scores[theirs.parse_edge(name)])
            if not -float("inf") < score < float("inf"):
                raise CircuitFileError(f"{path}: edges_scores is {score} at {name}. Scores must be finite.")
            return score

        return _circuit_of(path, ".pt of EAP-IG or MIB", kept, theirs.n_edges, score_of, model)

    def recognises(self, source: Source) -> bool:
        index = index_of(source)
        return b"edges_in_graph" in index and b"src_nodes" in index


def is_eap(content: Any) -> bool:
    """Whether parsed JSON has the three parts of an EAP-IG file."""
    return isinstance(content, dict) and {"cfg", "nodes", "edges"} <= content.keys() and "format" not in content


def scores_from_eap(path: str | Path, model: ModelRecord) -> Float[Tensor, "senders receivers"] | None:
    """Reads the scores of all edges, in the circuit or not, from the JSON of EAP-IG or MIB.

    The file lacks the model's name and its key/value groups. Scores are 0 where there is no edge; there are none where
    the file lacks the score of an edge of the model. Errors are as for reading the circuit.
    """
    import torch

    file, ours = _read_json(Path(path), model), own_layout(model)
    known = {name: edge.score for name, edge in file.edges.items()}
    scores = torch.zeros(ours.n_senders, ours.n_receivers, dtype=torch.float32)
    for sender, receiver in ours.exists.nonzero().tolist():
        score = joint_score(known.get(name) for name in siblings_of(sender, receiver, ours))
        if score is None:
            return None
        scores[sender, receiver] = score
    return scores


def _cfg(model: ModelRecord) -> dict[str, Any]:
    return {
        "n_layers": model.n_layers,
        "n_heads": model.n_heads,
        "parallel_attn_mlp": model.parallel,
        "d_model": model.d_model,
    }


def _circuit_of(
    path: Path,
    what: str,
    kept: Collection[str],
    n_edges: int,
    score_of: Callable[[str], float | None],
    model: ModelRecord,
) -> Circuit:
    """A circuit from what a file says about its edges, `n_edges` of them."""
    if not kept:
        raise CircuitFileError(
            f"{path} keeps no edge: in_graph is true for none of {n_edges:,}. It holds scores only; choose a "
            "circuit from them first, with EAP-IG's Graph.apply_topn or apply_greedy, and write it again."
        )
    circuit, loose = circuit_here(path, what, kept, score_of, model)
    if loose:
        some = ", ".join(loose[:3] + ["..."] * (len(loose) > 3))
        raise CircuitFileError(
            f"{path}: {len(loose):,} of {len(circuit.edges):,} edges are on no path from input to logits ({some}). "
            "They cannot matter, and EAP-IG drops them unless it is told prune=False: call Graph.prune() there and "
            "write the file again."
        )
    return circuit


def _read_json(path: Path, model: ModelRecord) -> _File:
    """The file, of the format, of this model, with names of its graph only."""
    content = read_json(path)
    if not is_eap(content):
        raise CircuitFileError(f"{path} is no circuit of EAP-IG or MIB: it needs the keys cfg, nodes and edges.")
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        raise CircuitFileError(f"{path} does not follow EAP-IG's format:\n{explain_faults(error)}") from error
    _check_config(path, file.cfg, model)
    _check_names(path, file, their_layout(model, mlps=True))
    return file


def _check_config(path: Path, cfg: _Config, model: ModelRecord) -> None:
    """Refuses a file of another model, with everything that differs."""
    here = _cfg(model)
    there = {**cfg.model_dump(), "d_model": model.d_model if cfg.d_model is None else cfg.d_model}
    wrong = [
        f"{key} is {there[key]} in the file and {value} in the model"
        for key, value in here.items()
        if there[key] != value
    ]
    if wrong:
        raise CircuitFileError(
            f"{path} is a circuit of another model than {model.name[:60]}: {'; '.join(wrong)}. "
            "Give its own model with --model, or compare it with a circuit of its own model."
        )


def _check_names(path: Path, file: _File, theirs: Graph) -> None:
    """Refuses names that the graph of `cfg` does not have, in the graph or not: they would be a fault of the file."""
    known = {name for name, _, _ in all_nodes(theirs)}
    for name, node in file.nodes.items():
        if name not in known:
            raise CircuitFileError(
                f"{path}: nodes.{name} cannot exist in this model's graph: nodes are input, heads such as a0.h1, MLPs "
                "such as m0, and logits, within the numbers of cfg."
            )
        if node.neurons is not None:
            raise CircuitFileError(f"{path}: nodes.{name}.neurons {_NEURONS}")
    for name in file.edges:
        try:
            theirs.parse_edge(name)
        except GraphError as error:
            raise CircuitFileError(f"{path}: edges.{name} cannot exist in this model's graph: {error}") from error


def _check_pt(path: Path, content: Any, theirs: Graph, model: ModelRecord) -> None:
    """Refuses a .pt that lacks keys, is of another model, or has tensors of a wrong shape or kind."""
    needed = (*_Names.model_fields, *_TENSORS)
    missing = [key for key in needed if not isinstance(content, dict) or key not in content]
    if missing:
        raise CircuitFileError(
            f"{path} is not {_WHAT}: it lacks {', '.join(missing)}. EAP-IG's Graph.to_pt writes {', '.join(needed)}."
        )
    if "neurons_in_graph" in content:
        raise CircuitFileError(f"{path}: neurons_in_graph {_NEURONS}")
    try:
        names = _Names.model_validate({key: content[key] for key in _Names.model_fields})
    except ValidationError as error:
        raise CircuitFileError(f"{path} does not follow EAP-IG's format:\n{explain_faults(error)}") from error
    _check_config(path, names.cfg, model)
    both = ("src_nodes", names.src_nodes, theirs.senders), ("dst_nodes", names.dst_nodes, theirs.receivers)
    for key, found, known in both:
        if tuple(found) != known:
            raise CircuitFileError(
                f"{path}: {key} is not {', '.join(known[:3])}, ..., {known[-1]} ({len(known):,} names in the order of "
                "EAP-IG's graph). Write the file with Graph.to_pt."
            )
    square, rows = (theirs.n_senders, theirs.n_receivers), (theirs.n_senders,)
    for key, shape, kind in zip(_TENSORS, (square, square, rows), ("numbers", "bool", "bool"), strict=True):
        check_tensor(path, key, content[key], shape, kind)
