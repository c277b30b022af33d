"""Prune scores of auto-circuit (github.com/UFO-101/auto-circuit), as its `save_cache` writes them with torch.save.

A dict from the name of the module that reads to a tensor of scores; its last dimension is the sender, in the order of
the graph, as far as the module comes after them:

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

import numpy as np

from acdc_engine.display import counted
from acdc_engine.errors import CircuitFileError
from acdc_engine.formats.foreign import array, arrays_there, circuit_here, index_of, their_layout, torch_content
from acdc_engine.formats.register import FORMATS, Format, Source, needs_model
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.records import ModelRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

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

        theirs = their_layout(circuit.model, mlps=circuit.model.mlps)
        kept, scores = arrays_there(circuit, theirs)
        if kept.sum() == theirs.n_edges or not all(edge.score for edge in circuit.edges):
            scores = kept.astype(np.float64)
        content = {
            name: torch.from_numpy(scores[:before, reads].T.reshape(shape).copy())
            for name, reads, before, shape in _modules(theirs)
        }
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
        kept = scores != 0
        binary = bool((scores[kept] == 1).all())
        if kept.sum() == theirs.n_edges and not binary:
            raise CircuitFileError(
                f"{path} holds a score for every one of the {theirs.n_edges:,} edges, and so no circuit. Choose one "
                "first: torch.save({name: part * (part.abs() >= threshold) for name, part in prune_scores.items()}, "
                "file)."
            )
        scores = np.where(binary, np.nan, scores)
        circuit = circuit_here(path, "prune scores of auto-circuit", theirs, kept, scores, model)
        cleaned = circuit.cleaned()
        if loose := len(circuit.edges) - len(cleaned.edges):
            source = f"{circuit.source}; left out: {counted(loose, 'edge')} on no path from input to logits"
            cleaned = cleaned.model_copy(update={"source": source})
        if not cleaned.edges:
            raise CircuitFileError(
                f"{path}: none of its {loose:,} edges is on a path from input to logits. Keep more edges: choose a "
                "lower threshold."
            )
        return cleaned

    def recognises(self, source: Source) -> bool:
        keys = index_of(source)
        return b"hook_resid_post" in keys and (b"hook_q_input" in keys or b"hook_attn_in" in keys)


def _modules(theirs: Graph) -> Iterator[tuple[str, slice, int, tuple[int, ...]]]:
    """Every module with its receivers, how many senders come before it, and the shape of its scores."""
    n_layers, n_heads = theirs.shape.n_layers, theirs.shape.n_heads
    for block in theirs.blocks:
        if block.kind == "mlp":
            yield f"blocks.{block.layer}.hook_mlp_in", block.reads, block.before, (block.before,)
            continue
        for letter in "qkv":
            name = f"blocks.{block.layer}.hook_{letter}_input"
            yield name, theirs.part(block.layer, letter), block.before, (n_heads, block.before)
    logits = slice(theirs.logits, theirs.n_receivers)
    yield f"blocks.{n_layers - 1}.hook_resid_post", logits, theirs.n_senders, (theirs.n_senders,)


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


def _matrix(path: Path, found: dict[str, Any], theirs: Graph) -> NDArray[np.float64]:
    """The scores `[senders, receivers]`, checked; 0 where there is no edge."""
    modules = list(_modules(theirs))
    if any(str(name).endswith("hook_attn_in") for name in found):
        raise CircuitFileError(
            f"{path} was made with separate_qkv=False: its edges into a head do not tell q, k and v apart, as circuits "
            "here do. Score with separate_qkv=True."
        )
    if different := sorted(map(str, {name for name, *_ in modules} ^ found.keys())):
        raise CircuitFileError(
            f"{path} holds prune scores of another model, or of an unfactorized one: {different[0][:80]!r} is not in "
            "both. Give its own model with --model."
        )
    matrix = np.zeros(theirs.joins.shape)
    for name, reads, before, shape in modules:
        if found[name].dim() == len(shape) + 1:
            raise CircuitFileError(
                f"{path}: {name} has shape {list(found[name].shape)}: it tells token positions apart, which circuits "
                "here do not. Join them first, for example part.abs().amax(0), or score with seq_len=None."
            )
        part = array(path, name, found[name], shape)
        if not np.isfinite(part).all():
            raise CircuitFileError(f"{path}: {name} has scores that are not finite.")
        matrix[:before, reads] = part.reshape(-1, before).T
    return matrix
