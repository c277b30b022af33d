"""Reads the JSON of EAP-IG and of the MIB circuit track; `acdc_engine.formats.eap` describes and writes it.

Older versions write a plain true or false per node and no `d_model`; both are read. Which edges the circuit has is
said by the edges alone, as in EAP-IG itself, whose nodes follow from them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from acdc_engine.errors import CircuitFileError, GraphError
from acdc_engine.formats.eap import eap_text
from acdc_engine.formats.format import Format, needs_model, writer
from acdc_engine.formats.json_graph import parsed
from acdc_engine.formats.ungrouped import (
    edges_here,
    joint_score,
    loose_edges,
    own_shape,
    siblings_of,
    source_text,
    their_shape,
)
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_file import explain_faults
from acdc_engine.graph.nodes import all_nodes, nodes_of_edges
from acdc_engine.graph.records import ModelRecord

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class Foreign(BaseModel):
    """Keys that are not needed are passed over: a file of another program may hold more."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)


class EapConfig(Foreign):
    """What EAP-IG's files say of the model."""

    n_layers: int = Field(ge=1)
    n_heads: int = Field(ge=1)
    parallel_attn_mlp: bool
    d_model: int | None = None


class _Node(Foreign):
    in_graph: bool
    neurons: Any = None

    @model_validator(mode="before")
    @classmethod
    def _older(cls, value: Any) -> Any:
        return {"in_graph": value} if isinstance(value, bool) else value


class _Edge(Foreign):
    score: float | None
    in_graph: bool


class _File(Foreign):
    cfg: EapConfig
    nodes: dict[str, _Node]
    edges: dict[str, _Edge]


def is_eap(content: Any) -> bool:
    """Whether parsed JSON has the three parts of an EAP-IG file."""
    return isinstance(content, dict) and {"cfg", "nodes", "edges"} <= content.keys() and "format" not in content


def circuit_from_eap(path: str | Path, model: ModelRecord | None) -> Circuit:
    """Reads a circuit from the JSON of EAP-IG or MIB.

    There every query head has a k and a v of its own; `acdc_engine.formats.ungrouped` says what becomes of those that
    the model shares (where `model.ungrouped_kv` is false).

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
    if model is None:
        raise needs_model(path, "a circuit of EAP-IG or MIB")
    file = _read(path, model)
    kept = [name for name, edge in file.edges.items() if edge.in_graph]
    scores = {name: edge.score for name, edge in file.edges.items()}
    return circuit_of(path, "JSON of EAP-IG or MIB", kept, len(file.edges), scores.get, model)


def circuit_of(
    path: Path,
    what: str,
    kept: Collection[str],
    n_edges: int,
    score_of: Callable[[str], float | None],
    model: ModelRecord,
) -> Circuit:
    """A circuit from what a file of EAP-IG says about its edges.

    Args:
        path: The file, for errors and the circuit's source.
        what: What the file is, such as `JSON of EAP-IG or MIB`.
        kept: Names of the edges in the graph.
        n_edges: How many edges the file tells about.
        score_of: Score of an edge by its name; None where it is unknown.
        model: The model.

    Raises:
        CircuitFileError: No edge is kept, one cannot exist in the model, or one is on no path.
    """
    if not kept:
        raise CircuitFileError(
            f"{path} keeps no edge: in_graph is true for none of {n_edges:,}. It holds scores only; choose a "
            "circuit from them first, with EAP-IG's Graph.apply_topn or apply_greedy, and write it again."
        )
    edges, gained = edges_here(path, kept, score_of, model)
    source = source_text(path, what, gained)
    circuit = Circuit(model=model, source=source, nodes=nodes_of_edges(Graph(own_shape(model)), edges), edges=edges)
    loose = loose_edges(circuit)
    if loose:
        some = ", ".join(loose[:3] + ["..."] * (len(loose) > 3))
        raise CircuitFileError(
            f"{path}: {len(loose):,} of {len(edges):,} edges are on no path from input to logits ({some}). They cannot "
            "matter, and EAP-IG drops them unless it is told prune=False: call Graph.prune() there and write the file "
            "again."
        )
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

    file, ours = _read(Path(path), model), Graph(own_shape(model))
    known = {name: edge.score for name, edge in file.edges.items()}
    scores = torch.zeros(ours.n_senders, ours.n_receivers, dtype=torch.float32)
    for sender, receiver in ours.exists.nonzero().tolist():
        score = joint_score(known.get(name) for name in siblings_of(sender, receiver, ours))
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
    check_config(path, file.cfg, model)
    _check_names(path, file, Graph(their_shape(model, mlps=True)))
    return file


def check_config(path: Path, cfg: EapConfig, model: ModelRecord) -> None:
    """Refuses a file of another model.

    Raises:
        CircuitFileError: With everything that differs.
    """
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
            raise CircuitFileError(
                f"{path}: nodes.{name}.neurons is given: the circuit is one of single neurons, and only circuits of "
                "edges can be read. Write it again from a graph without neuron scores."
            )
    for name in file.edges:
        try:
            theirs.parse_edge(name)
        except GraphError as error:
            raise CircuitFileError(f"{path}: edges.{name} cannot exist in this model's graph: {error}") from error


FORMAT = Format(
    name="eap",
    suffix="eap.json",
    title="JSON of EAP-IG and of the MIB benchmark",
    write=writer(eap_text),
    read=circuit_from_eap,
    recognises=lambda source: is_eap(source.json),
    lossy="everything but nodes, edges and scores; unknown scores become 0; reading needs --model or --like",
)
