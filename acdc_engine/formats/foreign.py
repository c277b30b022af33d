"""What tools share in which every query head has a k and a v of its own: their graph, and files of torch.save.

Such tools name every edge as in `a5.h5->a7.h3<k>`. Where the model shares keys and values, an edge into a group is
written there as one for each head of the group that is in the circuit, with the same score: all heads of a group read
the same value, so the circuit's output does not change. On the way back,

- an edge into a group is kept if the file keeps it for any head of the group. It then reaches heads of the circuit for
  which the file does not keep it; the circuit's `source` says how many edges do so;
- it scores the *sum* of the scores the file gives it for all heads of the group, kept or not: the gradient of a shared
  projection is the sum over the heads that read it (docs/method.md, Edge scores). Where the file repeats one number for
  several heads and has 0 for the others, as this engine's export does, it is that number.

Their files hold tensors and plain values, and are read without being trusted.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acdc_engine.errors import CircuitFileError, GraphError
from acdc_engine.formats.register import Source
from acdc_engine.graph.blocks import Graph, GraphShape
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.files import LARGEST_FILE, check_readable
from acdc_engine.graph.nodes import nodes_of_edges, targets_of
from acdc_engine.graph.records import CircuitEdge, ModelRecord

if TYPE_CHECKING:
    from torch import Tensor

_LARGEST_INDEX = 64 * 2**20
"""Bytes of the part that is not tensors."""
_MOST_VALUES = 5_000_000
_DEEPEST = 20
_LARGEST_INT = 2**63


def own_layout(model: ModelRecord) -> Graph:
    """The model's graph in this engine, with the key/value groups that it tells apart."""
    return Circuit(model=model, nodes=(), edges=()).graph()


def their_layout(model: ModelRecord, *, mlps: bool) -> Graph:
    """The same model's graph with a k and a v for every query head; EAP-IG's has MLPs even where the model has none."""
    return Graph(GraphShape(model.n_layers, model.n_heads, model.n_heads, model.parallel, mlps))


def edges_there(circuit: Circuit) -> dict[str, CircuitEdge]:
    """The circuit's edges by the names that such tools give them."""
    layout, kept = circuit.graph(), {node.name for node in circuit.nodes}
    edges: dict[str, CircuitEdge] = {}
    for edge in circuit.edges:
        kind, targets = targets_of(layout, edge.receiver)
        suffix = f"<{kind}>" if kind in ("q", "k", "v") else ""
        edges |= {f"{edge.sender}->{target}{suffix}": edge for target in targets if target in kept}
    return edges


def circuit_here(
    path: Path, what: str, kept: Iterable[str], score_of: Callable[[str], float | None], model: ModelRecord
) -> tuple[Circuit, list[str]]:
    """The circuit in the model's own graph from the edges of such a tool; and names of edges on no path to the logits.

    `kept` are names of edges, which all exist in the tool's graph; `score_of` knows the scores of those and others by
    name. The path and `what` the file is go into the circuit's source.

    Raises:
        CircuitFileError: An edge that the model does not have, such as one into an MLP of an attention-only model.
    """
    from acdc_engine.graph.connectivity import clean

    edges, gained = _edges_here(path, kept, score_of, model)
    note = f"; {gained} edges into shared keys or values, kept there for some heads only, now reach all of a group"
    source = f"{path.name}, {what}" + (note if gained else "")
    circuit = Circuit(model=model, source=source, nodes=nodes_of_edges(own_layout(model), edges), edges=edges)
    layout, mask = circuit.graph(), circuit.mask()
    loose = mask & ~clean(circuit.graph(), mask)
    return circuit, [layout.edge_name(sender, receiver) for sender, receiver in loose.nonzero().tolist()]


def _edges_here(
    path: Path, kept: Iterable[str], score_of: Callable[[str], float | None], model: ModelRecord
) -> tuple[tuple[CircuitEdge, ...], int]:
    """The edges, and how many of them some head of the circuit gains by sharing."""
    ours, places = own_layout(model), dict[tuple[int, int], set[str]]()
    for name in kept:
        try:
            places.setdefault(_place(name, ours), set()).add(name)
        except GraphError as error:
            raise CircuitFileError(f"{path}: edges.{name} cannot exist in {model.name[:60]}: {error}") from error
    inside = {sender for sender, _ in places}
    edges, gained = [], 0
    for (sender, receiver), names in sorted(places.items()):
        siblings = siblings_of(sender, receiver, ours)
        active = [name for name, head in zip(siblings, ours.fed(receiver), strict=False) if head in inside]
        gained += not names.issuperset(active)
        score = joint_score(map(score_of, siblings))
        edges.append(CircuitEdge(sender=ours.senders[sender], receiver=ours.receivers[receiver], score=score))
    return tuple(edges), gained


def siblings_of(sender: int, receiver: int, ours: Graph) -> list[str]:
    """What such a tool calls an edge of the model's own graph: one name, or one per head of a key/value group."""
    kind, fed = ours.receiver_kind(receiver), ours.fed(receiver)
    source = ours.senders[sender]
    if kind not in ("k", "v"):
        return [f"{source}->{ours.receivers[receiver]}"]
    return [f"{source}->{head}<{kind}>" for head in map(ours.senders.__getitem__, fed)]


def joint_score(scores: Iterable[float | None]) -> float | None:
    """The score of an edge into a group from those of its heads; see the top of this file."""
    known = [score for score in scores if score is not None]
    different = set(known) - {0.0}
    return None if not known else different.pop() if len(different) == 1 else sum(known)


def _place(name: str, ours: Graph) -> tuple[int, int]:
    """Where an edge of the file, one per query head, lies in the model's own graph."""
    head, mark, letter = name.partition("<")
    if ours.shape.grouped and letter in ("k>", "v>"):
        node, _, index = head.rpartition(".h")
        name = f"{node}.kv{ours.group_of(int(index))}{mark}{letter}"
    return ours.parse_edge(name)


def index_of(source: Source) -> bytes:
    """The part of a file of torch.save that holds its keys, as it is: nothing in it is run. Empty for other files."""
    if not source.head.startswith(b"PK"):
        return b""
    try:
        with zipfile.ZipFile(source.path) as archive:
            return archive.read(_check_archive(source.path, archive))
    except (CircuitFileError, zipfile.BadZipFile, OSError, RuntimeError, ValueError, NotImplementedError):
        return b""


def torch_content(path: Path, what: str) -> Any:
    """The content of a file of torch.save: dicts, lists, texts, numbers and tensors on the CPU, nothing else.

    Raises:
        CircuitFileError: It is missing, too large, not `what` it should be, damaged, or holds anything else.
    """
    import torch

    check_readable(path)
    try:
        with zipfile.ZipFile(path) as archive:
            _check_archive(path, archive)
    except (zipfile.BadZipFile, OSError, RuntimeError, ValueError, NotImplementedError) as error:
        raise CircuitFileError(
            f"{path} is not {what}: it is no file of torch.save ({error}). Copy it again from where it was written."
        ) from error
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
    _check_plain(path, content)
    return content


def check_tensor(path: Path, key: str, value: Any, shape: tuple[int, ...], kind: str) -> Tensor:
    """The value at a key of a file, refused where it is no plain tensor of that shape and kind: bool or numbers."""
    import torch

    if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.device.type != "cpu":
        raise CircuitFileError(f"{path}: {key} is no plain tensor, but a {type(value).__name__}.")
    if tuple(value.shape) != shape:
        raise CircuitFileError(f"{path}: {key} has shape {list(value.shape)}, and {list(shape)} fits this model.")
    fits = value.dtype == torch.bool if kind == "bool" else value.dtype.is_floating_point
    if not fits or value.is_quantized:
        raise CircuitFileError(f"{path}: {key} is of kind {value.dtype}, and must be {kind}.")
    return value


def _check_archive(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """The entry with the keys. torch.save compresses nothing, so what is compressed is there to fill the memory."""
    entries = archive.infolist()
    index = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
    if len(index) != 1:
        raise CircuitFileError(f"{path} is no file of torch.save: it has {len(index)} entries data.pkl instead of 1.")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CircuitFileError(f"{path} is no file of torch.save: it has compressed entries. Write it with torch.save.")
    if sum(entry.file_size for entry in entries) > LARGEST_FILE or index[0].file_size > _LARGEST_INDEX:
        raise CircuitFileError(f"{path} says that it holds more than it has bytes, or too many keys: it is not read.")
    return index[0]


def _check_plain(path: Path, content: Any) -> None:
    """Refuses what would take forever to walk through or to print, such as lists that hold one list many times."""
    from torch import Tensor

    todo, seen = [(content, 0)], 0
    while todo:
        value, depth = todo.pop()
        seen += 1
        if seen > _MOST_VALUES or depth > _DEEPEST:
            raise CircuitFileError(f"{path} is nested too deeply, or repeats its parts: it is not read.")
        if isinstance(value, dict):
            todo += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, list | tuple | set):
            todo += [(part, depth + 1) for part in value]
        elif isinstance(value, int) and abs(value) >= _LARGEST_INT:
            raise CircuitFileError(f"{path} holds a whole number of more than 63 bits: it is not read.")
        elif not isinstance(value, str | bytes | int | float | Tensor | None):
            raise CircuitFileError(f"{path} holds a value of type {type(value).__name__}, which no circuit has.")
