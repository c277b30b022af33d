"""What tools share in which every query head has a k and a v of its own: their graph, and files of torch.save.

Such tools name every edge as in `a5.h5->a7.h3<k>`. Where the model shares keys and values, an edge into a group is
written there as one for each head of the group that is in the circuit, with the same score: all heads of a group read
the same value, so the circuit's output does not change. On the way back,

- an edge into a group is kept if the file keeps it for any head of the group. It then reaches heads of the circuit for
  which the file does not keep it; the circuit's `source` says how many edges do so;
- it scores the *sum* of the scores the file gives it for all heads of the group, kept or not: the gradient of a shared
  projection is the sum over the heads that read it (docs/method.md, Edge scores). Where the file repeats one number for
  several heads and has 0 for the others, as this engine's export does, it is that number.

Here their files are two arrays `[senders, receivers]` over the tool's own graph: which edges are kept, and their
scores, NaN where not known. Files hold tensors and plain values, and are read without being trusted.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from acdc_engine.display import counted
from acdc_engine.errors import CircuitFileError, GraphError
from acdc_engine.formats.register import Source
from acdc_engine.graph.blocks import Graph, GraphShape
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import LARGEST_FILE, check_readable
from acdc_engine.graph.nodes import nodes_of_edges, targets_of
from acdc_engine.graph.records import CircuitEdge, ModelRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LARGEST_INDEX = 64 * 2**20
"""Bytes of the part of a .pt that is not tensors."""
_MOST_VALUES = 5_000_000
_DEEPEST = 20
_LARGEST_INT = 2**63


def their_layout(model: ModelRecord, *, mlps: bool) -> Graph:
    """The model's graph with a k and a v for every query head; EAP-IG's has MLPs even where the model has none."""
    return Graph(GraphShape(model.n_layers, model.n_heads, model.n_heads, model.parallel, mlps))


def _columns(receiver: int, ours: Graph, theirs: Graph) -> list[int]:
    """The receivers there of one here: one, or one per head of a key/value group."""
    kind = ours.receiver_kind(receiver)
    if kind not in ("k", "v"):
        return [theirs.receiver_index(ours.receivers[receiver])]
    return [theirs.receiver_index(f"{ours.senders[head]}<{kind}>") for head in ours.fed(receiver)]


def arrays_there(circuit: Circuit, theirs: Graph) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """The circuit's edges in such a tool's graph, and their scores; 0 where not known."""
    layout, listed = circuit.graph(), {node.name for node in circuit.nodes}
    kept, scores = np.zeros(theirs.joins.shape, np.bool_), np.zeros(theirs.joins.shape)
    for edge in circuit.edges:
        kind, targets = targets_of(layout, edge.into)
        suffix = f"<{kind}>" if kind in ("q", "k", "v") else ""
        for target in listed.intersection(targets):
            place = theirs.parse_edge(f"{edge.sender}->{target}{suffix}")
            kept[place], scores[place] = True, edge.score or 0.0
    return kept, scores


def scores_here(scores: NDArray[np.float64], theirs: Graph, ours: Graph) -> NDArray[np.float64]:
    """The scores in the model's own graph, with the rule for groups at the top of this file; NaN where not known."""
    rows = [theirs.sender_index(name) for name in ours.senders]
    scores, found = np.where(theirs.joins, scores, np.nan), np.full(ours.joins.shape, np.nan)
    for receiver in range(ours.n_receivers):
        part = scores[np.ix_(rows, _columns(receiver, ours, theirs))]
        known = np.nan_to_num(part)
        one = np.where(known.max(1) >= -known.min(1), known.max(1), known.min(1))
        same = ((known == one[:, None]) | (known == 0)).all(1)
        found[:, receiver] = np.where(np.isnan(part).all(1), np.nan, np.where(same, one, known.sum(1)))
    return found


def circuit_here(
    path: Path,
    what: str,
    theirs: Graph,
    kept: NDArray[np.bool_],
    scores: NDArray[np.float64],
    model: ModelRecord,
) -> Circuit:
    """The circuit in the model's own graph. What is kept or scored where the tool's graph has no edge means nothing.

    Raises:
        CircuitFileError: An edge that the model does not have, such as one into an MLP of an attention-only model.
    """
    ours = Circuit(model=model, nodes=(), edges=()).graph()
    places: dict[tuple[int, int], set[int]] = {}
    for row, column in np.argwhere(kept & theirs.joins).tolist():
        name = theirs.edge_name(row, column)
        head, _, letter = name.rpartition("<")
        if ours.shape.grouped and letter in ("k>", "v>"):
            node, _, index = head.rpartition(".h")
            name = f"{node}.kv{ours.group_of(int(index))}<{letter}"
        try:
            places.setdefault(ours.parse_edge(name), set()).add(column)
        except GraphError as error:
            raise CircuitFileError(f"{path}: edges.{name} cannot exist in {model.name[:60]}: {error}") from error
    if not places:
        raise CircuitFileError(
            f"{path} keeps no edge of {theirs.n_edges:,}. It holds scores only; choose a circuit from them first "
            "(EAP-IG: Graph.apply_topn or apply_greedy) and write it again."
        )
    inside = {sender for sender, _ in places}
    known = scores_here(scores, theirs, ours)
    edges, gained = [], 0
    for place in sorted(places):
        sender, receiver = place
        heads = zip(_columns(receiver, ours, theirs), ours.fed(receiver), strict=False)
        gained += not places[place].issuperset(column for column, head in heads if head in inside)
        score = None if np.isnan(known[place]) else float(known[place])
        edges.append(CircuitEdge(sender=ours.senders[sender], receiver=ours.receivers[receiver], score=score))
    note = f"; kept there for some heads of a group, now for all: {counted(gained, 'edge')} into shared keys or values"
    source = f"{path.name}, {what}" + (note if gained else "")
    return Circuit(model=model, source=source, nodes=nodes_of_edges(ours, edges), edges=tuple(edges))


def _pickled(path: Path) -> bytes:
    """The part of a file of torch.save that holds its keys, as it is: nothing in it is run."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            index = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
            # torch.save compresses nothing, so what is compressed is there to fill the memory.
            stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            size = sum(entry.file_size for entry in entries)
            if len(index) != 1 or not stored or size > LARGEST_FILE or index[0].file_size > _LARGEST_INDEX:
                raise ValueError("it has no data.pkl, is compressed, or says that it holds more than it has bytes")
            return archive.read(index[0])
    except (zipfile.BadZipFile, OSError, RuntimeError, ValueError, NotImplementedError) as error:
        raise CircuitFileError(
            f"{path} is no file of torch.save ({error}). Copy it again from where it was written."
        ) from error


def index_of(source: Source) -> bytes:
    """What `_pickled` gives; empty for other files."""
    if not source.head.startswith(b"PK"):
        return b""
    try:
        return _pickled(source.path)
    except CircuitFileError:
        return b""


def torch_content(path: Path, what: str) -> Any:
    """The content of a file of torch.save: dicts, lists, texts, numbers and tensors on the CPU, nothing else.

    Raises:
        CircuitFileError: It is missing, too large, not `what` it should be, damaged, or holds anything else.
    """
    import torch

    check_readable(path)
    _pickled(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a made-up file can make the reader fail in any way
        # What torch says advises to read the file all the same, and run what is in it.
        found = re.search(r"GLOBAL ([\w.]{1,100})", str(error))
        what_else = f"it holds {found[1]}" if found else "it is damaged, or holds something else"
        raise CircuitFileError(
            f"{path} is not {what}: {what_else}. Only tensors, dicts, lists, texts and numbers are read from such "
            "files, because anything else can run code."
        ) from error
    # Nothing that would take forever to walk through or to print, such as lists that hold one list many times.
    todo, seen = [(content, 0)], 0
    while todo:
        value, depth = todo.pop()
        seen += 1
        if seen > _MOST_VALUES or depth > _DEEPEST or (isinstance(value, int) and abs(value) >= _LARGEST_INT):
            raise CircuitFileError(f"{path} is nested too deeply, repeats its parts or holds a huge number.")
        if isinstance(value, dict):
            todo += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, list | tuple | set):
            todo += [(part, depth + 1) for part in value]
    return content


def array(path: Path, key: str, value: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The values of a plain tensor of numbers or bools in a file; refused where it is none of that shape."""
    import torch

    plain = isinstance(value, torch.Tensor) and value.layout == torch.strided and value.device.type == "cpu"
    if not plain or value.is_quantized or not (value.dtype.is_floating_point or value.dtype == torch.bool):
        found = getattr(value, "dtype", type(value).__name__)
        raise CircuitFileError(f"{path}: {key} is no plain tensor of numbers or bools, but of kind {found}.")
    if tuple(value.shape) != shape:
        raise CircuitFileError(f"{path}: {key} has shape {list(value.shape)}, and {list(shape)} fits this model.")
    array: NDArray[np.float64] = value.detach().to(torch.float64).numpy()
    return array
