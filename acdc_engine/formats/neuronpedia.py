"""Attribution graphs in JSON, as Neuronpedia and circuit-tracer show them: a circuit in their front ends.

Theirs are graphs of features at token positions, for one prompt. A circuit has neither features nor positions. So

- heads and MLPs are nodes of the kinds `attention head` and `mlp`, at their layer, which neither front end takes for a
  feature of a transcoder. `scan`, by which Neuronpedia knows the model, ends with `-circuit`: under the name of some
  models it would look up features by the numbers of heads;
- all are drawn at the position read of the circuit's first example prompt. The prompt's tokens are nodes without links;
  `input`, which stands for all of them, has a column of its own after the last;
- edges that enter the q, k and v of one head are one link. It weighs their sum: of exact effects where all edges have
  one, else of scores, else 1 for each;
- an edge into shared keys or values is a link to each head of the group in the circuit;
- `logits` is the right answer of that prompt, with its probability where the circuit file has it;
- the sliders of the front ends leave nodes of little `influence` out, which is computed as in circuit-tracer.

Which keys there are, and of which kind, is stated by Neuronpedia's schema (graph-schema.json in
apps/webapp/app/api/graph); the rest by the code of the two front ends, which fails or leaves nodes out otherwise. The
tests check both. `name` of nodes and `parts` of links are this engine's own.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from acdc_engine.formats.register import FORMATS, Format, Source
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.nodes import targets_of
from acdc_engine.graph.records import CircuitNode
from acdc_engine.graph.style import measure_of, strength_of

_PINNED = 24
"""Nodes in the subgraph at first."""
_LABEL, _PROMPT = 60, 2_000
"""Characters of a token or a role in a label, and of the prompt."""
_KEYS = {"metadata", "qParams", "nodes", "links"}
_TAG = re.compile(r"<(?=[a-zA-Z/!?])")
_SIGNS = str.maketrans({"\n": "⏎", "\t": "→", "\r": "↵"})
_DESCRIPTION = (
    "A circuit of attention heads and MLPs, not of features. It is one for all prompts of its task and has no token "
    "positions: every node but the input is drawn at the position read. Weights are {} on {}; positive ones support "
    "the behaviour. The tokens of the prompt are drawn without links."
)
_WEIGHTS = {"effect": "exact effects", "score": "attribution scores", None: "numbers of edges"}

_Parts = dict[tuple[str, str], dict[str, float | None]]
"""What the edges between two nodes weigh, by what they enter: q, k, v, mlp or logits. None: not known."""


@FORMATS.add("neuronpedia", "attribution graph JSON: Neuronpedia's and circuit-tracer's front ends show it")
class _AttributionGraph(Format):
    suffix = "neuronpedia.json"
    lost = "all that is about the whole circuit, and which edges have no score or effect"
    places = True

    def text(self, circuit: Circuit) -> str:
        prompt, parts = _prompt_of(circuit), _parts_of(circuit)
        influence = _influences(circuit, parts)
        nodes = {node.name: _node(circuit, node, prompt, influence.get(node.name)) for node in circuit.nodes}
        ids = {name: node["node_id"] for name, node in nodes.items()}
        known = set(ids.values())
        every = (_embedding(place) for place in range(len(prompt.tokens) - (prompt.column_of is None)))
        tokens = [token for token in every if token["node_id"] not in known]
        links = [_link(ids[sender], ids[target], weights) for (sender, target), weights in parts.items()]
        content = {
            "metadata": _metadata(circuit, prompt),
            "qParams": _shown_first(circuit, influence, ids),
            "nodes": [*tokens, *nodes.values()],
            "links": links,
        }
        return json.dumps(content, allow_nan=False) + "\n"

    def recognises(self, source: Source) -> bool:
        return isinstance(source.json, dict) and source.json.keys() >= _KEYS


@dataclass(frozen=True)
class _Drawn:
    """Where a circuit is drawn."""

    tokens: tuple[str, ...]  # The columns: the prompt's, and one more for `input` where that stands for all of them
    read_at: int  # The column of all other nodes
    column_of: Mapping[str, int] | None  # Of nodes at places, the last token of each; None without places
    answer: str  # The right answer
    probability: float | None  # What the model gives it; None where the circuit file does not say


def _prompt_of(circuit: Circuit) -> _Drawn:
    """The clean prompt of the circuit's first example; without one, a column for the position read."""
    if not circuit.examples:
        return _without_example(circuit)
    example = circuit.examples[0]
    answers = (*example.answers, *(token.text for token in example.next_clean), "logits")
    known = {token.text: token.probability for token in example.next_clean}
    tokens, columns = tuple(map(_shown, example.clean)), None
    if circuit.spans is None:
        tokens += ("(all tokens)",)
    else:
        columns = {circuit.spans.names[span]: place for place, span in enumerate(example.spans)}
    return _Drawn(tokens, example.read_at, columns, answers[0], known.get(answers[0]))


def _without_example(circuit: Circuit) -> _Drawn:
    """Columns where there is no prompt to show: the places, or one for the position read."""
    if circuit.spans is None:
        return _Drawn(("(position read)", "(all tokens)"), 0, None, "logits", None)
    names = circuit.spans.names
    columns = {name: place for place, name in enumerate(names)}
    return _Drawn(tuple(map(_shown, names)), circuit.spans.end, columns, "logits", None)


def _parts_of(circuit: Circuit) -> _Parts:
    """The circuit's edges, joined where they run between the same nodes, in the circuit's order."""
    layout, measure = circuit.graph(), measure_of(circuit)
    kept, parts = {node.name for node in circuit.nodes}, _Parts()
    for edge in circuit.edges:
        kind, targets = targets_of(layout, edge.into)
        weight = 1.0 if measure is None else strength_of(edge, measure)
        for target in filter(kept.__contains__, targets):
            parts.setdefault((edge.out_of, target), {})[kind] = weight
    return parts


def _influences(circuit: Circuit, parts: _Parts) -> dict[str, float]:
    """Per node but the logits: the share of all influence that it and the stronger nodes have together, 0 to 1.

    A node's influence is that of circuit-tracer: 1 for the logits; and a node hands its own on to those that write to
    it, by their shares in the sum of |weight| of all its incoming links.
    """
    into: dict[str, dict[str, float]] = {}
    for (sender, receiver), weights in parts.items():
        into.setdefault(receiver, {})[sender] = abs(_total(weights))
    influence = {node.name: float(node.kind == "logits") for node in circuit.nodes}
    for node in reversed(circuit.nodes):
        weights_in = into.get(node.name, {})
        largest = max(weights_in.values(), default=0.0)
        if largest > 0:
            shares = {sender: weight / largest for sender, weight in weights_in.items()}
            for sender, share in shares.items():
                influence[sender] += influence[node.name] * share / sum(shares.values())
    influence = {node.name: influence[node.name] for node in circuit.nodes if node.kind != "logits"}
    total, reached, cumulative = sum(influence.values(), 0.0), 0.0, dict[str, float]()
    for name in sorted(influence, key=lambda name: -influence[name]):
        reached += influence[name]
        cumulative[name] = min(1.0, reached / total) if total else 1.0
    return cumulative


def _shown(text: str, most: int = _LABEL) -> str:
    """A text for a label, cut. circuit-tracer shows labels as HTML, so nothing in one may begin a tag."""
    text = _TAG.sub("\u2039", text[: most + 1].translate(_SIGNS))
    text = "".join("�" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c for c in text)
    return text if len(text) <= most else f"{text[:most]}…"


def _metadata(circuit: Circuit, prompt: _Drawn) -> dict[str, Any]:
    metric = _shown(circuit.metric.name) if circuit.metric else "the metric"
    model = _slug(circuit.model.name.rstrip("/").rsplit("/", 1)[-1]) or "model"
    task = _slug(circuit.task.name) if circuit.task else ""
    return {
        "slug": "-".join(filter(None, (task or "circuit", model, f"{len(circuit.edges)}-edges"))),
        "scan": f"{model}-circuit",
        "transcoder_list": [],  # circuit-tracer's own reader needs it
        "prompt_tokens": list(prompt.tokens),
        "prompt": _shown("".join(circuit.examples[0].clean), _PROMPT) if circuit.examples else "(no prompt)",
        "node_threshold": 1.0,
        "info": {
            "description": _DESCRIPTION.format(_WEIGHTS[measure_of(circuit)], metric),
            "generator": {"name": "acdc-engine", "version": version("acdc-engine")},
        },
    }


def _shown_first(circuit: Circuit, influence: Mapping[str, float], ids: Mapping[str, str]) -> dict[str, Any]:
    """The strongest nodes pinned, heads of one role as one group, and the logits selected."""
    ends = [node.name for node in circuit.nodes if node.kind in ("input", "logits")]
    strongest = [name for name in influence if name not in ends][: max(1, _PINNED - len(ends))]
    pinned = [name for name in ids if name in (*ends, *strongest)]
    roles: dict[str, list[str]] = {}
    for node in circuit.nodes:
        if node.role is not None and node.name in pinned and node.name not in ends:
            roles.setdefault(_shown(node.role), []).append(ids[node.name])
    return {
        "pinnedIds": [ids[name] for name in pinned],
        "supernodes": [[role, *members] for role, members in roles.items() if len(members) > 1],
        "linkType": "both",
        "clickedId": next((ids[node.name] for node in circuit.nodes if node.kind == "logits"), ""),
        "sg_pos": "",
    }


def _node(circuit: Circuit, node: CircuitNode, prompt: _Drawn, influence: float | None) -> dict[str, Any]:
    known = {} if influence is None else {"influence": influence}
    columns = prompt.column_of
    if node.kind == "input":
        column = len(prompt.tokens) - 1 if columns is None else columns.get(node.span or "", prompt.read_at)
        return {**_embedding(column), **known, "name": node.name}
    logits = node.kind == "logits"
    layer = circuit.model.n_layers + 1 if logits else node.layer
    feature = 0 if logits else int(node.sender.split(".h")[1]) if node.kind == "head" else circuit.model.n_heads
    label = (_output(circuit, prompt) if logits else node.name) + (f" {_shown(node.role)}" if node.role else "")
    kind = "logit" if logits else "attention head" if node.kind == "head" else "mlp"
    column = prompt.read_at if columns is None else columns.get(node.span or "", prompt.read_at)
    drawn = _node_at(str(layer), feature, column, kind, label)
    if columns is not None:  # the same head may be in several columns
        drawn["jsNodeId"] = f"{layer}_{feature}-{column}"
    if logits:
        drawn |= {"token_prob": prompt.probability or 0.0, "is_target_logit": True}
    return {**drawn, **known, "name": node.name}


def _embedding(place: int) -> dict[str, Any]:
    """A node for a token. Both front ends write its label themselves: `Emb:` and the token of its column."""
    return _node_at("E", place, place, "embedding", "")


def _node_at(layer: str, feature: int, column: int, kind: str, label: str) -> dict[str, Any]:
    return {
        "node_id": f"{layer}_{feature}_{column}",
        "feature": feature,
        "layer": layer,
        "ctx_idx": column,
        "feature_type": kind,
        "token_prob": 0.0,
        "is_target_logit": False,
        "run_idx": 0,
        "reverse_ctx_idx": 0,
        "jsNodeId": f"{layer}_{feature}-0" if layer != "E" else f"E_{column}-{column}",
        "clerp": label,
    }


def _link(source: str, target: str, weights: Mapping[str, float | None]) -> dict[str, Any]:
    known = {kind: weight for kind, weight in weights.items() if weight is not None}
    return {"source": source, "target": target, "weight": _total(weights), "parts": known}


def _output(circuit: Circuit, prompt: _Drawn) -> str:
    # The front ends take what is between the first two quotes as the token, and what is between the first "(p=" and
    # the next bracket as its probability, which must be a number.
    answer = _shown(prompt.answer).replace('"', "”").replace("(p=", "(p =")
    known = "" if prompt.probability is not None else ", probability not known"
    metric = "" if circuit.metric is None else f", {_shown(circuit.metric.name)}"
    return f'Output "{answer}" (p={prompt.probability or 0.0:.3f}){known}{metric}'


def _total(weights: Mapping[str, float | None]) -> float:
    """Sums of finite numbers may overflow, and JSON has no infinities."""
    total = sum((weight for weight in weights.values() if weight is not None), 0.0)
    return max(-sys.float_info.max, min(sys.float_info.max, total))


def _slug(text: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_.]+", "-", text)[:_LABEL].strip("-.").lower()
