"""The picture: boxes that do not overlap, edges that run upwards around them, files of the right kind."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acdc_engine.errors import CircuitFileError
from acdc_engine.export.draw import draw, figure_of
from acdc_engine.export.layered import BOX_HEIGHT, BOX_WIDTH, place_nodes, route
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.layout import GraphShape
from tests.export.conftest import Make

pytest.importorskip("matplotlib")
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch


@given(data=st.data())
def test_boxes_do_not_overlap_and_stand_in_order(data: st.DataObject) -> None:
    from tests.export.conftest import make

    build: Make = make.__wrapped__()  # type: ignore[attr-defined]
    shape = GraphShape(data.draw(st.integers(1, 6)), 4, 2)
    heads = st.tuples(st.integers(0, shape.n_layers - 1), st.integers(0, 3))
    names: dict[str, float | None] = {"input->logits": 1.0}
    for layer, head in data.draw(st.sets(heads)):
        names |= {
            f"input->a{layer}.h{head}<q>": 1.0,
            f"a{layer}.h{head}->m{layer}": 1.0,
            f"m{layer}->logits": 1.0,
        }
    circuit = build(shape, names)
    places = place_nodes(circuit).places
    boxes = list(places.values())
    for index, (x, y) in enumerate(boxes):
        assert all(abs(x - a) >= BOX_WIDTH or abs(y - b) >= BOX_HEIGHT for a, b in boxes[:index])
    for edge in circuit.edges:
        assert places[edge.sender][1] < places[edge.receiver.split("<")[0]][1]


def test_route_bends_around_a_box_in_the_way() -> None:
    start, end = (0.0, 0.0), (0.0, 4.0)
    assert route(start, end, [(3.0, 2.0)]) == [start, end]
    points = route(start, end, [(0.1, 2.0)])
    assert len(points) == 3 and points[1][0] < 0.1 - BOX_WIDTH / 2 and points[1][1] == 2.0
    assert route(start, end, [(0.1, 2.0)], lane=1)[1][0] < points[1][0]


def test_one_arrow_per_edge_coloured_by_sign(grouped: Circuit) -> None:
    arrows = [patch for patch in figure_of(grouped).axes[0].patches if isinstance(patch, FancyArrowPatch)]
    colours = [to_hex(arrow.get_edgecolor()).upper() for arrow in arrows]
    assert colours.count("#D55E00") == 2 and colours.count("#0072B2") == 8


def test_labels_legend_and_title(found: Circuit) -> None:
    figure = figure_of(found)
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert {"input", "a0.h1", "m0", "a1.h2", "a1.h3", "logits", "layer 0", "layer 1", 'the "mover"'} <= set(labels)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    expected = ["supports the behaviour", "works against it", "into q", "into k", "into v, MLP, logits"]
    assert legend == [*expected, "width: |effect|", 'the "mover"']
    assert figure.get_suptitle() == "ioi in tiny [v1]: 8 edges, 6 nodes\nheld-out faithfulness 0.91"


@pytest.mark.parametrize(("name", "start"), [("c.png", b"\x89PNG"), ("c.svg", b"<?xml"), ("c.PDF", b"%PDF")])
def test_files(grouped: Circuit, tmp_path: Path, name: str, start: bytes) -> None:
    draw(grouped, tmp_path / name)
    content = (tmp_path / name).read_bytes()
    assert content.startswith(start)
    draw(grouped, tmp_path / name, overwrite=True)
    assert (tmp_path / name).read_bytes() == content


def test_an_empty_circuit_can_be_drawn(grouped: Circuit, tmp_path: Path) -> None:
    draw(grouped.model_copy(update={"nodes": (), "edges": ()}), tmp_path / "c.svg")
    assert "0 edges, 0 nodes" in (tmp_path / "c.svg").read_text()


def test_unknown_picture_format(grouped: Circuit, tmp_path: Path) -> None:
    with pytest.raises(CircuitFileError, match=r"No picture format 'gif' for .*c.gif. Known: png, svg, pdf."):
        draw(grouped, tmp_path / "c.gif")
