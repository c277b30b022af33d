"""Circuits from other circuits, from names and from rules: which edges, what still holds of them, what is refused."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from acdc_engine.errors import AcdcError, CircuitFileError, GraphError
from acdc_engine.evidence.roles import THRESHOLDS
from acdc_engine.graph.blocks import Graph, GraphShape
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.connectivity import is_clean
from acdc_engine.graph.editing import Wiring
from acdc_engine.graph.further_records import Inner
from acdc_engine.graph.records import COLUMNS, AttentionPath, CircuitEdge, CircuitNode, ModelRecord, RoleName, RoleScore
from tests.made_circuits import SMOLLM2, made_circuit
from tests.tiny_task import tiny_view

MADE = made_circuit(40, shape=SMOLLM2)
GROUPED = GraphShape(2, 4, 2)

AFTER_AN_EDIT = {
    Circuit: {
        "stays": {
            "format", "version", "model", "task", "behaviour", "metric", "ablation", "attribution", "environment",
            "spans", "prompts"
        },
        "changes": {"nodes", "edges", "examples", "source", "checksum"},
        "goes": {"search", "rule", "made_by", "evaluation", "certificate", "cost", "command", "sizes", "repeats",
            "alternatives", "inner", "causal", "attention"
        }
    },
    CircuitEdge: {
        "stays": {"sender", "receiver", "span", "score", "inclusion"},
        "changes": {"sender_role", "receiver_role"},
        "goes": {"effect", "without", "stability", "necessity"}
    },
    CircuitNode: {
        "stays": {"name", "kind", "layer", "span", "direct_effect", "inclusion"},
        "changes": {"role", "role_scores"},
        "goes": set[str]()
    }
}  # fmt: skip
"""A new field of one of these records must be put here, and into graph/editing.py if it no longer holds."""


def names(circuit: Circuit) -> list[str]:
    return [f"{edge.sender}->{edge.receiver}" for edge in circuit.edges]


@pytest.mark.parametrize("kind", AFTER_AN_EDIT)
def test_every_field_is_decided(kind: Any) -> None:
    decided = AFTER_AN_EDIT[kind]
    assert set().union(*decided.values()) == set(kind.model_fields)
    assert sum(map(len, decided.values())) == len(kind.model_fields)


def test_what_holds_of_a_subset() -> None:
    paths = (AttentionPath(head="a0.h0", target="end", source="B", weight=0.5, weight_corrupt=0.25, score=1.0),)
    inner = Inner(edges=(MADE.edges[0].name,), nodes=1, checksum="0" * 64)
    texts = {"rule": "a rule", "made_by": "a script", "source": "a paper"}
    full = MADE.model_copy(update={**texts, "attention": paths, "inner": inner})
    part = full.subset(30)
    for name in AFTER_AN_EDIT[Circuit]["stays"]:
        assert getattr(part, name) == getattr(full, name), name
    for name in AFTER_AN_EDIT[Circuit]["goes"]:
        assert getattr(full, name), f"the test shows nothing of {name}"
        assert not getattr(part, name), name
    before = {(edge.sender, edge.receiver): edge for edge in full.edges}
    for edge in part.edges:
        was = before[edge.sender, edge.receiver]
        assert all(getattr(edge, name) == getattr(was, name) for name in AFTER_AN_EDIT[CircuitEdge]["stays"])
        assert all(getattr(was, name) is not None for name in AFTER_AN_EDIT[CircuitEdge]["goes"])
        assert all(getattr(edge, name) is None for name in AFTER_AN_EDIT[CircuitEdge]["goes"])
    nodes = {node.name: node for node in full.nodes}
    for node in part.nodes:
        stays = AFTER_AN_EDIT[CircuitNode]["stays"]
        assert all(getattr(node, name) == getattr(nodes[node.name], name) for name in stays)
    assert part.source == "a paper; edited: 30 of 40 edges"
    heads = {pattern.head for example in part.examples for pattern in example.patterns}
    assert heads < {pattern.head for example in full.examples for pattern in example.patterns}
    assert heads <= {node.name for node in part.nodes}


def test_a_subset_is_a_circuit_that_can_be_saved(tmp_path: Path) -> None:
    for count in range(41):
        part = MADE.subset(count)
        part.save(tmp_path / f"{count}.json")
        assert Circuit.load(tmp_path / f"{count}.json") == part and len(part.edges) == count


def test_the_ways_to_say_which() -> None:
    strongest = sorted(MADE.edges, key=lambda edge: -abs(edge.effect or 0))[:12]
    by_count = MADE.subset(12)
    assert set(names(by_count)) == {f"{edge.sender}->{edge.receiver}" for edge in strongest}
    assert MADE.subset(lambda edge: edge in strongest) == by_count
    assert MADE.subset(strongest) == by_count
    assert MADE.subset([(edge.sender, edge.receiver) for edge in strongest]) == by_count
    assert MADE.subset(reversed(names(by_count))) == by_count
    assert MADE.subset(40) is MADE and MADE.subset(99) is MADE, "with all its edges it is the circuit itself"


def test_cleaned_leaves_what_lies_on_paths() -> None:
    model = Circuit.from_edges(made_circuit(12, shape=GROUPED), []).model
    loose = Circuit.from_edges(model, ["input->a0.h0<q>", "a0.h0->logits", "input->m0", "m1->logits"])
    assert names(loose.cleaned()) == ["input->a0.h0<q>", "a0.h0->logits"]
    assert [node.name for node in loose.cleaned().nodes] == ["input", "a0.h0", "logits"]
    part = MADE.subset(25)
    assert is_clean(part.graph(), part.cleaned().mask()) and not is_clean(part.graph(), part.mask())


def test_heads_of_a_group_stay_while_an_edge_leads_to_it() -> None:
    model = made_circuit(12, shape=GROUPED).model
    edges = ["input->a0.kv0<k>", "a0.h0->logits", "a0.h1->logits", "input->a0.h1<q>"]
    circuit = Circuit.from_edges(model, edges)
    assert [node.name for node in circuit.subset(edges[:2]).nodes] == ["input", "a0.h0", "logits"]
    assert [node.name for node in circuit.subset(edges[:1]).nodes] == ["input", "a0.h0", "a0.h1", "logits"]


@pytest.mark.parametrize("stays", [True, False])
def test_s_inhibition_is_about_the_movers(stays: bool) -> None:
    edges = ["input->a0.h0<q>", "a0.h0->a1.h0<q>", "a0.h0->logits", "a1.h0->logits", "input->logits"]
    bare = Circuit.from_edges(made_circuit(12).model, edges)

    def score(role: RoleName) -> RoleScore:
        return RoleScore(role=role, value=0.9, threshold=THRESHOLDS[role], prompts="task")

    scores = {"a0.h0": (score("S-inhibition"), score("induction")), "a1.h0": (score("name mover"),)}
    nodes = tuple(
        node.model_copy(update={"role": scores[node.name][0].role, "role_scores": scores[node.name]})
        if node.name in scores
        else node
        for node in bare.nodes
    )
    circuit = Circuit(model=bare.model, nodes=nodes, edges=bare.edges)
    part = circuit.subset(edges[:4] if stays else [edges[0], *edges[2::2]])
    head = next(node for node in part.nodes if node.name == "a0.h0")
    assert (head.role, len(head.role_scores)) == (("S-inhibition", 2) if stays else (None, 1))


def test_roles_of_the_literature_stay() -> None:
    known = Circuit.load("gpt2/ioi")
    part = known.subset(lambda edge: edge.sender == "a9.h9" or edge.receiver.startswith("a9.h9<"))
    assert next(node.role for node in part.nodes if node.name == "a9.h9") == "name mover"
    assert all(edge.sender_role == "name mover" for edge in part.edges if edge.sender == "a9.h9")
    assert part.rule is None and part.source != known.source


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (["m3->logit"], r"No receiver 'logit': receivers are .* Did you mean 'logits'\?"),
        (["input"], r"'input' is not an edge: write sender->receiver, as in a5\.h5->a7\.h3<q>"),
        ([5], r"An edge is given by its name, such as .*, not as 5"),
        (-1, r"a number from 0, not -1"),
    ],
)
def test_what_is_no_subset(keep: Any, message: str, unchecked: None) -> None:
    with pytest.raises(GraphError, match=message):
        MADE.subset(keep)


def test_an_edge_that_the_circuit_lacks_comes_with_the_nearest() -> None:
    circuit = Circuit.from_edges(MADE, ["input->a1.kv0<k>", "a1.h0->logits"])
    with pytest.raises(GraphError, match=r"has no edge input->a1\.kv0<v>\. Did you mean 'input->a1\.kv0<k>'\?"):
        circuit.subset(["input->a1.kv0<v>"])
    with pytest.raises(GraphError, match="Nothing ranks the edges of this circuit"):
        circuit.subset(1)


def test_from_edges_of_another_circuits_model() -> None:
    for model in (MADE, MADE.model):
        last = MADE.edges[-1]
        made = Circuit.from_edges(model, [*names(MADE)[:-1], (last.sender, last.receiver)])
        assert names(made) == names(MADE) and made.model == MADE.model
        assert all(edge.score is None for edge in made.edges)


def test_from_edges_of_a_view() -> None:
    view = tiny_view("llama_grouped")
    made = Circuit.from_edges(view, ["input->a0.kv0<k>", "a0.h1->logits"])
    assert made.model.weights_hash == view.weights_hash() and made.shape() == view.shape
    with pytest.raises(GraphError, match=r"head 1 shares its v, write a0\.kv0<v>\.$"):
        Circuit.from_edges(view, ["input->a0.h1<v>"])
    with pytest.raises(GraphError, match=r"No sender 'a9\.h1': the model has layers 0 to 1\. Did you mean"):
        Circuit.from_edges(view, [("a9.h1", "logits")])
    with pytest.raises(CircuitFileError, match="input->m0 is listed twice"):
        Circuit.from_edges(view, ["input->m0", "input -> m0"])
    with pytest.raises(GraphError, match=r"one of a loaded model, not of 'gpt2': give load_model\(\.\.\.\)"):
        Circuit.from_edges("gpt2", ["input->m0"])


def test_the_data_frame() -> None:
    table = MADE.to_dataframe()
    assert list(table.columns) == list(COLUMNS) and len(table) == 40
    assert [f"{row.sender}->{row.receiver}" for row in table.itertuples()] == names(MADE)
    assert table.effect.tolist() == [edge.effect for edge in MADE.edges]
    assert set(table.kind) <= {"q", "k", "v", "mlp", "logits"}
    bare = Circuit.from_edges(MADE, ["input->m0"]).to_dataframe()
    assert str(bare.score.dtype) == "float64" and bare.score.isna().all() and bare.sender_role[0] is None
    assert len(Circuit.from_edges(MADE, []).to_dataframe()) == 0


def test_without_pandas_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(AcdcError, match="needs pandas, which is not installed here: pip install pandas"):
        MADE.to_dataframe()


def test_reading_and_editing_need_no_torch() -> None:
    code = (
        "import sys; from acdc_engine import Circuit; c = Circuit.load('gpt2/ioi'); "
        "c.subset(lambda e: e.sender == 'input'); Circuit.from_edges(c, ['input->m0']); "
        "print({'torch', 'networkx'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize(
    ("shape", "senders", "receivers", "letters", "edges"),
    [
        (
            GraphShape(2, 2, 2),
            *("a0.h1 m0 m1", "a0.h0 a1.h1 m0 m1 logits", "qv"),
            "a0.h1->m0 a0.h1->a1.h1<q> a0.h1->a1.h1<v> a0.h1->m1 a0.h1->logits m0->a1.h1<q> m0->a1.h1<v> m0->m1 "
            "m0->logits m1->logits",
        ),
        (GROUPED, "input", "a1.h3", "qkv", "input->a1.h3<q> input->a1.kv1<k> input->a1.kv1<v>"),
        (
            GraphShape(2, 4, 4, mlps=False),
            *("input", "a1.h3", "qkv", "input->a1.h3<q> input->a1.h3<k> input->a1.h3<v>"),
        ),
        (GraphShape(2, 2, 2, parallel=True), "a0.h0", "m0 m1", "qkv", "a0.h0->m1"),
    ],
    ids=["only what is computed earlier", "keys and values of the group", "attention only", "parallel"],
)
def test_what_nodes_read(shape: GraphShape, senders: str, receivers: str, letters: str, edges: str) -> None:
    wiring = Wiring(Graph(shape))
    wiring.join(senders.split(), receivers.split(), letters)
    assert {wiring.layout.edge_name(*ends) for ends in wiring.edges} == set(edges.split())


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
    texts = {"behaviour": "ioi", "source": "a paper", "rule": "a rule", "made_by": "a script"}
    circuit = wiring.circuit(model, roles, **texts)
    assert circuit.behaviour_name == "ioi" and all(getattr(circuit, name) == text for name, text in texts.items())
    assert [(edge.sender, edge.receiver, edge.sender_role, edge.receiver_role) for edge in circuit.edges] == [
        ("input", "a0.h1<q>", None, "early"),
        ("a0.h1", "a1.kv1<k>", "early", "reader / helper"),
        ("a1.h2", "logits", "reader", None),
        ("a1.h3", "logits", "helper", None),
    ]
