"""Prune scores of auto-circuit (github.com/UFO-101/auto-circuit), as its `save_cache` writes them with torch.save.

A dict from the name of the module that reads to a tensor of scores; its last dimension is the sender, in the order
`Resid Start`, then per layer `A0.0`, `A0.1`, ..., `MLP 0`, as far as the module comes after them:

- `blocks.5.hook_q_input`, `hook_k_input`, `hook_v_input`: `[head, sender]`; every query head has a k and a v of its own
  (`acdc_engine.formats.foreign`);
- `blocks.5.hook_mlp_in`: `[sender]`; absent in attention-only models;
- `blocks.11.hook_resid_post`, of the last block, for the logits: `[sender]`.

There, a circuit is what the |score| of exceeds a threshold. Here, it is what has a score that is not 0. Where all of
these are 1, or true, as auto-circuit's own `circuit_prune_scores` makes them, they say nothing about the strength.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acdc_engine.errors import CircuitFileError
from acdc_engine.formats.foreign import (
    check_tensor,
    circuit_here,
    edges_there,
    index_of,
    their_layout,
    torch_content,
)
from acdc_engine.formats.register import FORMATS, Format, Source, needs_model
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.nodes import nodes_of_edges
from acdc_engine.graph.records import ModelRecord

if TYPE_CHECKING:
    from torch import Tensor

_WHAT = "a file of auto-circuit's prune scores"


@FORMATS.add("auto-circuit", "prune scores of auto-circuit: torch.load and its load_cache read them")
class _PruneScores(Format):
    suffix = "auto_circuit.pt"
    lost = "all but the edges, their nodes and scores; where an edge has no score, all scores"

    def write(self, circuit: Circuit, path: Path) -> None:
        """Every edge of the circuit gets its score, in double precision, and every other edge 0.

        But 1 for all edges of the circuit where one of them has no score, or 0, or where the circuit is the whole
        graph, because auto-circuit could not tell the circuit from the rest.
        """
        import torch

        theirs, edges = their_layout(circuit.model, mlps=circuit.model.mlps), edges_there(circuit)
        scored = len(edges) < theirs.n_edges and all(edge.score for edge in edges.values())
        matrix = torch.zeros(theirs.n_senders, theirs.n_receivers, dtype=torch.float64)
        for name, edge in edges.items():
            matrix[theirs.parse_edge(name)] = (edge.score or 1.0) if scored else 1.0
        content = {}
        for module, first, before, heads in _modules(theirs):
            part = matrix[:before, first : first + (theirs.shape.n_heads if heads else 1)].T
            content[module] = (part if heads else part[0]).clone(memory_format=torch.contiguous_format)
        torch.save(content, path)

    def read(self, path: Path, model: ModelRecord | None) -> Circuit:
        """The edges whose score is not 0, with the file's sign: which one supports the behaviour is not in the file.

        Edges that are on no path from the input to the logits are left out, because auto-circuit does not remove them;
        the circuit's `source` says how many. The prune scores may lie inside a dict, by task and algorithm, if there is
        one of each.
        """
        if model is None:
            raise needs_model(path, _WHAT)
        theirs = their_layout(model, mlps=model.mlps)
        scores = _matrix(path, _prune_scores(path, torch_content(path, _WHAT)), theirs)
        kept = [theirs.edge_name(sender, receiver) for sender, receiver in scores.nonzero().tolist()]
        if not kept:
            raise CircuitFileError(f"{path} keeps no edge: all {theirs.n_edges:,} scores are 0.")
        binary = bool((scores[scores != 0] == 1).all())
        if len(kept) == theirs.n_edges and not binary:
            raise CircuitFileError(
                f"{path} holds a score for every one of the {theirs.n_edges:,} edges, and so no circuit. Choose one "
                "first: torch.save({name: part * (part.abs() >= threshold) for name, part in prune_scores.items()}, "
                "file)."
            )

        def score_of(name: str) -> float | None:
            return None if binary else float(scores[theirs.parse_edge(name)])

        return _connected(path, *circuit_here(path, "prune scores of auto-circuit", kept, score_of, model))

    def recognises(self, source: Source) -> bool:
        index = index_of(source)
        return b"hook_resid_post" in index and (b"hook_q_input" in index or b"hook_attn_in" in index)


def _connected(path: Path, circuit: Circuit, loose: list[str]) -> Circuit:
    """The circuit without its edges that are on no path."""
    if not loose:
        return circuit
    if len(loose) == len(circuit.edges):
        raise CircuitFileError(
            f"{path}: none of its {len(loose):,} edges is on a path from input to logits. Keep more edges: choose a "
            "lower threshold."
        )
    gone = set(loose)
    edges = tuple(edge for edge in circuit.edges if f"{edge.sender}->{edge.receiver}" not in gone)
    source = f"{circuit.source}; left out: {len(loose):,} edges on no path from input to logits"
    return Circuit(model=circuit.model, source=source, nodes=nodes_of_edges(circuit.graph(), edges), edges=edges)


def _modules(theirs: Graph) -> Iterator[tuple[str, int, int, bool]]:
    """Every module with the first of its receivers, how many senders come before it, and whether it has heads."""
    shape = theirs.shape
    for layer in range(shape.n_layers):
        before = theirs.block("attention", layer).before
        for letter in "qkv":
            yield f"blocks.{layer}.hook_{letter}_input", theirs.part(layer, letter).start, before, True
        if shape.mlps:
            mlp = theirs.block("mlp", layer)
            yield f"blocks.{layer}.hook_mlp_in", mlp.reads.start, mlp.before, False
    yield f"blocks.{shape.n_layers - 1}.hook_resid_post", theirs.logits, theirs.n_senders, False


def _prune_scores(path: Path, content: Any) -> dict[str, Any]:
    """The one set of prune scores in a file, which may have them by task and by algorithm."""
    import torch

    found: list[tuple[str, dict[str, Any]]] = []
    todo = [("", content)]
    while todo:
        place, value = todo.pop(0)
        if not isinstance(value, dict):
            continue
        if value and all(isinstance(part, torch.Tensor) for part in value.values()):
            found.append((place, value))
        else:
            todo += [(f"{place}[{str(key)[:60]!r}]", part) for key, part in value.items()]
    if not found:
        raise CircuitFileError(
            f"{path} is not {_WHAT}: it holds no dict from names of modules, such as blocks.0.hook_q_input, to tensors."
        )
    if len(found) > 1:
        some = ", ".join([place for place, _ in found[:4]] + ["..."] * (len(found) > 4))
        raise CircuitFileError(
            f"{path} holds {len(found)} sets of prune scores ({some}). Save one of them: "
            f"torch.save(torch.load(file){found[0][0]}, new_file)."
        )
    return found[0][1]


def _matrix(path: Path, found: dict[str, Any], theirs: Graph) -> Tensor:
    """The scores `[senders, receivers]`, checked; 0 where there is no edge."""
    import torch

    _check_modules(path, found, [module for module, *_ in _modules(theirs)])
    matrix = torch.zeros(theirs.n_senders, theirs.n_receivers, dtype=torch.float64)
    for module, first, before, heads in _modules(theirs):
        shape = (theirs.shape.n_heads, before) if heads else (before,)
        value = found[module]
        if value.dim() == len(shape) + 1:
            raise CircuitFileError(
                f"{path}: {module} has shape {list(value.shape)}: it tells token positions apart, which circuits here "
                "do not. Join them first, for example part.abs().amax(0), or score with seq_len=None."
            )
        kind = "bool" if value.dtype == torch.bool else "numbers"
        part = check_tensor(path, module, value, shape, kind).detach().to(torch.float64).reshape(-1, before)
        if not part.isfinite().all():
            raise CircuitFileError(f"{path}: {module} has scores that are not finite.")
        matrix[:before, first : first + len(part)] = part.T
    return matrix


def _check_modules(path: Path, found: dict[str, Any], known: list[str]) -> None:
    if any(str(name).endswith("hook_attn_in") for name in found):
        raise CircuitFileError(
            f"{path} was made with separate_qkv=False: its edges into a head do not tell q, k and v apart, as circuits "
            "here do. Score with separate_qkv=True."
        )
    missing, more = [name for name in known if name not in found], [name for name in found if name not in known]
    if missing or more:
        wrong = f"it lacks {missing[0]}" if missing else f"it has {str(more[0])[:80]!r}"
        raise CircuitFileError(
            f"{path} holds prune scores of another model, or of an unfactorized one: {wrong}, and {len(known)} modules "
            f"are needed, from {known[0]} to {known[-1]}. Give its own model with --model."
        )
