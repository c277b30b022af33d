"""A circuit's nodes and links as those of an attribution graph; `acdc_engine.formats.neuronpedia` says what for."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from acdc_engine.formats.neuronpedia_records import GraphNode, Link
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.looks import measure_of, strength_of
from acdc_engine.graph.nodes import targets_of
from acdc_engine.graph.records import CircuitNode

LABEL = 60
"""Characters of a token or a role in a label."""
ALL_TOKENS = "(all tokens)"
NO_PROMPT = "(position read)"
UNKNOWN_ANSWER = "logits"
_TAG = re.compile(r"<(?=[a-zA-Z/!?])")
_SIGNS = str.maketrans({"\n": "⏎", "\t": "→", "\r": "↵"})

Parts = dict[tuple[str, str], dict[str, float | None]]
"""What the edges between two nodes weigh, by what they enter: q, k, v, mlp or logits. None: not known."""


@dataclass(frozen=True)
class Prompt:
    """Where a circuit is drawn.

    Attributes:
        tokens: The columns: the tokens of the prompt, and one more for the node `input`, which stands for all of them.
        read_at: The column of all other nodes.
        answer: The right answer.
        probability: What the model gives it; None where the circuit file does not say.
    """

    tokens: tuple[str, ...]
    read_at: int
    answer: str
    probability: float | None


def prompt_of(circuit: Circuit) -> Prompt:
    """The clean prompt of the circuit's first example; without one, a column for the position read."""
    if not circuit.examples:
        return Prompt((NO_PROMPT, ALL_TOKENS), 0, UNKNOWN_ANSWER, None)
    example = circuit.examples[0]
    answers = (*example.answers, *(token.text for token in example.next_clean), UNKNOWN_ANSWER)
    known = {token.text: token.probability for token in example.next_clean}
    tokens = (*map(shown, example.clean), ALL_TOKENS)
    return Prompt(tokens, example.read_at, answers[0], known.get(answers[0]))


def parts_of(circuit: Circuit) -> Parts:
    """The circuit's edges, joined where they run between the same nodes, in the circuit's order.

    They weigh their exact effects where all edges have one, else their scores, else 1 each. An edge into shared keys or
    values is one to each head of the group in the circuit.
    """
    layout, measure = circuit.layout(), measure_of(circuit)
    kept, parts = {node.name for node in circuit.nodes}, Parts()
    for edge in circuit.edges:
        kind, targets = targets_of(layout, edge.receiver)
        weight = 1.0 if measure is None else strength_of(edge, measure)
        for target in filter(kept.__contains__, targets):
            parts.setdefault((edge.sender, target), {})[kind] = weight
    return parts


def links_of(parts: Parts, ids: Mapping[str, str]) -> list[Link]:
    """Links of an attribution graph.

    Args:
        parts: From `parts_of`.
        ids: Ids of the nodes by their names.
    """
    links = []
    for (sender, receiver), weights in parts.items():
        known = {kind: weight for kind, weight in weights.items() if weight is not None}
        links.append(Link(source=ids[sender], target=ids[receiver], weight=_total(weights), parts=known))
    return links


def tokens_of(prompt: Prompt) -> list[GraphNode]:
    """The prompt's tokens as nodes without links, which label the columns."""
    return [_embedding(place, None) for place in range(len(prompt.tokens) - 1)]


def node_of(circuit: Circuit, node: CircuitNode, prompt: Prompt, influence: float | None) -> GraphNode:
    """A node of an attribution graph.

    Args:
        circuit: The circuit.
        node: One of its nodes.
        prompt: Where to draw it.
        influence: See `influences`.
    """
    if node.kind == "input":
        return _embedding(len(prompt.tokens) - 1, influence)
    n_heads, at, logits = circuit.model.n_heads, prompt.read_at, node.kind == "logits"
    layer = circuit.model.n_layers + 1 if logits else node.layer
    feature = 0 if logits else int(node.name.split(".h")[1]) if node.kind == "head" else n_heads
    return GraphNode(
        node_id=f"{layer}_{feature}_{at}",
        feature=feature,
        layer=str(layer),
        ctx_idx=at,
        feature_type="logit" if logits else "attention head" if node.kind == "head" else "mlp",
        token_prob=prompt.probability or 0.0 if logits else 0.0,
        is_target_logit=logits,
        jsNodeId=f"{layer}_{feature}-0",
        clerp=(_output(circuit, prompt) if logits else node.name) + (f" {shown(node.role)}" if node.role else ""),
        influence=influence,
        name=node.name,
    )


def influences(circuit: Circuit, parts: Parts) -> dict[str, float]:
    """Per node but the logits: the share of all influence that it and the stronger nodes have together, 0 to 1.

    A node's influence is that of circuit-tracer: 1 for the logits; and a node hands its own on to those that write to
    it, by their shares in the sum of |weight| of all its incoming links.
    """
    into: dict[str, dict[str, float]] = {}
    for (sender, receiver), weights in parts.items():
        into.setdefault(receiver, {})[sender] = abs(_total(weights))
    influence = {node.name: 0.0 for node in circuit.nodes} | {"logits": 1.0}
    for node in reversed(circuit.nodes):
        weights_in = into.get(node.name, {})
        largest = max(weights_in.values(), default=0.0)
        if largest > 0:
            shares = {sender: weight / largest for sender, weight in weights_in.items()}
            for sender, share in shares.items():
                influence[sender] += influence[node.name] * share / sum(shares.values())
    del influence["logits"]
    total, reached, cumulative = sum(influence.values(), 0.0), 0.0, dict[str, float]()
    for name in sorted(influence, key=lambda name: -influence[name]):
        reached += influence[name]
        cumulative[name] = min(1.0, reached / total) if total else 1.0
    return cumulative


def shown(text: str, most: int = LABEL) -> str:
    """A text for a label. circuit-tracer shows labels as HTML, so nothing in one may begin a tag.

    Args:
        text: Anything.
        most: Characters; the rest is cut off.
    """
    text = _TAG.sub("\u2039", text[: most + 1].translate(_SIGNS))
    text = "".join("�" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c for c in text)
    return text if len(text) <= most else f"{text[:most]}…"


def _embedding(place: int, influence: float | None) -> GraphNode:
    """Both front ends write the label of such a node themselves: `Emb:` and the token of its column."""
    return GraphNode(
        node_id=f"E_{place}_{place}",
        feature=place,
        layer="E",
        ctx_idx=place,
        feature_type="embedding",
        jsNodeId=f"E_{place}-{place}",
        clerp="",
        influence=influence,
        name=None if influence is None else "input",
    )


def _output(circuit: Circuit, prompt: Prompt) -> str:
    # The front ends take what is between the first two quotes as the token, and what is between the first "(p=" and
    # the next bracket as its probability, which must be a number.
    answer = shown(prompt.answer).replace('"', "”").replace("(p=", "(p =")
    known = "" if prompt.probability is not None else ", probability not known"
    metric = "" if circuit.metric is None else f", {shown(circuit.metric.name)}"
    return f'Output "{answer}" (p={prompt.probability or 0.0:.3f}){known}{metric}'


def _total(weights: Mapping[str, float | None]) -> float:
    """Sums of finite numbers may overflow, and JSON has no infinities."""
    total = sum((weight for weight in weights.values() if weight is not None), 0.0)
    return max(-sys.float_info.max, min(sys.float_info.max, total))
