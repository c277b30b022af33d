"""Faithfulness against size as a picture."""

import numpy as np
from matplotlib.axes import Axes

from acdc_engine.graph.circuit import Circuit
from acdc_engine.show.charts import sizes_figure
from acdc_engine.show.picture_file import svg_text
from tests.made_circuits import made_circuit


def axes_of(circuit: Circuit) -> Axes:
    (axes,) = sizes_figure(circuit).axes
    return axes


def line(axes: Axes, label: str) -> tuple[list[float], list[float]]:
    (found,) = [line for line in axes.lines if str(line.get_label()).startswith(label)]
    return np.asarray(found.get_xdata()).tolist(), np.asarray(found.get_ydata()).tolist()


def test_every_size_is_where_it_was_measured() -> None:
    circuit = made_circuit(100)
    axes = axes_of(circuit)
    own, parts = circuit.sizes[-2], circuit.sizes[:-1]
    assert line(axes, "the circuit's strongest") == ([p.edges for p in parts], [p.faithfulness for p in parts])
    assert line(axes, "the circuit and the best")[0] == [own.edges, circuit.sizes[-1].edges]
    assert line(axes, "this circuit: 100 edges") == ([100], [own.faithfulness])
    assert line(axes, "KL")[1] == [point.kl_recovered for point in circuit.sizes]
    sizes, means = line(axes, "random")
    assert sizes == sorted(point.edges for point in circuit.sizes) and means[0] == sum(parts[0].random) / 5
    assert circuit.evaluation is not None and circuit.evaluation.random_circuits is not None
    drawn = circuit.evaluation.random_circuits.faithfulness
    assert means[sizes.index(100)] == sum(drawn) / len(drawn)  # 20 of them, not 5


def test_what_overshoots_stays_at_the_edge() -> None:
    circuit = made_circuit(100)
    wild = circuit.sizes[-1].model_copy(update={"faithfulness": 40.0})
    axes = axes_of(circuit.model_copy(update={"sizes": (*circuit.sizes[:-1], wild)}))
    assert axes.get_ylim()[1] < 3 and any(mark.get_marker() == "^" for mark in axes.lines)


def test_a_single_size_without_random_circuits() -> None:
    circuit = made_circuit(100)
    only = circuit.sizes[-2].model_copy(update={"random": (), "faithfulness_interval": None})
    axes = axes_of(circuit.model_copy(update={"sizes": (only,), "evaluation": None, "search": None}))
    labels = {str(line.get_label()) for line in axes.lines}
    assert not any("random" in label or "target" in label for label in labels)


def test_the_same_figure_gives_the_same_text() -> None:
    one, two = (svg_text(sizes_figure(made_circuit(30))) for _ in range(2))
    assert one == two and "faithfulness, held-out prompts" in one and "<dc:date>" not in one
