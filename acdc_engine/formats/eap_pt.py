"""The .pt files of EAP-IG (github.com/hannamw/EAP-IG) and of the MIB circuit track: `Graph.to_pt`, `Graph.from_pt`.

A dict of

- `cfg`: `n_layers`, `n_heads`, `parallel_attn_mlp`, `d_model`;
- `src_nodes`, `dst_nodes`: names of the rows and columns below. Rows: `input`, then per layer the heads and the MLP.
  Columns: per layer q of all heads, k of all heads, v of all heads and the MLP; last `logits`;
- `edges_scores`, `edges_in_graph` `[src, dst]` and `nodes_in_graph` `[src]`.

There, every query head has a k and a v of its own (`acdc_engine.formats.ungrouped`), and every layer has an MLP. What
the tensors hold where there is no edge (from a later node to an earlier one) means nothing, as in EAP-IG itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from acdc_engine.errors import CircuitFileError
from acdc_engine.formats.format import Format, Source, needs_model
from acdc_engine.formats.from_eap import EapConfig, Foreign, check_config, circuit_of
from acdc_engine.formats.torch_file import check_tensor, index_of, torch_content
from acdc_engine.formats.ungrouped import edges_there, their_shape
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.circuit_file import explain_faults
from acdc_engine.graph.records import ModelRecord

_WHAT = "a circuit of EAP-IG or MIB"
_TENSORS = ("edges_scores", "edges_in_graph", "nodes_in_graph")


class _Names(Foreign):
    """The part that is not tensors."""

    cfg: EapConfig
    src_nodes: list[str]
    dst_nodes: list[str]


def write_eap_pt(circuit: Circuit, path: Path) -> None:
    """Writes what EAP-IG's `Graph.from_pt` reads.

    Edges outside the circuit get score 0, as do edges without a score: a circuit file does not hold them. Scores have
    double precision, so that all are read back as they were; EAP-IG rounds them to single precision.

    Args:
        circuit: The circuit.
        path: Where to.
    """
    import torch

    theirs = Graph(their_shape(circuit.model, mlps=True))
    scores = torch.zeros(theirs.n_senders, theirs.n_receivers, dtype=torch.float64)
    in_graph = torch.zeros(theirs.n_senders, theirs.n_receivers, dtype=torch.bool)
    for name, edge in edges_there(circuit).items():
        place = theirs.parse_edge(name)
        scores[place], in_graph[place] = edge.score or 0.0, True
    kept = {node.name for node in circuit.nodes}
    shape = theirs.shape
    content = {
        "cfg": {
            "n_layers": shape.n_layers,
            "n_heads": shape.n_heads,
            "parallel_attn_mlp": shape.parallel,
            "d_model": circuit.model.d_model,
        },
        "src_nodes": list(theirs.senders),
        "dst_nodes": list(theirs.receivers),
        "edges_scores": scores,
        "edges_in_graph": in_graph,
        "nodes_in_graph": torch.tensor([name in kept for name in theirs.senders]),
    }
    torch.save(content, path)


def read_eap_pt(path: Path, model: ModelRecord | None) -> Circuit:
    """Reads a circuit from what EAP-IG's `Graph.to_pt` writes.

    Args:
        path: The file.
        model: The model that the circuit is part of: the file lacks its name and its key/value groups.

    Returns:
        The circuit, without task, metric or figures; scores are taken as positive where the edge supports the
        behaviour, which is EAP-IG's sign.

    Raises:
        CircuitFileError: There is no model; the file cannot be read, lacks keys, or has tensors of a wrong shape or
            kind; it belongs to another model; keeps no edge, single neurons, or edges on no path.
    """
    if model is None:
        raise needs_model(path, _WHAT)
    content = torch_content(path, _WHAT)
    _check_keys(path, content)
    try:
        names = _Names.model_validate({key: content[key] for key in _Names.model_fields})
    except ValidationError as error:
        raise CircuitFileError(f"{path} does not follow EAP-IG's format:\n{explain_faults(error, _Names)}") from error
    check_config(path, names.cfg, model)
    theirs = Graph(their_shape(model, mlps=True))
    for key, found, known in (
        ("src_nodes", names.src_nodes, theirs.senders),
        ("dst_nodes", names.dst_nodes, theirs.receivers),
    ):
        if tuple(found) != known:
            raise CircuitFileError(
                f"{path}: {key} is not {', '.join(known[:3])}, ..., {known[-1]} ({len(known):,} names in the order of "
                "EAP-IG's graph). Write the file with Graph.to_pt."
            )
    _check_tensors(path, content, theirs)
    scores, in_graph = content["edges_scores"], content["edges_in_graph"]
    exists = [
        theirs.edge_name(sender, receiver)
        for sender, receiver in in_graph.nonzero().tolist()
        if theirs.joins[sender, receiver]
    ]

    def score_of(name: str) -> float:
        score = float(scores[theirs.parse_edge(name)])
        if not -float("inf") < score < float("inf"):
            raise CircuitFileError(f"{path}: edges_scores is {score} at {name}. Scores must be finite.")
        return score

    return circuit_of(path, ".pt of EAP-IG or MIB", exists, theirs.n_edges, score_of, model)


def _check_keys(path: Path, content: Any) -> None:
    needed = (*_Names.model_fields, *_TENSORS)
    missing = [key for key in needed if not isinstance(content, dict) or key not in content]
    if missing:
        raise CircuitFileError(
            f"{path} is not {_WHAT}: it lacks {', '.join(missing)}. EAP-IG's Graph.to_pt writes {', '.join(needed)}."
        )
    if "neurons_in_graph" in content:
        raise CircuitFileError(
            f"{path}: neurons_in_graph is given: the circuit is one of single neurons, and only circuits of edges can "
            "be read. Write it again from a graph without neuron scores."
        )


def _check_tensors(path: Path, content: dict[str, Any], theirs: Graph) -> None:
    both, rows = (theirs.n_senders, theirs.n_receivers), (theirs.n_senders,)
    for key, shape, kind in zip(_TENSORS, (both, both, rows), ("numbers", "bool", "bool"), strict=True):
        check_tensor(path, key, content[key], shape, kind)


def _recognises(source: Source) -> bool:
    index = index_of(source)
    return b"edges_in_graph" in index and b"src_nodes" in index


FORMAT = Format(
    name="eap-pt",
    suffix="eap.pt",
    title="EAP-IG and MIB .pt: Graph.from_pt reads it",
    write=write_eap_pt,
    read=read_eap_pt,
    recognises=_recognises,
    lossy="all but the edges, the nodes and the scores; edges without a score get score 0",
)
