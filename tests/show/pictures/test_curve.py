"""The picture of a curve and its tables: everything shown is in the record, and what is left out is said."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.evidence_records import Interval
from acdc_engine.graph.records import Environment, MetricRecord, ModelRecord, TaskRecord
from acdc_engine.graph.result_records import (
    Area,
    Areas,
    Curve,
    CurvePoint,
    CurveSeries,
    KnownCircuit,
    RandomPoint,
    RandomSeries,
)
from acdc_engine.show.pictures.charts import _beyond, curve_figure, sizes_figure
from acdc_engine.show.remarks import curve_remarks
from acdc_engine.show.results import curve_sections
from tests.made_circuits import made_circuit
from tests.show.conftest import lines_of

pytest.importorskip("matplotlib")
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D

SIZES = (0.01, 0.1, 1.0)


def interval(low: float, high: float) -> Interval:
    return Interval(level=0.95, low=low, high=high, method="BCa", resamples=999)


def series(method: str, rank: Any, f: tuple[float, ...], left: tuple[int, ...]) -> CurveSeries:
    points = tuple(
        CurvePoint(
            requested_fraction=size,
            requested_edges=int(1000 * size),
            edges=edges,
            faithfulness=value,
            faithfulness_interval=interval(value - 0.25, value + 0.125) if edges else None,
            kl_recovered=0.5,
        )
        for size, value, edges in zip(SIZES, f, left, strict=True)
    )
    areas = Areas(requested=Area(cpr=0.875, cmd=0.125), actual=Area(cpr=0.75, cmd=0.0625))
    return CurveSeries(method=method, alphas=(1.0,), rank=rank, strategy="top-k", points=points, areas=areas)


@pytest.fixture
def found() -> Curve:
    random = tuple(
        RandomPoint(
            requested_fraction=size,
            requested_edges=int(1000 * size),
            edges=int(1000 * size),
            faithfulness=(value, value + 0.5),
            kl_recovered=(0.0, 0.125),
        )
        for size, value in zip(SIZES, (-0.25, 0.0, 0.75), strict=True)
    )
    areas = Areas(requested=Area(cpr=0.25, cmd=0.75), actual=Area(cpr=0.25, cmd=0.75))
    known = KnownCircuit(
        name="mine",
        edges=40,
        strategy="iterative",
        n_held_out=64,
        faithfulness=0.9375,
        kl_recovered=0.5,
        same_prompts=True,
    )
    return Curve(
        model=ModelRecord(name="tiny [v1]", n_layers=2, n_heads=4, n_kv_heads=4, d_model=8, d_vocab=11),
        task=TaskRecord(name="ioi", n_discovery=32, n_held_out=64, seed=0),
        metric=MetricRecord(name="logit_diff", sign=1),
        ablation="patch",
        n_edges=1000,
        target=0.9,
        series=(
            series("eap", "signed", (0.5, 1.25, 1.0), (8, 90, 1000)),
            series("eap", "absolute", (0.25, 0.75, 1.0), (7, 80, 1000)),
        ),
        random=RandomSeries(seed=0, points=random, areas=areas),
        circuits=(known,),
        complete=True,
        seconds=12.5,
        environment=Environment(python="3", platform="x", device="cpu", dtype="float32", threads=1, created="now"),
    )


def points_of(line: Line2D) -> list[list[float]]:
    return [np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()]


def text_of(found: Curve, width: int = 120) -> str:
    return "\n".join(lines_of(curve_sections(found), width))


def test_lines_bands_and_points(found: Curve) -> None:
    figure = curve_figure(found)
    axes = figure.axes[0]
    lines = {str(line.get_label()).split(":")[0]: line for line in axes.lines}
    signed, absolute = lines["eap, signed"], lines["eap, absolute"]
    assert points_of(signed) == [[8, 90, 1000], [0.5, 1.25, 1.0]]
    assert to_hex(signed.get_color()) == to_hex(absolute.get_color()), "one colour per method"
    assert signed.get_linestyle() != absolute.get_linestyle(), "and another line per rank"
    assert points_of(lines["random circuits, mean and range"])[1] == [0.0, 0.25, 1.0]
    assert points_of(lines["mine (iterative)"]) == [[40], [0.9375]]
    bands = [np.asarray(band.get_paths()[0].vertices) for band in axes.collections if isinstance(band, PolyCollection)]
    spans = [(band[:, 1].min(), band[:, 1].max()) for band in bands]
    assert spans == [(-0.25, 1.25), (0.25, 1.375), (0.0, 1.125)], "random range, then the two intervals"
    assert axes.get_xscale() == "log" and axes.get_title(loc="left") == "ioi in tiny [v1]"
    assert axes.get_title(loc="right") == "logit_diff, patch ablation, 64 held-out prompts, bands: 95 % intervals"
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [
        "faithful: 0.9 to 1.1",
        "random circuits, mean and range: CPR 0.25, CMD 0.75",
        "eap, signed: CPR 0.88, CMD 0.12",
        "eap, absolute: CPR 0.88, CMD 0.12",
        "mine (iterative): 40 edges, f 0.94",
    ]


def test_an_exploding_curve_is_clipped_with_a_remark(found: Curve) -> None:
    wild = found.model_copy(update={"series": (series("eap", "signed", (-3.0, 12.5, 1.0), (8, 90, 1000)),)})
    figure = curve_figure(wild)
    low, high = figure.axes[0].get_ylim()
    assert low > -1.5 and high < 3
    assert _beyond(wild) == ["eap, signed leaves the picture: f 12.5 at 90 edges."]
    assert figure.legends[0].get_title().get_text() == "eap, signed leaves the picture: f 12.5 at 90 edges."


def test_sizes_without_a_circuit_are_not_drawn_but_told(found: Curve) -> None:
    empty = found.model_copy(update={"series": (series("eap", "signed", (0.0, 0.5, 1.0), (0, 90, 1000)),)})
    lines = curve_figure(empty).axes[0].lines
    (line,) = [line for line in lines if str(line.get_label()).startswith("eap")]
    assert points_of(line)[0] == [90, 1000]
    assert "0, KL 0.50" in text_of(empty)
    assert "the smallest sizes leave no path from input to logits (eap, signed)." in curve_remarks(empty)[0]


def test_a_curve_with_nothing_yet_can_be_drawn(found: Curve, tmp_path: Path) -> None:
    bare = found.model_copy(update={"series": (), "random": None, "circuits": (), "complete": False})
    curve_figure(bare).savefig(tmp_path / "c.png")
    assert text_of(bare) and curve_remarks(bare)[0] == "the run was interrupted: series are missing."


def test_tables(found: Curve) -> None:
    text = text_of(found)
    for cell in ("0.50", "[0.25, 0.62]", "90, KL 0.50", "-0.25 to 0.25", "10 %", "100", "mine: f 0.94, 40 edges"):
        assert cell in text
    rows = [line.split() for line in text.split("Areas")[1].splitlines()]
    assert ["eap,", "signed", "0.875", "0.125", "0.750", "0.062"] in rows
    assert ["random", "0.250", "0.750", "0.250", "0.750"] in rows
    assert curve_remarks(found) == []


def test_remarks(found: Curve) -> None:
    grouped = found.model.model_copy(update={"n_kv_heads": 2})
    (shared,) = curve_remarks(found.model_copy(update={"model": grouped}))
    assert "Add --ungroup-kv to compare with its numbers" in shared
    assert curve_remarks(found.model_copy(update={"model": grouped.model_copy(update={"ungrouped_kv": True})})) == []
    other = found.circuits[0].model_copy(update={"same_prompts": False})
    assert curve_remarks(found.model_copy(update={"circuits": (other,)})) == [
        "judged on other held-out prompts than the curves: mine."
    ]
    points = tuple(point.model_copy(update={"faithfulness_interval": None}) for point in found.series[0].points)
    bare = found.model_copy(update={"series": (found.series[0].model_copy(update={"points": points}),)})
    assert curve_remarks(bare)[0].startswith("no bootstrap intervals: 64 held-out prompts are too few")


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
