"""Circuits of EAP-IG (github.com/hannamw/EAP-IG) and of the MIB circuit track, which uses its code: JSON and .pt.

Every query head has a k and a v of its own there (`acdc_engine.formats.foreign`), and every layer has an MLP. Which
edges the circuit has is said by the edges alone, as in EAP-IG itself, whose nodes follow from them. Edges without a
score are written with score 0. Scores are positive where the edge supports the behaviour, which is EAP-IG's sign.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from acdc_engine.errors import CircuitFileError, GraphError
from acdc_engine.formats.foreign import (
    array,
    arrays_there,
    circuit_here,
    index_of,
    scores_here,
    their_layout,
    torch_content,
)
from acdc_engine.formats.register import FORMATS, Format, Source, needs_model
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import explain_faults, read_json
from acdc_engine.graph.nodes import edge_name
from acdc_engine.graph.records import ModelRecord

if TYPE_CHECKING:
    from jaxtyping import Float
    from numpy.typing import NDArray
    from torch import Tensor

_WHAT = "a circuit of EAP-IG or MIB"
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
    d_model: int | None = None  # older versions have none

    @classmethod
    def of(cls, model: ModelRecord) -> _Config:
        return cls(
            n_layers=model.n_layers, n_heads=model.n_heads, parallel_attn_mlp=model.parallel, d_model=model.d_model
        )


class _Edge(_Foreign):
    score: float | None
    in_graph: bool


_Kind = TypeVar("_Kind", bound="_File")


class _File(_Foreign):
    cfg: _Config

    @classmethod
    def checked(cls: type[_Kind], path: Path, content: Any, model: ModelRecord) -> _Kind:
        """A file, refused where it does not follow the format or is of another model."""
        try:
            file = cls.model_validate(content)
        except ValidationError as error:
            raise CircuitFileError(f"{path} does not follow EAP-IG's format:\n{explain_faults(error)}") from error
        here, there = _Config.of(model).model_dump(), file.cfg.model_dump(exclude_none=True)
        different = [key for key in there if there[key] != here[key]]
        if different:
            wrong = "; ".join(f"{key} is {there[key]} in the file and {here[key]} in the model" for key in different)
            raise CircuitFileError(
                f"{path} is a circuit of another model than {model.name[:60]}: {wrong}. "
                "Give its own model with --model, or compare it with a circuit of its own model."
            )
        return file


class _JsonFile(_File):
    nodes: dict[str, Any]
    edges: dict[str, _Edge]


class _PtFile(_File):
    src_nodes: list[str]
    dst_nodes: list[str]
    edges_scores: Any
    edges_in_graph: Any
    neurons_in_graph: Any = None


@FORMATS.add("eap", "JSON of EAP-IG and of the MIB benchmark")
class _EapJson(Format):
    """Of `Graph.to_json`: `cfg`; `nodes`, each with `in_graph` (older versions: true or false); all `edges`."""

    suffix = "eap.json"
    lost = "everything but nodes, edges and scores; unknown scores become 0; reading needs --model or --like"

    def text(self, circuit: Circuit) -> str:
        theirs = their_layout(circuit.model, mlps=circuit.model.mlps)
        listed = {node.name for node in circuit.nodes} | {"logits"}
        kept, scores = arrays_there(circuit, theirs)
        edges = {
            theirs.edge_name(row, column): {"score": float(scores[row, column]), "in_graph": bool(kept[row, column])}
            for column, row in np.argwhere(theirs.joins.T).tolist()
        }
        nodes = {name: {"in_graph": name in listed} for name in (*theirs.senders, "logits")}
        return json.dumps({"cfg": _Config.of(circuit.model).model_dump(), "nodes": nodes, "edges": edges}) + "\n"

    def read(self, path: Path, model: ModelRecord | None) -> Circuit:
        if model is None:
            raise needs_model(path, _WHAT)
        theirs, kept, scores = _read_eap(path, model)
        return _without_loose(path, circuit_here(path, "JSON of EAP-IG or MIB", theirs, kept, scores, model))

    def recognises(self, source: Source) -> bool:
        return is_eap(source.json)


@FORMATS.add("eap-pt", "EAP-IG and MIB .pt: Graph.from_pt reads it")
class _EapPt(Format):
    """Of `Graph.to_pt`: a dict of `cfg`, names of rows and columns, `edges_scores` and `edges_in_graph` `[src, dst]`.

    And `nodes_in_graph` `[src]`, which follows from them. Scores have double precision, so that all are read back as
    they were; EAP-IG rounds them to single. Every layer has an MLP.
    """

    suffix = "eap.pt"
    lost = "all but the edges, the nodes and the scores; edges without a score get score 0"

    def write(self, circuit: Circuit, path: Path) -> None:
        import torch

        theirs, listed = their_layout(circuit.model, mlps=True), {node.name for node in circuit.nodes}
        kept, scores = arrays_there(circuit, theirs)
        content = {
            "cfg": _Config.of(circuit.model).model_dump(),
            "src_nodes": list(theirs.senders),
            "dst_nodes": list(theirs.receivers),
            "edges_scores": torch.from_numpy(scores),
            "edges_in_graph": torch.from_numpy(kept),
            "nodes_in_graph": torch.tensor([name in listed for name in theirs.senders]),
        }
        torch.save(content, path)

    def read(self, path: Path, model: ModelRecord | None) -> Circuit:
        if model is None:
            raise needs_model(path, _WHAT)
        file, theirs = _PtFile.checked(path, torch_content(path, _WHAT), model), their_layout(model, mlps=True)
        if file.neurons_in_graph is not None:
            raise CircuitFileError(f"{path}: neurons_in_graph {_NEURONS}")
        if (*file.src_nodes, *file.dst_nodes) != (*theirs.senders, *theirs.receivers):
            raise CircuitFileError(
                f"{path}: src_nodes or dst_nodes are not those of EAP-IG's graph in its order, from input to "
                f"{theirs.senders[-1]} and from {theirs.receivers[0]} to logits. Write the file with Graph.to_pt."
            )
        shape = theirs.joins.shape
        scores = array(path, "edges_scores", file.edges_scores, shape)
        kept = array(path, "edges_in_graph", file.edges_in_graph, shape) != 0
        if not np.isfinite(scores[theirs.joins]).all():
            raise CircuitFileError(f"{path}: edges_scores are not all finite.")
        return _without_loose(path, circuit_here(path, ".pt of EAP-IG or MIB", theirs, kept, scores, model))

    def recognises(self, source: Source) -> bool:
        keys = index_of(source)
        return b"edges_in_graph" in keys and b"src_nodes" in keys


def is_eap(content: Any) -> bool:
    """Whether parsed JSON has the three parts of an EAP-IG file."""
    return isinstance(content, dict) and {"cfg", "nodes", "edges"} <= content.keys() and "format" not in content


def scores_from_eap(path: str | Path, model: ModelRecord) -> Float[Tensor, "senders receivers"] | None:
    """Reads the scores of all edges, in the circuit or not, from the JSON of EAP-IG or MIB.

    The file lacks the model's name and its key/value groups. Scores are 0 where there is no edge; there are none where
    the file lacks the score of an edge of the model. Errors are as for reading the circuit.
    """
    import torch

    (theirs, _, scores), ours = _read_eap(Path(path), model), Circuit(model=model, nodes=(), edges=()).graph()
    found = np.where(ours.joins, scores_here(scores, theirs, ours), 0.0)
    return None if np.isnan(found).any() else torch.from_numpy(found).float()


def _read_eap(path: Path, model: ModelRecord) -> tuple[Graph, NDArray[np.bool_], NDArray[np.float64]]:
    """EAP-IG's graph, which of its edges the JSON keeps, and their scores."""
    content = read_json(path)
    if not is_eap(content):
        raise CircuitFileError(f"{path} is no circuit of EAP-IG or MIB: it needs the keys cfg, nodes and edges.")
    file, theirs = _JsonFile.checked(path, content, model), their_layout(model, mlps=True)
    for name, node in file.nodes.items():
        if name not in (*theirs.senders, "logits"):
            raise CircuitFileError(f"{path}: nodes.{name} cannot exist in this model's graph.")
        if isinstance(node, dict) and node.get("neurons") is not None:
            raise CircuitFileError(f"{path}: nodes.{name}.neurons {_NEURONS}")
    kept, scores = np.zeros(theirs.joins.shape, np.bool_), np.full(theirs.joins.shape, np.nan)
    for name, edge in file.edges.items():
        try:
            place = theirs.parse_edge(name)
        except GraphError as error:
            raise CircuitFileError(f"{path}: edges.{name} cannot exist in this model's graph: {error}") from error
        kept[place], scores[place] = edge.in_graph, np.nan if edge.score is None else edge.score
    return theirs, kept, scores


def _without_loose(path: Path, circuit: Circuit) -> Circuit:
    """The circuit of EAP-IG, refused where it has edges on no path."""
    on_paths = set(circuit.cleaned().edges)
    loose = [edge_name(edge) for edge in circuit.edges if edge not in on_paths]
    if loose:
        some = ", ".join(loose[:3] + ["..."] * (len(loose) > 3))
        raise CircuitFileError(
            f"{path}: {len(loose):,} of {len(circuit.edges):,} edges are on no path from input to logits ({some}). "
            "They cannot matter, and EAP-IG drops them unless it is told prune=False: call Graph.prune() there and "
            "write the file again."
        )
    return circuit
