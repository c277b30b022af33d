"""Why a graph has no sender, receiver, place or edge of some name: which part of it does not fit.

There are too many names to list. Read only when a name is wrong.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from acdc_engine.errors import did_you_mean

if TYPE_CHECKING:
    from acdc_engine.graph.blocks import Graph, GraphShape
    from acdc_engine.graph.spans import Spans

# Nine digits: Python refuses to make a number of more than 4,300.
_NODE = re.compile(r"(?P<kind>[am])(?P<layer>\d{1,9})(?:\.(?P<part>h|kv)(?P<index>\d{1,9}))?(?:<(?P<letter>\w+)>)?")


def why_no_sender(name: str, shape: GraphShape) -> str:
    """Why a graph has no such sender."""
    match = _NODE.fullmatch(name)
    if name == "logits":
        return "the logits only receive"
    if match is None:
        return f"senders are input, a0.h0 to a{shape.n_layers - 1}.h{shape.n_heads - 1}{_mlps(shape)}"
    if match["letter"]:
        return "q, k and v are inputs of a head; as a sender the head is written without them"
    if match["part"] == "kv":
        return "a key/value group only receives; its heads are the senders"
    return _out_of_range(match, shape)


def why_no_receiver(name: str, shape: GraphShape, spans: Spans | None) -> str:
    """Why a graph with such spans, or with none, has no such receiver."""
    if reason := _why_no_place(name, spans):
        return reason
    name = name.partition("@")[0]
    match = _NODE.fullmatch(name)
    if name == "input":
        return "the input only sends"
    if match is None:
        others = "a0.kv0<k>, a0.kv0<v> and so on" if shape.grouped else "likewise <k> and <v>"
        last = f"a{shape.n_layers - 1}.h{shape.n_heads - 1}<q>"
        return f"receivers are a0.h0<q> to {last}, {others}{_mlps(shape)} and logits"
    if reason := _out_of_range(match, shape):
        return reason
    layer, part, index, letter = match["layer"], match["part"], int(match["index"]), match["letter"]
    if part == "kv" and not shape.grouped:
        return f"every head has its own k and v here, as in a{layer}.h{index}<k>"
    if part == "kv" and letter == "q":
        return "a key/value group has k and v only; q belongs to a head"
    if letter not in ("q", "k", "v"):
        letters = "kv" if part == "kv" else "q" if shape.grouped else "qkv"
        return "say which input, " + " or ".join(f"a{layer}.{part}{index}<{one}>" for one in letters)
    return f"head {index} shares its {letter}, write a{layer}.kv{index // shape.group_size}<{letter}>"


def why_no_edge(graph: Graph, sender: int, receiver: int) -> str:
    """The name of an edge that a graph does not have, and why."""
    source, target = graph.senders[sender], graph.receivers[receiver].partition("@")[0]
    if graph.spans is not None and graph.at(None).joins[sender, receiver // graph.n_spans]:
        return (
            f"{source}->{graph.receivers[receiver]}: nothing that is read at {graph.spans.names[graph.end]} looks back "
            f"at what {target} leads to there"
        )
    node, layer = target.partition("<")[0], re.match(r"[am](\d+)", target)
    beside = layer is not None and source.startswith(f"a{layer[1]}.")
    if graph.node(sender, receiver) in graph.fed(receiver):
        return f"{source}->{target}: {node} does not read what it writes itself"
    if beside and graph.receiver_kind(receiver) == "mlp":
        return f"{source}->{target}: {source} and {node} run in parallel, neither reads the other"
    if beside:
        return f"{source}->{target}: {source} and {node} are in the same layer, heads of a layer do not read each other"
    return f"{source}->{target}: {source} comes after {node}, an edge runs from earlier to later"


def _why_no_place(name: str, spans: Spans | None) -> str:
    """Why no receiver has such a span, if that is what is wrong."""
    at = name.rpartition("@")[2] if "@" in name else ""
    if spans is None:
        return f"this graph does not tell places in the prompt apart: write it without @{at}" if at else ""
    if not at:
        return f"an edge lives at one place of the prompt: write it behind the edge, as in {name}@{spans.names[0]}"
    if at not in spans.names:
        return f"there is no span {at!r}: spans are {', '.join(spans.names)}{did_you_mean(at, spans.names)}"
    if name.startswith("logits@"):
        return f"the logits are read at {spans.names[spans.end]} alone"
    return ""


def _out_of_range(match: re.Match[str], shape: GraphShape) -> str:
    """Which number is too large or which part is missing; empty when that is not what is wrong."""
    if match["kind"] == "m" and not shape.mlps:
        return "the model is attention-only"
    if int(match["layer"]) >= shape.n_layers:
        return f"the model has layers 0 to {shape.n_layers - 1}"
    if match["kind"] == "m":
        return f"an MLP is written m{match['layer']}"
    if match["part"] is None:
        return f"a head is written a{match['layer']}.h0"
    if match["part"] == "h" and int(match["index"]) >= shape.n_heads:
        return f"a layer has heads 0 to {shape.n_heads - 1}"
    if match["part"] == "kv" and shape.grouped and int(match["index"]) >= shape.n_kv_heads:
        return f"a layer has key/value groups 0 to {shape.n_kv_heads - 1}"
    return ""


def _mlps(shape: GraphShape) -> str:
    return f", m0 to m{shape.n_layers - 1}" if shape.mlps else ""
