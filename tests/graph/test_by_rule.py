"""Rules into edges: everything that exists between two groups, and nothing else."""

import pytest

from acdc_engine.errors import GraphError
from acdc_engine.graph.blocks import Graph
from acdc_engine.graph.by_rule import Wiring, circuit_by_rule
from acdc_engine.graph.circuit_records import ModelRecord
from acdc_engine.graph.names import GraphShape


def names(wiring: Wiring) -> set[str]:
    return {wiring.layout.edge_name(sender, receiver) for sender, receiver in wiring.edges}


def test_only_what_is_computed_earlier_is_read() -> None:
    wiring = Wiring(Graph(GraphShape(2, 2, 2)))
    wiring.join(["a0.h1", "m0", "m1"], ["a0.h0", "a1.h1", "m0", "m1", "logits"], "qv")
    assert names(wiring) == {
        *("a0.h1->m0", "a0.h1->a1.h1<q>", "a0.h1->a1.h1<v>", "a0.h1->m1", "a0.h1->logits"),
        *("m0->a1.h1<q>", "m0->a1.h1<v>", "m0->m1", "m0->logits"),
        "m1->logits",
    }


@pytest.mark.parametrize(
    ("shape", "edges"),
    [
        (GraphShape(2, 4, 2), {"input->a1.h3<q>", "input->a1.kv1<k>", "input->a1.kv1<v>"}),
        (GraphShape(2, 4, 4, mlps=False), {"input->a1.h3<q>", "input->a1.h3<k>", "input->a1.h3<v>"}),
    ],
)
def test_keys_and_values_are_the_group_s(shape: GraphShape, edges: set[str]) -> None:
    wiring = Wiring(Graph(shape))
    wiring.join(["input"], ["a1.h3"])
    assert names(wiring) == edges


def test_parallel_blocks_do_not_see_their_own_heads() -> None:
    wiring = Wiring(Graph(GraphShape(2, 2, 2, parallel=True)))
    wiring.join(["a0.h0"], ["m0", "m1"])
    assert names(wiring) == {"a0.h0->m1"}


@pytest.mark.parametrize(("sender", "receiver"), [("a9.h0", "logits"), ("input", "a0.h9"), ("input", "m4")])
def test_unknown_nodes_are_refused(sender: str, receiver: str) -> None:
    with pytest.raises(GraphError, match=r"the model has|a layer has heads 0 to 1"):
        Wiring(Graph(GraphShape(2, 2, 2))).join([sender], [receiver])


def test_the_circuit_carries_rule_and_roles() -> None:
    wiring = Wiring(Graph(GraphShape(2, 4, 2)))
    wiring.join(["input"], ["a0.h1"], "q")
    wiring.join(["a0.h1"], ["a1.h2", "a1.h3"], "k")
    wiring.join(["a1.h2", "a1.h3"], ["logits"])
    model = ModelRecord(name="tiny", n_layers=2, n_heads=4, n_kv_heads=2, d_model=8, d_vocab=11)
    roles = {"early": ["a0.h1"], "reader": ["a1.h2"], "helper": ["a1.h3"], "absent": ["a0.h0"]}
    circuit = circuit_by_rule(
        model, wiring, roles, behaviour="ioi", source="a paper", rule="a rule", made_by="a script"
    )
    assert circuit.behaviour == circuit.behaviour_name == "ioi"
    assert (circuit.source, circuit.rule, circuit.made_by) == ("a paper", "a rule", "a script")
    assert [(edge.sender, edge.receiver, edge.sender_role, edge.receiver_role) for edge in circuit.edges] == [
        ("input", "a0.h1<q>", None, "early"),
        ("a0.h1", "a1.kv1<k>", "early", "reader / helper"),
        ("a1.h2", "logits", "reader", None),
        ("a1.h3", "logits", "helper", None),
    ]
