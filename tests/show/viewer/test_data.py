"""What the viewer is given: lines, places, sizes, and a known circuit beside."""

import json
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import pytest

from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.blocks import GraphShape
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import SizePoint
from acdc_engine.shipped import graphs_folder
from acdc_engine.show.viewer import drawn as drawn_module
from acdc_engine.show.viewer import view_data
from acdc_engine.show.viewer.records import ViewData, schema_text
from tests.made_circuits import SMOLLM2, made_circuit
from tests.show.index.runs import bare

GROUPED = GraphShape(3, 4, 2)
SCHEMA = Path(__file__).parents[3] / "docs" / "view-schema.json"


def circuit_of(effects: Mapping[str, float | None], shape: GraphShape = GROUPED) -> Circuit:
    """A circuit of edges such as `input->m0` with their effects."""
    return bare(effects, shape)


Effects = dict[str, float | None]
CHAIN: Effects = {"input->a0.h1<q>": 0.5, "a0.h1->a1.h0<q>": -3.0, "a0.h1->logits": 1.0, "a1.h0->logits": 2.0}
EARLY = circuit_of(CHAIN | {"input->a0.h1<q>": 9.0})
"""The same with a strong first edge."""


def test_the_schema_that_is_published_is_that_of_the_records() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == schema_text()


def test_the_json_of_a_full_circuit_is_read_back() -> None:
    data = view_data(made_circuit(60, hostile=True))
    assert ViewData.model_validate_json(json.dumps(data.model_dump(mode="json")), strict=True) == data


def test_edges_come_with_their_rank_and_kind() -> None:
    data = view_data(circuit_of(CHAIN))
    assert data.measure == "effect"
    assert [(edge.name, edge.kind, edge.strength, edge.place) for edge in data.edges] == [
        ("a0.h1->a1.h0<q>", "q", -3.0, 1),
        ("a1.h0->logits", "logits", 2.0, 2),
        ("a0.h1->logits", "logits", 1.0, 3),
        ("input->a0.h1<q>", "q", 0.5, 4),
    ]
    counts = {node.id: (node.edges_in, node.edges_out) for node in data.nodes}
    assert counts == {"input": (0, 1), "a0.h1": (1, 2), "a1.h0": (1, 1), "logits": (2, 0)}
    assert data.title == "tiny: 4 edges"
    assert (data.n_edges, data.hidden_edges, data.overlay, data.task) == (4, 0, None, None)


def test_hand_written_circuits_have_no_ranks_and_one_size() -> None:
    data = view_data(circuit_of(dict.fromkeys(CHAIN)))
    assert data.measure is None
    assert {edge.place for edge in data.edges} == {edge.strength for edge in data.edges} == {None}
    unknown = ("faithfulness", "low", "high", "kl_recovered", "random_low", "random_high")
    assert [size.model_dump() for size in data.sizes] == [
        {"kind": "circuit", "requested": 4, "edges": 4} | dict.fromkeys(unknown)
    ]
    assert data.larger == ()


def test_an_edge_into_shared_keys_is_one_edge_with_a_line_to_every_head_of_the_group_in_the_circuit() -> None:
    effects: Effects = {"input->a1.kv1<k>": 1.0, "a1.h2->logits": 1.0, "a1.h3->logits": 1.0, "a1.h0->logits": 1.0}
    data = view_data(circuit_of(effects))
    lines = {edge.name: [line.target for line in edge.lines] for edge in data.edges if edge.kind == "k"}
    assert lines == {"input->a1.kv1<k>": ["a1.h2", "a1.h3"]}
    assert len(data.edges) == data.n_edges == 4
    assert {node.id: node.edges_in for node in data.nodes if node.kind == "head"} == {
        "a1.h0": 0,
        "a1.h2": 1,
        "a1.h3": 1,
    }


def test_sizes_that_nobody_measured_show_where_paths_open() -> None:
    """The input's edge is the weakest: no path without it. Made the strongest, it opens one at three edges."""
    data = view_data(circuit_of(CHAIN))
    assert [(size.requested, size.edges) for size in data.sizes] == [(4, 4)]
    data = view_data(EARLY)
    assert [(size.requested, size.edges, size.faithfulness) for size in data.sizes] == [(3, 3, None), (4, 4, None)]
    assert {edge.name: edge.appears for edge in data.edges} == {
        "input->a0.h1<q>": 0,
        "a0.h1->a1.h0<q>": 0,
        "a1.h0->logits": 0,
        "a0.h1->logits": 1,
    }


def test_measured_sizes_keep_their_figures_and_larger_ones_stand_beside_them() -> None:
    points = (
        SizePoint(kind="part", requested=1, edges=0, faithfulness=0.0, kl_recovered=0.0),
        SizePoint(kind="part", requested=3, edges=3, faithfulness=0.75, kl_recovered=0.375),
        SizePoint(kind="circuit", requested=4, edges=4, faithfulness=0.5, kl_recovered=0.25),
        SizePoint(kind="more", requested=8, edges=8, faithfulness=1.0, kl_recovered=0.5),
    )
    whole = EARLY.model_copy(update={"sizes": points})
    data = view_data(whole)
    assert [(size.kind, size.edges, size.faithfulness, size.kl_recovered) for size in data.sizes] == [
        ("part", 0, 0.0, 0.0),
        ("part", 3, 0.75, 0.375),
        ("circuit", 4, 0.5, 0.25),
    ]
    assert sorted(edge.appears for edge in data.edges) == [1, 1, 1, 2]
    assert [size.model_dump() for size in data.larger] == [
        {"kind": "more", "requested": 8, "edges": 8, "faithfulness": 1.0, "kl_recovered": 0.5}
        | dict.fromkeys(("low", "high", "random_low", "random_high"))
    ]


def test_random_circuits_are_those_of_each_size_and_of_the_circuit_itself_the_many_of_its_evaluation() -> None:
    made = made_circuit(40)
    data = view_data(made)
    points = {(point.kind, point.requested): point for point in made.sizes}
    for size in (*data.sizes[:-1], *data.larger):
        random = points[size.kind, size.requested].random
        assert (size.random_low, size.random_high) == (min(random), max(random))
    assert made.evaluation is not None and made.evaluation.random_circuits is not None
    many = made.evaluation.random_circuits.faithfulness
    assert (data.sizes[-1].random_low, data.sizes[-1].random_high) == (min(many), max(many))
    alone = view_data(made.model_copy(update={"evaluation": None})).sizes[-1]
    few = points["circuit", 40].random
    assert (alone.random_low, alone.random_high) == (min(few), max(few)) and len(few) < len(many)
    assert [size.edges for size in data.larger] == [80]


def test_an_edge_is_there_from_one_size_on() -> None:
    """Whatever is on paths at one size is at the next: cleaning a larger part takes nothing more away."""
    made = made_circuit(300, seed=3).model_copy(update={"sizes": ()})
    data = view_data(made)
    assert len(data.sizes) > 5
    for index, size in enumerate(data.sizes):
        assert sum(edge.appears <= index for edge in data.edges) == size.edges
    assert [size.edges for size in data.sizes] == sorted({size.edges for size in data.sizes})


@pytest.mark.parametrize("shape", [GraphShape(12, 12, 12), SMOLLM2, GraphShape(2, 1, 1)])
def test_layers_go_up_and_no_two_boxes_overlap(shape: GraphShape) -> None:
    n = 12 if shape.n_layers == 2 else 250
    data = view_data(made_circuit(n, shape=shape))
    at = {node.id: (node.x, node.y) for node in data.nodes}
    by_id = {node.id: node for node in data.nodes}
    for edge in data.edges:
        for node in (by_id[line.target] for line in edge.lines):
            assert by_id[edge.source].y > node.y or by_id[edge.source].layer == node.layer
    assert max(y for _, y in at.values()) == at["input"][1] and min(y for _, y in at.values()) == at["logits"][1]
    for (x0, y0), (x1, y1) in combinations(at.values(), 2):
        assert abs(x0 - x1) >= 86 or abs(y0 - y1) >= 40


def test_lines_of_small_circuits_bend_around_boxes() -> None:
    """m0 -> m2 -> m4 stand in one column, m0->m4 passes m2."""
    data = view_data(
        circuit_of(
            {"input->m0": 1.0, "m0->m2": 1.0, "m2->m4": 1.0, "m0->m4": 1.0, "m4->logits": 1.0}, GraphShape(5, 1, 1)
        )
    )
    bends = {edge.name: edge.lines[0].bends for edge in data.edges}
    middle = next(node for node in data.nodes if node.id == "m2")
    assert bends["m0->m2"] == ()
    ((x, y),) = bends["m0->m4"]
    assert y == middle.y and abs(x - middle.x) >= 43


def test_a_known_circuit_beside_it() -> None:
    known = circuit_of({"input->a0.h1<q>": None, "a0.h1->logits": None, "a0.h1->m2": None, "m2->logits": None})
    data = view_data(circuit_of(CHAIN), known, known_name="book")
    assert data.overlay is not None
    assert data.overlay.model_dump() == {"known": "book", "found": 2, "missed": 2, "extra": 2}
    assert {edge.name: edge.status for edge in data.edges} == {
        "input->a0.h1<q>": "found",
        "a0.h1->logits": "found",
        "a0.h1->a1.h0<q>": "extra",
        "a1.h0->logits": "extra",
        "a0.h1->m2": "missed",
        "m2->logits": "missed",
    }
    nodes = {node.id: node.status for node in data.nodes}
    assert nodes == {"input": "found", "a0.h1": "found", "a1.h0": "extra", "m2": "missed", "logits": "found"}
    assert list(nodes) == ["input", "a0.h1", "a1.h0", "m2", "logits"]


def test_known_circuits_of_another_graph_are_refused() -> None:
    with pytest.raises(CircuitFileError, match="n_layers 3 and 12; n_heads 4 and 12; n_kv_heads 2 and 12") as error:
        view_data(circuit_of(CHAIN), Circuit.load(graphs_folder() / "gpt2" / "ioi.json"))
    assert "a circuit of tiny, the known one of gpt2" in str(error.value)
    ours = circuit_of(CHAIN)
    split = ours.model_copy(update={"model": ours.model.model_copy(update={"ungrouped_kv": True})})
    with pytest.raises(CircuitFileError, match="with or without --ungroup-kv"):
        view_data(ours, split)
    wider = ours.model_copy(update={"model": ours.model.model_copy(update={"d_model": 16})})
    with pytest.raises(CircuitFileError, match=r"the models differ: d_model 8 and 16\. Leave"):
        view_data(ours, wider)


def n_lines(data: ViewData) -> int:
    return sum(len(edge.lines) for edge in data.edges)


def test_the_limit_is_one_of_lines_and_edges_are_hidden_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Edges into a1's key are four lines each; without them the heads of layer 1 have their own edges."""
    heads: Effects = {f"a1.h{head}->logits": 10.0 - head for head in range(4)}
    shared: Effects = {"input->a1.kv0<k>": 5.0, "m0->a1.kv0<k>": 4.0, "m0->a1.kv0<v>": 3.0, "input->m0": 2.0}
    whole = circuit_of(heads | shared, GraphShape(2, 4, 1))
    assert n_lines(view_data(whole)) == 4 + 3 * 4 + 1
    for most, lines, hidden in ((17, 17, 0), (16, 16, 1), (15, 12, 2), (12, 12, 2), (11, 8, 3), (4, 4, 4)):
        monkeypatch.setattr(drawn_module, "MOST_LINES", most)
        data = view_data(whole)
        assert (n_lines(data), data.hidden_edges) == (lines, hidden), most
        assert len(data.edges) == data.n_edges - hidden
    assert {node.id: (node.edges_in, node.edges_out) for node in data.nodes} == {
        "input": (0, 2),
        "m0": (1, 2),
        **{f"a1.h{head}": (3, 1) for head in range(4)},
        "logits": (4, 0),
    }
    monkeypatch.setattr(drawn_module, "MOST_LINES", 8)
    data = view_data(circuit_of(heads | {"input->m0": 1.0}, GraphShape(2, 4, 1)), whole)
    assert [edge.name for edge in data.edges if edge.status == "missed"] == ["input->a1.kv0<k>"]
    assert (n_lines(data), data.hidden_edges, data.hidden_missed) == (8, 1, 2)
