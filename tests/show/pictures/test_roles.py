"""Circuits by role: what boxes hold, what edges between them add up to, and where boxes and lines go."""

from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.blocks import GraphShape
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.style import ROLE_FILLS
from acdc_engine.shipped import graphs_folder
from acdc_engine.show.pictures.draw import _words_of, draw, figure_of
from acdc_engine.show.pictures.roles import _OTHER_HEADS, _OTHER_ROLES, MLPS, Grouped, RolePicture, grouped, place_roles
from tests.made_circuits import SMOLLM2, made_circuit
from tests.show.conftest import Make


def ioi() -> Circuit:
    return Circuit.load(graphs_folder() / "gpt2" / "ioi.json")


def joined(found: Grouped, *, mlps: bool = False) -> dict[tuple[str, str], str]:
    """What stands on every line; circuits here have scores or nothing."""
    return {(bundle.source, bundle.target): _words_of(bundle, "score") for bundle in found.drawn(mlps=mlps)}


def with_roles(circuit: Circuit, roles: dict[str, str]) -> Circuit:
    nodes = tuple(node.model_copy(update={"role": roles.get(node.name)}) for node in circuit.nodes)
    return circuit.model_copy(update={"nodes": nodes})


def test_figure_2_of_wang_et_al() -> None:
    """Of 963 edges those of the paper's picture, counted: 26 heads in seven classes."""
    found = grouped(ioi())
    assert set(found.groups) == {
        *("input", "previous token", "duplicate token", "induction", "S-inhibition", MLPS, "logits"),
        *("name mover", "backup name mover", "negative name mover"),
    }
    assert found.groups["S-inhibition"].members == ("a7.h3", "a7.h9", "a8.h6", "a8.h10")
    movers = {"name mover": 3, "backup name mover": 8, "negative name mover": 2}
    expected = {
        ("input", "previous token"): "6 qkv",
        ("input", "duplicate token"): "9 qkv",
        ("input", "S-inhibition"): "4 q",
        ("input", "logits"): "1",
        ("previous token", "induction"): "16 kv",
        ("induction", "S-inhibition"): "32 kv",
        ("duplicate token", "S-inhibition"): "24 kv",
    }
    for role, n in movers.items():
        expected |= {("S-inhibition", role): f"{4 * n} q", ("input", role): f"{2 * n} kv", (role, "logits"): f"{n}"}
    assert joined(found) == expected
    rows = [list(row) for row in _rows(place_roles(found))]
    assert [set(row) for row in rows] == [
        *({"input"}, {"duplicate token", "previous token"}, {"induction"}, {"S-inhibition"}),
        *(set(movers), {"logits"}),
    ]


def _rows(picture: RolePicture) -> list[list[str]]:
    """Boxes by height, bottom to top."""
    rows: dict[float, list[str]] = {}
    for name, box in picture.boxes.items():
        if name != MLPS:
            rows.setdefault(round(box.y + box.height / 2), []).append(name)
    return [rows[height] for height in sorted(rows, reverse=True)]


def test_edges_add_up_and_none_is_lost(make: Make) -> None:
    circuit = make(
        GraphShape(2, 4, 2),
        {
            "input->a0.h0<q>": 2.0,
            "input->a0.h1<q>": -0.5,
            "a0.h0->a1.kv0<k>": 1.0,
            "a0.h1->a1.h0<q>": 0.25,
            "a0.h0->m0": 4.0,
            "m0->logits": 8.0,
            "a1.h0->logits": 3.0,
            "a1.h1->logits": 5.0,
        },
    )
    found = grouped(with_roles(circuit, {"a0.h0": "early", "a0.h1": "early", "a1.h0": "one", "a1.h1": "other"}))
    assert joined(found) == {
        ("input", "early"): "2 q, +1.5",
        ("early", "one"): "2 qk, +1.25",
        ("early", "other"): "1 k, +1",
        ("one", "logits"): "1, +3",
        ("other", "logits"): "1, +5",
    }
    assert joined(found, mlps=True) == joined(found) | {("early", MLPS): "1, +4", (MLPS, "logits"): "1, +8"}
    assert {edge for bundle in found.bundles for edge in bundle.edges} == set(circuit.edges)


def test_paths_through_mlps_are_drawn_where_a_box_would_stand_loose(make: Make) -> None:
    names = ["input->m0", "m0->m1", "m1->a2.h0<v>", "m0->a1.h0<q>", "a1.h0->a2.h0<k>", "a2.h0->m2", "m2->logits"]
    circuit = make(GraphShape(3, 1, 1), dict.fromkeys(names, 1.0))
    found = grouped(with_roles(circuit, {"a1.h0": "early", "a2.h0": "late"}))
    assert joined(found) == {
        ("input", "early"): "via MLPs",
        ("early", "late"): "1 k, +1",
        ("late", "logits"): "via MLPs",
    }
    assert "via MLPs" not in joined(found, mlps=True).values()


def test_heads_without_a_role_and_many_roles() -> None:
    circuit = made_circuit(200)
    heads = [node.name for node in circuit.nodes if node.kind == "head"]
    few = grouped(with_roles(circuit, dict.fromkeys(heads[4:], "induction")))
    assert set(few.groups) == {"input", "logits", MLPS, "induction", *heads[:4]}
    many = grouped(with_roles(circuit, dict.fromkeys(heads[9:], "induction")))
    assert many.groups[_OTHER_HEADS].members == tuple(heads[:9])
    others = grouped(with_roles(circuit, {name: f"role {place}" for place, name in enumerate(heads)}))
    assert len(others.groups) == 24 and len(others.groups[_OTHER_ROLES].members) == len(heads) - 20
    named = grouped(with_roles(circuit, {heads[0]: "input", heads[1]: MLPS, heads[2]: heads[3]}))
    assert {"input", "role input", MLPS, f"role {MLPS}", f"role {heads[3]}"} <= set(named.groups)


def test_circuits_of_nothing_can_be_drawn(make: Make) -> None:
    circuit = made_circuit(20).model_copy(update={"nodes": (), "edges": ()})
    assert place_roles(grouped(circuit)).boxes == {}
    assert "0 edges, 0 nodes" in figure_of(circuit, by="role").texts[0].get_text()
    lone = grouped(make(GraphShape(1, 1, 1), {"input->logits": 1.0}))
    assert joined(lone) == {("input", "logits"): "1, +1"} and len(place_roles(lone).lines) == 1


@settings(max_examples=40, deadline=None)
@given(n_edges=st.integers(12, 600), seed=st.integers(0, 10_000), small=st.booleans())
def test_boxes_and_lines_are_where_they_can_be_seen(n_edges: int, seed: int, small: bool) -> None:
    circuit = made_circuit(n_edges, seed, GraphShape(12, 12, 12) if small else SMOLLM2)
    found = grouped(circuit)
    picture = place_roles(found)
    for one, other in combinations(picture.boxes.values(), 2):
        apart_across = one.x + one.width < other.x or other.x + other.width < one.x
        assert apart_across or one.y + one.height < other.y or other.y + other.height < one.y
    for mlps, width in ((False, picture.width), (True, picture.width_with_mlps)):
        shown = found.drawn(mlps=mlps)
        lines = [line for line in picture.lines if line.bundle in shown]
        assert len(lines) == len(shown)
        for line in lines:
            assert all(0 <= x <= width and 0 <= y <= picture.height for x, y in (*line.points, line.label))
        for box in picture.boxes.values():
            assert box.group.name == MLPS or (box.x > 0 and box.x + box.width < width)
    assert sum(len(group.members) for group in found.groups.values()) == len(circuit.nodes)


def test_the_picture_says_what_it_shows(tmp_path: Path) -> None:
    figure = figure_of(ioi(), by="role")
    (axes,) = figure.axes
    texts = [text.get_text() for text in axes.texts]
    assert {"S-inhibition", "name mover", "a7.h3  a7.h9  a8.h6", "a8.h10", "32 kv"} <= set(texts)
    assert not any("m11" in text for text in texts)
    boxes = [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    assert {fill.light for role, fill in ROLE_FILLS.items() if "cop" not in role} <= {
        to_hex(box.get_facecolor()) for box in boxes
    }
    note = " ".join(figure.texts[1].get_text().split())
    assert "Heads only: 12 MLPs with 780 edges, and the paths through them, are not drawn." in note
    with_mlps = figure_of(ioi(), by="role", mlps=True)
    assert "not drawn" not in with_mlps.texts[1].get_text()
    assert len(_arrows(with_mlps)) > len(_arrows(figure)) == len(grouped(ioi()).drawn(mlps=False))
    large = draw(ioi(), tmp_path / "c.svg", by="role", width=6.75)
    assert "duplicate token" in (tmp_path / "c.svg").read_text()
    assert draw(ioi(), tmp_path / "d.svg", by="role", width=3.3) < 5 < large
    with pytest.raises(CircuitFileError, match="left out of pictures by role only"):
        figure_of(ioi(), mlps=True)


def _arrows(figure: object) -> list[FancyArrowPatch]:
    return [patch for patch in figure.axes[0].patches if isinstance(patch, FancyArrowPatch)]  # type: ignore[attr-defined]
