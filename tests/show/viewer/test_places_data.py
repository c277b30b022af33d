"""The picture by place, as data: where everything stands, what looks back at what, sizes, a known circuit beside."""

from collections import Counter

import pytest

from acdc_engine.graph.blocks import GraphShape
from acdc_engine.graph.circuit import Circuit
from acdc_engine.show.pictures.grid import place_on_grid, turned_to
from acdc_engine.show.viewer import view_data
from acdc_engine.show.viewer.records import ViewData, ViewDot, ViewNode, ViewPlaces
from tests.made_circuits import GPT2, PLACES, SMOLLM2, TOKENS, made_circuit

CIRCUIT = made_circuit(150, 3, SMOLLM2, places=PLACES)
BESIDE = (
    ["input->a3.kv0<v>@A", "a3.h0->logits@end"],
    ["input->a3.kv0<v>@B", "a3.h0->logits@end", "input->logits@end"],
)
"""Edges of a found circuit and of a known one."""


@pytest.fixture(scope="module")
def data() -> ViewData:
    return view_data(CIRCUIT)


@pytest.fixture(scope="module")
def places(data: ViewData) -> ViewPlaces:
    assert data.places is not None
    return data.places


def ends_of(places: ViewPlaces) -> list[ViewNode | ViewDot]:
    return [*places.nodes, *places.dots]


def test_everything_stands_as_in_the_grid_that_is_drawn(places: ViewPlaces) -> None:
    grid = place_on_grid(CIRCUIT)
    across = places.columns[0].size / grid.columns["bos"][1]
    up = (places.rows[0].start - places.rows[-1].start) / (len(places.rows) - 1)
    found = {one.id: (one.x / across, -one.y / up) for one in ends_of(places)}
    rings = {f"a{layer}@{span}": spot for (layer, span), spot in grid.rings.items()}
    assert found.keys() == {*grid.nodes, *grid.dots, *rings} and len(rings) > 5
    for name, spot in (grid.nodes | grid.dots | rings).items():
        assert found[name] == pytest.approx(spot, abs=0.01)
    assert [row.name for row in places.rows] == ["input", *map(str, grid.layers), "logits"]
    for number, row in enumerate(places.rows):
        assert row.start + row.size / 2 == pytest.approx(-number * up, abs=1)
    words = dict(zip(PLACES, ("<|endoftext|>", "", "Mary", "", "John", "", "store", "", "John", "gave"), strict=True))
    assert {column.name: column.words for column in places.columns} == words, "no words that say the name again"
    assert [column.name for column in places.columns] == list(PLACES) and TOKENS[5:8] == (" went", " to", " the")


def test_edges_stay_in_their_column_and_pass_no_box_that_is_in_their_way(places: ViewPlaces) -> None:
    ends = {one.id: one for one in ends_of(places)}
    columns = {column.name: column for column in places.columns}
    assert [edge.place for edge in places.edges] == list(range(1, 151)), "the strongest first"
    sides = Counter[bool]()
    for edge in places.edges:
        (line,), span = edge.lines, edge.name.partition("@")[2]
        assert ends[edge.source].span == ends[line.target].span == span
        assert line.target == (edge.receiver if edge.kind in "kv" else edge.receiver.replace("<q>", ""))
        for x, y in line.bends:
            sides[x > ends[edge.source].x] += 1
            assert columns[span].start - 40 < x < columns[span].start + columns[span].size + 40
            row = [node for node in places.nodes if node.span == span and abs(node.y - y) < 20]
            assert all(abs(node.x - x) >= 40 for node in row if len(row) == 1)
    assert min(sides.values()) > 10 and len(sides) == 2


def test_a_head_looks_back_from_every_place_that_is_not_before_what_it_reads(places: ViewPlaces) -> None:
    heads = [node for node in CIRCUIT.nodes if node.kind == "head"]
    expected = set()
    for receiver in {edge.into for edge in CIRCUIT.edges if edge.receiver[-3:] in ("<k>", "<v>")}:
        name, _, span = receiver.partition("@")
        layer, group = name[1:-3].split(".kv")
        for node in heads:
            mine = f"a{layer}.h" in node.name and int(node.sender.split(".h")[1]) // 3 == int(group)
            if mine and PLACES.index(node.span or "") >= PLACES.index(span):
                expected.add((receiver, node.name))
    looks = {(look.source, look.target): look for look in places.attention}
    assert {ends for ends in looks if "<" in ends[0]} == expected and len(expected) > 40
    measured = {(path.node, path.source): path for path in CIRCUIT.attention}
    for (dot, head), look in looks.items():
        path = measured[head, dot.partition("@")[2]]
        assert (look.weight, look.weight_corrupt) == (path.weight, path.weight_corrupt)
        worth = (None, None) if "<k>" in dot else (path.score, path.effect)  # of values
        assert (look.score, look.effect) == worth
    rings = {(f"a{layer}@{span}", path.node) for path, layer, span in turned_to(CIRCUIT)}
    assert looks.keys() - expected == rings
    assert {ring for ring, _ in rings} == {dot.id for dot in places.dots if dot.kind == "ring"}
    assert sum(dot.edges_in for dot in places.dots) == sum(edge.kind in "kv" for edge in places.edges)


def test_sizes_are_of_edges_at_places_and_an_edge_without_them_is_there_with_the_first() -> None:
    small = made_circuit(150, 3, GraphShape(3, 2, 2), places=PLACES)
    data = view_data(small.model_copy(update={"sizes": ()}))
    assert data.places is not None and len(data.sizes) > 5 and len(data.edges) < 100
    first = dict[str, int]()
    for edge in data.places.edges:
        name = edge.name.partition("@")[0]
        first[name] = min(edge.appears, first.get(name, edge.appears))
    assert {edge.name: edge.appears for edge in data.edges} == first
    for index, size in enumerate(data.sizes):
        assert sum(edge.appears <= index for edge in data.places.edges) == size.edges


def test_what_is_known_of_a_node_is_said_at_its_place(data: ViewData, places: ViewPlaces) -> None:
    assert data.title == "ioi in made-up: 150 edges at 10 places"
    for node, known in zip(places.nodes, CIRCUIT.nodes, strict=True):
        assert (node.id, node.role, node.direct) == (known.name, known.role, known.direct_effect)


def test_a_known_circuit_lies_beside_the_picture_without_places() -> None:
    found = made_circuit(40, 1, GPT2, places=PLACES)
    known = found.plain().subset(lambda edge: edge.receiver == "logits")
    data = view_data(found, known)
    assert data.overlay is not None and data.overlay.found == len(known.edges) and data.overlay.missed == 0
    assert {edge.status for edge in data.edges} == {"found", "extra"}
    assert data.places is not None and data.places.overlay is None
    assert {edge.status for edge in data.places.edges} == {None}


def test_and_beside_that_with_places_where_they_are_the_same() -> None:
    """An edge that both have, at other places, is found without places alone."""
    found = Circuit.from_edges(CIRCUIT, BESIDE[0])
    data = view_data(found, Circuit.from_edges(CIRCUIT, BESIDE[1]))
    assert data.overlay is not None and data.places is not None and data.places.overlay is not None
    counts = {"known": "the known circuit"}
    assert data.overlay.model_dump() == counts | {"found": 2, "missed": 1, "extra": 0}
    assert data.places.overlay.model_dump() == counts | {"found": 1, "missed": 2, "extra": 1}
    assert {edge.name: edge.status for edge in data.places.edges} == {
        "a3.h0->logits@end": "found",
        "input->a3.kv0<v>@A": "extra",
        "input->a3.kv0<v>@B": "missed",
        "input->logits@end": "missed",
    }
    assert all(edge.lines[0].bends == () for edge in data.places.edges if edge.kind == "v"), "nothing is in their way"
    assert {node.id: node.status for node in data.places.nodes} == {
        "input@A": "extra",
        "input@B": "missed",
        "input@end": "missed",
        "a3.h0@end": "found",
        "logits@end": "found",
    }
    other = made_circuit(20, 1, SMOLLM2, places=(*PLACES[:-1], "last"))
    elsewhere = view_data(CIRCUIT, other).places
    assert elsewhere is not None and elsewhere.overlay is None


def test_circuits_without_places_have_no_such_picture() -> None:
    plain: Circuit = made_circuit(20, shape=GraphShape(12, 12, 12))
    assert view_data(plain).places is None and view_data(CIRCUIT.plain()).places is None
