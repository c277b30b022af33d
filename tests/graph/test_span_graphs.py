"""Graphs with spans: names, which edges exist, and clean circuits against networkx, place by place."""

from collections.abc import Callable
from typing import Any

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acdc_engine.errors import GraphError
from acdc_engine.evidence.random_circuits import random_circuits
from acdc_engine.graph.blocks import Graph, GraphShape
from acdc_engine.graph.connectivity import clean, is_clean, leading, reachable
from acdc_engine.graph.spans import Spans
from acdc_engine.search.order import greedy_from_logits
from tests.graph.test_connectivity import draw_mask, names_of, spans
from tests.tiny_models import random_scores

PLAIN = Graph(GraphShape(2, 4, 2))
GRAPH = PLAIN.at(Spans.of([["bos", "A", "B", "end"], ["bos", "B", "A", "end"]], [3, 3]))


def spelled(graph: Graph, mask: torch.Tensor, fed: Callable[[str, GraphShape], set[str]]) -> "nx.DiGraph[Any]":
    """Every node and receiver at every span, and what leads where."""
    assert graph.spans is not None
    names = graph.spans.names
    out: nx.DiGraph[Any] = nx.DiGraph()
    for name in names:
        out.add_edge("start", ("write", "input", name))
    for name in names_of(graph, mask):
        edge, _, span = name.partition("@")
        sender, receiver = edge.split("->")
        out.add_edge(("write", sender, span), ("read", receiver, span))
    for receiver in {name.partition("@")[0] for name in graph.receivers}:
        for sender in fed(receiver, graph.shape):
            for at, one in enumerate(names):
                for to, other in enumerate(names):
                    if graph.spans.leads[at][to] if receiver[-2:] in ("k>", "v>") else at == to:
                        out.add_edge(("read", receiver, one), ("write", sender, other))
    out.add_node(("read", "logits", names[graph.end]))
    return out


@settings(max_examples=60)
@given(data=st.data())
def test_equals_the_slow_twin(
    any_shape: st.SearchStrategy[GraphShape], fed_by_name: Callable[[str, GraphShape], set[str]], data: st.DataObject
) -> None:
    graph = Graph(data.draw(any_shape)).at(data.draw(spans()))
    assert graph.spans is not None
    mask, end = draw_mask(graph, data), ("read", "logits", graph.spans.names[graph.end])
    there = spelled(graph, mask, fed_by_name)
    down, up = nx.descendants(there, "start"), nx.ancestors(there, end) | {end}
    reached = {graph.node_name(node) for node in reachable(graph, mask).nonzero().flatten().tolist()}
    assert reached == {f"{name}@{span}" for kind, name, span in down if kind == "write"}
    leads = {graph.receivers[i] for i in leading(graph, mask).nonzero().flatten().tolist()}
    assert leads == {f"{one[1]}@{one[2]}" for one in up if one[0] == "read"}
    kept = set()
    for name in names_of(graph, mask):
        sender, receiver = name.split("->")
        if f"{sender}@{receiver.partition('@')[2]}" in reached and receiver in leads:
            kept.add(name)
    assert names_of(graph, clean(graph, mask)) == kept


@given(data=st.data())
def test_one_span_is_the_plain_graph(any_shape: st.SearchStrategy[GraphShape], data: st.DataObject) -> None:
    plain = Graph(data.draw(any_shape))
    graph = plain.at(Spans(("all",), ((True,),), 0))
    mask = draw_mask(plain, data)
    assert torch.equal(graph.exists, plain.exists) and graph.receivers == tuple(f"{one}@all" for one in plain.receivers)
    assert torch.equal(clean(graph, mask), clean(plain, mask))
    assert all(graph.fed(i) == plain.fed(i) for i in range(plain.n_receivers))
    assert all(graph.feeding(i) == plain.feeding(i) for i in range(plain.n_senders))


def test_an_edge_is_there_once_for_every_span_and_into_the_logits_at_theirs() -> None:
    assert GRAPH.spans is not None and GRAPH.spans.names == ("bos", "A", "B", "end")
    last = [*range(PLAIN.part(1, "q").start, PLAIN.part(1, "q").stop), PLAIN.block("mlp", 1).reads.start, PLAIN.logits]
    once = int(PLAIN.exists[:, last].sum())
    assert GRAPH.n_edges == 4 * (PLAIN.n_edges - once) + once, (
        "of the last layer, keys and values alone matter elsewhere"
    )
    assert torch.equal(clean(GRAPH, GRAPH.exists), GRAPH.exists)
    assert PLAIN.at(GRAPH.spans) is PLAIN.at(GRAPH.spans), "made once"
    assert GRAPH.edge_name(*GRAPH.parse_edge("a0.h1->a1.kv0<k>@B")) == "a0.h1->a1.kv0<k>@B"
    assert [GRAPH.node_name(node) for node in GRAPH.fed(GRAPH.receiver_index("a1.kv0<k>@B"))] == [
        *("a1.h0@A", "a1.h0@B", "a1.h0@end", "a1.h1@A", "a1.h1@B", "a1.h1@end"),
    ]
    assert [GRAPH.node_name(node) for node in GRAPH.fed(GRAPH.receiver_index("a1.h2<q>@B"))] == ["a1.h2@B"]
    assert GRAPH.receiver_kind(GRAPH.receiver_index("m1@A")) == "mlp" and GRAPH.receiver_kind(GRAPH.logits) == "logits"
    assert GRAPH.receiver_kind(GRAPH.receiver_index("a1.kv0<k>@B")) == "k"
    at_b = [GRAPH.receivers[i] for i in GRAPH.feeding(GRAPH.node(GRAPH.sender_index("a1.h0"), GRAPH.logits))]
    assert at_b[0] == "a1.h0<q>@end" and at_b[1:5] == [f"a1.kv0<k>@{name}" for name in GRAPH.spans.names]


def test_greedy_grows_place_by_place() -> None:
    order = greedy_from_logits(GRAPH, random_scores(GRAPH, 3), "absolute").tolist()
    assert sorted(order) == GRAPH.exists.flatten().nonzero().flatten().tolist(), "every edge leads to the logits"
    inside, opened = set[int](), {GRAPH.logits}
    for sender, receiver in (divmod(edge, GRAPH.n_receivers) for edge in order):
        assert receiver in opened
        inside.add(GRAPH.node(sender, receiver))
        opened |= set(GRAPH.feeding(GRAPH.node(sender, receiver)))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "a0.h1->a1.kv0<k>",
            "No receiver 'a1.kv0<k>': an edge lives at one place of the prompt: write",
        ),
        ("a0.h1->a1.kv0<k>@C", "there is no span 'C': spans are bos, A, B, end"),
        ("a0.h1->logits@A", "the logits are read at end alone"),
        ("a0.h1->a9.h0<q>@A", "the model has layers 0 to 1"),
        ("a1.h1->m1@A", "No edge a1.h1->m1@A: nothing that is read at end looks back at what m1 leads to there"),
        ("a1.h1->m0@A", "No edge a1.h1->m0: a1.h1 comes after m0"),
        ("a1.h1->a1.h1<q>@A", "a1.h1 does not read what it writes itself"),
    ],
)
def test_names_that_do_not_fit(name: str, text: str) -> None:
    with pytest.raises(GraphError, match=text.replace("(", r"\(")):
        GRAPH.parse_edge(name)


def test_a_plain_graph_has_no_places() -> None:
    with pytest.raises(GraphError, match="does not tell places in the prompt apart: write it without @A"):
        PLAIN.parse_edge("a0.h1->m1@A")


@settings(max_examples=40)
@given(data=st.data())
def test_random_circuits_have_their_size_and_hang_together(
    any_shape: st.SearchStrategy[GraphShape], data: st.DataObject
) -> None:
    graph = Graph(data.draw(any_shape)).at(data.draw(spans()))
    size = data.draw(st.integers(1, min(graph.n_edges, 200)))
    for circuit in random_circuits(graph, size, 2, data.draw(st.integers(0, 99))):
        assert int(circuit.sum()) == size and is_clean(graph, circuit)
