"""Curves on tiny models: every number against the circuit it says it is of, what is saved, what is refused when."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from acdc_engine.errors import AcdcError, CircuitFileError, MethodError, RunFolderError
from acdc_engine.evidence.figures import figures_of
from acdc_engine.evidence.random_circuits import random_circuits
from acdc_engine.experiment import Experiment
from acdc_engine.graph.circuit import Circuit
from acdc_engine.graph.result_records import Curve
from acdc_engine.patch import CircuitEvaluator
from acdc_engine.patch.judge import Judge
from acdc_engine.prompts.build import build_splits
from acdc_engine.prompts.find import find_task
from acdc_engine.prompts.metrics import get_metric
from acdc_engine.run import curve as module
from acdc_engine.run.curve import _draws, curve
from acdc_engine.run.discover import discover
from acdc_engine.score import EdgeScores, get_method, score_edges
from acdc_engine.search.order import best_first, first_edges, greedy_from_logits
from acdc_engine.show.results import curve_sections
from tests.tiny_task import tiny_view, write_card

SIZES = (0.05, 0.2, 0.5, 1.0)
QUICK: dict[str, Any] = {"n": 5, "n_held_out": 12, "force": True, "sizes": SIZES, "n_random": 3}


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_card(tmp_path_factory.mktemp("card"))


@pytest.fixture(scope="module")
def found(card: Path) -> Curve:
    return curve(card, tiny_view(), strategies=("top-k", "greedy"), **QUICK)


def held_out_judge(card: Path) -> tuple[Judge, Any]:
    discovery, held_out = build_splits(find_task(card), tiny_view().tokenizer, 5, 12, 0)
    return Judge(CircuitEvaluator(tiny_view(), held_out), get_metric("logit_diff")), discovery


def test_every_point_is_the_cleaned_prefix_judged_on_held_out_prompts(card: Path, found: Curve) -> None:
    judge, discovery = held_out_judge(card)
    graph = tiny_view().graph
    names = [series.name for series in found.series]
    assert names == [
        f"{m}, {r}{s}" for m in ("eap-ig", "eap") for s in ("", ", greedy") for r in ("signed", "absolute")
    ]
    for series in found.series:
        scores = score_edges(tiny_view(), discovery, get_metric("logit_diff"), get_method(series.method), rms=True).both
        order = (greedy_from_logits if series.strategy == "greedy" else best_first)(graph, scores, series.rank)
        for point, size in zip(series.points, SIZES, strict=True):
            mask = first_edges(graph, order, int(size * graph.n_edges))
            assert (point.requested_edges, point.edges) == (int(size * graph.n_edges), int(mask.sum()))
            if not point.edges:
                assert (point.faithfulness, point.kl_recovered, point.faithfulness_interval) == (0, 0, None)
                continue
            figures = figures_of(judge, mask)
            assert point.faithfulness == pytest.approx(figures.faithfulness, abs=1e-4)
            assert point.kl_recovered == pytest.approx(figures.kl_recovered, abs=1e-4)
            assert (point.faithfulness_interval is None) == (figures.faithfulness_interval is None)
    assert any(not point.edges for series in found.series for point in series.points), (
        "else nothing tests the empty one"
    )


def test_steps_go_to_the_methods_that_take_them(card: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, score = [], Experiment.score

    def watched(self: Experiment, method: str, **given: Any) -> EdgeScores:
        asked.append((method, given.get("steps")))
        return score(self, method, **given)

    monkeypatch.setattr(Experiment, "score", watched)
    curve(card, tiny_view(), methods=("eap", "eap-ig-path", "eap-ig"), steps=2, ranks=("signed",), **QUICK)
    assert asked == [("eap", None), ("eap-ig-path", 2), ("eap-ig", 2)]


def test_areas_are_over_what_was_asked_for_and_over_what_is_left(found: Curve) -> None:
    for series in found.series:
        f = [point.faithfulness for point in series.points]
        left = [point.edges / found.n_edges for point in series.points]
        for x, area in ((SIZES, series.areas.requested), (left, series.areas.actual)):
            assert area.cpr == pytest.approx(sum((x[i + 1] - x[i]) * (f[i] + f[i + 1]) / 2 for i in range(3)))
            away = [abs(1 - value) for value in f]
            assert area.cmd == pytest.approx(sum((x[i + 1] - x[i]) * (away[i] + away[i + 1]) / 2 for i in range(3)))


def test_random_circuits_have_the_size_asked_for(card: Path, found: Curve) -> None:
    judge, _ = held_out_judge(card)
    assert found.random is not None and [len(p.faithfulness) for p in found.random.points] == [3, 2, 2, 1]
    for point, count in zip(found.random.points[:3], (3, 2, 2), strict=True):
        masks = random_circuits(tiny_view().graph, point.requested_edges, count, seed=0)
        assert point.edges == point.requested_edges
        assert point.faithfulness == pytest.approx(judge.faithfulness(masks), abs=1e-4)
    assert found.random.points[3].faithfulness[0] == pytest.approx(1, abs=1e-4)


def test_a_size_of_less_than_one_edge_is_the_ablated_model(card: Path) -> None:
    found = curve(card, tiny_view(), **{**QUICK, "sizes": (0.001, 1.0)}, methods=("eap",), ranks=("signed",))
    assert found.random is not None and found.random.points[0].requested_edges == 0
    assert found.random.points[0].faithfulness == (0.0,) and found.series[0].points[0].faithfulness == 0
    # From 0.001 to 1 along the line from 0 to 1, and from 0 to 1 over the edges left.
    assert found.series[0].areas.requested.cpr == pytest.approx(0.999 / 2, abs=1e-4)
    assert found.series[0].areas.actual.cpr == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize(
    ("asked", "fraction", "count"),
    [(10, 0.001, 10), (10, 0.05, 10), (10, 0.1, 5), (10, 0.2, 2), (10, 0.5, 2), (10, 1.0, 1), (1, 0.5, 1), (0, 1.0, 0)],
)
def test_fewer_random_circuits_where_they_are_large(asked: int, fraction: float, count: int) -> None:
    assert _draws(asked, fraction) == count


def test_provenance_and_the_file(card: Path, tmp_path: Path) -> None:
    settings = {**QUICK, "methods": ("eap",), "n_random": 0, "ablation": "mean", "seed": 3}
    first = curve(card, tiny_view(), out=tmp_path / "deep" / "run", **settings)
    text = (tmp_path / "deep" / "run" / "curve.json").read_text()
    assert Curve.model_validate_json(text) == first and first.complete and first.random is None
    assert first.model.weights_hash == tiny_view().weights_hash() and first.ablation == "mean"
    assert first.task.seed == 3 and first.task.prompts_hash and first.environment.versions["torch"] == torch.__version__
    assert curve(card, tiny_view(), **settings).series == first.series


def test_an_interruption_leaves_the_series_that_are_finished(
    card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "random_circuits", interrupted)
    with pytest.raises(KeyboardInterrupt):
        curve(card, tiny_view(), out=tmp_path, methods=("eap",), **QUICK)
    left = Curve.model_validate_json((tmp_path / "curve.json").read_text())
    assert len(left.series) == 2 and left.random is None and not left.complete


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"methods": ()}, MethodError, r"methods must list one or more different names, not \(\)"),
        ({"methods": "eap"}, MethodError, "methods must list one or more different names, not 'eap'"),
        ({"ranks": ("signed", "signed")}, MethodError, "ranks must list one or more different names"),
        ({"methods": ("eap_ig",)}, MethodError, "Did you mean 'eap-ig'"),
        ({"ranks": ("sgned",)}, MethodError, "Did you mean 'signed'"),
        ({"strategies": ("iterative",)}, MethodError, "'iterative' has no circuit of a given size"),
        ({"methods": ("eap",), "steps": 4}, MethodError, "'eap' takes no steps"),
        ({"sizes": (0.5,)}, MethodError, "at least two sizes"),
        ({"n_random": -1}, MethodError, "n_random must be an integer of at least 0, not -1"),
        ({"size": 40}, MethodError, "A curve takes no size: give sizes"),
        ({"each_template": True}, MethodError, "A curve takes no each_template"),
        ({"method": "eap"}, MethodError, "A curve takes no method: give methods"),
        ({"faithfulness": 2.0}, MethodError, r"must lie in \(0, 1\], not 2.0"),
        ({"metric": "kl"}, AcdcError, "'kl' has zero gradient at the clean run.*'eap'"),
        ({"circuits": ("nothing.json",)}, CircuitFileError, "No circuit file nothing.json"),
    ],
)
def test_bad_settings_are_refused_before_the_model_is_touched(
    settings: dict[str, Any], error: type[AcdcError], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acdc_engine.run.prepare.load_model", lambda *a, **k: pytest.fail("the model was loaded"))
    with pytest.raises(error, match=message):
        curve("ioi", **settings)


def test_an_existing_curve_and_a_file_in_the_way(card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acdc_engine.run.prepare.load_model", lambda *a, **k: pytest.fail("the model was loaded"))
    (tmp_path / "curve.json").write_text("{}")
    with pytest.raises(RunFolderError, match=r"curve.json exists already\. Choose another --out, or add --overwrite"):
        curve(card, out=tmp_path)
    with pytest.raises(RunFolderError, match=r"curve.json is a file; --out names a folder"):
        curve(card, out=tmp_path / "curve.json")


@pytest.fixture(scope="module")
def circuit_file(card: Path) -> Path:
    settings: dict[str, Any] = {"strategy": "top-k", "size": 40, "method": "eap", "force": True}
    discover(card, tiny_view(), out=card.parent / "run", n=5, n_held_out=12, **settings)
    return card.parent / "run" / "circuit.json"


def test_circuits_to_compare_with(card: Path, circuit_file: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {**QUICK, "methods": ("eap",), "n_random": 0}
    circuit = Circuit.load(circuit_file)
    circuit.save(tmp_path / "mine.json")
    found = curve(card, tiny_view(), circuits=(circuit_file, tmp_path / "mine.json"), **settings)
    assert [known.name for known in found.circuits] == ["run", "mine"]
    known = found.circuits[0]
    assert circuit.evaluation is not None and known.faithfulness == circuit.evaluation.held_out.faithfulness
    assert known.edges == len(circuit.edges) and known.strategy == "top-k" and known.same_prompts
    other = curve(card, tiny_view(), circuits=(circuit_file,), **{**settings, "seed": 1})
    assert not other.circuits[0].same_prompts


def test_with_places_an_edge_counts_at_each_of_them(card: Path, circuit_file: Path, tmp_path: Path) -> None:
    view, metric = tiny_view(), get_metric("logit_diff")
    discovery, held_out = build_splits(find_task(card), view.tokenizer, 5, 12, 0, "spans")
    graph, judge = view.graph.at(discovery.spans), Judge(CircuitEvaluator(view, held_out), metric)
    scores = score_edges(view, discovery, metric, get_method("eap"), rms=True).both
    how: dict[str, Any] = {"strategy": "top-k", "size": 40, "method": "eap", "force": True, "where": "spans"}
    discover(card, view, out=tmp_path, n=5, n_held_out=12, **how)
    settings: dict[str, Any] = {**QUICK, "methods": ("eap",), "ranks": ("absolute",), "where": "spans"}
    found = curve(card, view, circuits=(tmp_path,), **settings)
    assert discovery.spans is not None and found.places == discovery.spans.names
    assert found.n_edges == graph.n_edges > 3 * view.graph.n_edges and found.complete
    for point, size in zip(found.series[0].points, SIZES, strict=True):
        mask = first_edges(graph, best_first(graph, scores, "absolute"), int(size * graph.n_edges))
        assert (point.requested_edges, point.edges) == (int(size * graph.n_edges), int(mask.sum()))
        faithful = figures_of(judge, mask).faithfulness if point.edges else 0.0
        assert point.faithfulness == pytest.approx(faithful, abs=1e-4)
    assert found.random is not None and found.random.points[0].edges == int(0.05 * graph.n_edges)
    (known,) = found.circuits
    assert known.same_prompts and known.edges == len(Circuit.load(tmp_path).edges)
    (plain,) = curve(card, view, circuits=(tmp_path,), **{**settings, "where": "none"}).circuits
    assert plain.edges == len(Circuit.load(tmp_path).plain().edges) < known.edges
    with pytest.raises(CircuitFileError, match=r"its --where is none, the curve's spans\. Give the same to both"):
        curve(card, view, circuits=(circuit_file,), **settings)
    with pytest.raises(CircuitFileError, match=r"its list of places is \[.*'B.2'.*\], the curve's \[.*'t1'"):
        curve(card, view, circuits=(tmp_path,), **{**settings, "where": "tokens"})
    assert curve_sections(found)[0].pairs["Model"].endswith(f"edges at {len(found.places)} places")


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({"evaluation": None}, {}, "has no edges or no held-out figures, so it is no point on a curve"),
        ({"edges": (), "nodes": ()}, {}, "has no edges or no held-out figures"),
        (
            {"task.name": "ioi"},
            {},
            "its task is ioi, the curve's tiny. Give the same to both, or leave the circuit out",
        ),
        ({"task.card_hash": "0"}, {}, "its hash of the task card .* is 0"),
        ({}, {"metric": "prob_diff"}, "its metric is logit_diff, the curve's prob_diff"),
        ({}, {"ablation": "zero"}, "its ablation is patch, the curve's zero"),
        ({"model.weights_hash": "0"}, {}, "its weights hash .*--dtype.* is 0"),
        ({}, {"model": "gpt2"}, "its shape is GraphShape"),
    ],
)
def test_circuits_that_do_not_compare(
    card: Path, circuit_file: Path, tmp_path: Path, change: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    content = json.loads(circuit_file.read_text())
    content.pop("checksum")
    for key, value in change.items():
        *parts, last = key.split(".")
        target = content[parts[0]] if parts else content
        target[last] = value
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(content))
    settings = dict(settings)
    model = tiny_view(settings.pop("model", "llama_grouped"))
    with pytest.raises(CircuitFileError, match=message) as caught:
        curve(card, model, circuits=(path,), **QUICK, **settings)
    assert str(path) in str(caught.value)
