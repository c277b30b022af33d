"""Why a node or edge does not fit a graph. There are too many names to list, so the wrong part is named."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from acdc_engine.graph.layout import GraphShape, Layout

# Nine digits: Python refuses to make a number of more than 4,300.
_NODE = re.compile(r"(?P<kind>[am])(?P<layer>\d{1,9})(?:\.(?P<part>h|kv)(?P<index>\d{1,9}))?(?:<(?P<letter>\w+)>)?")


def explain_sender(name: str, shape: GraphShape) -> str:
    """Says why `name` is not a sender of a graph of this shape."""
    match = _NODE.fullmatch(name)
    if name == "logits":
        reason = "the logits only receive"
    elif match is None:
        reason = f"senders are input, {_first_to_last(shape, '')}{_mlps(shape)}"
    elif match["letter"]:
        reason = "q, k and v are inputs of a head; as a sender the head is written without them"
    elif match["part"] == "kv":
        reason = "a key/value group only receives; its heads are the senders"
    else:
        reason = _out_of_range(match, shape)
    return f"No sender {name!r}: {reason}."


def explain_receiver(name: str, shape: GraphShape) -> str:
    """Says why `name` is not a receiver of a graph of this shape."""
    match = _NODE.fullmatch(name)
    if name == "input":
        reason = "the input only sends"
    elif match is None:
        reason = f"receivers are {_reads(shape)}{_mlps(shape)} and logits"
    else:
        reason = _out_of_range(match, shape) or _wrong_read(match, shape)
    return f"No receiver {name!r}: {reason}."


def explain_edge(sender: int, receiver: int, layout: Layout) -> str:
    """Says why no edge joins two nodes that exist."""
    source, target = layout.senders[sender], layout.receivers[receiver]
    node = target.split("<")[0]
    kind = layout.receiver_kind(receiver)
    fed = layout.receiver_sender(receiver)
    # Both ends in one layer: the sender is the receiver's node, or a head beside it.
    same_layer = re.match(r"[am](\d+)", source), re.match(r"[am](\d+)", target)
    beside = source[0] == "a" and all(same_layer) and len({match[1] for match in same_layer if match}) == 1
    if fed.start <= sender < fed.stop:
        reason = f"{node} does not read what it writes itself"
    elif beside and kind == "mlp":
        reason = f"{source} and {node} run in parallel, neither reads the other"
    elif beside:
        reason = f"{source} and {node} are in the same layer, heads of a layer do not read each other"
    else:
        reason = f"{source} comes after {node}, an edge runs from earlier to later"
    return f"No edge {source}->{target}: {reason}."


def _wrong_read(match: re.Match[str], shape: GraphShape) -> str:
    """Says what is wrong with an attention receiver whose numbers are in range."""
    layer, part, index, letter = match["layer"], match["part"], int(match["index"]), match["letter"]
    if part == "kv" and not shape.grouped:
        return f"every head has its own k and v here, as in a{layer}.h{index}<k>"
    if part == "kv" and letter == "q":
        return "a key/value group has k and v only; q belongs to a head"
    if letter not in ("q", "k", "v"):
        letters = "kv" if part == "kv" else "q" if shape.grouped else "qkv"
        return "say which input, " + " or ".join(f"a{layer}.{part}{index}<{one}>" for one in letters)
    group = index // shape.group_size
    return f"head {index} shares its {letter}, write a{layer}.kv{group}<{letter}>"


def _out_of_range(match: re.Match[str], shape: GraphShape) -> str:
    """Says which number is too large or which part is missing; empty when that is not what is wrong."""
    heads, groups = shape.n_heads, shape.n_kv_heads
    if match["kind"] == "m" and not shape.mlps:
        return "the model is attention-only"
    if int(match["layer"]) >= shape.n_layers:
        return f"the model has layers 0 to {shape.n_layers - 1}"
    if match["kind"] == "m":
        return f"an MLP is written m{match['layer']}"
    if match["part"] is None:
        return f"a head is written a{match['layer']}.h0"
    if match["part"] == "h" and int(match["index"]) >= heads:
        return f"a layer has heads 0 to {heads - 1}"
    if match["part"] == "kv" and shape.grouped and int(match["index"]) >= groups:
        return f"a layer has key/value groups 0 to {groups - 1}"
    return ""


def _first_to_last(shape: GraphShape, letter: str) -> str:
    return f"a0.h0{letter} to a{shape.n_layers - 1}.h{shape.n_heads - 1}{letter}"


def _reads(shape: GraphShape) -> str:
    if shape.grouped:
        return f"{_first_to_last(shape, '<q>')}, a0.kv0<k>, a0.kv0<v> and so on"
    return f"{_first_to_last(shape, '<q>')}, likewise <k> and <v>"


def _mlps(shape: GraphShape) -> str:
    return f", m0 to m{shape.n_layers - 1}" if shape.mlps else ""
