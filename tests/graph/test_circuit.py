"""A circuit and its graph: what is refused, what the mask and the networkx view hold."""

import re
from collections.abc import Callable
from typing import Any

import networkx as nx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from acdc_engine.errors import CircuitFileError, GraphError
from acdc_engine.graph.blocks import Graph, GraphShape
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.nodes import edge_counts, edges_of_mask, nodes_of_edges, with_roles
from acdc_engine.graph.records import AttributionRecord, CircuitEdge, CircuitNode


def changed(circuit: Circuit, **parts: Any) -> Circuit:
    return Circuit(**{**{name: getattr(circuit, name) for name in Circuit.model_fields}, **parts})


def edges(*names: str) -> tuple[CircuitEdge, ...]:
    return tuple(CircuitEdge(sender=s, receiver=r) for s, r in (name.split("->") for name in names))


@given(data=st.data())
def test_edges_of_mask_round_trip(any_circuit: st.SearchStrategy[Circuit], data: st.DataObject) -> None:
    circuit = data.draw(any_circuit)
    graph = circuit.graph()
    scores = torch.randn(graph.exists.shape)
    again = edges_of_mask(graph, circuit.mask(), scores)
    assert {(edge.sender, edge.receiver) for edge in again} == {(e.sender, e.receiver) for e in circuit.edges}
    for edge in again:
        at = graph.sender_index(edge.sender), graph.receiver_index(edge.receiver)
        assert edge.score == scores[at] and edge.effect is None
    assert all(edge.score is None for edge in edges_of_mask(graph, circuit.mask()))


def test_edges_of_mask_refuses_edges_that_do_not_exist(small_circuit: Circuit) -> None:
    graph = small_circuit.graph()
    with pytest.raises(GraphError, match="does not read what it writes itself"):
        edges_of_mask(graph, torch.ones_like(graph.exists))


def test_nodes_of_a_shared_key_are_the_heads_that_lead_on() -> None:
    layout = Graph(GraphShape(1, 4, 2))
    both = nodes_of_edges(layout, edges("input->a0.kv1<k>"))
    assert [node.name for node in both] == ["input", "a0.h2", "a0.h3"]
    one = nodes_of_edges(layout, edges("input->a0.kv1<k>", "a0.h3->logits"), {"a0.h3": "mover", "m0": "unused"})
    assert [(node.name, node.kind, node.layer, node.role) for node in one] == [
        ("input", "input", None, None),
        ("a0.h3", "head", 0, "mover"),
        ("logits", "logits", None, None),
    ]


def test_roles_at_edges_are_those_of_the_nodes() -> None:
    layout = Graph(GraphShape(1, 4, 2))
    some = edges("input->a0.kv1<k>", "a0.h2->logits", "a0.h3->logits")
    nodes = nodes_of_edges(layout, some, {"a0.h2": "mover", "a0.h3": "helper"})
    assert [(edge.sender_role, edge.receiver_role) for edge in with_roles(layout, nodes, some)] == [
        (None, "mover / helper"),
        ("mover", None),
        ("helper", None),
    ]
    alike = nodes_of_edges(layout, some, {"a0.h2": "mover", "a0.h3": "mover"})
    assert with_roles(layout, alike, some)[0].receiver_role == "mover"


def test_roles_that_contradict_their_node_are_refused(small_circuit: Circuit) -> None:
    with_role = with_roles(small_circuit.graph(), small_circuit.nodes, small_circuit.edges)
    assert changed(small_circuit, edges=with_role) == small_circuit, "nodes without roles leave none at the edges"
    for role, shown in (("mover", "'mover'"), ("x" * 9_999, f"'{'x' * 59}")):
        wrong = tuple(edge.model_copy(update={"receiver_role": role}) for edge in small_circuit.edges)
        text = f"edges.0: input->a0.h1<q> has receiver_role {shown}, its node has role None. Write the same"
        with pytest.raises(CircuitFileError, match=re.escape(text)):
            changed(small_circuit, edges=wrong)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("a1.h2->a0.h1<q>", "edges.5 cannot exist in this model's graph: No edge a1.h2->a0.h1<q>: a1.h2 comes after"),
        ("input->a0.h1<k>", "edges.5 cannot exist in this model's graph: No receiver 'a0.h1<k>': head 1 shares its"),
        ("input->m0", "edges.5: input->m0 is listed twice."),
        ("m1->logits", "edges.5: m1->logits starts at m1, which is not among the nodes."),
        ("input->m1", "edges.5: input->m1 leads to m1, which is not among the nodes."),
        ("input->a1.kv0<k>", "edges.5: input->a1.kv0<k> leads to none of a1.h0, a1.h1, which are among the nodes."),
    ],
)
def test_edges_that_do_not_fit_are_refused(small_circuit: Circuit, more: str, message: str) -> None:
    with pytest.raises(CircuitFileError, match=re.escape(message)):
        changed(small_circuit, edges=small_circuit.edges + edges(more))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (("m1", "mlp", 1), "No edge starts or ends at m1: remove it from the nodes."),
        (("m0", "mlp", 0), "nodes.5: m0 is listed twice."),
        (("m5", "mlp", 5), "nodes.5 cannot exist in this model's graph: no node 'm5': the model has layers 0 to 1."),
        (("m1", "head", 1), "nodes.5: m1 has kind 'mlp' and layer 1, not kind 'head' and layer 1."),
    ],
)
def test_nodes_that_do_not_match_are_refused(small_circuit: Circuit, node: tuple[Any, ...], message: str) -> None:
    extra = CircuitNode(name=node[0], kind=node[1], layer=node[2])
    with pytest.raises(CircuitFileError, match=re.escape(message)):
        changed(small_circuit, nodes=(*small_circuit.nodes, extra))


def test_impossible_models_are_refused(small_circuit: Circuit) -> None:
    with pytest.raises(CircuitFileError, match="model: 4 heads do not divide into 3 key/value groups"):
        changed(small_circuit, model=small_circuit.model.model_copy(update={"n_kv_heads": 3}))


def test_settings_are_finite() -> None:
    with pytest.raises(ValidationError, match="finite number"):
        AttributionRecord(method="eap-ig", settings={"points": [0.5, float("inf")]})


def test_an_empty_circuit_is_a_circuit(small_circuit: Circuit) -> None:
    ends = (CircuitNode(name="input", kind="input"), CircuitNode(name="logits", kind="logits"))
    empty = changed(small_circuit, nodes=ends, edges=())
    assert not empty.mask().any() and empty.to_networkx().number_of_edges() == 0


def test_ungrouped_graph_has_a_key_per_head(small_circuit: Circuit) -> None:
    model = small_circuit.model.model_copy(update={"ungrouped_kv": True})
    circuit = changed(small_circuit, model=model, edges=(), nodes=())
    assert circuit.shape() == GraphShape(2, 4, 4)


def test_networkx_view(small_circuit: Circuit) -> None:
    graph = small_circuit.to_networkx()
    assert graph.nodes["a1.h2"] == {"kind": "head", "position": 8, "layer": 1, "head": 2}
    assert graph.nodes["input"] == {"kind": "input", "position": 0}
    assert graph.nodes["logits"] == {"kind": "logits", "position": 11}
    assert graph.nodes["a1.kv1"] == {"kind": "kv", "position": 8, "layer": 1, "heads": "a1.h2"}
    assert graph.edges["a0.h1", "a1.kv1", "v"] == {"kind": "v", "name": "a0.h1->a1.kv1<v>", "receiver": "a1.kv1<v>"}
    assert set(graph.edges) >= {("m0", "a1.h2", "q"), ("input", "m0", "mlp"), ("a1.h2", "logits", "logits")}
    assert graph.graph["sign"] == "positive: the edge supports the behaviour"
    assert nx.is_directed_acyclic_graph(graph)
    assert not nx.has_path(graph, "a0.h1", "logits") and nx.has_path(
        small_circuit.to_networkx(shared=True), "a0.h1", "logits"
    )


@given(data=st.data())
def test_networkx_has_exactly_the_circuits_edges(
    any_circuit: st.SearchStrategy[Circuit], fed_by_name: Callable[[str, GraphShape], set[str]], data: st.DataObject
) -> None:
    """One edge for each of the file, also into keys and values that heads share: those lead to the group."""
    circuit = data.draw(any_circuit)
    listed = {node.name for node in circuit.nodes}
    graph = circuit.to_networkx()
    found = graph.edges(data=True)
    assert sorted((u, d["receiver"], v) for u, v, d in found) == sorted(
        (edge.sender, edge.receiver, edge.receiver.split("<")[0]) for edge in circuit.edges
    )
    figures = {(edge.sender, edge.receiver): (edge.score, edge.effect) for edge in circuit.edges}
    assert {(u, d["receiver"]): (d.get("score"), d.get("effect")) for u, _, d in found} == figures
    assert len({d["name"] for _, _, d in found}) == len(found)
    groups = {name: set(facts["heads"].split()) for name, facts in graph.nodes(data=True) if "heads" in facts}
    assert set(graph) - listed == set(groups)
    joined = {(u, v) for u, v, key in circuit.to_networkx(shared=True).edges(keys=True) if key == "shared"}
    assert joined == {(group, head) for group, heads in groups.items() for head in heads}
    for edge in circuit.edges:
        node = edge.receiver.split("<")[0]
        if node in groups:
            assert groups[node] == listed & fed_by_name(edge.receiver, circuit.shape())


@given(data=st.data())
def test_edges_are_counted_at_every_node_they_lead_to(
    any_circuit: st.SearchStrategy[Circuit], fed_by_name: Callable[[str, GraphShape], set[str]], data: st.DataObject
) -> None:
    circuit = data.draw(any_circuit)
    into, out_of = edge_counts(circuit)
    reads = [fed_by_name(edge.receiver, circuit.shape()) or {"logits"} for edge in circuit.edges]
    for node in circuit.nodes:
        assert into[node.name] == sum(node.name in read for read in reads)
        assert out_of[node.name] == sum(node.name == edge.sender for edge in circuit.edges)
    assert set(into) <= {node.name for node in circuit.nodes}


def test_repr_is_one_line(small_circuit: Circuit) -> None:
    assert repr(small_circuit) == str(small_circuit) == "<Circuit tiny: 5 edges, 5 nodes>"
