"""The picture: boxes that do not overlap, edges that run upwards around them, files of the right kind."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.text import Text

from acdc_engine.errors import CircuitFileError
from acdc_engine.graph.blocks import Graph, GraphShape
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.further_records import Inner
from acdc_engine.graph.nodes import targets_of
from acdc_engine.graph.records import CircuitEdge
from acdc_engine.graph.style import faint_edges, opacity_of, relative_strengths
from acdc_engine.show.pictures.draw import draw, figure_of
from acdc_engine.show.pictures.grid import place_on_grid, turned_to
from acdc_engine.show.pictures.layered import BOX_HEIGHT, BOX_WIDTH, place_nodes, route, strongest
from tests.made_circuits import GPT2, PLACES, made_circuit
from tests.show.conftest import Make
from tests.show.index.runs import bare


@given(data=st.data())
def test_boxes_do_not_overlap_and_stand_in_order(data: st.DataObject) -> None:
    shape = GraphShape(data.draw(st.integers(1, 6)), 4, 2)
    heads = data.draw(st.sets(st.tuples(st.integers(0, shape.n_layers - 1), st.integers(0, 3))))
    names = ["input->logits"]
    for layer, head in heads:
        names += [f"input->a{layer}.h{head}<q>", f"a{layer}.h{head}->m{layer}", f"m{layer}->logits"]
    circuit = bare(dict.fromkeys(names, 1.0), shape)
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
    largest = max(abs(edge.effect or 0) for edge in found.edges)
    scale = [f"|effect| {largest:.3g} (the largest)", f"|effect| {largest / 10:.3g}"]
    assert legend == [*expected, *scale, 'the "mover"']
    assert texts(figure)[0] == "ioi in tiny [v1]: 8 edges, 6 nodes\nheld-out faithfulness 0.91"


def test_neighbours_of_an_mlp_are_joined_at_its_side(make: Make) -> None:
    edges: dict[str, float | None] = {
        "input->a0.h0<v>": 1.0,
        "a0.h0->m0": 1.0,
        "m0->a1.h0<q>": 1.0,
        "m0->a1.h0<k>": 1.0,
        "m0->a1.h0<v>": 1.0,
        "a1.h0->logits": 1.0,
    }
    circuit = make(GraphShape(2, 1, 1), edges)
    figure, places = figure_of(circuit), place_nodes(circuit).places
    (mlp, up), (head, _), (after, row) = places["m0"], places["a0.h0"], places["a1.h0"]
    ways = _ways(figure)
    left = mlp - BOX_WIDTH / 2
    into = [way for way in ways if way[-1][0] == pytest.approx(left)]
    assert len(into) == 1 and into[0][0][0] == head and abs(into[0][-1][1] - up) < BOX_HEIGHT / 2
    out_of = sorted((way[-1][0], way[0][1]) for way in ways if way[0][0] == pytest.approx(left))
    assert [x - after for x, _ in out_of] == pytest.approx([-0.31, 0.0, 0.31]), "q, k and v"
    assert [y for _, y in out_of] == sorted({y for _, y in out_of}), "on lines of their own, the farthest lowest"
    assert all(into[0][-1][1] < y < row - BOX_HEIGHT / 2 for _, y in out_of)


def _ways(figure: Figure) -> list[list[tuple[float, float]]]:
    """The points of every arrow's own path, in units of the picture."""
    ways = [vars(patch)["_path_original"] for patch in figure.axes[0].patches if isinstance(patch, FancyArrowPatch)]
    return [[(float(x), float(y)) for x, y in way.vertices] for way in ways]


def texts(figure: Figure) -> list[str]:
    """What stands above the picture: the title, and what it leaves out."""
    return [text.get_text() for text in figure.texts]


def arrows(figure: Figure) -> int:
    return sum(isinstance(patch, FancyArrowPatch) for patch in figure.axes[0].patches)


def test_many_edges_are_lines_with_a_fill_for_each_role() -> None:
    circuit = made_circuit(300)
    figure = figure_of(circuit)
    (lines,) = [part for part in figure.axes[0].collections if isinstance(part, PathCollection)]
    assert arrows(figure) == 0 and len(lines.get_paths()) == 300
    colours = [to_hex(tuple(colour)).upper() for colour in np.asarray(lines.get_edgecolor()).tolist()]
    assert colours.count("#D55E00") == sum((edge.effect or 0) < 0 for edge in circuit.edges)
    roles = {node.role for node in circuit.nodes if node.role}
    assert roles.isdisjoint(text.get_text() for text in figure.axes[0].texts)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "all edges run upwards" in legend and sorted(roles) == sorted(roles.intersection(legend))
    assert arrows(figure_of(made_circuit(250))) == 250


def test_the_strongest_edges_and_the_picture_says_so(found: Circuit) -> None:
    figure = figure_of(found, top=5)
    assert texts(figure)[1] == "strongest 4 of 8 edges", "a fifth would hang loose"
    assert arrows(figure) == 5, "two heads share the v that one of them enters"
    assert "m0" not in [text.get_text() for text in figure.axes[0].texts]
    assert texts(figure)[0].startswith("ioi in tiny [v1]: 8 edges, 6 nodes")
    assert texts(figure_of(found, top=8))[1] == ""


@pytest.mark.parametrize("top", [10, 45])
def test_of_the_strongest_edges_at_places_only_their_heads_look(top: int) -> None:
    """Attention that was measured of heads which are not drawn is not drawn either."""
    circuit = made_circuit(60, 2, GPT2, places=PLACES)
    shown = strongest(circuit, top)
    looking, nodes = {path.node for path, *_ in turned_to(shown)}, {node.name for node in shown.nodes}
    assert looking <= nodes < {node.name for node in circuit.nodes}
    assert looking >= nodes & {path.node for path, *_ in turned_to(circuit)}, "what is left loses none"
    assert place_on_grid(shown).rings and figure_of(circuit, top=top)


def test_a_grid_lays_its_graph_out_a_few_times_not_for_every_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    """With sixty places that takes a third of a second."""
    circuit, made, lay_out = made_circuit(60, 2, GPT2, places=PLACES), list[Circuit](), Circuit.graph

    def counted(self: Circuit) -> Graph:
        made.append(self)
        return lay_out(self)

    monkeypatch.setattr(Circuit, "graph", counted)
    figure_of(circuit)
    assert 0 < len(made) < 10


@pytest.mark.parametrize("top", [None, 20])
def test_edges_at_places_outside_the_inner_circuit_are_faint(top: int | None) -> None:
    """As faint as the layered picture draws them; the strongest edges still know which are inside."""
    plain = made_circuit(60, 2, GPT2, places=PLACES).model_copy(update={"repeats": None})
    edges = tuple(edge.model_copy(update={"inclusion": None}) for edge in plain.edges)
    usual = plain.model_copy(update={"edges": edges})
    shown = usual if top is None else strongest(usual, top)
    inside = tuple(edge.name for edge in edges[:4])
    nested = usual.model_copy(update={"inner": Inner(edges=inside, nodes=2, checksum="0" * 64)})

    def opacities(circuit: Circuit) -> list[float]:
        patches = figure_of(circuit, top=top).axes[0].patches
        return sorted(float(patch.get_alpha() or 0) for patch in patches if isinstance(patch, FancyArrowPatch))

    expected = [
        opacity_of(edge, 0.4 + 0.5 * share**0.5, faint_edges(nested))
        for edge, share in relative_strengths(shown).items()
        for _ in targets(shown, edge)
    ]
    assert opacities(nested) == pytest.approx(sorted(expected)) and sum(opacities(nested)) < sum(opacities(usual))
    legend = [text.get_text() for text in figure_of(nested, top=top).legends[0].get_texts()]
    assert "outside the inner circuit" in legend


def targets(circuit: Circuit, edge: CircuitEdge) -> list[str]:
    """Where the arrows of an edge end: one dot for a key or a value, the heads that are drawn for a query."""
    if edge.receiver.endswith(("<k>", "<v>")):
        return [edge.into]
    drawn = {node.name for node in circuit.nodes}
    return [name for name in targets_of(circuit.graph(), edge.into)[1] if name in drawn]


def test_widths_in_inches(found: Circuit, tmp_path: Path) -> None:
    def letter_size(circuit: Circuit, width: float | None = None, top: int | None = None) -> float:
        return draw(circuit, tmp_path / "c.svg", width=width, top=top, overwrite=True)

    narrow, wide = figure_of(found, width=3.3), figure_of(found, width=6.75)
    assert (narrow.get_figwidth(), wide.get_figwidth()) == (3.3, 6.75)
    assert letter_size(found, 6.75) == letter_size(found) == 8.5
    assert letter_size(made_circuit(200), 3.3) < 4 < letter_size(made_circuit(200), 3.3, 20)
    for width in (1.9, 40.5):
        with pytest.raises(CircuitFileError, match=f"2 to 40 inches wide, not {width}"):
            figure_of(found, width=width)


@pytest.mark.parametrize(("n_edges", "width"), [(30, None), (30, 3.3), (300, 3.3)])
def test_hostile_texts_are_texts_and_stay_inside(n_edges: int, width: float | None, tmp_path: Path) -> None:
    circuit = made_circuit(n_edges, hostile=True)
    figure = figure_of(circuit, width=width)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of letters that the font lacks
        figure.canvas.draw()
    page = figure.bbox
    legend, axes = figure.legends[0].get_window_extent(), figure.axes[0].get_window_extent()
    assert legend.y1 <= axes.y0 + 1 and legend.y0 >= 0 and legend.x0 >= 0 and legend.x1 <= page.x1
    for text in figure.findobj(Text):
        if text.get_text():
            box = text.get_window_extent()
            assert box.x0 >= page.x0 - 1 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1, text.get_text()
    assert all(text.get_window_extent().y0 >= axes.y1 - 1 for text in figure.texts), "the title is above the boxes"
    draw(circuit, tmp_path / "c.svg", width=width)
    assert "<script" not in (tmp_path / "c.svg").read_text()


@pytest.mark.parametrize("width", [3.3])
@pytest.mark.parametrize("n_edges", [20, 200, 300])
def test_every_edge_lies_in_the_picture(n_edges: int, width: float | None) -> None:
    for circuit in (made_circuit(n_edges), made_circuit(n_edges, 1, GraphShape(30, 9, 3)), crowded(n_edges)):
        (axes,) = figure_of(circuit, width=width).axes
        lines = [vars(patch)["_path_original"] for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
        lines += [path for part in axes.collections if isinstance(part, PathCollection) for path in part.get_paths()]
        (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
        assert len(lines) >= len(circuit.edges)
        for line in lines:
            box = line.get_extents()
            assert left + 0.9 < box.x0 and box.x1 < right and low < box.y0 and box.y1 < high


def crowded(n_edges: int) -> Circuit:
    """MLPs that are all joined: most edges bend around those between, at the right border."""
    pairs = [f"m{one}->m{other}" for one in range(24) for other in range(one + 1, 24)][:n_edges]
    return bare(dict.fromkeys(["input->m0", "m23->logits", *pairs], 1.0), GraphShape(24, 1, 1))


def test_a_title_of_ones_own_and_none(found: Circuit) -> None:
    assert texts(figure_of(found, title="$x$ _y"))[0] == "$x$ _y"
    bare = figure_of(found, title="")
    assert texts(bare) == ["", ""] and bare.get_figheight() < figure_of(found).get_figheight()


def test_fonts_are_truetype_in_pdf_and_text_is_text_in_svg(found: Circuit, tmp_path: Path) -> None:
    draw(found, tmp_path / "c.pdf", width=3.3)
    draw(found, tmp_path / "c.svg")
    pdf, svg = (tmp_path / "c.pdf").read_bytes(), (tmp_path / "c.svg").read_text()
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf
    assert re.search(r"<text [^>]*>a1\.h2</text>", svg)


def test_an_empty_circuit_can_be_drawn(grouped: Circuit, tmp_path: Path) -> None:
    draw(grouped.model_copy(update={"nodes": (), "edges": ()}), tmp_path / "c.svg")
    assert "0 edges, 0 nodes" in (tmp_path / "c.svg").read_text()
